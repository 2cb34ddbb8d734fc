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
    /// A node granted nothing, because it was another's turn.
    Spoken,
    /// A node granted the lock to the one whose turn it was.
    TookItsTurn,
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
