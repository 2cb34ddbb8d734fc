//! What an exploration is to reach: proof that something happened at all.

use super::super::explore;

/// Everything that was reached.
pub(super) type Trail = explore::Trail<Event>;

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
