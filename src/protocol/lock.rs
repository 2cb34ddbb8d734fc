//! One node's side of a lock as a pure value: all that a store knows of one name.
//!
//! `backend::Memory` is this value behind a mutex; the Lua scripts of `backend::Redis` are the same transitions once more.
//!
//! ```text
//!            acquire: Granted                    release, somebody waits
//!   free ───────────────────────▶ held by token ─────────────────────────▶ the turn of the first who waits
//!    ▲  ▲                          │   ▲    │                               │        │              │
//!    │  │      lease over          │   └────┘ extend; acquire by another:   │        │ it acquires, or its turn
//!    │  └──────────────────────────┘          Taken, its place is noted     │        │ is over and anyone does
//!    │                                                                      │        ▼
//!    └──────── nobody acquires for a second, or the last place is given up ─┘      held
//! ```
//!
//! A release gives the turn to the one that has waited longest, for a moment in which nobody else is granted the lock:
//! else whoever releases and acquires again, without a message in between, would always come first. It tells two of
//! those who wait, whatever their number: the first that it is its turn, and the second to look whether the first came.

use core::time::Duration;
use std::collections::VecDeque;

use super::{
    lease::{Fence, Inbox},
    time,
};

type Instant = time::Instant<time::Store>;

/// How long a turn lasts: several hops and a busy process.
pub const TURN: Duration = Duration::from_millis(100);

/// How long a lock that is free remembers who waits for it.
pub const REMEMBER: Duration = Duration::from_secs(1);

/// So many places at most. Who comes later waits without one, for the end of the lease.
pub const PLACES: usize = 1024;

/// One who waits, and where it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Who: 64 random bits, new for everyone who comes to wait.
    pub ticket: u64,
    /// Where.
    pub inbox: Inbox,
}

/// What one who waits is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// The lock is free, and for a moment for this one alone.
    Yours,
    /// It is another's turn; whether that one came shows after this long.
    After(Duration),
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
    phase: Phase<T>,
    queue: VecDeque<Place>,
    expires: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase<T> {
    Held(Held<T>),
    Turn { ticket: u64, until: Instant },
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
    /// It is free, but for this long it is another's turn.
    Spoken(Duration),
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
    /// The place to give up as well.
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

/// Messages, in the order in which they are sent.
pub type Told = Vec<(Inbox, Turn)>;

impl<T> Default for Lock<T> {
    fn default() -> Self {
        Self { state: None, floor: None }
    }
}

impl<T: Clone + Eq> Lock<T> {
    /// Takes the lock, or a place among those who wait for it.
    pub fn acquire(&mut self, now: Instant, ask: Acquire<T>) -> Acquired {
        self.expire(now);
        let left = match self.state.as_ref().map(|state| (&state.phase, state.expires)) {
            Some((Phase::Held(held), expires)) if held.token != ask.token || held.seq > ask.seq => {
                Some(Acquired::Taken(expires.since(now)))
            }
            Some((Phase::Turn { ticket, until }, _))
                if ask.place.is_none_or(|place| place.ticket != *ticket) && now < *until =>
            {
                Some(Acquired::Spoken(until.since(now)))
            }
            _ => None,
        };
        if let Some(refused) = left {
            if let Some(place) = ask.place {
                self.note(place);
            }
            return refused;
        }
        let State { phase, mut queue, .. } = self.state.take().unwrap_or_else(|| State {
            phase: Phase::Turn { ticket: 0, until: now },
            queue: VecDeque::new(),
            expires: now,
        });
        queue.retain(|place| ask.place.is_none_or(|own| own.ticket != place.ticket));
        let (fence, floored) = match phase {
            // What an earlier attempt was granted may have been held: whoever undoes this one leaves the floor.
            Phase::Held(held) => (held.fence, held.floored && held.seq == ask.seq),
            Phase::Turn { .. } => {
                let floor = self.floor.map_or(Fence::NONE, |floor| floor.fence);
                (floor.next().max(Fence(now.as_micros())), self.floor.is_none())
            }
        };
        let expires = now.after(ask.ttl);
        let held = Held { token: ask.token, seq: ask.seq, fence, floored };
        self.state = Some(State { phase: Phase::Held(held), queue, expires });
        if ask.sole {
            self.raise_floor(fence, expires.after(ask.linger));
        }
        Acquired::Granted(fence)
    }

    /// Lets the lease run for `ttl` from now. Without a `seq` whatever was asked before does not count: that is how a
    /// holder takes over from one that handed it the token.
    pub fn extend(&mut self, now: Instant, token: &T, seq: Option<u64>, ttl: Duration, linger: Duration) -> Extended {
        self.expire(now);
        let Some(state) = &mut self.state else { return Extended::Gone };
        let held = match &mut state.phase {
            Phase::Held(held) if held.token == *token => held,
            Phase::Held(_) => return Extended::Taken,
            Phase::Turn { .. } => return Extended::Gone,
        };
        if seq.is_none_or(|seq| seq >= held.seq) {
            held.seq = seq.unwrap_or(held.seq);
            state.expires = now.after(ttl);
        }
        let (fence, seq, expires) = (held.fence, held.seq, state.expires);
        if self.floor.is_some_and(|floor| floor.fence >= fence) {
            self.raise_floor(fence, expires.after(linger));
        }
        Extended::Held(fence, seq)
    }

    /// Gives the lock back, if `token` holds it and has asked for nothing since, and tells who is next.
    pub fn release(&mut self, now: Instant, release: &Release<T>) -> (bool, Told) {
        self.expire(now);
        let Some(state) = &mut self.state else { return (false, Vec::new()) };
        state.queue.retain(|place| release.ticket != Some(place.ticket));
        match &state.phase {
            Phase::Held(held) if held.token == release.token && held.seq <= release.seq => {
                let is_own = held.floored && held.seq == release.seq;
                if release.undo && is_own && self.floor.is_some_and(|floor| floor.fence == held.fence) {
                    self.floor = None;
                }
                (true, self.pass_on(now))
            }
            Phase::Turn { ticket, .. } if release.ticket == Some(*ticket) => (false, self.pass_on(now)),
            _ => (false, Vec::new()),
        }
    }

    /// Makes all fences to come greater than `fence`, while `token` holds the lock; its own becomes `fence` if that is greater.
    pub fn raise(&mut self, now: Instant, token: &T, fence: Fence, linger: Duration) -> bool {
        self.expire(now);
        let Some(State { phase: Phase::Held(held), expires, .. }) = &mut self.state else { return false };
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
        let state = self.state.as_ref()?;
        let Phase::Held(held) = &state.phase else { return None };
        Some(Seen { token: held.token.clone(), fence: held.fence, left: state.expires.since(now) })
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

    /// The next in line has its turn, and who comes after that looks whether it came.
    fn pass_on(&mut self, now: Instant) -> Told {
        let Some(mut state) = self.state.take() else { return Vec::new() };
        let Some(first) = state.queue.pop_front() else { return Vec::new() };
        let second = state.queue.front().map(|second| (second.inbox, Turn::After(TURN)));
        let phase = Phase::Turn { ticket: first.ticket, until: now.after(TURN) };
        self.state = Some(State { phase, queue: state.queue, expires: now.after(REMEMBER) });
        [(first.inbox, Turn::Yours)].into_iter().chain(second).collect()
    }

    /// Who waits already keeps its place, and may hear elsewhere.
    fn note(&mut self, place: Place) {
        let Some(state) = &mut self.state else { return };
        let room = state.queue.len() < PLACES;
        match state.queue.iter_mut().find(|noted| noted.ticket == place.ticket) {
            Some(noted) => *noted = place,
            None if room => state.queue.push_back(place),
            None => {}
        }
    }

    fn raise_floor(&mut self, fence: Fence, expires: Instant) {
        let floor = self.floor.unwrap_or(Floor { fence, expires });
        self.floor = Some(Floor { fence: floor.fence.max(fence), expires: floor.expires.max(expires) });
    }
}

#[cfg(test)]
mod tests;
