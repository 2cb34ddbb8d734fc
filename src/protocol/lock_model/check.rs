//! What the check finds: broken promises, and proof that something happened at all.

use std::collections::BTreeSet;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub promise: &'static str,
    pub how: &'static str,
}

impl Broken {
    pub fn unless(kept: bool, promise: &'static str, how: &'static str) -> Result<(), Self> {
        if kept { Ok(()) } else { Err(Self { promise, how }) }
    }
}

/// Something worth reaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// One held it, then the other.
    ChangedHands,
    /// An attempt was granted a node and refused by another, and did not reach its quorum.
    Split,
    /// A quorum was reached when its lease might have been over.
    TooLate,
    /// What a node granted was the contender's already.
    RecognisedOwn,
    /// A request older than what the node had was done, and changed nothing.
    ComesTooLate,
    /// An attempt that had been given up was granted after all.
    LateGrant,
    /// One who waited held it by messages alone.
    HeldByGrants,
    /// A message did not count: of an older attempt, of a node where the attempt was being undone, or so late that another
    /// attempt is better.
    OlderGrant,
    UndoneGrant,
    TooOldGrant,
    /// One who stopped waiting gave back what it was granted meanwhile.
    GaveBack,
    /// A message was lost, and another attempt found what it would have told.
    FoundByAsking,
    /// The lock was not granted to one who waited, because nobody heard its inbox.
    PassedOver,
    Extended,
    ExtensionRefused,
    ExtensionFailed,
    Shortened,
    WrittenBack,
    /// A hold ended by itself.
    RanOut,
    /// An extension reached its quorum after the hold had ended.
    LateGoodNews,
}

/// Everything that was reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(pub BTreeSet<Event>);

impl Trail {
    pub fn saw(&mut self, event: Event) {
        self.0.insert(event);
    }
}
