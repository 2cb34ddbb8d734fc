//! The check can fail: every mistake is found, and breaks the promise it ought to break.

use super::{
    super::explore::{explore, mutants},
    runs::{
        ALONE, ALONE_LATE, FENCED, FENCED_LATE, FENCED_WAITING, HEARING, PAIR, STEPPING, TRIO, TRIO_FAST, TRIO_WAITING,
        WAITING, WAITING_FAULTY,
    },
    world::{Setup, World},
};

/// A mistake in a node or in a contender, made where the model calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// A node lets anybody release.
    ReleaseByAnyone,
    /// A late release counts.
    ReleaseIgnoresSeq,
    /// A late extension counts.
    ExtendIgnoresSeq,
    /// A late acquisition takes over what newer requests made of the hold.
    AcquireIgnoresSeq,
    /// An extension makes anew what is gone.
    ExtendRevives,
    /// A node grants the lock while another's lease runs.
    GrantsWhileLeased,
    /// A node does not remember fences.
    NoFloor,
    /// A fence is written back where another one holds.
    RaiseByAnyone,
    /// A fence counts as written back although the hold had ended before.
    WritesBackTooLate,
    /// Half of the nodes is a quorum.
    HalfIsEnough,
    /// Nothing is taken off for drifting clocks.
    IgnoresDrift,
    /// A lease is counted from when its round was decided.
    CountsFromDecision,
    /// An extension that failed is taken for one that was reached.
    FailureCounts,
    /// An extension revives a hold that had ended.
    Revives,
    /// A shortened lease counts once it is confirmed.
    ShortensWhenConfirmed,
    /// An undo carries a `seq` of its own.
    UndoesWithFreshSeq,
    /// An attempt that failed leaves what it was granted.
    UndoesNothing,
    /// A node lets a place outlive who gave it up.
    ReleaseLeavesPlace,
    /// A node tells one who waited the fence of who released.
    GrantsUnderOldFence,
    /// One who waits holds by the message of an older attempt.
    AcceptsOlderGrants,
    /// One who waits holds by the message of a node where its attempt is being undone.
    AcceptsUndoneGrants,
    /// What was granted to one who waited is counted from when the message came.
    CountsFromMessage,
    /// What was granted to one who waited holds however long ago it asked.
    HoldsWhatIsOver,
    /// Who stops waiting says nothing.
    LeavesSilently,
}

mutants! {
    release_by_anyone: ReleaseByAnyone in ALONE => "L3";
    release_without_seq: ReleaseIgnoresSeq in ALONE_LATE => "L3";
    extension_without_seq: ExtendIgnoresSeq in ALONE_LATE => "L3";
    acquisition_without_seq: AcquireIgnoresSeq in ALONE_LATE => "L3";
    extension_that_revives: ExtendRevives in ALONE => "L5";
    grant_while_a_lease_runs: GrantsWhileLeased in ALONE => "L1";
    grants_while_leases_run: GrantsWhileLeased in TRIO => "L1";
    fence_without_floor: NoFloor in STEPPING => "L2";
    fences_without_floors: NoFloor in FENCED => "L2";
    raise_without_token: RaiseByAnyone in FENCED => "L2";
    fence_written_back_too_late: WritesBackTooLate in FENCED_LATE => "L2";
    half_is_enough: HalfIsEnough in PAIR => "L1";
    validity_without_drift: IgnoresDrift in ALONE => "L1";
    validity_without_drift_on_three: IgnoresDrift in TRIO_FAST => "L1";
    validity_from_the_decision: CountsFromDecision in ALONE => "L1";
    failed_extension_that_counts: FailureCounts in ALONE => "L1";
    late_news_that_revive: Revives in ALONE => "L4";
    shortening_once_confirmed: ShortensWhenConfirmed in ALONE => "L1";
    undo_with_fresh_seq: UndoesWithFreshSeq in PAIR => "L1";
    failed_attempt_that_stays: UndoesNothing in PAIR => "L6";
    place_that_stays: ReleaseLeavesPlace in WAITING => "L6";
    grant_under_an_old_fence: GrantsUnderOldFence in WAITING => "L2";
    grant_of_an_older_attempt: AcceptsOlderGrants in WAITING_FAULTY => "L1";
    grant_of_an_older_attempt_that_came_during_one: AcceptsOlderGrants in HEARING => "L1";
    grant_that_is_undone: AcceptsUndoneGrants in WAITING_FAULTY => "L1";
    grant_from_when_it_came: CountsFromMessage in WAITING => "L1";
    grant_that_is_over: HoldsWhatIsOver in WAITING => "L4";
    leaving_without_a_word: LeavesSilently in WAITING => "L6";
    places_that_stay: ReleaseLeavesPlace in TRIO_WAITING => "L6";
    grants_under_old_fences: GrantsUnderOldFence in FENCED_WAITING => "L2";
}
