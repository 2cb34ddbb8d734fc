//! What only an intruder or another version would do: messages and records made by hand.

use bytes::Bytes;
use tower_singleflight::{Digest, Key};

use super::Server;

/// A message as the scripts publish it.
pub fn message(kind: u8, key: Digest, number: u64, record: &[u8]) -> Vec<u8> {
    [&[kind][..], &key.0, &number.to_be_bytes(), record].concat()
}

/// A record as this version stores it, with the given times in milliseconds.
pub fn record(key: &Key, fence: u64, [total, fresh, stale]: [u64; 3], payload: &[u8]) -> Vec<u8> {
    let key = key.canonical();
    let numbers = [fence, total, fresh, stale, 0].map(u64::to_be_bytes).concat();
    let length = u32::try_from(key.len()).unwrap().to_be_bytes();
    [b"sfr\x01", &numbers[..], &length, key, payload].concat()
}

/// The name of what is stored for a key: kind `r` is the record, `s` the state.
pub fn name(prefix: &str, key: &Key, kind: &str) -> String {
    let variant = if key.is_variant() { key.digest().to_string() } else { String::new() };
    format!("sf1:{prefix}:{{{}}}{variant}:{kind}", key.primary_digest())
}

impl Server {
    /// Publishes to every inbox of an application.
    pub async fn publish_to_all(&self, prefix: &str, message: &[u8]) {
        let channels: Vec<String> = self.run(&["PUBSUB", "CHANNELS", &format!("sf1:{prefix}:inbox:*")]).await;
        assert!(!channels.is_empty(), "somebody listens");
        let mut connection = self.connection().await;
        for channel in channels {
            let () = redis::cmd("PUBLISH").arg(channel).arg(message).query_async(&mut connection).await.unwrap();
        }
    }

    /// Sets a string that expires after `px` milliseconds, or never.
    pub async fn set(&self, name: &str, value: impl Into<Bytes>, px: Option<u64>) {
        let mut set = redis::cmd("SET");
        set.arg(name).arg(&value.into()[..]);
        if let Some(px) = px {
            set.arg("PX").arg(px);
        }
        let () = set.query_async(&mut self.connection().await).await.unwrap();
    }
}
