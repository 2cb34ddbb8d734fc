//! Short forms of what most tests do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tower_singleflight::{
    Key,
    backend::{Backend, BackendError, Begin, Begun, Fence, Found, Lifetimes, Notice, Owner, Record, Redis, Watch},
};

/// Longer than any test runs.
pub const LONG: Duration = Duration::from_secs(3600);

/// What does not come within this time does not come.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn key(name: &str) -> Key {
    Key::builder("live").part(name).finish()
}

pub fn ask(owner: u128) -> Begin {
    Begin { owner: Owner(owner), lease: LONG, followed: Fence::NONE }
}

/// A record that is fresh for this long, and kept no longer.
pub fn record(payload: impl Into<Bytes>, fresh: Duration) -> Record {
    Record { lifetimes: Lifetimes { fresh, ..Lifetimes::default() }, cost: Duration::ZERO, payload: payload.into() }
}

pub async fn lead(redis: &Redis, key: &Key, owner: u128) -> (Fence, Watch) {
    match redis.begin(key, ask(owner)).await.unwrap() {
        Begun::Lead { fence, watch, .. } => (fence, watch),
        other => panic!("expected to lead, got {other:?}"),
    }
}

pub async fn follow(redis: &Redis, key: &Key, owner: u128) -> (Fence, Watch) {
    match redis.begin(key, ask(owner)).await.unwrap() {
        Begun::Follow { fence, watch, .. } => (fence, watch),
        other => panic!("expected to follow, got {other:?}"),
    }
}

pub async fn hit(redis: &Redis, key: &Key) -> Found {
    match redis.begin(key, ask(u128::MAX)).await.unwrap() {
        Begun::Hit(found) => found,
        other => panic!("expected a hit, got {other:?}"),
    }
}

pub async fn told(watch: &mut Watch) -> Notice {
    timeout(PATIENCE, watch.next()).await.expect("a message comes")
}

/// Repeats an operation until it succeeds, as a recovering system must let it.
pub async fn until_ok<T>(mut operation: impl AsyncFnMut() -> Result<T, BackendError>) -> T {
    let start = Instant::now();
    loop {
        match operation().await {
            Ok(value) => return value,
            Err(error) if start.elapsed() > PATIENCE => panic!("no recovery: {error}"),
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}
