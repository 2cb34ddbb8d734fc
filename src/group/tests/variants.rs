//! Flights without a lease, which the store cannot tell that their key was invalidated.

use super::*;
use crate::backend::{Begin, Begun, Fence, Lifetimes, Owner, Record};

/// An engine whose work ends in an hour.
struct Fleet(Engine<u64>, Memory);

impl Fleet {
    fn new() -> Self {
        let memory = Memory::new();
        Self(Engine::new(Arc::new(memory.clone()), Arc::new(crate::codec::Json)), memory)
    }

    /// Opens a flight that the store does not know of: three leaders in a row have died.
    async fn open(&self, key: &Key) {
        for number in 1..=3 {
            let lease = Duration::from_micros(1);
            let begin = Begin { owner: Owner(number), lease, followed: Fence::NONE };
            assert!(matches!(self.1.begin(key, begin).await, Ok(Begun::Lead { .. })));
            sleep(MS).await;
        }
        let (engine, key) = (self.0.clone(), key.clone());
        let work: Work<u64> = Box::new(|_| {
            Box::pin(async {
                sleep(Duration::from_secs(3600)).await;
                Done::Failed(None)
            })
        });
        tokio::spawn(async move { engine.fly(key, work, &Options::default()).await.0 });
        settle().await;
    }

    /// Which of these keys have a flight that later callers would join.
    async fn open_of(&self, keys: &[Key]) -> Vec<bool> {
        settle().await;
        keys.iter().map(|key| self.0.table.family(key).iter().any(|cell| cell.key == *key)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_takes_flights_without_a_lease_along() {
    let (page, other) = (Key::builder("page").finish(), Key::builder("other").finish());
    let keys = [page.clone(), page.variant("one"), page.variant("two"), other.clone(), other.variant("one")];
    for put in [false, true] {
        let fleet = Fleet::new();
        for key in &keys {
            fleet.open(key).await;
        }
        let go = async |key: &Key| match put {
            true => {
                let record = Record { lifetimes: Lifetimes::default(), cost: MS, payload: "1".into() };
                fleet.0.put(key, record).await.unwrap();
            }
            false => fleet.0.forget(key).await.unwrap(),
        };
        assert_eq!(fleet.open_of(&keys).await, [true; 5]);
        go(&keys[2]).await;
        assert_eq!(fleet.open_of(&keys).await, [true, true, false, true, true], "a variant goes alone");
        go(&page).await;
        assert_eq!(fleet.open_of(&keys).await, [false, false, false, true, true]);
    }
}
