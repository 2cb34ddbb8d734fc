//! What the check finds: broken promises, and proof that something happened at all.

use std::collections::BTreeSet;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub promise: &'static str,
    pub how: &'static str,
}

impl Broken {
    pub fn new(promise: &'static str, how: &'static str) -> Self {
        Self { promise, how }
    }

    pub fn unless(kept: bool, promise: &'static str, how: &'static str) -> Result<(), Self> {
        if kept { Ok(()) } else { Err(Self::new(promise, how)) }
    }
}

/// Something worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Followed,
    /// A record came with the message.
    CameWithMessage,
    /// A hit for everybody.
    HitFresh,
    /// A hit for those who followed.
    HitFollowed,
    /// A record was not for one who came after it landed.
    HitTooOld,
    LedAfterDead,
    Renewed,
    RenewLost,
    Superseded,
    CompletedAgain,
    /// The value of another caller of the same replica.
    Joined,
    Stale,
    Scattered,
    Poisoned,
    Uncoordinated,
    Adopted,
    /// A strict caller got its value once it had landed.
    Landed,
    Refused,
    /// A failure was given to those who waited.
    FailureShared,
    /// The work of another caller ran after one that failed.
    TakenOver,
    Detached,
    Evicted,
    /// The work of a caller that had left served another.
    Outlived,
    LeaseGivenBack,
}

/// Everything that was reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(pub BTreeSet<Event>);

impl Trail {
    pub fn saw(&mut self, event: Event) {
        self.0.insert(event);
    }
}
