//! Everything there is: one store, two replicas, a few callers, and what is in the air between them.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{
    super::{
        explore::Air,
        flight::{Attempt, Caller, Flight, Input, Outcome, Rules},
        lease::{Fence, Inbox, Lifetimes, Owner, Reason},
        store::{self, Slot},
        time::{Instant, Local, Store},
    },
    mutation::Mutation,
};

/// One second, in the microseconds of the model's only clock.
pub(super) const S: u64 = 1_000_000;

pub(super) const RULES: Rules =
    Rules { lease: Duration::from_secs(6), budget: Duration::from_secs(1), detached: Duration::from_secs(3) };

pub(super) const LINGER: Duration = Duration::from_secs(60);

/// The caller whose work wrote the record that was there before.
pub(super) const BEFORE: Caller = 99;

/// What may go wrong, or is at least nobody's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// A request is lost, and its sender knows at once that it never ran.
    Refuse,
    /// A request is lost, and its sender only knows that there was no answer.
    Lose,
    /// The sender stops waiting for an answer; the request arrives whenever it likes, or has.
    GiveUp,
    /// A message is lost.
    LoseNotice,
    /// A message comes twice.
    CopyNotice,
    /// A replica dies with all that it knows; what it has sent stays in the air.
    Crash,
    /// A timer fires late.
    Oversleep,
    EvictState,
    EvictRecord,
    Flush,
    Invalidate,
    /// A caller leaves.
    Leave,
    /// There is no room for detached work.
    NoRoom,
}

/// What the store went through before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    Nothing,
    /// So many failures in a row.
    Failures(u32),
    /// So many dead leaders in a row.
    Dead(u32),
    /// A record that is stale by now.
    Stale,
}

/// One configuration, explored completely.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The replica of each caller, and whether it is strict.
    pub callers: &'static [(usize, bool)],
    pub outcomes: &'static [Outcome],
    pub lifetimes: Lifetimes,
    /// Seconds until nobody comes any more, faults stop, and time waits for what is in the air.
    pub horizon: u64,
    /// Between two arrivals that are told apart, in seconds.
    pub beat: u64,
    /// Time waits for requests and replies; messages are late all the same.
    pub prompt: bool,
    /// A record travels with the message that it landed.
    pub inline: bool,
    /// Every message is lost.
    pub deaf: bool,
    /// So many faults of any of these kinds.
    pub faults: &'static [(&'static [Fault], u8)],
    pub past: Past,
    pub mutation: Option<Mutation>,
}

/// A result of some work, as the one who checks knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    pub by: Caller,
    /// Invalidations before the work began.
    pub epoch: u8,
    pub failure: bool,
}

/// A record as it reached a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub value: Value,
    pub fence: Fence,
    pub landed: u64,
    /// When the store told of it.
    pub told: u64,
    pub fresh: bool,
}

/// One flight of one life of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub replica: usize,
    pub life: u8,
    pub flight: u8,
}

impl Address {
    pub fn inbox(self) -> Inbox {
        inbox(self.replica, self.life)
    }

    pub fn owner(self, attempt: Attempt) -> Owner {
        let [replica, life, flight] = [self.replica as u128, self.life.into(), self.flight.into()];
        Owner((replica << 24 | life << 16 | flight << 8 | u128::from(attempt)) + 1)
    }
}

pub(super) fn inbox(replica: usize, life: u8) -> Inbox {
    Inbox([replica as u8, life, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Begin { attempt: Attempt, followed: Fence },
    Renew { attempt: Attempt },
    Complete { attempt: Attempt, fence: Fence, lifetimes: Lifetimes, value: Value },
    Abort { attempt: Attempt, reason: Reason },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub from: Address,
    pub op: Op,
    /// Nobody waits for the answer.
    pub orphan: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Response {
    pub to: Address,
    pub input: Input,
    pub found: Option<Found>,
}

/// A message, with the record when it is small.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub to: Inbox,
    pub notice: store::Notice,
    pub epoch: u8,
    pub found: Option<Found>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub caller: Caller,
    pub epoch: u8,
}

/// What a driver holds beside a flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holder {
    pub id: u8,
    pub flight: Flight,
    pub work: Option<Work>,
    /// What came of the last work, and whose it was.
    pub done: Option<Value>,
    pub ran: Option<Caller>,
    /// The record that came last.
    pub found: Option<Found>,
    /// The last landing that was heard of without its record.
    pub heard: Option<(Fence, u64)>,
    /// Messages go to the flight.
    pub armed: bool,
    /// Messages since the begin in the air was sent.
    pub arming: Option<Vec<Message>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    pub life: u8,
    /// Flights opened in this life.
    pub opened: u8,
    /// The flight that arrivals join.
    pub table: Option<u8>,
    pub holders: Vec<Holder>,
    /// The last invalidation that a flight was told of.
    pub epoch: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Person {
    Away,
    Waiting { at: Address, joined: u64, epoch: u8 },
    Gone,
}

/// The lease as the checker keeps it, beside the one in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Book {
    pub owner: Owner,
    pub inbox: Inbox,
    pub fence: Fence,
    pub until: u64,
}

/// What only the checker knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ghost {
    pub lease: Option<Book>,
    /// The greatest fence ever handed out.
    pub fence: Fence,
    /// The greatest fence ever stored.
    pub stored: Fence,
    /// The inboxes that were promised a message.
    pub noted: BTreeSet<Inbox>,
    /// Invalidations so far.
    pub epoch: u8,
    /// The owner whose record was stored last.
    pub completed: Option<Owner>,
    /// Until when somebody scattered the key.
    pub scattered: u64,
    /// Something other than values came of some work.
    pub troubled: bool,
    /// Callers whose work has run.
    pub worked: BTreeSet<Caller>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub now: u64,
    pub slot: Slot,
    /// What the record of the slot holds, when it landed, and for how long.
    pub payload: Option<(Found, Lifetimes)>,
    pub requests: Air<Request>,
    pub responses: Air<Response>,
    pub messages: Air<Message>,
    pub replicas: [Replica; 2],
    pub callers: Vec<Person>,
    /// What is left of each group of faults.
    pub faults: Vec<u8>,
    pub ghost: Ghost,
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let replica = Replica { life: 0, opened: 0, table: None, holders: Vec::new(), epoch: 0 };
        let mut world = Self {
            now: S,
            slot: Slot::default(),
            payload: None,
            requests: Air(Vec::new()),
            responses: Air(Vec::new()),
            messages: Air(Vec::new()),
            replicas: [replica.clone(), replica],
            callers: vec![Person::Away; setup.callers.len()],
            faults: setup.faults.iter().map(|(_, left)| *left).collect(),
            ghost: Ghost::default(),
        };
        world.live_through(setup);
        world
    }

    fn live_through(&mut self, setup: &Setup) {
        match setup.past {
            Past::Nothing => {}
            Past::Failures(count) => {
                for number in 0..count {
                    let owner = self.lead_before(number, RULES.lease);
                    self.slot.abort(store_time(self.now), owner, Reason::Retry, LINGER);
                }
                self.ghost.troubled = true;
            }
            Past::Dead(count) => {
                for number in 0..count {
                    self.lead_before(number, Duration::from_micros(1));
                    self.now += 1000;
                }
                self.ghost.troubled = true;
            }
            Past::Stale => {
                let (fence, _) = self.slot.put(store_time(self.now), setup.lifetimes, LINGER);
                (self.ghost.fence, self.ghost.stored) = (fence, fence);
                let value = Value { by: BEFORE, epoch: 0, failure: false };
                let found = Found { value, fence, landed: self.now, told: self.now, fresh: true };
                self.payload = Some((found, setup.lifetimes));
                self.now += setup.lifetimes.fresh.as_micros() as u64;
            }
        }
    }

    fn lead_before(&mut self, number: u32, lease: Duration) -> Owner {
        let owner = Owner(u128::MAX - u128::from(number));
        let begin = store::Begin { owner, inbox: inbox(9, 9), lease, followed: Fence::NONE };
        let begun = self.slot.begin(store_time(self.now), begin, LINGER);
        let store::Begun::Lead { fence, .. } = begun else { panic!("the past leads") };
        self.ghost.fence = fence;
        owner
    }

    pub fn holder(&mut self, at: Address) -> Option<&mut Holder> {
        let replica = &mut self.replicas[at.replica];
        if replica.life != at.life {
            return None;
        }
        replica.holders.iter_mut().find(|holder| holder.id == at.flight)
    }

    /// Whether a fault of one of these kinds has happened.
    pub fn suffered(&self, setup: &Setup, kinds: &[Fault]) -> bool {
        let groups = setup.faults.iter().zip(&self.faults);
        groups.into_iter().any(|((group, full), left)| left < full && group.iter().any(|fault| kinds.contains(fault)))
    }

    pub fn past_horizon(&self, setup: &Setup) -> bool {
        self.now >= S + setup.horizon * S
    }
}

pub(super) fn store_time(now: u64) -> Instant<Store> {
    Instant::from_micros(now)
}

/// The clocks have nothing in common but their pace.
pub(super) fn local_time(now: u64) -> Instant<Local> {
    Instant::from_micros(now + LOCAL_OFFSET)
}

pub(super) const LOCAL_OFFSET: u64 = 500 * S;
