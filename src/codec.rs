//! How results become bytes: the [`Codec`] trait, [`Json`] and [`Raw`].

use std::error::Error;

use bytes::Bytes;

/// What a codec could not do.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// Turns results into bytes and back.
///
/// A payload that does not decode is a miss, never an error for the caller: change the
/// [schema](crate::Group::schema) of a group when the type changes.
pub trait Codec<T>: Send + Sync + 'static {
    /// The bytes of `value`.
    fn encode(&self, value: &T) -> Result<Bytes, CodecError>;

    /// The value of these bytes. A codec that slices `payload` copies nothing.
    fn decode(&self, payload: Bytes) -> Result<T, CodecError>;
}

/// Bytes as they are, without a copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(&self, payload: Bytes) -> Result<Bytes, CodecError> {
        Ok(payload)
    }
}

/// JSON, for any type that serde knows.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T) -> Result<Bytes, CodecError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(&self, payload: Bytes) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(&payload)?)
    }
}
