//! What an exploration is to reach: proof that something happened at all.

use super::super::explore;

/// Everything that was reached.
pub(super) type Trail = explore::Trail<Event>;

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
    /// One held it by messages that came during its attempt, with or without answers to that.
    MadeUp,
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
