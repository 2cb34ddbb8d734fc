//! Random histories of a lock, run on the pure model and on stores, which must agree in every reply and message.
//!
//! Leases are either far longer or far shorter than a run, and a turn ends only where the history says so, so that
//! outcomes do not depend on how fast the run is. Fences are compared by the order in which they first appear, and by
//! whether they are the greatest so far, because each store has its own clock.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        Fence, Watch,
        contract::{LockName, LockReplica},
    },
    protocol::{
        lease::Inbox,
        lock::{Acquire, Acquired, Extended, Lock, Place, Release, Seen, TURN, Turn},
        time,
    },
};

/// Replicas that take part.
pub const REPLICAS: usize = 3;

/// Who holds the lock, and who waits for it; anyone may do so from any replica, as if it had moved.
const TOKENS: [&str; 4] = ["", "one", "two: {}\r\n", "\u{1F512} three"];
const TICKETS: u8 = 4;

/// Far longer than all that passes in a history, and far shorter.
pub const LONG: Duration = Duration::from_secs(1_000_000);
const SHORT: Duration = Duration::from_micros(1);

/// How long the floors of a store with its defaults outlive their leases.
const LINGER: Duration = Duration::from_secs(60);

/// A raised fence lies so far ahead that no clock reaches it in a run.
const AHEAD: u64 = 10_000_000_000;

const PATIENCE: Duration = Duration::from_secs(10);

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    Acquire { token: usize, seq: Seq, long: bool, ticket: Option<u8>, replica: usize, sole: bool, metadata: bool },
    Extend { token: usize, seq: Option<Seq>, long: bool },
    Release { token: usize, seq: Seq, undo: bool, ticket: Option<u8> },
    Raise { token: usize, fence: Pick },
    Inspect,
    Pass(Pass),
}

/// Which request of a token: the next one, the last one once more, or one that arrives late.
#[derive(Clone, Copy, Debug)]
pub enum Seq {
    Next,
    Last,
    Late,
}

/// One of the fences seen so far.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Last,
    Earlier(u8),
    Ahead,
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A turn.
    Turn,
    /// The time for which a lock that is free remembers who waits.
    Memory,
    /// That for which a floor outlives a short lease.
    Linger,
}

impl Pass {
    /// How long that takes.
    pub fn time(self) -> Duration {
        match self {
            Self::Turn => Duration::from_millis(101),
            Self::Memory => Duration::from_millis(1001),
            Self::Linger => Duration::from_secs(61),
        }
    }
}

/// What a store must be helped with, as time does not pass in it as in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation comes; a microsecond or more must pass.
    Next,
    /// A short lease was granted, which must be over.
    Short,
    /// A turn was given, which must not be over before it is said to.
    Given,
    /// Something is over.
    Over(Pass),
    /// A message [`END`] is to come to every inbox, if the store can be made to send one.
    End,
}

/// What a caller sees of an operation, without clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Granted(Seal),
    Taken(bool, Option<String>),
    Spoken,
    Held(Seal, u64),
    Gone,
    ExtendTaken,
    Done(bool),
    Seen(Option<(String, Seal, bool, Option<String>)>),
    Passed,
}

/// A fence: when it was first seen, and whether none before was greater.
pub type Seal = (usize, bool);

/// The reply to one operation and the messages that came of it, each with its replica.
pub type Step = (Reply, Vec<(usize, Turn)>);

/// The last message, through the same channels as all others, so that one too many is found without waiting for it.
pub const END: Turn = Turn::After(Duration::from_micros(424_242));

/// Any history.
pub fn histories(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    let seq = || prop_oneof![4 => Just(Seq::Next), 2 => Just(Seq::Last), 1 => Just(Seq::Late)];
    let fence = prop_oneof![2 => Just(Pick::Last), 1 => any::<u8>().prop_map(Pick::Earlier), 1 => Just(Pick::Ahead)];
    let pass = prop_oneof![4 => Just(Pass::Turn), 1 => Just(Pass::Memory), 1 => Just(Pass::Linger)];
    let long = || prop::bool::weighted(0.8);
    // One of them comes more often, so that it often is who holds it.
    let token = || prop_oneof![1 => Just(0), 1 => 0..TOKENS.len()];
    let ticket = || prop::option::weighted(0.7, 0..TICKETS);
    let flag = any::<bool>;
    let op = prop_oneof![
        12 => (token(), seq(), long(), ticket(), 0..REPLICAS, flag(), flag()).prop_map(
            |(token, seq, long, ticket, replica, sole, metadata)| {
                Op::Acquire { token, seq, long, ticket, replica, sole, metadata }
            }
        ),
        3 => (token(), prop::option::weighted(0.8, seq()), long())
            .prop_map(|(token, seq, long)| Op::Extend { token, seq, long }),
        7 => (token(), seq(), flag(), prop::option::weighted(0.3, 0..TICKETS))
            .prop_map(|(token, seq, undo, ticket)| Op::Release { token, seq, undo, ticket }),
        3 => (token(), fence).prop_map(|(token, fence)| Op::Raise { token, fence }),
        1 => Just(Op::Inspect),
        2 => pass.prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 1..longest)
}

/// What callers remember of a run.
#[derive(Default)]
struct Run {
    fences: Vec<Fence>,
    seqs: [u64; TOKENS.len()],
}

impl Run {
    fn seal(&mut self, fence: Fence) -> Seal {
        let greatest = self.fences.iter().all(|seen| *seen <= fence);
        let index = self.fences.iter().position(|seen| *seen == fence).unwrap_or_else(|| {
            self.fences.push(fence);
            self.fences.len() - 1
        });
        (index, greatest)
    }

    fn pick(&self, pick: Pick) -> Fence {
        let last = self.fences.last().copied().unwrap_or(Fence(1));
        match pick {
            Pick::Last => last,
            Pick::Earlier(back) => {
                let back = 1 + usize::from(back) % self.fences.len().max(1);
                self.fences.len().checked_sub(back).map_or(Fence(1), |index| self.fences[index])
            }
            Pick::Ahead => Fence(last.0 + AHEAD),
        }
    }

    fn seq(&mut self, token: usize, seq: Seq) -> u64 {
        let last = &mut self.seqs[token];
        match seq {
            Seq::Next => {
                *last += 1;
                *last
            }
            Seq::Last => *last,
            Seq::Late => last.saturating_sub(1),
        }
    }

    /// No fence to come may be the raised one either.
    fn raised(&mut self, raised: bool, fence: Fence) -> Reply {
        if raised {
            self.seal(fence);
        }
        Reply::Done(raised)
    }

    fn extended(&mut self, extended: Extended) -> Reply {
        match extended {
            Extended::Held(fence, seq) => Reply::Held(self.seal(fence), seq),
            Extended::Gone => Reply::Gone,
            Extended::Taken => Reply::ExtendTaken,
        }
    }
}

fn ttl(long: bool) -> Duration {
    if long { LONG } else { SHORT }
}

/// Where replica number `replica` hears, in the model.
fn inbox(replica: usize) -> Inbox {
    Inbox([u8::try_from(replica).unwrap(); 12])
}

fn place(ticket: Option<u8>, replica: usize) -> Option<Place> {
    ticket.map(|ticket| Place { ticket: id(ticket), inbox: inbox(replica) })
}

/// Some begin with zeros.
fn id(ticket: u8) -> u64 {
    u64::from(ticket).wrapping_mul(0x5555_5555_5555_5555) >> 4
}

fn metadata(number: u64, with: bool) -> Option<String> {
    with.then(|| format!("metadata {number} \u{0}\u{fffd}"))
}

/// What the model says.
pub fn on_model(history: &[Op]) -> Vec<Step> {
    let (mut lock, mut run) = (Lock::default(), Run::default());
    let mut now = time::Instant::from_micros(1_000_000);
    // What the holder tells of itself is no matter of the model.
    let mut tells = None;
    let mut steps = Vec::new();
    for (number, op) in (1..).zip(history) {
        now = now.after(Duration::from_millis(2));
        let (reply, told) = match *op {
            Op::Acquire { token, seq, long, ticket, replica, sole, metadata: with } => {
                let (seq, place) = (run.seq(token, seq), place(ticket, replica));
                let ask = Acquire { token, seq, ttl: ttl(long), place, sole, linger: LINGER };
                let reply = match lock.acquire(now, ask) {
                    Acquired::Granted(fence) => {
                        tells = metadata(number, with);
                        Reply::Granted(run.seal(fence))
                    }
                    Acquired::Taken(left) => Reply::Taken(left > LONG / 2, tells.clone()),
                    Acquired::Spoken(_) => Reply::Spoken,
                };
                (reply, vec![])
            }
            Op::Extend { token, seq, long } => {
                let seq = seq.map(|seq| run.seq(token, seq));
                let extended = lock.extend(now, &token, seq, ttl(long), LINGER);
                (run.extended(extended), vec![])
            }
            Op::Release { token, seq, undo, ticket } => {
                let release = Release { token, seq: run.seq(token, seq), undo, ticket: ticket.map(id) };
                let (released, told) = lock.release(now, &release);
                (Reply::Done(released), told)
            }
            Op::Raise { token, fence } => {
                let fence = run.pick(fence);
                (run.raised(lock.raise(now, &token, fence, LINGER), fence), vec![])
            }
            Op::Inspect => {
                let seen = lock.inspect(now).map(|Seen { token, fence, left }| {
                    (TOKENS[token].to_owned(), run.seal(fence), left > LONG / 2, tells.clone())
                });
                (Reply::Seen(seen), vec![])
            }
            Op::Pass(pass) => {
                now = now.after(pass.time());
                (Reply::Passed, vec![])
            }
        };
        let told = told.into_iter().map(|(inbox, turn)| (usize::from(inbox.0[0]), turn));
        steps.push((reply, told.collect()));
    }
    steps
}

/// What a store says, given what the model expects. `help` does what an [`Event`] says, and returns whether it did.
pub async fn on_store(
    replicas: &[LockReplica; REPLICAS],
    lock: &LockName,
    history: &[Op],
    expected: &[Step],
    help: impl AsyncFn(Event) -> bool,
) -> Vec<Step> {
    let mut run = Run::default();
    let mut watches = replicas.each_ref().map(|replica| replica.turns(lock));
    let first = &replicas[0];
    let mut steps = Vec::new();
    for (number, (op, (_, expected))) in (1..).zip(history.iter().zip(expected)) {
        help(Event::Next).await;
        let mut short = false;
        let reply = match *op {
            Op::Acquire { token, seq, long, ticket, replica, sole, metadata: with } => {
                let (seq, place) = (run.seq(token, seq), place(ticket, replica));
                let ask = Acquire { token: TOKENS[token], seq, ttl: ttl(long), place, sole, linger: LINGER };
                let metadata = metadata(number, with);
                match replicas[replica].acquire(lock, ask, metadata.as_deref()).await.unwrap() {
                    (Acquired::Granted(fence), _) => {
                        short = !long;
                        Reply::Granted(run.seal(fence))
                    }
                    (Acquired::Taken(left), metadata) => Reply::Taken(left > LONG / 2 && left <= LONG, metadata),
                    (Acquired::Spoken(_), _) => Reply::Spoken,
                }
            }
            Op::Extend { token, seq, long } => {
                let seq = seq.map(|seq| run.seq(token, seq));
                let extended = first.extend(lock, TOKENS[token], seq, ttl(long)).await.unwrap();
                short = !long && matches!(extended, Extended::Held(_, last) if seq.is_none_or(|seq| seq == last));
                run.extended(extended)
            }
            Op::Release { token, seq, undo, ticket } => {
                let seq = run.seq(token, seq);
                let release = Release { token: TOKENS[token], seq, undo, ticket: ticket.map(id) };
                Reply::Done(first.release(lock, release).await.unwrap())
            }
            Op::Raise { token, fence } => {
                let fence = run.pick(fence);
                run.raised(first.raise(lock, TOKENS[token], fence).await.unwrap(), fence)
            }
            Op::Inspect => Reply::Seen(first.inspect(lock).await.unwrap().map(|(seen, metadata)| {
                (seen.token, run.seal(seen.fence), seen.left > LONG / 2 && seen.left <= LONG, metadata)
            })),
            Op::Pass(pass) => {
                help(Event::Over(pass)).await;
                Reply::Passed
            }
        };
        if short {
            help(Event::Short).await;
        }
        if !expected.is_empty() {
            help(Event::Given).await;
        }
        let mut told = Vec::new();
        for (replica, _) in expected {
            told.push((*replica, hear(&mut watches[*replica]).await));
        }
        steps.push((reply, told));
    }
    let sent = help(Event::End).await;
    for watch in &mut watches {
        let patience = if sent { PATIENCE } else { Duration::ZERO };
        assert_eq!(timeout(patience, watch.next()).await.ok(), sent.then_some(END), "a message too many");
    }
    steps
}

async fn hear(watch: &mut Watch<Turn>) -> Turn {
    let turn = timeout(PATIENCE, watch.next()).await.expect("a message comes");
    assert!(matches!(turn, Turn::Yours) || turn == Turn::After(TURN));
    turn
}
