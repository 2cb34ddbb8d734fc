//! The configurations, each explored completely.

use super::{
    super::explore::{configurations, explore},
    event::Event,
    world::{Fault, Setup, World},
};

const ANYTHING: &[Fault] = &[Fault::Lose, Fault::LoseReply, Fault::Late, Fault::LateReply, Fault::Crash, Fault::Deaf];

const LATE: &[Fault] = &[Fault::Late, Fault::LateReply];

const FAST: (&[Fault], u8) = (&[Fault::Fast], 1);

/// One node.
pub(super) const ALONE: Setup = Setup {
    nodes: &[0],
    horizon: 5,
    attempts: [2, 1],
    extensions: [1, 0],
    shortenings: [1, 0],
    waits: false,
    patient: false,
    hears: false,
    cancels: false,
    writes_back: [false; 2],
    prompt: [false; 2],
    faults: &[(ANYTHING, 1), FAST],
    mutation: None,
};

/// More goes wrong.
const ALONE_FAULTY: Setup = Setup { faults: &[(ANYTHING, 2)], horizon: 4, ..ALONE };

/// Requests come late, and late ones after those that were sent later.
pub(super) const ALONE_LATE: Setup =
    Setup { attempts: [3, 1], extensions: [0, 0], faults: &[(LATE, 3)], horizon: 3, ..ALONE };

/// The clock of the node steps back.
pub(super) const STEPPING: Setup = Setup {
    horizon: 4,
    faults: &[(&[Fault::StepBack], 1), (&[Fault::Lose, Fault::LoseReply, Fault::Late], 1)],
    extensions: [1, 0],
    shortenings: [0, 0],
    attempts: [2, 2],
    ..ALONE
};

/// Whoever is refused waits until it is granted the lock.
pub(super) const WAITING: Setup = Setup {
    waits: true,
    cancels: true,
    attempts: [2, 2],
    extensions: [0, 0],
    shortenings: [0, 0],
    horizon: 4,
    faults: &[FAST],
    ..ALONE
};

/// The same, and anything goes wrong.
pub(super) const WAITING_FAULTY: Setup = Setup { attempts: [2, 3], horizon: 1, faults: &[(ANYTHING, 1)], ..WAITING };

/// Two nodes, both of which it takes.
pub(super) const PAIR: Setup = Setup {
    nodes: &[0, 3],
    horizon: 4,
    extensions: [1, 0],
    shortenings: [0, 0],
    faults: &[(&[Fault::Lose, Fault::LoseReply, Fault::Late, Fault::LateReply], 1), FAST],
    ..ALONE
};

/// Three nodes; nothing goes wrong.
pub(super) const TRIO: Setup = Setup {
    nodes: &[0, 5, 9],
    attempts: [1, 1],
    extensions: [1, 1],
    shortenings: [0, 0],
    horizon: 4,
    faults: &[],
    ..ALONE
};

/// Three nodes, and anything goes wrong.
pub(super) const TRIO_FAULTY: Setup = Setup { extensions: [1, 0], faults: &[(ANYTHING, 1)], ..TRIO };

/// Three nodes, and whoever is refused waits until it is granted the lock.
pub(super) const TRIO_WAITING: Setup = Setup { waits: true, attempts: [1, 1], extensions: [0, 0], horizon: 1, ..TRIO };

/// The same, and something goes wrong.
const TRIO_WAITING_FAULTY: Setup =
    Setup { faults: &[(&[Fault::Lose, Fault::LoseReply, Fault::Deaf], 1)], ..TRIO_WAITING };

/// Three nodes, and one that waits may try again.
const TRIO_TRYING: Setup = Setup { attempts: [1, 2], patient: true, ..TRIO_WAITING };

/// Whoever waited extends and shortens what it was granted, and something goes wrong.
const WAITING_EXTENDING: Setup = Setup {
    attempts: [1, 2],
    extensions: [0, 1],
    shortenings: [0, 1],
    horizon: 3,
    faults: &[(&[Fault::Late, Fault::LoseReply, Fault::Crash], 1)],
    ..WAITING
};

/// Two nodes, both of which it takes, and so do messages.
const PAIR_WAITING: Setup = Setup {
    nodes: &[0, 5],
    attempts: [1, 2],
    patient: true,
    faults: &[(&[Fault::Lose, Fault::LoseReply, Fault::Late, Fault::Deaf], 1)],
    ..TRIO_WAITING
};

/// What comes during an attempt counts with its answers, and anything goes wrong.
pub(super) const HEARING: Setup = Setup { hears: true, ..WAITING_FAULTY };

/// The same on several nodes.
const PAIR_HEARING: Setup = Setup { hears: true, ..PAIR_WAITING };
const TRIO_HEARING: Setup = Setup { hears: true, ..TRIO_WAITING_FAULTY };

/// Three nodes, on which one that waited holds above the fence that was written back.
pub(super) const FENCED_WAITING: Setup = Setup { writes_back: [true; 2], patient: true, ..TRIO_WAITING };

/// Three nodes, one of which goes too fast.
pub(super) const TRIO_FAST: Setup = Setup { extensions: [0, 0], faults: &[(&[Fault::Late], 1), FAST], ..TRIO };

/// Three nodes, and holders write their fences back.
pub(super) const FENCED: Setup =
    Setup { extensions: [0, 0], writes_back: [true; 2], horizon: 3, faults: &[(&[Fault::Late], 2)], ..TRIO };

/// One of them writes its fence back, and much of what it sends is late.
pub(super) const FENCED_LATE: Setup =
    Setup { writes_back: [true, false], prompt: [false, true], horizon: 4, faults: &[(&[Fault::Late], 3)], ..FENCED };

configurations! {
    alone: ALONE => [
        ChangedHands TooLate RecognisedOwn ComesTooLate LateGrant Extended ExtensionRefused ExtensionFailed Shortened
        RanOut LateGoodNews
    ];
    alone_faulty: ALONE_FAULTY => [ChangedHands RecognisedOwn LateGrant LateGoodNews];
    alone_late: ALONE_LATE => [ChangedHands TooLate RecognisedOwn ComesTooLate LateGrant Shortened];
    stepping: STEPPING => [ChangedHands RecognisedOwn LateGrant Extended RanOut];
    waiting: WAITING => [ChangedHands HeldByGrants OlderGrant TooOldGrant GaveBack RecognisedOwn RanOut];
    waiting_faulty: WAITING_FAULTY => [
        ChangedHands HeldByGrants OlderGrant UndoneGrant TooOldGrant GaveBack FoundByAsking PassedOver ComesTooLate
    ];
    waiting_extending: WAITING_EXTENDING => [
        ChangedHands HeldByGrants GaveBack PassedOver Extended ExtensionRefused ExtensionFailed Shortened RanOut LateGoodNews
    ];
    pair: PAIR => [ChangedHands Split TooLate RecognisedOwn LateGrant Extended ExtensionRefused ExtensionFailed];
    trio: TRIO => [ChangedHands Split LateGrant Extended RanOut];
    pair_waiting: PAIR_WAITING => [Split HeldByGrants UndoneGrant TooOldGrant GaveBack FoundByAsking PassedOver];
    trio_waiting: TRIO_WAITING => [ChangedHands Split HeldByGrants UndoneGrant TooOldGrant GaveBack];
    trio_waiting_faulty: TRIO_WAITING_FAULTY => [ChangedHands Split HeldByGrants UndoneGrant TooOldGrant GaveBack PassedOver];
    trio_trying: TRIO_TRYING => [ChangedHands Split RecognisedOwn HeldByGrants OlderGrant TooOldGrant GaveBack];
    hearing: HEARING => [HeldByGrants MadeUp OlderGrant UndoneGrant];
    pair_hearing: PAIR_HEARING => [Split HeldByGrants MadeUp];
    trio_hearing: TRIO_HEARING => [ChangedHands Split HeldByGrants MadeUp];
    fenced_waiting: FENCED_WAITING => [ChangedHands HeldByGrants WrittenBack];
    trio_faulty: TRIO_FAULTY => [ChangedHands Split TooLate LateGrant Extended ExtensionRefused ExtensionFailed LateGoodNews];
    trio_fast: TRIO_FAST => [ChangedHands Split TooLate LateGrant RanOut];
    fenced: FENCED => [ChangedHands Split TooLate LateGrant WrittenBack RanOut];
    fenced_late: FENCED_LATE => [ChangedHands TooLate LateGrant WrittenBack RanOut];
}
