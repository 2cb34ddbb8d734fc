//! `Memory` keeps the contract of backends.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
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
