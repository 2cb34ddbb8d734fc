//! The check can fail: every mistake is found, and breaks the promise it ought to break.

use super::{
    super::explore::{explore, mutants},
    mutation::Mutation,
    runs::{CALM, CRASH, DEAF, EVICTED, INVALIDATED, INVALIDATED_LATE, LEAVING, LOSING, OUTCOMES},
    world::{Fault, Setup, World},
};

mutants! {
    complete_without_fence: CompleteUnfenced in CRASH_OR_SLEEP => "I1";
    renewal_by_anyone: RenewByAnyone in CRASH_OR_SLEEP => "I2";
    abort_by_anyone: AbortByAnyone in LOSING => "I2";
    begin_without_deadline: BeginIgnoresDeadline in CALM => "I3";
    fence_that_restarts: FenceRestarts in EVICTED => "I9";
    silent_completion: CompleteIsSilent in CALM => "told";
    silent_abort: AbortIsSilent in OUTCOMES => "told";
    invalidation_that_spares_the_leader: InvalidateKeepsLeader in INVALIDATED => "epoch";
    completion_that_forgets_itself: CompleteForgetsItself in LOSING => "I2";
    follower_without_a_timer: FollowsForever in DEAF => "I4";
    follower_of_the_dead_without_a_timer: FollowsForever in CRASH => "I4";
    leader_that_never_renews: NeverRenews in CALM => "I4";
    hit_for_everybody: ServesAnyHit in DEAF => "I5";
    caller_dropped_on_retry: DropsCallerOnRetry in OUTCOMES => "I4";
    invalidated_flight_in_the_table: StaysInTable in INVALIDATED => "epoch";
    answer_given_twice: AnswersTwice in CALM => "once";
    follower_that_is_blamed: BlamesFollower in OUTCOMES => "I7";
    lease_never_given_back: KeepsLease in OUTCOMES => "I4";
    lease_kept_after_an_old_invalidation: KeepsLease in INVALIDATED => "I4";
    adopted_result_that_is_kept: KeepsAdopted in INVALIDATED_LATE => "epoch";
    work_that_leaves_with_its_caller: LeaveCancelsWork in LEAVING => "I4";
}

const CRASH_OR_SLEEP: Setup = Setup { faults: &[(&[Fault::Crash, Fault::Oversleep], 2)], ..CRASH };
