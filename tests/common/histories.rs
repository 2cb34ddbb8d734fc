//! Random histories of one key, run on the pure model and on backends, which must agree in every reply and message.
//!
//! Durations are either far longer or far shorter than a run, so that outcomes do not depend on how fast it is. Fences
//! are compared by the order in which they first appear, because each store has its own clock.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use tower_singleflight::{
    Key,
    backend::{
        Backend, Begin, Begun, Completed, Fence, Found, Lifetimes, Notice, Owner, Reason, Record, Renewed, Watch,
    },
    protocol::{
        lease::Inbox,
        store::{self, Seen, Slot},
        time,
    },
};

/// Replicas that take part.
pub const REPLICAS: usize = 3;

/// Attempts to lead; an attempt may come from several replicas, as if it had moved.
const OWNERS: u8 = 4;

const LONG: Duration = Duration::from_secs(3600);
const LINGER: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    Begin { owner: u8, replica: usize, long: bool, followed: Pick },
    Renew { owner: u8, long: bool },
    Complete { owner: u8, fence: Pick, fresh: bool, stale: bool, large: bool },
    Abort { owner: u8, kind: u8 },
    Invalidate,
    Put { fresh: bool, stale: bool, large: bool },
    Get { replica: usize },
}

/// One of the fences seen so far.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    None,
    Last,
    Earlier(u8),
}

/// What a caller sees of an operation, without clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Hit(Body),
    Lead(usize, u32, Option<Body>),
    Follow(usize, bool),
    Stale(Body),
    Scatter,
    Poisoned,
    Renewed(Renewed),
    Completed(Completed),
    Done,
    Got(Option<Body>),
}

/// A record without its age: which fence, what it may be used for, and which operation wrote it.
pub type Body = (usize, Duration, Duration, u64);

/// A message without clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Landed(usize),
    Retry,
    Scatter(Duration),
    Invalidated,
}

/// The reply to one operation and the messages that came of it, by replica.
pub type Step = (Reply, Vec<(usize, Told)>);

/// Any history.
pub fn histories(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    let pick = || prop_oneof![1 => Just(Pick::None), 3 => Just(Pick::Last), 1 => any::<u8>().prop_map(Pick::Earlier)];
    let owner = || 0..OWNERS;
    let flag = any::<bool>;
    let op = prop_oneof![
        8 => (owner(), 0..REPLICAS, prop::bool::weighted(0.7), pick())
            .prop_map(|(owner, replica, long, followed)| Op::Begin { owner, replica, long, followed }),
        2 => (owner(), flag()).prop_map(|(owner, long)| Op::Renew { owner, long }),
        5 => (owner(), pick(), flag(), flag(), prop::bool::weighted(0.2))
            .prop_map(|(owner, fence, fresh, stale, large)| Op::Complete { owner, fence, fresh, stale, large }),
        3 => (owner(), 0..12_u8).prop_map(|(owner, kind)| Op::Abort { owner, kind }),
        1 => Just(Op::Invalidate),
        1 => (flag(), flag(), prop::bool::weighted(0.2)).prop_map(|(fresh, stale, large)| Op::Put { fresh, stale, large }),
        2 => (0..REPLICAS).prop_map(|replica| Op::Get { replica }),
    ];
    prop::collection::vec(op, 1..longest)
}

/// The fences of one run, in the order in which they appeared.
#[derive(Default)]
struct Fences(Vec<Fence>);

impl Fences {
    fn index(&mut self, fence: Fence) -> usize {
        self.0.iter().position(|seen| *seen == fence).unwrap_or_else(|| {
            self.0.push(fence);
            self.0.len() - 1
        })
    }

    fn pick(&self, pick: Pick) -> Fence {
        match pick {
            Pick::None => Fence::NONE,
            Pick::Last => self.0.last().copied().unwrap_or_default(),
            Pick::Earlier(back) => {
                let index = self.0.len().checked_sub(1 + usize::from(back) % self.0.len().max(1));
                index.and_then(|index| self.0.get(index)).copied().unwrap_or_default()
            }
        }
    }
}

fn owner(number: u8) -> Owner {
    Owner(u128::from(number) + 1)
}

fn lease(long: bool) -> Duration {
    if long { LONG } else { Duration::from_micros(1) }
}

fn lifetimes(fresh: bool, stale: bool) -> Lifetimes {
    let length = |long: bool| if long { LONG } else { Duration::ZERO };
    Lifetimes { fresh: length(fresh), stale: length(stale), keep: 3 * LONG }
}

/// Scatters are rare, because nothing happens while they last: too short to last, or to the end.
fn reason(kind: u8) -> Reason {
    match kind {
        0 => Reason::Scatter(LONG),
        1..=3 => Reason::Scatter(Duration::from_micros(1)),
        4..=7 => Reason::Abandon,
        _ => Reason::Retry,
    }
}

/// What the model says.
pub fn on_model(history: &[Op]) -> Vec<Step> {
    let mut slot = Slot::default();
    let mut fences = Fences::default();
    // Which operation wrote the record with this fence.
    let mut writers = HashMap::new();
    let mut watching = [false; REPLICAS];
    let inbox = |replica: usize| Inbox([u8::try_from(replica).unwrap(); 12]);
    let mut steps = Vec::new();
    for (number, op) in (1..).zip(history) {
        // Far enough apart for every short duration to pass, far too little for a long one.
        let now = time::Instant::from_micros(number * 1000);
        let (reply, told) = match *op {
            Op::Begin { owner: of, replica, long, followed } => {
                let followed = fences.pick(followed);
                let begin = store::Begin { owner: owner(of), inbox: inbox(replica), lease: lease(long), followed };
                let begun = slot.begin(now, begin, LINGER);
                watching[replica] |= matches!(begun, store::Begun::Lead { .. } | store::Begun::Follow { .. });
                let mut body = |seen| see(&mut fences, &writers, seen);
                let reply = match begun {
                    store::Begun::Hit(seen) => Reply::Hit(body(seen)),
                    store::Begun::Lead { fence, failures, stale } => {
                        let stale = stale.map(body);
                        Reply::Lead(fences.index(fence), failures, stale)
                    }
                    store::Begun::Follow { fence, left } => Reply::Follow(fences.index(fence), left > LONG / 2),
                    store::Begun::Stale(seen) => Reply::Stale(body(seen)),
                    store::Begun::Scatter(_) => Reply::Scatter,
                    store::Begun::Poisoned => Reply::Poisoned,
                };
                (reply, vec![])
            }
            Op::Renew { owner: of, long } => (Reply::Renewed(slot.renew(now, owner(of), lease(long), LINGER)), vec![]),
            Op::Complete { owner: of, fence, fresh, stale, .. } => {
                let fence = fences.pick(fence);
                let before = slot.get(now);
                let (completed, told) = slot.complete(now, owner(of), fence, lifetimes(fresh, stale));
                if slot.get(now) != before {
                    writers.insert(fence, number);
                }
                (Reply::Completed(completed), told)
            }
            Op::Abort { owner: of, kind } => (Reply::Done, slot.abort(now, owner(of), reason(kind), LINGER)),
            Op::Invalidate => (Reply::Done, slot.invalidate(now, LINGER)),
            Op::Put { fresh, stale, .. } => {
                let (fence, told) = slot.put(now, lifetimes(fresh, stale), LINGER);
                writers.insert(fence, number);
                (Reply::Done, told)
            }
            Op::Get { .. } => (Reply::Got(slot.get(now).map(|seen| see(&mut fences, &writers, seen))), vec![]),
        };
        let mut told: Vec<_> = told
            .into_iter()
            .map(|(inbox, notice)| {
                let told = match notice {
                    store::Notice::Landed(fence) => Told::Landed(fences.index(fence)),
                    store::Notice::Retry => Told::Retry,
                    store::Notice::Scatter(time) => Told::Scatter(time),
                    store::Notice::Invalidated => Told::Invalidated,
                };
                (usize::from(inbox.0[0]), told)
            })
            .filter(|(replica, _)| watching[*replica])
            .collect();
        told.sort_by_key(|(replica, _)| *replica);
        steps.push((reply, told));
    }
    steps
}

fn see(fences: &mut Fences, writers: &HashMap<Fence, u64>, seen: Seen) -> Body {
    (fences.index(seen.fence), seen.lifetimes.fresh, seen.lifetimes.stale, writers[&seen.fence])
}

/// The message that ends a run: it comes through the same channels as all others, so that one too many is found without
/// waiting for its absence.
pub const END: Duration = Duration::from_micros(424_242);

/// What a backend says, given what the model expects. `end` sends [`Notice::Scatter`] with [`END`] to every replica, or
/// returns false if the backend cannot be made to, because its messages arrive at once. `pass` lets a few microseconds
/// pass on the clock of the store, unless every operation takes longer anyway.
pub async fn on_backend<B: Backend>(
    replicas: &[B; REPLICAS],
    key: &Key,
    history: &[Op],
    expected: &[Step],
    end: impl AsyncFn() -> bool,
    pass: impl AsyncFn(),
) -> Vec<Step> {
    let mut fences = Fences::default();
    let mut watches: [Option<Watch>; REPLICAS] = Default::default();
    let mut steps = Vec::new();
    for (number, (op, (_, expected))) in (1_u64..).zip(history.iter().zip(expected)) {
        pass().await;
        let record = |fresh, stale, large: bool| {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(if large { 20_000 } else { 8 }, 0);
            Record { lifetimes: lifetimes(fresh, stale), cost: Duration::ZERO, payload: payload.into() }
        };
        let first = &replicas[0];
        let reply = match *op {
            Op::Begin { owner: of, replica, long, followed } => {
                let begin = Begin { owner: owner(of), lease: lease(long), followed: fences.pick(followed) };
                match replicas[replica].begin(key, begin).await.unwrap() {
                    Begun::Hit(found) => Reply::Hit(read(&mut fences, &found)),
                    Begun::Lead { fence, failures, stale, watch } => {
                        watches[replica].get_or_insert(watch);
                        let stale = stale.map(|found| read(&mut fences, &found));
                        Reply::Lead(fences.index(fence), failures, stale)
                    }
                    Begun::Follow { fence, left, watch } => {
                        watches[replica].get_or_insert(watch);
                        Reply::Follow(fences.index(fence), left > LONG / 2)
                    }
                    Begun::Stale(found) => Reply::Stale(read(&mut fences, &found)),
                    Begun::Scatter(_) => Reply::Scatter,
                    Begun::Poisoned => Reply::Poisoned,
                }
            }
            Op::Renew { owner: of, long } => Reply::Renewed(first.renew(key, owner(of), lease(long)).await.unwrap()),
            Op::Complete { owner: of, fence, fresh, stale, large } => {
                let record = record(fresh, stale, large);
                Reply::Completed(first.complete(key, owner(of), fences.pick(fence), record).await.unwrap())
            }
            Op::Abort { owner: of, kind } => {
                first.abort(key, owner(of), reason(kind)).await.unwrap();
                Reply::Done
            }
            Op::Invalidate => {
                first.invalidate(key).await.unwrap();
                Reply::Done
            }
            Op::Put { fresh, stale, large } => {
                first.put(key, record(fresh, stale, large)).await.unwrap();
                Reply::Done
            }
            Op::Get { replica } => {
                Reply::Got(replicas[replica].get(key).await.unwrap().map(|found| read(&mut fences, &found)))
            }
        };
        let mut told = Vec::new();
        for (replica, _) in expected {
            let watch = watches[*replica].as_mut().expect("the model knows who watches");
            told.push((*replica, hear(&mut fences, watch).await));
        }
        steps.push((reply, told));
    }
    let sent = end().await;
    for watch in watches.iter_mut().flatten() {
        let patience = if sent { PATIENCE } else { Duration::ZERO };
        let last = tokio::time::timeout(patience, watch.next()).await.ok();
        assert_eq!(last, sent.then_some(Notice::Scatter(END)), "a message too many");
    }
    steps
}

async fn hear(fences: &mut Fences, watch: &mut Watch) -> Told {
    let notice = tokio::time::timeout(PATIENCE, watch.next()).await.expect("a message comes");
    match notice {
        Notice::Landed(fence, found) => {
            assert!(found.is_none_or(|found| found.fence == fence));
            Told::Landed(fences.index(fence))
        }
        Notice::Retry => Told::Retry,
        Notice::Scatter(time) => Told::Scatter(time),
        Notice::Invalidated => Told::Invalidated,
    }
}

fn read(fences: &mut Fences, found: &Found) -> Body {
    assert!(found.age < LONG / 2);
    let writer: Bytes = found.payload.slice(..8);
    let number = u64::from_be_bytes(writer[..].try_into().unwrap());
    (fences.index(found.fence), found.lifetimes.fresh, found.lifetimes.stale, number)
}
