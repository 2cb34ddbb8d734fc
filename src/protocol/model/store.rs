//! The store executes a request, and the checker's own book says whether it might.

use super::{
    super::{
        explore::Broken,
        flight::{Input, Reply},
        lease::{Completed, Fence, Lifetimes, Owner, Reason, Renewed},
        store::{Begin, Begun, Notice, Seen, Slot, Told},
    },
    event::{Event, Trail},
    mutation::Mutation,
    world::{
        Address, Book, Fault, Found, LINGER, Message, Op, RULES, Request, Response, Setup, Value, World, inbox,
        store_time,
    },
};

/// What makes a lease end although its leader lives, or lives no more.
const DEADLY: &[Fault] = &[Fault::Crash, Fault::Refuse, Fault::Lose, Fault::GiveUp, Fault::Oversleep];

/// A request on its way through the store.
struct Visit<'a> {
    world: &'a mut World,
    setup: &'a Setup,
    trail: &'a mut Trail,
    from: Address,
    me: Owner,
}

pub(super) fn execute(world: &mut World, setup: &Setup, trail: &mut Trail, request: Request) -> Result<(), Broken> {
    let now = store_time(world.now);
    world.slot.expire(now);
    if world.payload.is_some_and(|(found, lifetimes)| now >= store_time(found.landed).after(lifetimes.total())) {
        world.payload = None;
    }
    let Request { from, op, orphan } = request;
    let attempt = match op {
        Op::Begin { attempt, .. } | Op::Renew { attempt } | Op::Abort { attempt, .. } => attempt,
        Op::Complete { attempt, .. } => attempt,
    };
    let mut visit = Visit { me: from.owner(attempt), from, world, setup, trail };
    let (input, found) = match op {
        Op::Begin { followed, .. } => {
            let (reply, found) = visit.begin(followed)?;
            (Input::Begun(attempt, reply), found)
        }
        Op::Renew { .. } => (Input::Renewed(attempt, Some(visit.renew()?)), None),
        Op::Complete { fence, lifetimes, value, .. } => {
            (Input::Completed(attempt, Some(visit.complete(fence, lifetimes, value)?)), None)
        }
        Op::Abort { reason, .. } => {
            visit.abort(reason)?;
            (Input::Aborted(attempt, true), None)
        }
    };
    if !orphan {
        world.responses.push(Response { to: from, input, found });
    }
    Ok(())
}

impl Visit<'_> {
    fn mutated(&self, mutation: Mutation) -> bool {
        self.setup.mutation == Some(mutation)
    }

    fn leads(&self) -> bool {
        self.world.ghost.lease.is_some_and(|book| book.owner == self.me)
    }

    /// The owner a mistaken store takes the caller for.
    fn taken_for(&self, mutation: Mutation) -> Owner {
        match self.world.slot.leader() {
            Some((owner, _)) if self.mutated(mutation) => owner,
            _ => self.me,
        }
    }

    fn begin(&mut self, followed: Fence) -> Result<(Reply, Option<Found>), Broken> {
        let now = store_time(self.world.now);
        let begin = Begin { owner: self.me, inbox: self.from.inbox(), lease: RULES.lease, followed };
        if self.mutated(Mutation::BeginIgnoresDeadline)
            && let Some((leader, _)) = self.world.slot.leader()
        {
            self.world.slot.abort(now, leader, Reason::Abandon, LINGER);
        }
        let anew = self.world.slot.is_empty();
        let mut begun = self.world.slot.begin(now, begin, LINGER);
        if let Begun::Lead { fence, .. } = &mut begun
            && anew
            && self.mutated(Mutation::FenceRestarts)
        {
            *fence = self.world.slot.restart_fence();
        }
        let left = |seen: Seen| (seen.lifetimes.fresh + seen.lifetimes.stale).saturating_sub(seen.age);
        Ok(match begun {
            Begun::Hit(seen) => {
                let found = self.found(seen)?;
                (Reply::Hit { fence: seen.fence, age: seen.age, fresh: seen.is_fresh() }, Some(found))
            }
            Begun::Lead { fence, failures, previous } => {
                self.led(fence)?;
                let stale = previous.filter(Seen::is_usable);
                let found = stale.map(|seen| self.found(seen)).transpose()?;
                (Reply::Lead { fence, failures, stale: stale.map(left) }, found)
            }
            Begun::Follow { fence, left } => {
                let lease = self.world.ghost.lease.filter(|book| book.owner != self.me && book.until > self.world.now);
                Broken::unless(lease.is_some(), "I3", "a flight that nobody leads is followed")?;
                self.world.ghost.noted.insert(self.from.inbox());
                self.trail.saw(Event::Followed);
                (Reply::Follow { fence, left }, None)
            }
            Begun::Stale(seen) => (Reply::Stale, Some(self.found(seen)?)),
            Begun::Scatter(_) => {
                let scattered = self.world.ghost.scattered > self.world.now;
                Broken::unless(scattered, "I7", "scattered although nobody said so")?;
                (Reply::Scatter, None)
            }
            Begun::Poisoned => {
                Broken::unless(self.world.ghost.troubled, "I7", "poisoned although nothing failed")?;
                self.world.ghost.lease.take_if(|book| book.until <= self.world.now);
                self.trail.saw(Event::Poisoned);
                (Reply::Poisoned, None)
            }
        })
    }

    fn found(&self, seen: Seen) -> Result<Found, Broken> {
        let payload = self.world.payload.filter(|(found, _)| found.fence == seen.fence);
        let Some((found, _)) = payload else { return Err(Broken::new("I1", "a record that nobody stored")) };
        Ok(Found { told: self.world.now, fresh: seen.is_fresh(), ..found })
    }

    fn led(&mut self, fence: Fence) -> Result<(), Broken> {
        let before = self.world.ghost.lease.filter(|book| book.owner != self.me);
        if self.leads() {
            return Ok(());
        }
        Broken::unless(fence > self.world.ghost.fence, "I9", "a fence was handed out twice")?;
        if let Some(book) = before {
            Broken::unless(book.until <= self.world.now, "I3", "a second leader beside a living one")?;
            let excused = self.world.suffered(self.setup, DEADLY) || !self.setup.prompt;
            Broken::unless(excused, "I4", "a living leader was taken for dead")?;
            self.trail.saw(Event::LedAfterDead);
        }
        let until = self.world.now + RULES.lease.as_micros() as u64;
        let ghost = &mut self.world.ghost;
        ghost.fence = fence;
        ghost.lease = Some(Book { owner: self.me, inbox: self.from.inbox(), fence, until });
        Ok(())
    }

    fn renew(&mut self) -> Result<Renewed, Broken> {
        let before = self.world.slot.clone();
        let owner = self.taken_for(Mutation::RenewByAnyone);
        let renewed = self.world.slot.renew(store_time(self.world.now), owner, RULES.lease, LINGER);
        if !self.leads() {
            self.unchanged(&before)?;
            Broken::unless(renewed == Renewed::Lost, "I2", "a lease is held by one who does not lead")?;
            self.trail.saw(Event::RenewLost);
            return Ok(renewed);
        }
        Broken::unless(renewed == Renewed::Held, "I3", "a leader that nobody replaced lost its lease")?;
        let until = self.world.now + RULES.lease.as_micros() as u64;
        if let Some(book) = &mut self.world.ghost.lease {
            book.until = until;
        }
        self.trail.saw(Event::Renewed);
        Ok(renewed)
    }

    fn complete(&mut self, fence: Fence, lifetimes: Lifetimes, value: Value) -> Result<Completed, Broken> {
        let now = store_time(self.world.now);
        let before = self.world.slot.clone();
        let fits = self.world.ghost.lease.is_some_and(|book| (book.owner, book.fence) == (self.me, fence));
        let (owner, under) = match self.world.slot.leader() {
            Some(leader) if self.mutated(Mutation::CompleteUnfenced) => leader,
            _ => (self.me, fence),
        };
        let (mut completed, mut told) = self.world.slot.complete(now, owner, under, lifetimes);
        if !fits && completed == Completed::Stored && self.mutated(Mutation::CompleteForgetsItself) {
            completed = Completed::Superseded;
        }
        if self.mutated(Mutation::CompleteIsSilent) {
            told.clear();
        }
        if !fits {
            let stored = self.world.slot.get(now) != before.clone().get(now);
            Broken::unless(!stored, "I1", "a record by one whom the state does not name")?;
            self.unchanged(&before)?;
            let again = self.world.ghost.completed == Some(self.me);
            let right = if again { Completed::Stored } else { Completed::Superseded };
            Broken::unless(completed == right, "I2", "a completion was told the wrong outcome")?;
            self.trail.saw(if again { Event::CompletedAgain } else { Event::Superseded });
            return Ok(completed);
        }
        Broken::unless(completed == Completed::Stored, "I1", "the one whom the state names could not store")?;
        Broken::unless(fence >= self.world.ghost.stored, "I9", "the fence of the record fell")?;
        let current = value.epoch == self.world.ghost.epoch;
        let kept = lifetimes.fresh + lifetimes.stale;
        Broken::unless(current || kept.is_zero(), "epoch", "a result older than an invalidation is kept")?;
        self.world.ghost.stored = fence;
        self.world.ghost.completed = Some(self.me);
        self.world.ghost.lease = None;
        let found = Found { value, fence, landed: self.world.now, told: self.world.now, fresh: true };
        self.world.payload = Some((found, lifetimes));
        self.tell(told, Some(found))?;
        Ok(completed)
    }

    fn abort(&mut self, reason: Reason) -> Result<(), Broken> {
        let before = self.world.slot.clone();
        let owner = self.taken_for(Mutation::AbortByAnyone);
        let mut told = self.world.slot.abort(store_time(self.world.now), owner, reason, LINGER);
        if !self.leads() {
            return self.unchanged(&before);
        }
        if self.mutated(Mutation::AbortIsSilent) {
            told.clear();
        }
        self.world.ghost.lease = None;
        if let Reason::Scatter(time) = reason {
            self.world.ghost.scattered = self.world.now + time.as_micros() as u64;
        }
        self.tell(told, None)
    }

    fn unchanged(&self, before: &Slot) -> Result<(), Broken> {
        Broken::unless(self.world.slot == *before, "I2", "the store heeds one who does not lead")
    }

    fn tell(&mut self, told: Told, found: Option<Found>) -> Result<(), Broken> {
        send(self.world, self.setup, told, found)
    }
}

/// Everybody who was promised a message gets one, and nobody else.
fn send(world: &mut World, setup: &Setup, told: Told, found: Option<Found>) -> Result<(), Broken> {
    let noted = core::mem::take(&mut world.ghost.noted);
    let inboxes = told.iter().map(|(inbox, _)| *inbox).collect();
    Broken::unless(noted == inboxes, "told", "not exactly those who wait were told")?;
    if setup.deaf {
        return Ok(());
    }
    let epoch = world.ghost.epoch;
    for (to, notice) in told {
        let living = world.replicas.iter().enumerate().any(|(at, replica)| inbox(at, replica.life) == to);
        if living {
            world.messages.push(Message { to, notice, epoch, found: found.filter(|_| setup.inline) });
        }
    }
    Ok(())
}

/// Somebody invalidates the key.
pub(super) fn invalidate(world: &mut World, setup: &Setup) -> Result<(), Broken> {
    let now = store_time(world.now);
    world.slot.expire(now);
    world.ghost.epoch += 1;
    world.payload = None;
    let leader = world.ghost.lease.take();
    world.ghost.noted.extend(leader.map(|book| book.inbox));
    let told = if setup.mutation == Some(Mutation::InvalidateKeepsLeader) {
        world.slot.evict_record();
        world.ghost.lease = leader;
        world.ghost.noted.iter().map(|inbox| (*inbox, Notice::Invalidated)).collect()
    } else {
        world.slot.invalidate(now, LINGER)
    };
    send(world, setup, told, None)
}

/// The store loses what it was not asked to delete. Time passes while it does: fences are times.
pub(super) fn evict(world: &mut World, state: bool, record: bool) {
    if state {
        world.slot.evict_state();
        world.ghost.lease = None;
        world.ghost.noted.clear();
        world.ghost.completed = None;
        world.ghost.scattered = 0;
    }
    if record {
        world.slot.evict_record();
        world.payload = None;
    }
    world.now += 1000;
}
