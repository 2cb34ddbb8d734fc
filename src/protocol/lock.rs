//! One node's side of a lock as a pure value: all that a store knows of one name.
//!
//! `backend::Memory` is this value behind a mutex; the Lua scripts of `backend::Redis` are the same transitions once more.
//!
//! ```text
//!            acquire: Granted                    release, somebody waits and hears
//!   free ───────────────────────▶ held by token ──────────────────────────────────▶ held by the first who waits
//!    ▲                             │   ▲    │
//!    │  release, lease over        │   └────┘ extend; acquire by another: Taken, its place is noted
//!    └─────────────────────────────┘
//! ```
//!
//! A release grants the lock to the one that has waited longest, and tells it so: the message is the grant, and nothing
//! more has to be asked. Whoever releases and acquires again comes behind those who wait. A place whose inbox is gone,
//! because its process is, is passed over.

use core::time::Duration;
use std::collections::VecDeque;

use super::{
    lease::{Fence, Inbox},
    time,
};

type Instant = time::Instant<time::Store>;

/// So many places at most. Who comes later waits without one, for the end of the lease.
pub const PLACES: usize = 1024;

/// A holder that takes over counts on from so much further: no request of the one before it has a number as great. Doubles,
/// in which scripts count, have room for two million of them.
pub const LEAP: u64 = 1 << 32;

/// One who waits, and where it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Who: 64 random bits, new for everyone who comes to wait.
    pub ticket: u64,
    /// Where.
    pub inbox: Inbox,
}

/// The lock was granted to one who waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// To whom.
    pub ticket: u64,
    /// The request that waited: the lease is as long as it asked for, and began after it was sent.
    pub seq: u64,
    /// Held under this fence.
    pub fence: Fence,
}

/// What is known of one name.
///
/// `T` is the token of a holder. Equal tokens are one holder: what it asks again is granted again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lock<T> {
    state: Option<State<T>>,
    floor: Option<Floor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State<T> {
    held: Held<T>,
    queue: VecDeque<Waiter<T>>,
    expires: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiter<T> {
    place: Place,
    token: T,
    seq: u64,
    ttl: Duration,
    sole: bool,
    linger: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held<T> {
    token: T,
    /// The last request of the holder that changed something: older ones, which arrive late, change nothing.
    seq: u64,
    fence: Fence,
    /// There was no floor before, and no other attempt of the holder.
    floored: bool,
}

/// Below every fence to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Floor {
    fence: Fence,
    expires: Instant,
}

/// What a contender asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Acquire<T> {
    /// Who asks.
    pub token: T,
    /// Greater than in all earlier requests with this token.
    pub seq: u64,
    /// How long to hold it without extending.
    pub ttl: Duration,
    /// Whether it waits if the lock is taken, and where.
    pub place: Option<Place>,
    /// Whether this node alone decides: then a grant raises the floor at once.
    pub sole: bool,
    /// How long the floor outlives the lease.
    pub linger: Duration,
}

/// What a node answers to an [`Acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquired {
    /// Held from now on.
    Granted(Fence),
    /// Another one holds it, and its lease ends after this long unless it is extended.
    Taken(Duration),
}

/// What a node answers to an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extended {
    /// Held, under this fence, and changed last by this request.
    Held(Fence, u64),
    /// Nobody holds it.
    Gone,
    /// Another one does.
    Taken,
}

/// Who gives a lock back, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Release<T> {
    /// Who.
    pub token: T,
    /// As for [`Acquire::seq`].
    pub seq: u64,
    /// What the attempt with this very `seq` was granted was never held by one who knew: its traces go as well.
    pub undo: bool,
    /// The place to give up as well, unless a younger request has noted it.
    pub ticket: Option<u64>,
}

/// A lock that is held, as anyone sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen<T> {
    /// By whom.
    pub token: T,
    /// Its fence.
    pub fence: Fence,
    /// What is left of its lease.
    pub left: Duration,
}

impl<T> Default for Lock<T> {
    fn default() -> Self {
        Self { state: None, floor: None }
    }
}

impl<T: Clone + Eq> Lock<T> {
    /// Takes the lock, or a place among those who wait for it.
    pub fn acquire(&mut self, now: Instant, ask: Acquire<T>) -> Acquired {
        self.expire(now);
        if let Some(State { held, expires, .. }) = &self.state
            && (held.token != ask.token || held.seq > ask.seq)
        {
            let left = expires.since(now);
            self.note(ask);
            return Acquired::Taken(left);
        }
        let (held, mut queue) = self.state.take().map(|state| (state.held, state.queue)).unzip();
        if let (Some(queue), Some(place)) = (&mut queue, ask.place) {
            queue.retain(|waiter: &Waiter<T>| waiter.place.ticket != place.ticket);
        }
        let (fence, floored) = match held {
            // What an earlier attempt was granted may have been held: whoever undoes this one leaves the floor.
            Some(held) => (held.fence, held.floored && held.seq == ask.seq),
            None => {
                // The time as well: a store that comes back may have lost the last moments of a floor.
                let floor = self.floor.map_or(Fence::NONE, |floor| floor.fence);
                (floor.next().max(Fence(now.as_micros())), self.floor.is_none())
            }
        };
        let Acquire { token, seq, ttl, sole, linger, .. } = ask;
        self.grant(now, Held { token, seq, fence, floored }, ttl, sole.then_some(linger), queue.unwrap_or_default());
        Acquired::Granted(fence)
    }

    /// Lets the lease run for `ttl` from now. Without a `seq` whatever was asked before, and may still be on its way,
    /// is older than this: that is how a holder takes over from one that handed it the token.
    pub fn extend(&mut self, now: Instant, token: &T, seq: Option<u64>, ttl: Duration, linger: Duration) -> Extended {
        self.expire(now);
        let Some(state) = &mut self.state else { return Extended::Gone };
        let held = &mut state.held;
        if held.token != *token {
            return Extended::Taken;
        }
        let asked = seq.unwrap_or(held.seq + LEAP);
        if asked >= held.seq {
            held.seq = asked;
            state.expires = now.after(ttl);
        }
        let (fence, seq, expires) = (held.fence, held.seq, state.expires);
        if self.floor.is_some_and(|floor| floor.fence >= fence) {
            self.raise_floor(fence, expires.after(linger));
        }
        Extended::Held(fence, seq)
    }

    /// Gives the lock back, if `token` holds it and has asked for nothing since, and grants it to the first of those
    /// who wait and whose inbox `hears`. Returns whether it was held, and who has to be told.
    pub fn release(
        &mut self,
        now: Instant,
        release: &Release<T>,
        hears: impl Fn(Inbox) -> bool,
    ) -> (bool, Option<(Inbox, Grant)>) {
        self.expire(now);
        let Some(state) = &mut self.state else { return (false, None) };
        // A place that a younger request has noted is kept.
        state.queue.retain(|waiter| release.ticket != Some(waiter.place.ticket) || waiter.seq > release.seq);
        let held = &state.held;
        if held.token != release.token || held.seq > release.seq {
            return (false, None);
        }
        let is_own = held.floored && held.seq == release.seq;
        let clear = release.undo && is_own && self.floor.is_some_and(|floor| floor.fence == held.fence);
        self.floor.take_if(|_| clear);
        // Who is next makes the floor in place of the one that is undone.
        (true, self.pass_on(now, hears, clear))
    }

    /// Makes all fences to come greater than `fence`, while `token` holds the lock; its own becomes `fence` if that is
    /// greater.
    pub fn raise(&mut self, now: Instant, token: &T, fence: Fence, linger: Duration) -> bool {
        self.expire(now);
        let Some(State { held, expires, .. }) = &mut self.state else { return false };
        if held.token != *token {
            return false;
        }
        held.fence = held.fence.max(fence);
        let (fence, expires) = (held.fence, *expires);
        self.raise_floor(fence, expires.after(linger));
        true
    }

    /// Who holds it.
    pub fn inspect(&mut self, now: Instant) -> Option<Seen<T>> {
        self.expire(now);
        let State { held, expires, .. } = self.state.as_ref()?;
        Some(Seen { token: held.token.clone(), fence: held.fence, left: expires.since(now) })
    }

    /// Forgets what has expired by now.
    pub fn expire(&mut self, now: Instant) {
        self.state.take_if(|state| state.expires <= now);
        self.floor.take_if(|floor| floor.expires <= now);
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.state.is_none() && self.floor.is_none()
    }

    /// When there is nothing left to know, if nothing happens before.
    pub fn expires(&self) -> Instant {
        let state = self.state.as_ref().map_or(Instant::ZERO, |state| state.expires);
        self.floor.map_or(state, |floor| floor.expires.max(state))
    }

    /// Grants the lock to the next in line.
    fn pass_on(&mut self, now: Instant, hears: impl Fn(Inbox) -> bool, floored: bool) -> Option<(Inbox, Grant)> {
        let State { held, mut queue, .. } = self.state.take()?;
        let Waiter { place, token, seq, ttl, sole, linger } = loop {
            let waiter = queue.pop_front()?;
            if hears(waiter.place.inbox) {
                break waiter;
            }
        };
        // Above the floor as well, which is never above the fence of who holds.
        let fence = held.fence.next();
        let held = Held { token, seq, fence, floored };
        self.grant(now, held, ttl, sole.then_some(linger), queue);
        Some((place.inbox, Grant { ticket: place.ticket, seq, fence }))
    }

    fn grant(
        &mut self,
        now: Instant,
        held: Held<T>,
        ttl: Duration,
        linger: Option<Duration>,
        queue: VecDeque<Waiter<T>>,
    ) {
        let (fence, expires) = (held.fence, now.after(ttl));
        self.state = Some(State { held, queue, expires });
        if let Some(linger) = linger {
            self.raise_floor(fence, expires.after(linger));
        }
    }

    /// Who waits already keeps its place, and may hear elsewhere. Who holds the lock does not wait for it: that is a request
    /// which comes late.
    fn note(&mut self, ask: Acquire<T>) {
        let (Some(state), Some(place)) = (&mut self.state, ask.place) else { return };
        if state.held.token == ask.token {
            return;
        }
        let room = state.queue.len() < PLACES;
        let Acquire { token, seq, ttl, sole, linger, .. } = ask;
        let waiter = Waiter { place, token, seq, ttl, sole, linger };
        match state.queue.iter_mut().find(|noted| noted.place.ticket == place.ticket) {
            Some(noted) if noted.seq <= seq => *noted = waiter,
            None if room => state.queue.push_back(waiter),
            Some(_) | None => {}
        }
    }

    /// The floor outlives the last lease, however long those before it were.
    fn raise_floor(&mut self, fence: Fence, expires: Instant) {
        let fence = self.floor.map_or(fence, |floor| floor.fence.max(fence));
        self.floor = Some(Floor { fence, expires });
    }
}

#[cfg(test)]
mod tests;
