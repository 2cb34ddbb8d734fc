//! Our side.

use tower_singleflight::backend::Redis;
pub use tower_singleflight::{Mutex, MutexGuard};

use crate::locks::TTL;

/// A handle with connections of its own.
pub async fn open(nodes: &[&str]) -> Mutex {
    let mut handles = Vec::new();
    for node in nodes {
        handles.push(Redis::connect(node, "peers").await.unwrap());
    }
    Mutex::new(handles, "peers").ttl(TTL)
}
