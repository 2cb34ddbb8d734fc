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
    sync::{self, OwnedMutexGuard, watch},
    time::{Instant, sleep_until},
};

use super::Taken;
use crate::{
    key::Key,
    protocol::{quorum::Hold, time},
};

/// Moments as the protocol counts them.
pub(super) type Moment = time::Instant<time::Local>;

/// Kept in the [`Locals`](crate::backend::Locals) of a mutex' first node.
pub(super) struct Local {
    origin: Instant,
    lines: Mutex<HashMap<Key, Weak<Line>>>,
}

/// Who wants one lock.
pub(super) struct Line {
    foremost: Arc<sync::Mutex<()>>,
    holder: watch::Sender<Option<Holder>>,
}

/// Who holds a lock, while it is one of this process.
#[derive(Clone)]
pub(super) struct Holder {
    /// What it believes.
    pub(super) hold: watch::Receiver<Hold>,
    /// What it says of itself.
    pub(super) metadata: Option<Arc<str>>,
}

/// The right to ask for a lock: one per name and process.
pub(super) struct Foremost {
    pub(super) line: Arc<Line>,
    _place: OwnedMutexGuard<()>,
}

/// Whose hold has ended sends its release within this time, if it does so at once.
const RELEASE: Duration = Duration::from_millis(1);

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

    /// Who of this process holds the lock, as far as it is sure.
    pub(super) fn taken(&self, line: &Line) -> Option<Taken> {
        let holder = line.holder.borrow();
        let Holder { hold, metadata } = holder.as_ref()?;
        let left = hold.borrow().until().since(self.now());
        let holder = metadata.as_deref().map(str::to_owned);
        (!left.is_zero()).then_some(Taken { holder, left: Some(left), nodes: Vec::new() })
    }

    /// Waits until nobody of this process holds the lock, and the release of who did has been sent: what is asked for right
    /// behind it needs no message, and what is asked for before it is refused, or granted to the same token once more.
    pub(super) async fn vacant(&self, line: &Line) {
        let mut holders = line.holder.subscribe();
        loop {
            let Some(mut holder) = holders.borrow_and_update().clone() else { return };
            let until = holder.hold.borrow_and_update().until();
            // Nobody knows when a guard whose time was over will be dropped.
            let over = self.at(until.after(RELEASE));
            tokio::select! {
                _ = holders.changed() => {}
                // Extended, or about to be released.
                Ok(()) = holder.hold.changed() => {}
                () = sleep_until(over) => return,
            }
        }
    }

    /// The line for a lock, which lasts as long as anybody has it.
    pub(super) fn line(&self, key: &Key) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(key).and_then(Weak::upgrade) {
            return line;
        }
        // Whenever the table would grow, what is over makes room first.
        if lines.len() >= FEW && lines.len() == lines.capacity() {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::new(Line { foremost: Arc::default(), holder: watch::Sender::default() });
        lines.insert(key.clone(), Arc::downgrade(&line));
        line
    }
}

impl Line {
    /// Waits in line, first come first served.
    pub(super) async fn queue(self: Arc<Self>) -> Foremost {
        let place = Arc::clone(&self.foremost).lock_owned().await;
        Foremost { line: self, _place: place }
    }

    /// Unless somebody is in line already.
    pub(super) fn try_queue(self: Arc<Self>) -> Option<Foremost> {
        let place = Arc::clone(&self.foremost).try_lock_owned().ok()?;
        Some(Foremost { line: self, _place: place })
    }

    /// The lock is held by one of this process.
    pub(super) fn hold(&self, holder: Holder) {
        self.holder.send_replace(Some(holder));
    }

    /// The release of the one that believed so has been sent.
    pub(super) fn free(&self, hold: &watch::Receiver<Hold>) {
        self.holder.send_if_modified(|holder| holder.take_if(|holder| holder.hold.same_channel(hold)).is_some());
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
