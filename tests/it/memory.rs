//! `Memory` keeps the contract of backends.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use tower_singleflight::{
    Key,
    backend::{Backend, Lifetimes, Memory, Record},
};

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
