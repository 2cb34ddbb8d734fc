//! What the mutexes of one process share: a clock, and who is in line for which lock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{self, OwnedMutexGuard},
    time::Instant,
};

use crate::{key::Key, protocol::time};

/// Moments as the protocol counts them.
pub(super) type Moment = time::Instant<time::Local>;

/// Kept in the [`Locals`](crate::backend::Locals) of a mutex' first node.
pub(super) struct Local {
    origin: Instant,
    lines: Mutex<HashMap<Key, Weak<sync::Mutex<()>>>>,
}

/// The right to ask for a lock: one per name and process.
#[derive(Debug)]
pub(super) struct Foremost {
    _place: OwnedMutexGuard<()>,
}

/// So many lines are not worth a look for empty ones.
const FEW: usize = 64;

impl Default for Local {
    #[expect(clippy::disallowed_methods, reason = "every wait is measured on this clock")]
    fn default() -> Self {
        Self { origin: Instant::now(), lines: Mutex::default() }
    }
}

impl Local {
    #[expect(clippy::disallowed_methods, reason = "every wait is measured on this clock")]
    pub(super) fn now(&self) -> Moment {
        Moment::ZERO.after(self.origin.elapsed())
    }

    pub(super) fn at(&self, moment: Moment) -> Instant {
        self.origin + Duration::from_micros(moment.as_micros())
    }

    /// Waits in line, first come first served.
    pub(super) async fn queue(&self, key: &Key) -> Foremost {
        Foremost { _place: self.line(key).lock_owned().await }
    }

    /// Unless somebody is in line already.
    pub(super) fn try_queue(&self, key: &Key) -> Option<Foremost> {
        self.line(key).try_lock_owned().ok().map(|place| Foremost { _place: place })
    }

    fn line(&self, key: &Key) -> Arc<sync::Mutex<()>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(key).and_then(Weak::upgrade) {
            return line;
        }
        // Whenever the table would grow, what is over makes room first.
        if lines.len() >= FEW && lines.len() == lines.capacity() {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::default();
        lines.insert(key.clone(), Arc::downgrade(&line));
        line
    }
}

/// Numbers of requests: those of one holder must grow, whichever mutex sends them.
static SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// Greater than all before.
pub(super) fn next_seq() -> u64 {
    SEQUENCE.fetch_add(1, Ordering::Relaxed)
}

/// From now on they are greater than what another process has sent.
pub(super) fn follow_seq(seq: u64) {
    SEQUENCE.fetch_max(seq.saturating_add(1), Ordering::Relaxed);
}
