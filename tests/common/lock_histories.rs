//! Random histories of a lock, run on the pure model and on stores, which must agree in every reply and message.
//!
//! Leases are either far longer or far shorter than a run, so that outcomes do not depend on how fast the run is. Fences are
//! compared by the order in which they first appear, and by whether they are the greatest so far, because each store has
//! its own clock.

#[path = "lock_ops.rs"]
mod ops;

use std::{cell::Cell, time::Duration};

use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        Fence,
        contract::{LockName, LockReplica},
    },
    protocol::{
        lease::Inbox,
        lock::{Acquire, Acquired, Extended, Grant, Lock, Place, Release, Seen},
        time,
    },
};

pub use self::ops::{Op, REPLICAS, histories};
use self::ops::{Pick, Seq, TICKETS, TOKENS};

/// Far longer than all that passes in a history, and far shorter.
pub const LONG: Duration = Duration::from_secs(1_000_000);
const SHORT: Duration = Duration::from_micros(1);

/// How long the floors of a store with its defaults outlive their leases.
const LINGER: Duration = Duration::from_secs(60);

/// A raised fence lies so far ahead that no clock reaches it in a run.
const AHEAD: u64 = 10_000_000_000;

const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than a floor outlives its lease.
pub const LINGERED: Duration = Duration::from_secs(61);

/// What a store must be helped with, as time does not pass in it as in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operation comes; a microsecond or more must pass.
    Next,
    /// A short lease was granted, which must be over.
    Short,
    /// A replica is gone, and the store must know it.
    Gone,
    /// [`LINGERED`] is over.
    Lingered,
    /// A message [`END`] is to come to every inbox, if the store can be made to send one.
    End,
}

/// What a caller sees of an operation, without clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Granted(Seal),
    Taken(bool, Option<String>),
    Held(Seal, u64),
    Gone,
    ExtendTaken,
    Done(bool),
    Seen(Option<(String, Seal, bool, Option<String>)>),
    Passed,
}

/// A fence: when it was first seen, and whether none before was greater.
pub type Seal = (usize, bool);

/// One operation, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub reply: Reply,
    /// To whom it was granted who had waited, and at which replica it was told.
    pub told: Option<(usize, Told)>,
    /// What the model knows besides.
    pub after: After,
}

/// A grant to one who waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub ticket: u64,
    pub seq: u64,
    pub fence: Seal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// It is held, and is to be over at once.
    pub short: bool,
    /// So many places were passed over.
    pub deaf: usize,
}

/// The last message, through the same channels as all others, so that one too many is found without waiting for it.
pub const END: Grant = Grant { ticket: u64::MAX, seq: 42, fence: Fence(424_242) };

/// What callers remember of a run.
#[derive(Default)]
struct Run {
    fences: Vec<Fence>,
    seqs: [u64; TOKENS.len()],
    /// Who was granted it last, as far as that can be told from outside.
    holder: usize,
    /// Who came last with each ticket.
    waiting: [usize; TICKETS],
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

    fn holder(&self, token: Option<usize>) -> usize {
        token.unwrap_or(self.holder)
    }

    fn asks(&mut self, token: usize, ticket: Option<usize>) {
        if let Some(ticket) = ticket {
            self.waiting[ticket] = token;
        }
    }

    fn granted(&mut self, token: usize, fence: Fence) -> Reply {
        self.holder = token;
        Reply::Granted(self.seal(fence))
    }

    fn told(&mut self, Grant { ticket, seq, fence }: Grant) -> Told {
        let waiting = (0..TICKETS).find(|number| id(*number) == ticket);
        self.holder = self.waiting[waiting.expect("one of the tickets")];
        Told { ticket, seq, fence: self.seal(fence) }
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

fn place(ticket: Option<usize>, replica: usize) -> Option<Place> {
    ticket.map(|ticket| Place { ticket: id(ticket), inbox: inbox(replica) })
}

/// Some begin with zeros.
fn id(ticket: usize) -> u64 {
    (ticket as u64).wrapping_mul(0x3333_3333_3333_3333) >> 4
}

fn metadata(number: u64, with: bool) -> Option<String> {
    with.then(|| format!("metadata {number} \u{0}\u{fffd}"))
}

/// Told apart by its token alone: what a holder tells of itself is no matter of the model.
#[derive(Clone)]
struct Holder {
    token: usize,
    metadata: Option<String>,
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl Eq for Holder {}

impl Holder {
    fn known_by(token: usize) -> Self {
        Self { token, metadata: None }
    }
}

/// What the model says.
pub fn on_model(history: &[Op]) -> Vec<Step> {
    let (mut lock, mut run) = (Lock::default(), Run::default());
    let mut now = time::Instant::from_micros(1_000_000);
    let mut steps = Vec::new();
    for (number, op) in (1..).zip(history) {
        now = now.after(Duration::from_millis(2));
        let (mut told, deaf) = (None, Cell::new(0));
        let reply = match *op {
            Op::Acquire { token, seq, long, ticket, replica, sole, metadata: with } => {
                let (seq, place) = (run.seq(token, seq), place(ticket, replica));
                run.asks(token, ticket);
                let holder = Holder { token, metadata: metadata(number, with) };
                match lock.acquire(now, Acquire { token: holder, seq, ttl: ttl(long), place, sole, linger: LINGER }) {
                    Acquired::Granted(fence) => run.granted(token, fence),
                    Acquired::Taken(left) => {
                        Reply::Taken(left > LONG / 2, lock.inspect(now).and_then(|seen| seen.token.metadata))
                    }
                }
            }
            Op::Extend { token, seq, long } => {
                let token = run.holder(token);
                let seq = seq.map(|seq| run.seq(token, seq));
                run.extended(lock.extend(now, &Holder::known_by(token), seq, ttl(long), LINGER))
            }
            Op::Release { token, seq, undo, ticket } => {
                let token = run.holder(token);
                let (seq, ticket) = (run.seq(token, seq), ticket.map(id));
                let release = Release { token: Holder::known_by(token), seq, undo, ticket };
                let hears = |Inbox([replica, ..]): Inbox| {
                    let hears = usize::from(replica) < REPLICAS;
                    deaf.set(deaf.get() + usize::from(!hears));
                    hears
                };
                let (released, granted) = lock.release(now, &release, hears);
                told = granted.map(|(inbox, grant)| (usize::from(inbox.0[0]), run.told(grant)));
                Reply::Done(released)
            }
            Op::Raise { token, fence } => {
                let (token, fence) = (run.holder(token), run.pick(fence));
                run.raised(lock.raise(now, &Holder::known_by(token), fence, LINGER), fence)
            }
            Op::Inspect => Reply::Seen(lock.inspect(now).map(|Seen { token, fence, left }| {
                (TOKENS[token.token].to_owned(), run.seal(fence), left > LONG / 2, token.metadata)
            })),
            Op::Linger => {
                now = now.after(LINGERED);
                Reply::Passed
            }
        };
        let short = lock.inspect(now).is_some_and(|seen| seen.left <= SHORT);
        steps.push(Step { reply, told, after: After { short, deaf: deaf.get() } });
    }
    steps
}

/// What a store says, given what the model expects. `another` makes one more replica, and `help` does what an [`Event`]
/// says, and returns whether it did.
pub async fn on_store(
    replicas: &[LockReplica; REPLICAS],
    lock: &LockName,
    history: &[Op],
    expected: &[Step],
    another: impl AsyncFn() -> LockReplica,
    help: impl AsyncFn(Event) -> bool,
) -> Vec<Step> {
    let mut run = Run::default();
    let mut grants = replicas.each_ref().map(|replica| replica.grants(lock));
    let first = &replicas[0];
    let mut steps = Vec::new();
    for (number, (op, expected)) in (1..).zip(history.iter().zip(expected)) {
        help(Event::Next).await;
        let reply = match *op {
            Op::Acquire { token, seq, long, ticket, replica, sole, metadata: with } => {
                let (seq, place) = (run.seq(token, seq), place(ticket, replica));
                run.asks(token, ticket);
                let ask = Acquire { token: TOKENS[token], seq, ttl: ttl(long), place, sole, linger: LINGER };
                let metadata = metadata(number, with);
                let acquired = if let Some(replica) = replicas.get(replica) {
                    replica.acquire(lock, ask, metadata.as_deref()).await
                } else {
                    let acquired = another().await.acquire(lock, ask, metadata.as_deref()).await;
                    help(Event::Gone).await;
                    acquired
                };
                match acquired.unwrap() {
                    (Acquired::Granted(fence), _) => run.granted(token, fence),
                    (Acquired::Taken(left), metadata) => Reply::Taken(left > LONG / 2 && left <= LONG, metadata),
                }
            }
            Op::Extend { token, seq, long } => {
                let token = run.holder(token);
                let seq = seq.map(|seq| run.seq(token, seq));
                run.extended(first.extend(lock, TOKENS[token], seq, ttl(long)).await.unwrap())
            }
            Op::Release { token, seq, undo, ticket } => {
                let token = run.holder(token);
                let (seq, ticket) = (run.seq(token, seq), ticket.map(id));
                Reply::Done(first.release(lock, Release { token: TOKENS[token], seq, undo, ticket }).await.unwrap())
            }
            Op::Raise { token, fence } => {
                let (token, fence) = (run.holder(token), run.pick(fence));
                run.raised(first.raise(lock, TOKENS[token], fence).await.unwrap(), fence)
            }
            Op::Inspect => Reply::Seen(first.inspect(lock).await.unwrap().map(|(seen, metadata)| {
                (seen.token, run.seal(seen.fence), seen.left > LONG / 2 && seen.left <= LONG, metadata)
            })),
            Op::Linger => {
                help(Event::Lingered).await;
                Reply::Passed
            }
        };
        let mut told = None;
        if let Some((replica, _)) = expected.told {
            let grant = timeout(PATIENCE, grants[replica].next()).await.expect("a message comes").expect("a grant");
            told = Some((replica, run.told(grant)));
        }
        if expected.after.short {
            help(Event::Short).await;
        }
        steps.push(Step { reply, told, after: expected.after });
    }
    let sent = help(Event::End).await;
    for grants in &mut grants {
        let patience = if sent { PATIENCE } else { Duration::ZERO };
        assert_eq!(timeout(patience, grants.next()).await.ok(), sent.then_some(Some(END)), "a message too many");
    }
    steps
}
