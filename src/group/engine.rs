use std::{fmt, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    Flown,
    answer::{Alone, Answer, Copy, Source, Work},
    calls::Calls,
    caps::{MAX_DETACHED, MAX_WAITERS, MAX_WAITERS_PER_KEY},
    driver::Driver,
    table::{Seat, Table},
};
use crate::{
    backend::{BackendError, ErrorKind, Found, Record, Shared},
    codec::Codec,
    key::Key,
    protocol::{
        flight::{Input, Notice, Rules},
        time::Instant,
    },
};

/// How long work runs that no caller waits for.
const DETACHED: Duration = Duration::from_secs(60);

/// What one call asks of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) lock_ttl: Duration,
    pub(crate) wait_timeout: Duration,
    /// Rather refuse than run a second execution.
    pub(crate) strict: bool,
    pub(crate) max_waiters_per_key: usize,
    pub(crate) max_waiters: usize,
    pub(crate) max_detached: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_ttl: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(10),
            strict: false,
            max_waiters_per_key: MAX_WAITERS_PER_KEY,
            max_waiters: MAX_WAITERS,
            max_detached: MAX_DETACHED,
        }
    }
}

impl Options {
    /// How long the store keeps a record at least: a follower may learn of it only when the lease ends.
    pub(crate) fn keep(&self) -> Duration {
        self.lock_ttl.saturating_add(Duration::from_secs(1))
    }
}

/// Coalesces work by key, on this replica and across replicas. Clones share everything.
pub(crate) struct Engine<T> {
    pub(super) backend: Shared,
    pub(super) codec: Arc<dyn Codec<T>>,
    pub(super) table: Arc<Table<T>>,
}

impl<T> Clone for Engine<T> {
    fn clone(&self) -> Self {
        Self { backend: self.backend.clone(), codec: self.codec.clone(), table: self.table.clone() }
    }
}

impl<T> fmt::Debug for Engine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl<T: Clone + Send + Sync + 'static> Engine<T> {
    /// The table of flights belongs to the backend handle: engines made from clones of one handle share it.
    pub(crate) fn new(backend: Shared, codec: Arc<dyn Codec<T>>) -> Self {
        let table = backend.locals().get();
        Self { backend, codec, table }
    }

    /// The way of one call.
    ///
    /// A flight that has only to read a record that is known to be fresh *rides* on its first caller, which polls it: a
    /// hit then takes no task. As soon as anybody else depends on the flight (a second caller joins it, or the store is
    /// asked for more), it gets a task of its own: a caller that is not polled never holds up another one.
    ///
    /// The seat comes with the answer: work that goes on after it is not detached as long as somebody keeps one.
    ///
    /// Cancel safe: a caller that leaves takes nothing from the others, and work that has started goes on.
    pub(crate) async fn fly(&self, key: Key, work: Work<T>, options: &Options) -> (Answer<T>, Option<Seat<T>>) {
        let rules = Rules { lease: options.lock_ttl, budget: self.backend.budget(), detached: DETACHED };
        let (mut seat, opened) = match self.table.join(key, work, rules, options) {
            Ok(seated) => seated,
            Err(work) => return (Self::strictly(options.strict, Answer::Alone(work, Alone::Overloaded)), None),
        };
        let mut patience = options.wait_timeout;
        if opened {
            let driver = Box::pin(Driver::new(self.clone(), Arc::clone(&seat.cell), options));
            seat.carry(driver, None);
            // The budget ends a ride as well: most callers need no timer of their own for it.
            let ride = poll_fn(|cx| seat.poll_ride(cx));
            let answer =
                if patience < rules.budget { timeout(patience, ride).await.ok().flatten() } else { ride.await };
            if let Some(told) = answer {
                let told = told.unwrap_or_else(|_| Self::orphaned(&seat));
                return (Self::strictly(options.strict, told), Some(seat));
            }
            patience = patience.saturating_sub(seat.cell.now().since(Instant::ZERO));
        }
        let answer = match timeout(patience, &mut seat.answer).await {
            Ok(answer) => answer,
            Err(_) => match seat.withdraw() {
                Some(work) => Ok(Answer::Alone(work, Alone::WaitTimeout)),
                // Started, or answered in this instant: one's own work has no limit but its own.
                None => (&mut seat.answer).await,
            },
        };
        let answer = answer.unwrap_or_else(|_| Self::orphaned(&seat));
        (Self::strictly(options.strict, answer), Some(seat))
    }

    /// Stores a value and invalidates the flight in the air, and all that variants of the key have.
    pub(crate) async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        self.backend.put(key, record).await?;
        self.outdate(key);
        Ok(())
    }

    /// The value that the store keeps, whether it may be used or not.
    pub(crate) async fn kept(&self, key: &Key) -> Result<Option<Copy<T>>, BackendError> {
        Ok(self.backend.get(key).await?.and_then(|found| Calls::decode(&*self.codec, &found)))
    }

    /// How long a caller waits for the store.
    pub(crate) fn budget(&self) -> Duration {
        self.backend.budget()
    }

    /// The stored value, if it may be used.
    pub(crate) async fn peek(&self, key: &Key) -> Result<Option<Flown<T>>, BackendError> {
        let found = self.backend.get(key).await?.filter(Found::is_usable);
        Ok(found.and_then(|found| {
            let (age, fresh) = (found.age, found.is_fresh());
            let value = self.codec.decode(found.payload).ok()?;
            Some(Flown { value, source: if fresh { Source::Hit { age } } else { Source::Stale { age } } })
        }))
    }

    /// The bytes of a value.
    pub(super) fn encode(&self, value: &T) -> Result<Bytes, BackendError> {
        self.codec.encode(value).map_err(|error| {
            BackendError::new(ErrorKind::Config, "the value cannot be encoded: its codec refuses it").with_source(error)
        })
    }

    /// Deletes the value and invalidates the flight in the air, variants of the key included.
    pub(crate) async fn forget(&self, key: &Key) -> Result<(), BackendError> {
        self.backend.invalidate(key).await?;
        self.outdate(key);
        Ok(())
    }

    /// Like [`forget`](Self::forget), for callers who cannot be told that it failed: within the budget, and here in any
    /// case.
    pub(crate) async fn forget_within(&self, key: &Key) {
        let forgotten = timeout(self.backend.budget(), self.backend.invalidate(key)).await;
        let _ = forgotten;
        self.outdate(key);
    }

    /// Whoever calls from now on gets nothing that is older than the invalidation. The message of the store comes too
    /// late for a caller who invalidates and then asks, and never to a flight without a lease, of which it knows nothing.
    fn outdate(&self, key: &Key) {
        for cell in self.table.family(key) {
            self.table.detach(&cell);
            cell.update(|_| ((), Some(Input::Notified(Notice::Invalidated))));
        }
    }

    fn strictly(strict: bool, answer: Answer<T>) -> Answer<T> {
        match answer {
            Answer::Alone(_, why) if strict => Answer::Refused(why),
            answer => answer,
        }
    }

    /// The driver is gone without an answer: it panicked in a user's code, or its runtime was shut down.
    fn orphaned(seat: &Seat<T>) -> Answer<T> {
        match seat.withdraw() {
            Some(work) => Answer::Alone(work, Alone::Unavailable),
            None => {
                panic!("the task that ran this work is gone: its tokio runtime was shut down, or a `Clone` panicked")
            }
        }
    }
}
