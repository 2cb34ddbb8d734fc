//! `Memory` keeps the contract of backends.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::advance;
use tower_singleflight::{
    Key,
    backend::{Backend, Lifetimes, Memory, Record},
};

use crate::histories::{family, histories, on_backend, on_model};

tower_singleflight::backend_contract_tests!(async || {
    let memory = Memory::new();
    ([memory.replica(), memory], ())
});

/// However many keys come, no more are remembered than there is room for, and the last one is.
#[tokio::test]
async fn it_is_bounded() {
    for capacity in [1, 2, 7, 100] {
        let memory = Memory::with_capacity(NonZeroUsize::new(capacity).unwrap());
        for number in 0..1000_u32 {
            let key = Key::builder("bounded").part(number.to_be_bytes()).finish();
            let fresh = Duration::from_secs(60);
            let lifetimes = Lifetimes { fresh, ..Lifetimes::default() };
            memory.put(&key, Record { lifetimes, cost: Duration::ZERO, payload: Bytes::new() }).await.unwrap();
            assert!(memory.len() <= capacity);
            assert!(memory.get(&key).await.unwrap().is_some());
        }
    }
}

fn key(number: u32) -> Key {
    Key::builder("memory").part(number.to_be_bytes()).finish()
}

async fn put(memory: &Memory, number: u32, fresh: Duration, payload: Bytes) {
    let lifetimes = Lifetimes { fresh, ..Lifetimes::default() };
    memory.put(&key(number), Record { lifetimes, cost: Duration::ZERO, payload }).await.unwrap();
}

/// What there is no room for is what would have gone first.
#[tokio::test(start_paused = true)]
async fn what_expires_first_makes_room() {
    let memory = Memory::with_capacity(NonZeroUsize::new(8).unwrap());
    for number in 0..8 {
        let minutes = u64::from((number * 5) % 8 + 1);
        put(&memory, number, Duration::from_secs(60 * minutes), Bytes::new()).await;
    }
    put(&memory, 8, Duration::from_secs(1), Bytes::new()).await;
    for number in 0..=8 {
        assert_eq!(memory.get(&key(number)).await.unwrap().is_some(), number != 0, "{number}");
    }
}

struct Counted {
    _held: Arc<()>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"counted"
    }
}

/// What has expired is let go long before there is no more room.
#[tokio::test(start_paused = true)]
async fn what_has_expired_is_not_held() {
    let memory = Memory::new();
    let held = Arc::new(());
    for number in 0..10_000 {
        put(&memory, number, Duration::from_millis(100), Bytes::from_owner(Counted { _held: Arc::clone(&held) })).await;
        advance(Duration::from_millis(1)).await;
        assert!(Arc::strong_count(&held) <= 2 * 100 + 64 + 1, "{number}");
    }
}

proptest! {
    /// Whatever happens to a key, `Memory` does what the model does.
    #[test]
    fn it_agrees_with_the_model(history in histories(80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let memory = Memory::new();
            let replicas = [memory.replica(), memory.replica(), memory];
            let keys = family(Key::builder("history").finish());
            let expected = on_model(&history, false);
            let pass = async || tokio::time::sleep(Duration::from_millis(1)).await;
            let seen = on_backend(&replicas, &keys, &history, &expected, async || false, pass).await;
            prop_assert_eq!(seen, expected);
            Ok(())
        })?;
    }
}
