//! How much of a process the flights may take.

use super::{Group, Options};

/// Far above the bursts that are worth coalescing: with the usual [`wait_timeout`](Group::wait_timeout) and work that hangs,
/// it takes 26 000 calls a second to get here. What is above it would only fill the memory.
pub(super) const MAX_WAITERS: usize = 1 << 18;

/// A quarter of that: one key alone does not take the seats of all others.
pub(super) const MAX_WAITERS_PER_KEY: usize = MAX_WAITERS / 4;

/// Clients that come and go do not pile work up, and there is room for the refreshes of stale results.
pub(super) const MAX_DETACHED: usize = 256;

impl<T: Clone + Send + Sync + 'static> Group<T> {
    /// How many callers may wait for one key in this process. Default: 65 536.
    ///
    /// A caller waits if it finds its key in the air; the one that put it there is not counted, and never refused. One
    /// more than may wait runs its work by itself, at once ([`Source::Alone`](super::Source::Alone) with
    /// [`Alone::Overloaded`](super::Alone::Overloaded)), or is refused by [`try_work`](Self::try_work).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn max_waiters_per_key(self, callers: usize) -> Self {
        self.set(|config| config.options.set_max_waiters_per_key(callers))
    }

    /// How many callers may wait in this process, for all keys together. Default: 262 144.
    ///
    /// Counted are the callers of all groups that share a table: those with the same `T`, made from clones of one backend
    /// handle. What happens above it is what happens above [`max_waiters_per_key`](Self::max_waiters_per_key).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn max_waiters(self, callers: usize) -> Self {
        self.set(|config| config.options.set_max_waiters(callers))
    }

    /// How many flights may go on in this process with nobody waiting. Default: 256.
    ///
    /// They are those whose callers have all left, and refreshes of stale results. One more is given up: its work is
    /// cancelled, which counts as no failure, and whoever asks next begins anew. Nobody is there to be told. With zero,
    /// work ends with its last caller, and what is stale is not refreshed before it is gone.
    ///
    /// Counted are the flights of all groups that share a table, as for [`max_waiters`](Self::max_waiters); the limit is
    /// that of the caller who put the flight in the air.
    #[must_use]
    pub fn max_detached(self, flights: usize) -> Self {
        self.set(|config| config.options.max_detached = flights)
    }
}

impl Options {
    /// # Panics
    ///
    /// If it is zero.
    pub(crate) fn set_max_waiters_per_key(&mut self, callers: usize) {
        assert!(callers > 0, "`max_waiters_per_key` is zero: nobody would ever wait");
        self.max_waiters_per_key = callers;
    }

    /// # Panics
    ///
    /// If it is zero.
    pub(crate) fn set_max_waiters(&mut self, callers: usize) {
        assert!(callers > 0, "`max_waiters` is zero: nobody would ever wait");
        self.max_waiters = callers;
    }
}
