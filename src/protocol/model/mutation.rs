//! Mistakes that the check must find.

/// A mistake in the store, in a flight or in a driver, made where the model calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// `complete` stores whatever it is given.
    CompleteUnfenced,
    /// `renew` lets anybody prolong the lease.
    RenewByAnyone,
    /// `abort` lets anybody end the flight.
    AbortByAnyone,
    /// `begin` takes the lease from a leader whose deadline lies ahead.
    BeginIgnoresDeadline,
    /// A fence that starts anew with the state.
    FenceRestarts,
    /// `complete` tells nobody.
    CompleteIsSilent,
    /// `abort` tells nobody.
    AbortIsSilent,
    /// `invalidate` deletes the record and lets the leader live.
    InvalidateKeepsLeader,
    /// A repeated `complete` is told that it came too late.
    CompleteForgetsItself,
    /// A follower waits for the message alone.
    FollowsForever,
    /// A leader never renews.
    NeverRenews,
    /// A record that is fresh for nobody is given to everybody.
    ServesAnyHit,
    /// A caller is dropped when its flight is to begin again.
    DropsCallerOnRetry,
    /// An invalidated flight stays in the table.
    StaysInTable,
    /// An answer is given twice.
    AnswersTwice,
    /// A failing leader tells its followers that their work ran.
    BlamesFollower,
    /// A lease is never given back.
    KeepsLease,
    /// A result whose work began before its lease is kept for later arrivals.
    KeepsAdopted,
    /// A caller that leaves takes the work with it.
    LeaveCancelsWork,
}
