//! Locks of `Memory` are the model.

use proptest::prelude::*;
use tower_singleflight::backend::{
    Memory,
    contract::{LockName, LockReplica},
};

use crate::lock_histories::{Event, LINGERED, histories, on_model, on_store};

proptest! {
    /// Whatever happens to a lock, `Memory` does what the model does. Fails if, for instance, the metadata of a holder
    /// outlives it, a grant goes to another replica, or one that is gone is granted it.
    #[test]
    fn memory_agrees_with_the_model(history in histories(60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let memory = Memory::new();
            let replicas = [memory.replica(), memory.replica(), memory.clone()].map(LockReplica::from);
            let expected = on_model(&history);
            let another = async || memory.replica().into();
            let help = async |event| {
                match event {
                    Event::Next => tokio::time::advance(std::time::Duration::from_millis(1)).await,
                    Event::Lingered => tokio::time::advance(LINGERED).await,
                    _ => {}
                }
                false
            };
            let seen = on_store(&replicas, &LockName::new("history"), &history, &expected, another, help).await;
            prop_assert_eq!(seen, expected);
            Ok(())
        })?;
    }
}
