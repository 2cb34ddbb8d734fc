//! What a [`Flight`](super::flight::Flight) hears and says.

use core::time::Duration;

use super::lease::{Completed, Fence, Reason, Renewed};

/// One caller of one flight: the number of its seat.
pub type Caller = u64;

/// One begin of one flight, counted from 1.
pub type Attempt = u32;

/// The durations a flight keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// How long a leader may go without renewing.
    pub lease: Duration,
    /// How long a caller waits for the store, all exchanges before the work together.
    pub budget: Duration,
    /// How long work runs that no caller waits for.
    pub detached: Duration,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A caller came.
    Join {
        /// Its seat, never used before.
        caller: Caller,
        /// Rather refused than run a second time.
        strict: bool,
    },
    /// A caller left without an answer.
    Leave {
        /// Its seat.
        caller: Caller,
    },
    /// The store answered a begin.
    Begun(Attempt, Reply),
    /// The work goes on, and has told its caller what he came for.
    Announced {
        /// Whether the others may have what it has so far.
        open: bool,
    },
    /// The work ended.
    Worked(Outcome),
    /// The store answered a renewal, or nobody knows.
    Renewed(Attempt, Option<Renewed>),
    /// The store answered a completion, or nobody knows.
    Completed(Attempt, Option<Completed>),
    /// The store answered an abort (`true`), or nobody knows.
    Aborted(Attempt, bool),
    /// A message came.
    Notified(Notice),
    /// There is no room for work that nobody waits for.
    Evict,
}

/// What the store answered to a begin, payload aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// A record to use.
    Hit {
        /// The flight that wrote it.
        fence: Fence,
        /// How long ago it landed.
        age: Duration,
        /// For everybody, or only for those who asked before it landed.
        fresh: bool,
    },
    /// This replica leads.
    Lead {
        /// The fence of the flight.
        fence: Fence,
        /// Failures in a row before it.
        failures: u32,
        /// How long a stale record may be served meanwhile.
        stale: Option<Duration>,
    },
    /// Another replica leads.
    Follow {
        /// The fence of the flight.
        fence: Fence,
        /// What is left of its lease.
        left: Duration,
    },
    /// Another replica refreshes the record that came along.
    Stale,
    /// The outcome cannot be shared.
    Scatter,
    /// Run uncoordinated.
    Poisoned,
    /// No answer that can be used.
    Failed {
        /// Whether the store may have counted this begin all the same.
        may_have_run: bool,
    },
}

/// What came of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A result to share.
    Value,
    /// A result to share with those who wait. It says nothing about a stored one that is still served stale.
    Passing,
    /// A failure; one that is a result may be given to those who wait.
    Failed {
        /// Whether it is a result.
        shareable: bool,
    },
    /// Nobody else may see it, for this long.
    Unshareable(Duration),
    /// None: the one whose work it was found that it is not his. Somebody else is to try.
    Declined,
}

/// A message from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A flight landed.
    Landed {
        /// Its fence.
        fence: Fence,
        /// Whether the record came along.
        with_record: bool,
    },
    /// Begin again.
    Retry,
    /// Go alone.
    Scatter,
    /// The key was invalidated.
    Invalidated,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Ask the store to begin.
    Begin {
        /// Names the owner token: new for every attempt.
        attempt: Attempt,
        /// The greatest fence followed.
        followed: Fence,
    },
    /// Run the work of this caller.
    Work {
        /// Whose work.
        caller: Caller,
    },
    /// Stop the work.
    Cancel,
    /// Renew the lease.
    Renew {
        /// Of this attempt.
        attempt: Attempt,
    },
    /// Store the result.
    Complete {
        /// Of this attempt.
        attempt: Attempt,
        /// Under this fence.
        fence: Fence,
        /// Fresh for nobody: the result is a failure, or may be older than an invalidation.
        for_waiters: bool,
    },
    /// Give the flight up.
    Abort {
        /// Of this attempt.
        attempt: Attempt,
        /// Why.
        reason: Reason,
    },
    /// Tell these callers.
    Answer {
        /// Whom; in order.
        callers: Vec<Caller>,
        /// What.
        verdict: Verdict,
    },
    /// Leave the local table: later arrivals open another flight.
    Detach,
}

/// What callers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Here is the result.
    Value(Origin),
    /// Here is the stale result.
    Stale,
    /// Your own work runs, without a lease if for a reason, and has told you what you came for.
    Runs(Option<Alone>),
    /// Here is what the work has so far.
    Announced,
    /// Your own work ran and was not shared.
    Ran,
    /// Run your work yourself.
    Alone(Alone),
    /// Running would break the promise of one execution.
    Refused(Alone),
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The work of this caller, just now.
    Computed(Caller),
    /// The work of the caller who is told, without a lease.
    Alone(Alone),
    /// The work of this replica, and the store has it.
    Landed,
    /// Another replica, while this one waited.
    Elsewhere,
    /// The store, from before.
    Stored,
}

/// Why a caller ran its work by itself, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alone {
    /// It waited as long as it was willing to.
    WaitTimeout,
    /// The outcome of this key cannot be shared at present.
    Unshareable,
    /// The store could not be reached in time.
    Unavailable,
    /// Too many leaders died or failed in a row.
    Poisoned,
    /// The lease was lost before the result could be stored.
    Superseded,
    /// Too many callers wait already.
    Overloaded,
}

impl core::fmt::Display for Alone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::WaitTimeout => "waited for too long",
            Self::Unshareable => "the outcome cannot be shared",
            Self::Unavailable => "the store did not answer in time",
            Self::Poisoned => "too many leaders died or failed in a row",
            Self::Superseded => "the lease was lost while the work ran",
            Self::Overloaded => "too many callers wait already",
        })
    }
}
