//! [`Mutex`]: a lock that several processes share, for work that is not a request.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tower_singleflight::{Mutex, backend::Memory};
//!
//! let mutex = Mutex::new(Memory::new(), "reports:nightly").ttl(Duration::from_secs(10));
//! let guard = mutex.lock().await?;
//! assert!(mutex.try_lock().await.is_err());
//! guard.unlock().await?;
//!
//! let report = mutex.with_lock(async || "done").await?;
//! assert_eq!(report, "done");
//! # Ok(()) }
//! ```
//!
//! On one node it is a *lease*: the node keeps the name of the lock with the token of its holder, for a time. On three
//! or more independent nodes it is the quorum of [Redlock]: whoever is granted the lock by more than half of them holds
//! it, so that it survives the loss of the others. [`docs`](crate::docs) has how it works in full.
//!
//! # What it promises
//!
//! Two holders never believe at the same time that they hold it ([`MutexGuard::until`], [`MutexGuard::lost`]), as long
//! as no node loses a lock that it has granted, and clocks run at the same speed but for the
//! [share](Mutex::drift_factor) that is allowed for. A process that is paused does not know that time goes by: what
//! must not happen twice needs the [fence](MutexGuard::fence).
//!
//! # Waiting
//!
//! Who finds the lock taken is granted it by its release, in the order in which they came, and never polls: the message
//! is the grant. As a fall-back it looks again when the lease that it was told of is over. Callers of one process queue
//! in the process; one of them at a time asks the nodes.
//!
//! # What goes wrong
//!
//! Every round is decided as soon as a quorum is reached or impossible. What a caller leaves behind, because it was
//! dropped or its time was over, is taken back in the background. A release or an extension that was overtaken by a newer
//! request of the same holder changes nothing when it arrives.
//!
//! [Redlock]: https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/

mod ballot;
mod claim;
mod cleanup;
mod config;
mod error;
mod guard;
mod held;
mod info;
mod inline;
mod local;
mod node;
mod parties;
mod retry;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "they measure on a paused clock")]
mod tests;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::timeout;

use self::{claim::Claim, config::Config, held::Held, parties::Parties};
pub use self::{
    error::{LockError, NodeOutcome, QuorumError, Taken, TokenError},
    guard::MutexGuard,
    info::LockInfo,
    node::{Node, Nodes},
    retry::Retry,
    token::Token,
};
pub use crate::protocol::lease::Fence;

/// A lock that several processes share: its name, its nodes and its settings.
///
/// Cloning is cheap, and any number of mutexes with the same name, prefix and nodes are the same lock. It is not
/// reentrant: a task that holds it and asks for it again waits for itself, until its lease is over, which is never
/// if it is renewed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_singleflight::{Mutex, backend::Memory};
///
/// // With `Redis` handles: three servers that know nothing of each other.
/// let nodes = [Memory::new(), Memory::new(), Memory::new()];
/// let mutex = Mutex::new(nodes, "reports:nightly").ttl(Duration::from_secs(10)).auto_renew(true);
///
/// let guard = mutex.lock().await?;
/// tokio::select! {
///     () = async { /* the work */ } => guard.unlock().await?,
///     () = guard.lost() => eprintln!("the lock was lost: somebody else may work on it"),
/// }
/// # Ok(()) }
/// ```
#[doc(alias = "redlock")]
#[doc(alias = "redsync")]
#[doc(alias = "lease")]
#[derive(Clone)]
pub struct Mutex {
    config: Arc<Config>,
}

impl Mutex {
    /// A lock with this name on these nodes: one handle, or an array or list of handles of independent servers.
    ///
    /// An even number of nodes survives no more failures than one node less. That the servers are independent is for the
    /// caller to see to: of two handles that were connected to one server, each counts.
    ///
    /// # Panics
    ///
    /// If there are no nodes, two of them are clones of one handle, or the name is empty.
    pub fn new(nodes: impl Into<Nodes>, name: impl Into<String>) -> Self {
        Self { config: Arc::new(Config::new(nodes.into(), name.into().into())) }
    }

    /// Waits until the lock is free and takes it.
    ///
    /// # Errors
    ///
    /// [`LockError::Quorum`] if too many nodes fail: at once with [`fail_fast`](Self::fail_fast), or if their configuration
    /// cannot work ([`ErrorKind::Config`](crate::backend::ErrorKind::Config)); else after 8 such attempts in a row, which
    /// is 2 to 4 s where nodes fail at once, with the default [`retry`](Self::retry). [`LockError::TimedOut`] after
    /// [`wait_timeout`](Self::wait_timeout), and after [`tries`](Self::tries) attempts the error of the last one: there are
    /// no such limits unless they are set. [`LockError::Cancelled`] if the retry policy gives up.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the caller loses its place, and what it was granted is given back in the background.
    pub async fn lock(&self) -> Result<MutexGuard, LockError> {
        self.acquire(self.config.wait_timeout, false).await
    }

    /// As [`lock`](Self::lock), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); [`LockError::TimedOut`] tells how the last attempt ended.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub async fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard, LockError> {
        self.acquire(Some(timeout), false).await
    }

    /// Takes the lock if it is free: one attempt, without waiting for a holder.
    ///
    /// # Errors
    ///
    /// [`LockError::Taken`] if somebody holds it, or is in line for it; the nodes are not asked if that is another task of this
    /// process. [`LockError::Quorum`] if too many nodes fail.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, what it was granted is given back in the background.
    pub async fn try_lock(&self) -> Result<MutexGuard, LockError> {
        let held = Claim::try_now(Arc::clone(&self.config)).await?;
        Ok(self.guard(held, false))
    }

    /// Runs `work` while the lock is held, and returns its value after the lock is released.
    ///
    /// The lock is renewed by itself. If it is lost, `work` is dropped where it stands. It runs as a part of the
    /// returned future, not as a task, and may borrow.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); and [`LockError::Expired`] or [`LockError::NotHeld`] if the lock was lost before the work
    /// ended. That the release failed is no error: it goes on in the background.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and if `work` does; the lock is released then.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, so is the work, and the lock is released in the background.
    pub async fn with_lock<T>(&self, work: impl AsyncFnOnce() -> T) -> Result<T, LockError> {
        let guard = self.acquire(self.config.wait_timeout, true).await?;
        let value = tokio::select! {
            biased;
            value = work() => value,
            () = guard.lost() => return Err(guard.end()),
        };
        // Work that never paused may have run past the end of the lease.
        if !guard.is_sure() {
            return Err(guard.end());
        }
        let _ = guard.unlock().await;
        Ok(value)
    }

    /// Goes on with a lock that was [given up](MutexGuard::into_token) for this token, in whichever process, and extends it.
    ///
    /// # Errors
    ///
    /// [`LockError::NotHeld`] if the nodes do not know it under this token, perhaps because it has expired;
    /// [`LockError::Quorum`] if too many nodes fail: it may be tried again.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the lock is as it was, or extended.
    pub async fn from_token(&self, token: Token) -> Result<MutexGuard, LockError> {
        let held = Held::adopt(Parties::new(Arc::clone(&self.config), token)).await?;
        Ok(self.guard(held, false))
    }

    /// Who holds the lock, if somebody does.
    ///
    /// It may have changed by the time it is told. A node that does not answer counts as if it knew the lock to be held by
    /// whoever holds it on most of the others.
    ///
    /// # Errors
    ///
    /// [`LockError::Quorum`] if too few nodes answer to tell.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn info(&self) -> Result<Option<LockInfo>, LockError> {
        info::inspect(&self.config).await
    }

    /// Whether somebody holds the lock; see [`info`](Self::info).
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn is_locked(&self) -> Result<bool, LockError> {
        Ok(self.info().await?.is_some())
    }

    async fn acquire(&self, limit: Option<Duration>, renew: bool) -> Result<MutexGuard, LockError> {
        let mut last = None;
        let wait = Claim::wait(Arc::clone(&self.config), &mut last);
        let held = match limit {
            None => wait.await?,
            Some(limit) => match timeout(limit, wait).await {
                Ok(held) => held?,
                Err(_) => return Err(LockError::TimedOut { waited: limit, last: last.map(Box::new) }),
            },
        };
        Ok(self.guard(held, renew))
    }

    fn guard(&self, held: Arc<Held>, renew: bool) -> MutexGuard {
        MutexGuard::new(held, self.config.auto_renew.unwrap_or(renew))
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("config", &self.config).finish_non_exhaustive()
    }
}
