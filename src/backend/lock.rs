//! What a store does for locks: the intents behind [`Mutex`](crate::Mutex), of which the stores keep the pure model in
//! [`protocol::lock`](crate::protocol::lock).

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{BackendError, Fence, Locals, Watch};
use crate::{
    key::Key,
    protocol::lock::{Extended, Grant, Release},
};

/// A token as it travels.
pub(crate) type Token = Arc<str>;

/// An answer on its way.
pub(crate) type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

/// Which lock, and what a node has to do besides keeping it.
#[derive(Clone, Debug)]
pub(crate) struct LockKey {
    /// The prefix and, in braces, the name.
    pub(crate) name: Arc<str>,
    /// Under which waiters are told of it.
    pub(crate) key: Key,
    /// So many replicas of the node must have acknowledged what was granted.
    pub(crate) replicas: u32,
    /// They have this long for it.
    pub(crate) patience: Duration,
}

/// As [`lock::Acquire`](crate::protocol::lock::Acquire), as a caller knows it.
#[derive(Clone, Debug)]
pub(crate) struct Acquire {
    pub(crate) token: Token,
    pub(crate) seq: u64,
    pub(crate) ttl: Duration,
    pub(crate) ticket: Option<u64>,
    pub(crate) sole: bool,
    /// What others are told of the holder.
    pub(crate) metadata: Option<Arc<str>>,
}

/// What a node answers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    Granted(Fence),
    Taken { left: Duration, metadata: Option<Arc<str>> },
}

/// What one who waits hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The lock is its own.
    Granted(Grant),
    /// Messages may have been lost: it should ask again.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "nothing is lost on the way to a store in this process")
    )]
    Again,
}

/// A lock that is held, as anyone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) token: Token,
    pub(crate) fence: Fence,
    pub(crate) left: Duration,
    pub(crate) metadata: Option<Arc<str>>,
}

/// A node on which locks are kept. Every operation is atomic and may be retried with the same arguments.
///
/// A lease that [`LockKey::replicas`] did not acknowledge is an error whose kind is
/// [`Unknown`](super::ErrorKind::Unknown): it was granted, and has to be given back.
pub(crate) trait Locks: Send + Sync {
    /// What the callers of this process share.
    fn locals(&self) -> &Locals;

    /// Hears what is granted to those of this process who wait.
    fn calls(&self, key: &LockKey) -> Watch<Call>;

    /// Takes the lock, or a place among those who wait.
    fn acquire<'a>(&'a self, key: &'a LockKey, acquire: Acquire) -> Reply<'a, Acquired>;

    /// As [`Lock::extend`](crate::protocol::lock::Lock::extend).
    fn extend<'a>(&'a self, key: &'a LockKey, token: Token, seq: Option<u64>, ttl: Duration) -> Reply<'a, Extended>;

    /// As [`Lock::release`](crate::protocol::lock::Lock::release); whether it was held.
    fn release<'a>(&'a self, key: &'a LockKey, release: Release<Token>) -> Reply<'a, bool>;

    /// As [`Lock::raise`](crate::protocol::lock::Lock::raise).
    fn raise<'a>(&'a self, key: &'a LockKey, token: Token, fence: Fence) -> Reply<'a, bool>;

    /// Who holds it.
    fn inspect<'a>(&'a self, key: &'a LockKey) -> Reply<'a, Option<Holding>>;
}
