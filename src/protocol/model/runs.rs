//! The configurations, each explored completely.

use core::time::Duration;

use super::{
    super::{
        explore::{configurations, explore},
        flight::Outcome,
        lease::Lifetimes,
    },
    event::Event,
    world::{Fault, Past, Setup, World},
};

const VALUE: &[Outcome] = &[Outcome::Value];

const NEVER: Lifetimes = Lifetimes { fresh: Duration::ZERO, stale: Duration::ZERO, keep: Duration::ZERO };

/// Two callers on one replica, one on another; nothing goes wrong.
pub(super) const CALM: Setup = Setup {
    callers: &[(0, false), (0, false), (1, false)],
    outcomes: VALUE,
    lifetimes: NEVER,
    horizon: 8,
    beat: 2,
    prompt: true,
    inline: true,
    deaf: false,
    faults: &[],
    past: Past::Nothing,
    mutation: None,
};

const FAILURE: Outcome = Outcome::Failed { shareable: true };

const ERROR: Outcome = Outcome::Failed { shareable: false };

const SCATTER: Outcome = Outcome::Unshareable(Duration::from_secs(3));

const CACHED: Lifetimes =
    Lifetimes { fresh: Duration::from_secs(2), stale: Duration::from_secs(4), keep: Duration::ZERO };

const PAIR: &[(usize, bool)] = &[(0, false), (1, false)];

const LOSSES: &[Fault] = &[Fault::Refuse, Fault::Lose, Fault::GiveUp];

const EVICTIONS: &[Fault] = &[Fault::EvictState, Fault::EvictRecord, Fault::Flush];

const ANYTHING: &[Fault] = &[
    Fault::Lose,
    Fault::GiveUp,
    Fault::LoseNotice,
    Fault::CopyNotice,
    Fault::Crash,
    Fault::Oversleep,
    Fault::EvictState,
    Fault::Flush,
    Fault::Invalidate,
    Fault::Leave,
];

const ALL: &[Outcome] = &[Outcome::Value, Outcome::Passing, FAILURE, ERROR, SCATTER, Outcome::Declined];

/// Requests and replies are as late as they like.
pub(super) const SLOW: Setup = Setup { prompt: false, callers: PAIR, horizon: 4, ..CALM };

pub(super) const OUTCOMES: Setup = Setup { outcomes: ALL, horizon: 4, ..CALM };

pub(super) const REFRESHED: Setup = Setup {
    lifetimes: CACHED,
    past: Past::Stale,
    outcomes: &[Outcome::Value, Outcome::Passing, FAILURE],
    horizon: 6,
    ..CALM
};

pub(super) const DEAF: Setup = Setup { deaf: true, ..CALM };

pub(super) const CRASH: Setup = Setup { callers: PAIR, faults: &[(&[Fault::Crash], 2)], ..CALM };

pub(super) const LOSING: Setup = Setup { callers: PAIR, faults: &[(LOSSES, 2)], horizon: 6, ..CALM };

pub(super) const EVICTED: Setup = Setup { callers: PAIR, faults: &[(EVICTIONS, 2)], horizon: 6, ..CALM };

pub(super) const INVALIDATED: Setup =
    Setup { lifetimes: CACHED, faults: &[(&[Fault::Invalidate], 1)], horizon: 5, ..CALM };

pub(super) const INVALIDATED_LATE: Setup =
    Setup { faults: &[(&[Fault::Invalidate], 1)], lifetimes: CACHED, horizon: 2, ..SLOW };

pub(super) const LEAVING: Setup =
    Setup { faults: &[(&[Fault::Leave], 1), (&[Fault::NoRoom], 1)], outcomes: &[Outcome::Value, ERROR], ..OUTCOMES };

configurations! {
    calm: CALM => [Followed CameWithMessage HitFollowed HitTooOld Renewed Joined];
    big_records: Setup { inline: false, ..CALM } => [Followed HitFollowed HitTooOld Joined];
    cached: Setup { lifetimes: CACHED, ..CALM } => [HitFresh Stale Joined];
    outcomes: OUTCOMES => [Scattered FailureShared TakenOver];
    refreshed: REFRESHED => [HitFresh Stale Renewed];
    deaf: DEAF => [Followed HitFollowed HitTooOld];
    messages: Setup { faults: &[(&[Fault::LoseNotice, Fault::CopyNotice], 2)], horizon: 6, ..CALM } => [CameWithMessage HitFollowed];
    crash: Setup { faults: &[(&[Fault::Crash], 1)], horizon: 6, ..CALM } => [LedAfterDead Superseded];
    crashes: CRASH => [LedAfterDead Superseded];
    losses: Setup { faults: &[(LOSSES, 1)], horizon: 4, ..CALM } => [Uncoordinated CompletedAgain LeaseGivenBack];
    many_losses: LOSING => [LedAfterDead Superseded CompletedAgain];
    late_timers: Setup { faults: &[(&[Fault::Oversleep], 2)], horizon: 6, ..CALM } => [LedAfterDead RenewLost Superseded];
    slow: SLOW => [Adopted Uncoordinated LeaseGivenBack];
    slow_trio: Setup { prompt: false, horizon: 2, ..CALM } => [Adopted Joined];
    evictions: EVICTED => [Superseded RenewLost];
    evictions_cached: Setup { lifetimes: CACHED, faults: &[(EVICTIONS, 1)], horizon: 6, ..CALM } => [Superseded Stale];
    invalidated: INVALIDATED => [Detached Superseded Stale];
    invalidated_late: INVALIDATED_LATE => [Detached Adopted];
    leaving: LEAVING => [Evicted Outlived TakenOver];
    strict: Setup {
        callers: &[(0, true), (0, false), (1, true)],
        faults: &[(&[Fault::Refuse, Fault::GiveUp], 1)],
        horizon: 4,
        ..CALM
    } => [Landed Refused];
    failing: Setup { past: Past::Failures(1), outcomes: ALL, horizon: 4, ..CALM } => [FailureShared Poisoned TakenOver];
    failed: Setup { past: Past::Failures(2), outcomes: ALL, horizon: 4, ..CALM } => [Poisoned Uncoordinated];
    poisoned: Setup { callers: PAIR, past: Past::Dead(2), faults: &[(&[Fault::Crash], 1)], horizon: 10, ..CALM } => [Poisoned];
    anything: Setup { callers: PAIR, faults: &[(ANYTHING, 2)], horizon: 4, beat: 4, ..CALM } => [LedAfterDead Detached Superseded];
    anything_trio: Setup { faults: &[(ANYTHING, 1)], horizon: 4, ..CALM } => [LedAfterDead Detached Joined];
    anything_strict: Setup {
        callers: &[(0, false), (1, true)],
        outcomes: &[Outcome::Value, ERROR],
        lifetimes: CACHED,
        past: Past::Stale,
        faults: &[(ANYTHING, 2)],
        horizon: 4,
        beat: 4,
        ..CALM
    } => [Stale Refused];
}
