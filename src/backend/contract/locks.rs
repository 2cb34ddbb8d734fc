//! Locks as a store keeps them, below everything that makes a mutex of them: what `Memory` and `Redis` are held against
//! the [model](crate::protocol::lock) by.

use std::{fmt, sync::Arc, time::Duration};

use super::super::{
    BackendError, Fence, Memory, Watch,
    lock::{self, Call, LockKey, Locks},
};
use crate::{
    key::{Digest, Key},
    protocol::lock::{Acquire, Acquired, Extended, Grant, Release, Seen},
};

/// One replica of a store that keeps locks.
#[derive(Clone)]
pub struct LockReplica(Arc<dyn Locks>);

/// A lock in a store.
#[derive(Clone, Debug)]
pub struct LockName(LockKey);

/// What one replica is told of a lock.
#[derive(Debug)]
pub struct Grants(Watch<Call>);

impl Grants {
    /// The next grant, or `None` if messages may have been lost.
    pub async fn next(&mut self) -> Option<Grant> {
        match self.0.next().await {
            Call::Granted(grant) => Some(grant),
            Call::Again => None,
        }
    }
}

impl From<Memory> for LockReplica {
    fn from(memory: Memory) -> Self {
        Self(Arc::new(memory))
    }
}

#[cfg(feature = "redis")]
impl From<super::super::Redis> for LockReplica {
    fn from(redis: super::super::Redis) -> Self {
        Self(Arc::new(redis))
    }
}

impl fmt::Debug for LockReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockReplica").finish_non_exhaustive()
    }
}

impl LockName {
    /// The lock that lies under `lock:{name}`.
    pub fn new(name: &str) -> Self {
        let key = Key::builder("contract of locks").part(name).finish();
        Self(LockKey { name: format!("lock:{{{name}}}").into(), key, replicas: 0, patience: Duration::ZERO })
    }

    /// So many replicas of the store must acknowledge a grant, within this long.
    #[must_use]
    pub fn acknowledged_by(mut self, replicas: u32, patience: Duration) -> Self {
        (self.0.replicas, self.0.patience) = (replicas, patience);
        self
    }

    /// What messages about it name.
    pub fn digest(&self) -> Digest {
        self.0.key.digest()
    }
}

/// The operations of the model. Errors are those of the store.
impl LockReplica {
    /// Hears from now on what is granted to those who wait at this replica.
    pub fn grants(&self, lock: &LockName) -> Grants {
        Grants(self.0.calls(&lock.0))
    }

    /// Acquires, with metadata; what others tell of themselves comes with [`Acquired::Taken`]. Where a place hears and how
    /// long floors linger is the matter of this replica, whatever `ask` says.
    pub async fn acquire(
        &self,
        lock: &LockName,
        ask: Acquire<&str>,
        metadata: Option<&str>,
    ) -> Result<(Acquired, Option<String>), BackendError> {
        let acquire = lock::Acquire {
            token: ask.token.into(),
            seq: ask.seq,
            ttl: ask.ttl,
            ticket: ask.place.map(|place| place.ticket),
            sole: ask.sole,
            metadata: metadata.map(Into::into),
        };
        Ok(match self.0.acquire(&lock.0, acquire).await? {
            lock::Acquired::Granted(fence) => (Acquired::Granted(fence), None),
            lock::Acquired::Taken { left, metadata } => (Acquired::Taken(left), metadata.as_deref().map(Into::into)),
        })
    }

    /// Extends.
    pub async fn extend(
        &self,
        lock: &LockName,
        token: &str,
        seq: Option<u64>,
        ttl: Duration,
    ) -> Result<Extended, BackendError> {
        self.0.extend(&lock.0, token.into(), seq, ttl).await
    }

    /// Releases; whether it was held.
    pub async fn release(&self, lock: &LockName, release: Release<&str>) -> Result<bool, BackendError> {
        let Release { token, seq, undo, ticket } = release;
        self.0.release(&lock.0, Release { token: token.into(), seq, undo, ticket }).await
    }

    /// Raises the floor.
    pub async fn raise(&self, lock: &LockName, token: &str, fence: Fence) -> Result<bool, BackendError> {
        self.0.raise(&lock.0, token.into(), fence).await
    }

    /// Who holds it, and the metadata.
    pub async fn inspect(&self, lock: &LockName) -> Result<Option<(Seen<String>, Option<String>)>, BackendError> {
        let holding = self.0.inspect(&lock.0).await?;
        Ok(holding.map(|lock::Holding { token, fence, left, metadata }| {
            (Seen { token: (*token).into(), fence, left }, metadata.as_deref().map(Into::into))
        }))
    }
}
