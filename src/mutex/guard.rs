use std::{fmt, sync::Arc, time::Duration};

use tokio::{task::AbortHandle, time::Instant};

use super::{Token, error::LockError, held::Held};
use crate::protocol::lease::Fence;

/// A lock that is held.
///
/// Dropping it releases the lock in the background, without blocking; [`unlock`](Self::unlock) tells when that is done.
/// A process that ends right behind a drop, as when `main` returns with `?`, may end before the release is sent: then
/// the lock is free when its lease is over. What ends so should call `unlock`, or use
/// [`with_lock`](super::Mutex::with_lock).
///
/// A lock is held for a time: until [`until`](Self::until), unless it is extended. Work that takes longer must watch
/// [`lost`](Self::lost), or hand its [`fence`](Self::fence) to what it writes to.
#[must_use = "a lock is released when its guard is dropped"]
pub struct MutexGuard {
    held: Arc<Held>,
    renewal: Option<AbortHandle>,
    /// To be released when it is dropped.
    armed: bool,
}

impl MutexGuard {
    pub(super) fn new(held: Arc<Held>, renew: bool) -> Self {
        let renewal = renew.then(|| held.parties.detach(Arc::clone(&held).renew()));
        Self { held, renewal, armed: true }
    }

    /// Releases the lock and tells whether it was held until now.
    ///
    /// # Errors
    ///
    /// [`LockError::Expired`] and [`LockError::NotHeld`] if it was not: somebody else may have held it meanwhile.
    /// [`LockError::Quorum`] if too few nodes answered; then the release is tried again in the background until the lease
    /// is over. [`LockError::Cancelled`] if the runtime is shutting down.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// The lock is released also if the future is dropped.
    pub async fn unlock(mut self) -> Result<(), LockError> {
        let sure = self.held.is_sure();
        let ended = self.held.end();
        self.armed = false;
        match self.held.unlock().await {
            // Whatever the nodes say, its time was over.
            Some(_) if !sure => Err(ended),
            Some(outcome) => outcome,
            None => Err(LockError::Cancelled),
        }
    }

    /// Lets the lease run for the [`ttl`](super::Mutex::ttl) of its mutex from now.
    ///
    /// # Errors
    ///
    /// [`LockError::Expired`] if its time was over before; it is not revived. [`LockError::NotHeld`] if the nodes do not know
    /// it any more: then it is lost. [`LockError::Quorum`] if too few nodes answered: then it is held for as long as it
    /// was before.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the lease may or may not have been extended, and the guard believes that it was not.
    pub async fn extend(&self) -> Result<(), LockError> {
        self.held.extend(self.held.parties.config.ttl).await
    }

    /// As [`extend`](Self::extend), for `ttl` from now. It may be shorter than before, and is never a deletion.
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend). If it shortens the lease, that counts also where the outcome is unknown.
    ///
    /// # Panics
    ///
    /// If `ttl` is zero, longer than 30 years, or so short that nothing is left of it after the
    /// [drift](super::Mutex::drift_factor); and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// As [`extend`](Self::extend).
    pub async fn extend_to(&self, ttl: Duration) -> Result<(), LockError> {
        self.held.parties.config.check_ttl("extend_to", ttl);
        self.held.extend(ttl).await
    }

    /// Until when the lock is surely held, if it is not extended.
    ///
    /// It is counted from before the lock was asked for, less what clocks may [drift](super::Mutex::drift_factor) apart.
    pub fn until(&self) -> Instant {
        self.held.until()
    }

    /// Ends when the lock is not surely held any more: its time is over, or the nodes have said that it is lost.
    ///
    /// The nodes say so when they are asked, which [automatic renewal](super::Mutex::auto_renew) does every third of
    /// the time for which the lock is sure. Without it a lock that was deleted seems to be held until its time is over.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn lost(&self) {
        self.held.lost().await;
    }

    /// A number that grows with every holder of this lock: what it writes to can refuse a number below the greatest one
    /// seen, and so a holder that does not know yet that it has lost the lock.
    ///
    /// On one node it is told with the grant. It is greater than all that were told before, also if the lock was deleted in
    /// between, while the node's clock does not step back further than the node remembers
    /// ([`linger`](crate::backend::redis::RedisBuilder::linger), a minute) or all was flushed.
    ///
    /// On several nodes the first call is a round that raises it on a quorum of them, which every later holder's quorum
    /// shares a node with. It grows from one holder *that asked for it* to the next one.
    ///
    /// # Errors
    ///
    /// On several nodes, as [`extend`](Self::extend).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call begins the round again.
    #[doc(alias = "fencing token")]
    pub async fn fence(&self) -> Result<Fence, LockError> {
        self.held.fence().await
    }

    /// The name of the lock.
    pub fn name(&self) -> &str {
        &self.held.parties.config.name
    }

    /// What makes this guard the holder.
    pub fn token(&self) -> &Token {
        &self.held.parties.token
    }

    /// Gives the lock up without releasing it: whoever gets the token goes on with
    /// [`Mutex::from_token`](super::Mutex::from_token), in time.
    pub fn into_token(mut self) -> Token {
        self.armed = false;
        self.held.hand_over();
        self.held.parties.token.clone()
    }

    pub(super) fn is_sure(&self) -> bool {
        self.held.is_sure()
    }

    pub(super) fn end(&self) -> LockError {
        self.held.end()
    }
}

impl Drop for MutexGuard {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.abort();
        }
        if self.armed {
            self.held.release();
        }
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard")
            .field("name", &self.name())
            .field("token", self.token())
            .field("until", &self.until())
            .finish_non_exhaustive()
    }
}
