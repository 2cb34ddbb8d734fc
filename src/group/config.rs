use std::{fmt, sync::Arc, time::Duration};

use super::{answer::Done, engine::Options};

/// The shortest lease: a third of it must leave time for a renewal.
const MIN_LOCK_TTL: Duration = Duration::from_millis(10);

/// Whether and how long a value is kept, as decided by [`Group::keep`](super::Group::keep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// As the group is configured.
    Default,
    /// Fresh this long instead of the configured result TTL, and never stale.
    For(Duration),
    /// Shared with those who already wait, stored for nobody else. A stored value that is stale by now stays until its
    /// window ends.
    Waiters,
    /// Shared with nobody: everyone runs his own work, and for this long nobody need ask.
    No(Duration),
}

/// What a group is configured to do.
pub(super) struct Config<T> {
    pub(super) name: Vec<u8>,
    pub(super) prefix: Vec<u8>,
    pub(super) schema: u32,
    pub(super) result_ttl: Duration,
    pub(super) warmup_window: Duration,
    pub(super) options: Options,
    pub(super) keep: Arc<dyn Fn(&T) -> Keep + Send + Sync>,
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            prefix: self.prefix.clone(),
            options: self.options.clone(),
            keep: Arc::clone(&self.keep),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &String::from_utf8_lossy(&self.name))
            .field("prefix", &String::from_utf8_lossy(&self.prefix))
            .field("schema", &self.schema)
            .field("result_ttl", &self.result_ttl)
            .field("warmup_window", &self.warmup_window)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<T> Config<T> {
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            prefix: Vec::new(),
            schema: 1,
            result_ttl: Duration::ZERO,
            warmup_window: Duration::ZERO,
            options: Options::default(),
            keep: Arc::new(|_| Keep::Default),
        }
    }

    /// How long this value is fresh, and then stale, when an application stores it; `None` if it is not.
    pub(super) fn kept(&self, value: &T) -> Option<(Duration, Duration)> {
        Some(self.lifetimes((self.keep)(value))).filter(|(fresh, _)| !fresh.is_zero())
    }

    /// What came of work that returned `value`; an unshareable value goes to `own`.
    pub(super) fn done(&self, value: T, own: impl FnOnce(T)) -> Done<T> {
        match (self.keep)(&value) {
            Keep::Waiters => Done::Passing(value),
            Keep::No(time) => {
                own(value);
                Done::Unshareable(time)
            }
            keep => {
                let (fresh, stale) = self.lifetimes(keep);
                Done::Value { value, fresh, stale, keep: Duration::ZERO }
            }
        }
    }

    /// How long a value is fresh, and then stale.
    fn lifetimes(&self, keep: Keep) -> (Duration, Duration) {
        match keep {
            Keep::Default => (self.result_ttl, self.warmup_window),
            Keep::For(fresh) => (fresh, Duration::ZERO),
            Keep::Waiters | Keep::No(_) => (Duration::ZERO, Duration::ZERO),
        }
    }
}

impl Options {
    /// Sets the length of a lease.
    ///
    /// # Panics
    ///
    /// If it is shorter than 10 ms.
    pub(crate) fn set_lock_ttl(&mut self, lock_ttl: Duration) {
        assert!(
            lock_ttl >= MIN_LOCK_TTL,
            "`lock_ttl` is {lock_ttl:?}: a lease must be at least {MIN_LOCK_TTL:?} long, to leave time to renew it"
        );
        self.lock_ttl = lock_ttl;
    }

    /// Sets how long a caller waits for somebody else's work.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub(crate) fn set_wait_timeout(&mut self, wait_timeout: Duration) {
        assert!(
            !wait_timeout.is_zero(),
            "`wait_timeout` is zero: nobody would ever wait; leave the layer or the group out instead"
        );
        self.wait_timeout = wait_timeout;
    }
}
