//! Random histories of a key and two variants of it, run on the pure model and on backends, which must agree in every
//! reply and message. The model invalidates the variants with their primary at once, however a backend does it.
//!
//! Durations are either far longer or far shorter than a run, so that outcomes do not depend on how fast it is. Fences
//! are compared by the order in which they first appear, because each store has its own clock.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

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

/// A key and its variants.
pub const KEYS: usize = 3;

/// The primary among the keys.
const PRIMARY: usize = 0;

/// Attempts to lead; an attempt may come from several replicas, as if it had moved.
const OWNERS: u8 = 4;

const LONG: Duration = Duration::from_secs(3600);
const LINGER: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

/// An operation on one of the keys.
pub type On = (usize, Op);

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

/// One replica's watch of one of the keys.
type Place = (usize, usize);

/// The reply to one operation and the messages that came of it.
pub type Step = (Reply, Vec<(Place, Told)>);

/// A key and its variants.
pub fn family(primary: Key) -> [Key; KEYS] {
    [primary.clone(), primary.variant("one"), primary.variant("two")]
}

/// Any history.
pub fn histories(longest: usize) -> impl Strategy<Value = Vec<On>> {
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
    let key = prop_oneof![1 => Just(PRIMARY), 2 => Just(1), 1 => Just(2)];
    prop::collection::vec((key, op), 1..longest)
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

/// What the model says. When the variants of a key are invalidated with it, whoever leads or waits in their flights is
/// told; if `by_replica`, so are all variants that a replica watches which took part in a flight of any of them.
pub fn on_model(history: &[On], by_replica: bool) -> Vec<Step> {
    let mut slots: [Slot; KEYS] = Default::default();
    let mut fences: [Fences; KEYS] = Default::default();
    // Which operation wrote the record with this fence.
    let mut writers: [HashMap<Fence, u64>; KEYS] = Default::default();
    let mut watching = HashSet::new();
    // The replicas that took part in flights of variants since the primary was last invalidated.
    let mut noted = HashSet::new();
    let inbox = |replica: usize| Inbox([u8::try_from(replica).unwrap(); 12]);
    let mut steps = Vec::new();
    for (number, (at, op)) in (1..).zip(history) {
        // Far enough apart for every short duration to pass, far too little for a long one.
        let now = time::Instant::from_micros(number * 1000);
        let (at, mut also) = (*at, Vec::new());
        let (slot, fences, writers) = (&mut slots[at], &mut fences[at], &mut writers[at]);
        let (reply, told) = match *op {
            Op::Begin { owner: of, replica, long, followed } => {
                let followed = fences.pick(followed);
                let begin = store::Begin { owner: owner(of), inbox: inbox(replica), lease: lease(long), followed };
                let again = slot.leader().is_some_and(|(leader, _)| leader == begin.owner);
                let begun = slot.begin(now, begin, LINGER);
                if matches!(begun, store::Begun::Lead { .. } | store::Begun::Follow { .. }) {
                    watching.insert((replica, at));
                    if at != PRIMARY && !again {
                        noted.insert(replica);
                    }
                }
                let mut body = |seen| see(fences, writers, seen);
                let reply = match begun {
                    store::Begun::Hit(seen) => Reply::Hit(body(seen)),
                    store::Begun::Lead { fence, failures, previous } => {
                        let previous = previous.map(body);
                        Reply::Lead(fences.index(fence), failures, previous)
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
            Op::Get { .. } => (Reply::Got(slot.get(now).map(|seen| see(fences, writers, seen))), vec![]),
        };
        if at == PRIMARY && matches!(op, Op::Invalidate | Op::Put { .. }) {
            for (variant, slot) in slots.iter_mut().enumerate().skip(1) {
                let told = slot.invalidate(now, LINGER);
                also.extend(told.into_iter().map(|(inbox, _)| (usize::from(inbox.0[0]), variant)));
            }
            let heard = watching.iter().filter(|(replica, key)| *key != PRIMARY && noted.contains(replica)).copied();
            let heard: Vec<Place> = heard.collect();
            assert!(also.iter().all(|place| heard.contains(place)), "whoever takes part is noted");
            if by_replica {
                also = heard;
            }
            noted.clear();
        }
        let told = told.into_iter().map(|(inbox, notice)| {
            let told = match notice {
                store::Notice::Landed(fence) => Told::Landed(fences.index(fence)),
                store::Notice::Retry => Told::Retry,
                store::Notice::Scatter(time) => Told::Scatter(time),
                store::Notice::Invalidated => Told::Invalidated,
            };
            ((usize::from(inbox.0[0]), at), told)
        });
        let mut told: Vec<_> = told.filter(|(place, _)| watching.contains(place)).collect();
        told.extend(also.into_iter().map(|place| (place, Told::Invalidated)));
        told.sort_by_key(|(place, _)| *place);
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

/// What a backend says, given what the model expects. `end` sends [`Notice::Scatter`] with [`END`] to every watch, or
/// returns false if the backend cannot be made to, because its messages arrive at once. `pass` lets a few microseconds
/// pass on the clock of the store, unless every operation takes longer anyway.
pub async fn on_backend<B: Backend>(
    replicas: &[B; REPLICAS],
    keys: &[Key; KEYS],
    history: &[On],
    expected: &[Step],
    end: impl AsyncFn() -> bool,
    pass: impl AsyncFn(),
) -> Vec<Step> {
    let mut fences: [Fences; KEYS] = Default::default();
    let mut watches: HashMap<Place, Watch> = HashMap::new();
    let mut steps = Vec::new();
    for (number, ((at, op), (_, expected))) in (1_u64..).zip(history.iter().zip(expected)) {
        pass().await;
        let key = &keys[*at];
        let record = |fresh, stale, large: bool| {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(if large { 20_000 } else { 8 }, 0);
            Record { lifetimes: lifetimes(fresh, stale), cost: Duration::ZERO, payload: payload.into() }
        };
        let first = &replicas[0];
        let all = &mut fences;
        let fences = &mut all[*at];
        let reply = match *op {
            Op::Begin { owner: of, replica, long, followed } => {
                let begin = Begin { owner: owner(of), lease: lease(long), followed: fences.pick(followed) };
                match replicas[replica].begin(key, begin).await.unwrap() {
                    Begun::Hit(found) => Reply::Hit(read(fences, &found)),
                    Begun::Lead { fence, failures, previous, watch } => {
                        watches.entry((replica, *at)).or_insert(watch);
                        let previous = previous.map(|found| read(fences, &found));
                        Reply::Lead(fences.index(fence), failures, previous)
                    }
                    Begun::Follow { fence, left, watch } => {
                        watches.entry((replica, *at)).or_insert(watch);
                        Reply::Follow(fences.index(fence), left > LONG / 2)
                    }
                    Begun::Stale(found) => Reply::Stale(read(fences, &found)),
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
                Reply::Got(replicas[replica].get(key).await.unwrap().map(|found| read(fences, &found)))
            }
        };
        let mut told = Vec::new();
        for (place, _) in expected {
            let watch = watches.get_mut(place).expect("the model knows who watches");
            told.push((*place, hear(&mut all[place.1], watch).await));
        }
        steps.push((reply, told));
    }
    let sent = end().await;
    for watch in watches.values_mut() {
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
