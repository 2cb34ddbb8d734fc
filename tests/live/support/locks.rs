//! Short forms of what tests of locks do.

use std::time::Duration;

use tower_singleflight::{
    backend::{
        Fence,
        contract::{LockName, LockReplica},
    },
    protocol::{
        lease::Inbox,
        lock::{Acquire, Acquired, Place, Release},
    },
};

use super::calls::LONG;

/// Where a lock and its floor lie.
pub fn places(app: &str, name: &str) -> [String; 2] {
    let lock = format!("sf1:{app}:lock:{{{name}}}");
    [lock.clone(), lock + ":f"]
}

/// Alone, and without a place.
pub fn ask(token: &str, ttl: Duration) -> Acquire<&str> {
    Acquire { token, seq: 1, ttl, place: None, sole: true, linger: Duration::ZERO }
}

/// Wherever the replica hears.
pub fn waiting(token: &str, ticket: u64) -> Acquire<&str> {
    Acquire { place: Some(Place { ticket, inbox: Inbox([0; 12]) }), ..ask(token, LONG) }
}

pub fn back(token: &str) -> Release<&str> {
    Release { token, seq: 1, undo: false, ticket: None }
}

pub async fn acquire(redis: &LockReplica, lock: &LockName, ask: Acquire<&str>) -> Acquired {
    redis.acquire(lock, ask, None).await.unwrap().0
}

pub async fn grant(redis: &LockReplica, lock: &LockName, ask: Acquire<&str>) -> Fence {
    match acquire(redis, lock, ask).await {
        Acquired::Granted(fence) => fence,
        other => panic!("expected to hold it, got {other:?}"),
    }
}
