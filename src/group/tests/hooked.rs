//! `Memory` with something done before its operations: to wait, to fail, never to answer.

use super::*;
use crate::backend::{BackendError, Begin, Begun, Completed, Fence, Found, Locals, Owner, Reason, Record, Renewed};

pub(super) type Hook = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>> + Send + Sync>;

/// What is done before an operation.
pub(super) fn hook<F>(before: impl Fn() -> F + Send + Sync + 'static) -> Hook
where
    F: Future<Output = Result<(), BackendError>> + Send + 'static,
{
    Arc::new(move || Box::pin(before()))
}

/// Takes this long.
pub(super) fn takes(time: Duration) -> Hook {
    hook(move || async move {
        sleep(time).await;
        Ok(())
    })
}

#[derive(Clone)]
pub(super) struct Hooked {
    pub(super) memory: Memory,
    pub(super) begin: Hook,
    pub(super) abort: Hook,
    pub(super) renew: Hook,
    /// With this, every record is known to be fresh.
    pub(super) recall: Option<Hook>,
}

impl Hooked {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            begin: takes(Duration::ZERO),
            abort: takes(Duration::ZERO),
            renew: takes(Duration::ZERO),
            recall: None,
        }
    }
}

impl Backend for Hooked {
    fn locals(&self) -> &Locals {
        self.memory.locals()
    }

    fn recall(&self, key: &Key) -> Option<impl Future<Output = Result<Option<Found>, BackendError>> + Send> {
        let recall = self.recall.as_ref()?;
        Some(async move {
            recall().await?;
            self.memory.get(key).await
        })
    }

    async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
        (self.begin)().await?;
        self.memory.begin(key, begin).await
    }

    async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
        (self.renew)().await?;
        self.memory.renew(key, owner, lease).await
    }

    async fn complete(&self, key: &Key, owner: Owner, fence: Fence, record: Record) -> Result<Completed, BackendError> {
        self.memory.complete(key, owner, fence, record).await
    }

    async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
        (self.abort)().await?;
        self.memory.abort(key, owner, reason).await
    }

    async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        self.memory.invalidate(key).await
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        self.memory.put(key, record).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
        self.memory.get(key).await
    }
}
