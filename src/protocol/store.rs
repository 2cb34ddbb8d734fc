//! The store's side of the protocol as a pure value: one [`Slot`] is all that a store knows of one key.
//!
//! `backend::Memory` is this value behind a mutex; the Lua scripts of `backend::Redis` are the same transitions
//! once more, and random histories hold the two together. A variant of a key has a slot of its own; invalidating (or
//! putting) the key invalidates the slots of all its variants as well.
//!
//! ```text
//!              begin: Lead                     complete / abort
//!   free ───────────────────────▶ led by owner ─────────────────▶ free (failures 0 / +1, inboxes told, emptied)
//!    ▲                             │   ▲    │
//!    │        invalidate, put      │   └────┘ renew; begin by another: Follow, its inbox is noted
//!    └─────────────────────────────┘
//!                                  │ deadline passes, next begin: failures +1, dead +1
//!                                  └────────▶ led by the next owner, or Poisoned
//! ```

#[cfg(test)]
mod evict;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::BTreeSet;

use super::{
    lease::{Completed, DEAD_LEADERS, FAILURES, Fence, Inbox, Lifetimes, Owner, Reason, Renewed},
    time,
};

type Instant = time::Instant<time::Store>;

/// All that a store knows of one key, payload aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    state: Option<State>,
    record: Option<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    fence: Fence,
    lead: Option<Lead>,
    failures: u32,
    dead: u32,
    scatter_until: Instant,
    completed: Option<Owner>,
    waiting: BTreeSet<Inbox>,
    expires: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lead {
    owner: Owner,
    inbox: Inbox,
    deadline: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    fence: Fence,
    landed: Instant,
    lifetimes: Lifetimes,
}

/// The stored record as a reader sees it: which one, and how old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The flight that wrote it.
    pub fence: Fence,
    /// How long ago it landed.
    pub age: Duration,
    /// What it may be used for.
    pub lifetimes: Lifetimes,
}

impl Seen {
    /// Whether it is a hit for everybody.
    pub fn is_fresh(&self) -> bool {
        self.age < self.lifetimes.fresh
    }

    /// Whether it may be served while somebody refreshes it.
    pub fn is_usable(&self) -> bool {
        self.age < self.lifetimes.usable()
    }
}

/// What a caller asks for when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Begin {
    /// The attempt.
    pub owner: Owner,
    /// Where the caller's replica listens.
    pub inbox: Inbox,
    /// How long the caller may lead without renewing.
    pub lease: Duration,
    /// The greatest fence followed so far, or [`Fence::NONE`].
    pub followed: Fence,
}

/// What the store answers to a [`Begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begun {
    /// Use this record.
    Hit(Seen),
    /// Run the work under this fence.
    Lead {
        /// The fence of the new flight.
        fence: Fence,
        /// Failures in a row before it.
        failures: u32,
        /// The record that is still kept: it may be served while the work runs if it is usable; else the work may start
        /// from it.
        previous: Option<Seen>,
    },
    /// Somebody else leads: the caller's inbox is noted, and the lease ends after `left` unless it is renewed.
    Follow {
        /// The fence of the flight in the air.
        fence: Fence,
        /// What is left of its lease.
        left: Duration,
    },
    /// Somebody else refreshes this record; use it meanwhile.
    Stale(Seen),
    /// The outcome cannot be shared for this long: everyone for himself.
    Scatter(Duration),
    /// Too many leaders died or failed in a row: run uncoordinated, at most one per replica.
    Poisoned,
}

/// A message to one inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The flight with this fence has landed.
    Landed(Fence),
    /// The flight is over without a result: begin again.
    Retry,
    /// The outcome cannot be shared for this long: go alone.
    Scatter(Duration),
    /// The key was invalidated: flights in the air must not answer later arrivals.
    Invalidated,
}

/// The inboxes a transition tells, and what.
pub type Told = Vec<(Inbox, Notice)>;

impl Slot {
    /// The state and the record as of `now`, without what has expired.
    pub fn expire(&mut self, now: Instant) {
        self.state.take_if(|state| state.expires <= now);
        self.record.take_if(|record| record.expires() <= now);
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.state.is_none() && self.record.is_none()
    }

    /// When there is next something to expire.
    pub fn expires(&self) -> Option<Instant> {
        let state = self.state.as_ref().map(|state| state.expires);
        state.into_iter().chain(self.record.as_ref().map(Record::expires)).min()
    }

    /// The owner and fence that lead, dead or alive.
    pub fn leader(&self) -> Option<(Owner, Fence)> {
        let state = self.state.as_ref()?;
        state.lead.as_ref().map(|lead| (lead.owner, state.fence))
    }

    /// The stored record.
    pub fn get(&mut self, now: Instant) -> Option<Seen> {
        self.expire(now);
        self.record.as_ref().map(|record| record.seen(now))
    }

    /// Begins a flight, joins one, or finds it unnecessary.
    pub fn begin(&mut self, now: Instant, begin: Begin, linger: Duration) -> Begun {
        let seen = self.get(now);
        if let Some(seen) = seen {
            let followed = begin.followed > Fence::NONE && seen.fence >= begin.followed;
            if followed || seen.is_fresh() {
                return Begun::Hit(seen);
            }
        }
        let last = self.last_fence();
        let state = self.state.get_or_insert_with(|| State::new(last));
        // A record whose state was evicted still counts: its fence must not be reached again.
        state.fence = state.fence.max(last);
        if state.scatter_until > now {
            return Begun::Scatter(state.scatter_until.since(now));
        }
        if let Some(lead) = &state.lead {
            if lead.owner == begin.owner {
                return Begun::Lead { fence: state.fence, failures: state.failures, previous: seen };
            }
            if lead.deadline > now {
                // Whoever has a record to use waits for nothing, hence is told nothing.
                if let Some(seen) = seen.filter(Seen::is_usable) {
                    return Begun::Stale(seen);
                }
                if state.failures >= FAILURES {
                    return Begun::Poisoned;
                }
                let left = lead.deadline.since(now);
                state.waiting.insert(begin.inbox);
                return Begun::Follow { fence: state.fence, left };
            }
            state.lead = None;
            state.failures += 1;
            state.dead += 1;
        }
        if state.dead >= DEAD_LEADERS {
            return Begun::Poisoned;
        }
        state.fence = Fence(now.as_micros().max(state.fence.next().0));
        state.lead = Some(Lead { owner: begin.owner, inbox: begin.inbox, deadline: now.after(begin.lease) });
        let begun = Begun::Lead { fence: state.fence, failures: state.failures, previous: seen };
        self.keep_state(linger);
        begun
    }

    /// Lets the lease of `owner` run for its whole length again.
    ///
    /// A leader past its deadline whom nobody has replaced may still renew.
    pub fn renew(&mut self, now: Instant, owner: Owner, lease: Duration, linger: Duration) -> Renewed {
        self.expire(now);
        let lead = self.state.as_mut().and_then(|state| state.lead.as_mut());
        let Some(lead) = lead.filter(|lead| lead.owner == owner) else {
            return Renewed::Lost;
        };
        lead.deadline = now.after(lease);
        self.keep_state(linger);
        Renewed::Held
    }

    /// Stores the result of the flight and tells everybody who waits.
    pub fn complete(&mut self, now: Instant, owner: Owner, fence: Fence, lifetimes: Lifetimes) -> (Completed, Told) {
        self.expire(now);
        let Some(state) = self.state.as_mut() else {
            return (Completed::Superseded, Told::new());
        };
        if state.completed == Some(owner) {
            return (Completed::Stored, Told::new());
        }
        // The stored record needs no look: whatever writes one clears the lead, and the fence of a flight is above that of
        // the record it found.
        if !state.is_led_by(owner) || state.fence != fence {
            return (Completed::Superseded, Told::new());
        }
        self.record = Some(Record { fence, landed: now, lifetimes });
        state.lead = None;
        state.completed = Some(owner);
        state.failures = 0;
        state.dead = 0;
        // The state lives as long as the lease let it: what it says of failures is forgotten, and fences are times.
        let told = state.tell(Notice::Landed(fence));
        (Completed::Stored, told)
    }

    /// Gives the flight up without a result. Works by owner alone: after a lost reply nobody knows the fence.
    pub fn abort(&mut self, now: Instant, owner: Owner, reason: Reason, linger: Duration) -> Told {
        self.expire(now);
        let Some(state) = self.state.as_mut().filter(|state| state.is_led_by(owner)) else {
            return Told::new();
        };
        state.lead = None;
        let told = match reason {
            Reason::Retry => {
                state.failures += 1;
                state.tell(Notice::Retry)
            }
            Reason::Abandon => state.tell(Notice::Retry),
            Reason::Scatter(time) => {
                state.scatter_until = now.after(time);
                state.tell(Notice::Scatter(time))
            }
        };
        self.keep_state(linger);
        told
    }

    /// Deletes the record and makes every flight in the air store nothing.
    pub fn invalidate(&mut self, now: Instant, linger: Duration) -> Told {
        self.expire(now);
        let last = self.last_fence();
        self.record = None;
        let Some(state) = self.state.as_mut() else {
            return Told::new();
        };
        state.fence = Fence(now.as_micros().max(last.next().0));
        let leader = state.lead.take().map(|lead| lead.inbox);
        state.waiting.extend(leader);
        let told = state.tell(Notice::Invalidated);
        self.keep_state(linger);
        told
    }

    /// Invalidates and stores in one step.
    pub fn put(&mut self, now: Instant, lifetimes: Lifetimes, linger: Duration) -> (Fence, Told) {
        self.expire(now);
        let last = self.last_fence();
        let told = self.invalidate(now, linger);
        let fence = self.state.as_ref().map_or(Fence(now.as_micros().max(last.next().0)), |state| state.fence);
        self.record = Some(Record { fence, landed: now, lifetimes });
        if self.state.is_some() {
            self.keep_state(linger);
        }
        (fence, told)
    }

    fn last_fence(&self) -> Fence {
        let state = self.state.as_ref().map(|state| state.fence);
        let record = self.record.as_ref().map(|record| record.fence);
        state.max(record).unwrap_or_default()
    }

    fn keep_state(&mut self, linger: Duration) {
        let record = self.record.as_ref().map_or(Instant::ZERO, Record::expires);
        if let Some(state) = &mut self.state {
            let lease = state.lead.as_ref().map_or(Instant::ZERO, |lead| lead.deadline);
            let longest = lease.max(record).max(state.scatter_until).after(linger);
            state.expires = state.expires.max(longest);
        }
    }
}

impl State {
    fn new(fence: Fence) -> Self {
        Self {
            fence,
            lead: None,
            failures: 0,
            dead: 0,
            scatter_until: Instant::ZERO,
            completed: None,
            waiting: BTreeSet::new(),
            expires: Instant::ZERO,
        }
    }

    fn is_led_by(&self, owner: Owner) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.owner == owner)
    }

    fn tell(&mut self, notice: Notice) -> Told {
        core::mem::take(&mut self.waiting).into_iter().map(|inbox| (inbox, notice)).collect()
    }
}

impl Record {
    fn expires(&self) -> Instant {
        self.landed.after(self.lifetimes.total())
    }

    fn seen(&self, now: Instant) -> Seen {
        Seen { fence: self.fence, age: now.since(self.landed), lifetimes: self.lifetimes }
    }
}
