//! A backend with a network in between: `Memory` behind delays, losses and repetitions.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use tower_singleflight::{
    Key,
    backend::{
        Backend, BackendError, Begin, Begun, Completed, ErrorKind, Fence, Found, Locals, Memory, Notice, Owner, Reason,
        Record, Renewed, Watch, Watches,
    },
};

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(400);

/// The network between all replicas and their store.
pub struct Net {
    rng: Mutex<StdRng>,
    faults: AtomicBool,
    deaf: bool,
}

impl Net {
    pub fn new(seed: u64, faults: bool, deaf: bool) -> Arc<Self> {
        Arc::new(Self { rng: Mutex::new(StdRng::seed_from_u64(seed)), faults: faults.into(), deaf })
    }

    pub fn heal(&self) {
        self.faults.store(false, Ordering::Relaxed);
    }

    pub fn below(&self, n: u64) -> u64 {
        self.rng.lock().unwrap().random_range(0..n)
    }

    /// True once in `n`, while there are faults.
    fn fault(&self, n: u64) -> bool {
        self.faults.load(Ordering::Relaxed) && self.below(n) == 0
    }

    async fn hop(&self) {
        let most = if self.fault(8) { 300 } else { 5 };
        let ms = self.below(most);
        sleep(Duration::from_millis(ms)).await;
    }

    /// One exchange: there, the operation, and back.
    async fn exchange<T>(&self, operation: impl Future<Output = Result<T, BackendError>>) -> Result<T, BackendError> {
        let lost = || BackendError::new(ErrorKind::Unknown, "no answer came");
        if self.fault(20) {
            return Err(BackendError::new(ErrorKind::Unavailable, "not connected"));
        }
        self.hop().await;
        if self.fault(12) {
            sleep(TIMEOUT).await;
            return Err(lost());
        }
        let reply = operation.await;
        if self.fault(12) {
            drop(reply);
            sleep(TIMEOUT).await;
            return Err(lost());
        }
        self.hop().await;
        reply
    }
}

/// One replica's handle.
#[derive(Clone)]
pub struct Remote {
    store: Memory,
    net: Arc<Net>,
}

impl Remote {
    pub fn new(store: &Memory, net: &Arc<Net>) -> Self {
        Self { store: store.replica(), net: Arc::clone(net) }
    }

    /// Messages travel apart from replies: late, twice, or never.
    fn relay(&self, key: &Key, mut from: Watch) -> Watch {
        let (watches, digest, net) = (Watches::default(), key.digest(), Arc::clone(&self.net));
        let watch = watches.arm(key);
        tokio::spawn(async move {
            while !watches.keys().is_empty() {
                let Ok(notice) = tokio::time::timeout(Duration::from_secs(1), from.next()).await else { continue };
                if net.deaf || net.fault(4) {
                    continue;
                }
                net.hop().await;
                watches.notify(digest, &notice);
                if net.fault(8) {
                    watches.notify(digest, &Notice::Retry);
                    watches.notify(digest, &notice);
                }
            }
        });
        watch
    }
}

impl Backend for Remote {
    fn locals(&self) -> &Locals {
        self.store.locals()
    }

    async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
        let mut begun = self.net.exchange(self.store.begin(key, begin)).await?;
        if self.net.fault(8) {
            // The client sent it twice; the second answer counts.
            begun = self.store.begin(key, begin).await?;
        }
        Ok(match begun {
            Begun::Lead { fence, failures, previous, watch } => {
                Begun::Lead { fence, failures, previous, watch: self.relay(key, watch) }
            }
            Begun::Follow { fence, left, watch } => Begun::Follow { fence, left, watch: self.relay(key, watch) },
            begun => begun,
        })
    }

    async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
        self.net.exchange(self.store.renew(key, owner, lease)).await
    }

    async fn complete(&self, key: &Key, owner: Owner, fence: Fence, record: Record) -> Result<Completed, BackendError> {
        self.net.exchange(self.store.complete(key, owner, fence, record)).await
    }

    async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
        self.net.exchange(self.store.abort(key, owner, reason)).await
    }

    async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        self.net.exchange(self.store.invalidate(key)).await
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        self.net.exchange(self.store.put(key, record)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
        self.net.exchange(self.store.get(key)).await
    }
}
