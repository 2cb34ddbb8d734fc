use std::{fmt, sync::Arc};

use http::{Request, Uri};

use super::{invalidate::keys_of_reads, layer::Settings};
use crate::{
    backend::{BackendError, ErrorKind},
    key::Key,
};

/// What an application does with the responses that a layer shares:
/// [`SingleflightLayer::handle`](super::SingleflightLayer::handle).
#[derive(Clone)]
pub struct Handle(Arc<Settings>);

impl Handle {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self(settings)
    }

    /// Forgets the response under `key` and all its variants, fleet-wide: a request in the air neither stores its response
    /// nor serves it to those who come later.
    ///
    /// The key is that of a `GET`, as the layer's [extractor](super::KeyExtractor) makes it; what is known of `HEAD`
    /// goes along.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked; the response may then still be there.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, whether the response was forgotten is unknown.
    pub async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        self.0.engine.forget(key).await
    }

    /// Like [`invalidate`](Self::invalidate), for a `GET` of `uri` that carries nothing else: `https://shop.test/items/7`.
    ///
    /// Requests over HTTP/1 do not name their scheme, those over HTTP/2 do: both are forgotten. So is whatever `Vary`
    /// told apart. What other fields made keys of their own (`X-Forwarded-Host`, ...) is not, nor what a middleware has
    /// rewritten: forget those by their [keys](Self::invalidate). So are, without the feature `axum`, keys below
    /// `nest`, which know the stripped path alone.
    ///
    /// # Errors
    ///
    /// If `uri` names no authority, if the layer's extractor makes no key of it, and if the store cannot be asked; the
    /// response may then still be there.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_uri(&self, uri: &Uri) -> Result<(), BackendError> {
        let refuse = |why: &str| BackendError::new(ErrorKind::Config, format!("{uri} cannot be invalidated: {why}"));
        if uri.authority().is_none() {
            return Err(refuse("it names no authority; write it like https://a.test/x"));
        }
        let (mut head, ()) = Request::new(()).into_parts();
        head.uri = uri.clone();
        let keys = keys_of_reads(&self.0, &head);
        if keys.is_empty() {
            return Err(refuse("the layer's key extractor makes no key of it"));
        }
        for key in keys {
            self.invalidate(&key).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
