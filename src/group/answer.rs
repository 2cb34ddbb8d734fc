use std::{any::Any, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use crate::protocol::flight::Alone;

/// What one caller brings: runs at most once, in the flight's own task or in the caller.
pub(crate) type Work<T> = Box<dyn FnOnce(Start<T>) -> Pin<Box<dyn Future<Output = Done<T>> + Send>> + Send>;

/// What the work begins with.
pub(crate) struct Start<T> {
    /// The value that the store still keeps, fresh for nobody.
    pub(crate) previous: Option<Copy<T>>,
    /// Those who asked were given it.
    pub(crate) refreshes: bool,
    /// Why there is no coordination, if there is none as yet.
    pub(crate) alone: Option<Alone>,
    /// How often it failed before, in a row.
    pub(crate) failures: u32,
    pub(crate) announce: Announce,
}

impl<T> Start<T> {
    /// Of work outside of a flight, with nobody to announce anything to.
    pub(crate) fn alone() -> Self {
        Self { previous: None, refreshes: false, alone: None, failures: 0, announce: Box::new(|_| ()) }
    }
}

/// A stored value and when it landed, on this process' clock.
#[derive(Clone)]
pub(crate) struct Copy<T> {
    pub(crate) value: T,
    pub(crate) landed: Instant,
    /// It was fresh for nobody from the start: it may be older than what has been invalidated since.
    pub(crate) for_waiters: bool,
}

/// How work says, before it ends, that its caller has what it came for; and what it has so far, if everybody may have it.
/// Said again with nothing, it is for nobody more.
pub(crate) type Announce = Box<dyn Fn(Option<Announcement>) + Send + Sync>;

/// What work has so far. What that is, only those who fly know: the engine hands it on.
pub(crate) type Announcement = Arc<dyn Any + Send + Sync>;

/// What came of the work.
#[derive(Debug)]
pub(crate) enum Done<T> {
    /// A result to share with those who wait, fresh and then stale this long for later callers.
    Value {
        /// The result.
        value: T,
        /// A hit for everybody this long.
        fresh: Duration,
        /// Then served stale this long.
        stale: Duration,
        /// Then kept this long, for the work to start from.
        keep: Duration,
    },
    /// A result for those who wait alone; what is stored and still of use stays.
    Passing(T),
    /// The work failed. A failure that is a result may be given to those who already wait.
    Failed(Option<T>),
    /// Nobody else may see the outcome; for this long nobody need ask.
    Unshareable(Duration),
    /// Nor may they see what is stored any more.
    Withdrawn(Duration),
    /// It did not run, because it turned out to be another flight's. Somebody else is to try.
    Declined,
}

/// What a flight tells one of its callers.
pub(crate) enum Answer<T> {
    /// A result, and where it came from.
    Value(T, Source),
    /// The caller's own work runs, without coordination if for a reason, and has told the caller what it came for. It
    /// goes on for the caller who keeps the seat.
    Runs(Option<Alone>),
    /// What the work of another caller of this process has so far. It goes on for the caller who keeps the seat.
    Announced(Announcement),
    /// The caller's own work ran and did not end in a shared value: the caller knows its outcome already.
    Ran,
    /// The caller's own work ran and panicked.
    Panicked(Box<dyn Any + Send>),
    /// The caller may run its work itself, uncoordinated.
    Alone(Work<T>, Alone),
    /// Only for strict callers: running would break the promise of one execution.
    Refused(Alone),
}

/// Where a result came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// This caller's own work ran, and the result was shared.
    Led,
    /// Another caller of this process ran the work.
    JoinedHere,
    /// A caller of another replica ran the work.
    JoinedElsewhere,
    /// A fresh stored result, this old.
    Hit {
        /// Time since it landed.
        age: Duration,
    },
    /// A stale stored result, this old, served while one caller refreshes it.
    Stale {
        /// Time since it landed.
        age: Duration,
    },
    /// This caller's own work ran by itself.
    Alone(Alone),
}
