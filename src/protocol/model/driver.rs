//! A driver: does what a flight says, decides nothing, and is watched while it does.

use super::{
    super::{
        explore::Broken,
        flight::{Alone, Caller, Flight, Input, Notice, Origin, Outcome, Output, Reply, Verdict},
        lease::{Lifetimes, Reason},
        store,
    },
    event::{Event, Trail},
    mutation::Mutation,
    world::{
        Address, Found, Holder, Message, Op, Person, RULES, Request, Response, Setup, Value, Work, World, inbox,
        local_time,
    },
};

type Checked = Result<(), Broken>;

/// A driver at work.
pub(super) struct Driver<'a> {
    pub world: &'a mut World,
    pub setup: &'a Setup,
    pub trail: &'a mut Trail,
}

impl Driver<'_> {
    fn mutated(&self, mutation: Mutation) -> bool {
        self.setup.mutation == Some(mutation)
    }

    /// A caller comes: it joins the flight in the table, or opens one.
    pub fn join(&mut self, caller: usize) -> Checked {
        let (at, strict) = self.setup.callers[caller];
        let replica = &mut self.world.replicas[at];
        let flight = *replica.table.get_or_insert_with(|| {
            let id = replica.opened;
            replica.opened += 1;
            replica.holders.push(Holder {
                id,
                flight: Flight::new(RULES),
                work: None,
                done: None,
                ran: None,
                found: None,
                heard: None,
                armed: false,
                arming: None,
            });
            id
        });
        let address = Address { replica: at, life: replica.life, flight };
        self.world.callers[caller] =
            Person::Waiting { at: address, joined: self.world.now, epoch: self.world.replicas[at].epoch };
        self.tell(address, Input::Join { caller: caller as Caller, strict })
    }

    /// A caller leaves.
    pub fn leave(&mut self, caller: usize) -> Checked {
        let Person::Waiting { at, .. } = core::mem::replace(&mut self.world.callers[caller], Person::Gone) else {
            return Ok(());
        };
        if self.mutated(Mutation::LeaveCancelsWork)
            && let Some(holder) = self.world.holder(at)
        {
            holder.work.take_if(|work| work.caller == caller as Caller);
        }
        self.tell(at, Input::Leave { caller: caller as Caller })
    }

    /// The work in the air ends.
    pub fn worked(&mut self, at: Address, outcome: Outcome) -> Checked {
        let Some(holder) = self.world.holder(at) else { return Ok(()) };
        let Some(work) = holder.work.take() else { return Ok(()) };
        let value = |failure| Value { by: work.caller, epoch: work.epoch, failure };
        holder.ran = Some(work.caller);
        holder.done = match outcome {
            Outcome::Value | Outcome::Passing => Some(value(false)),
            Outcome::Failed { shareable: true } => Some(value(true)),
            Outcome::Failed { shareable: false } | Outcome::Unshareable(_) | Outcome::Declined => None,
        };
        self.world.ghost.troubled |= outcome != Outcome::Value;
        self.tell(at, Input::Worked(outcome))
    }

    /// The store answers.
    pub fn answered(&mut self, response: Response) -> Checked {
        let Response { to, mut input, found } = response;
        let Some(holder) = self.world.holder(to) else { return Ok(()) };
        let Input::Begun(_, reply) = &mut input else { return self.tell(to, input) };
        let alone = holder.flight.is_uncoordinated();
        let mut waiting = None;
        match reply {
            Reply::Follow { left, .. } => {
                waiting = Some(holder.arming.take());
                if self.setup.mutation == Some(Mutation::FollowsForever) {
                    *left = core::time::Duration::MAX;
                }
            }
            Reply::Lead { .. } => waiting = Some(holder.arming.take()),
            Reply::Hit { fresh, .. } => *fresh |= self.setup.mutation == Some(Mutation::ServesAnyHit),
            _ => holder.arming = None,
        }
        let hit = matches!(reply, Reply::Hit { .. });
        if hit {
            holder.arming = None;
        }
        holder.armed = waiting.is_some();
        holder.found = found;
        let lead = matches!(reply, Reply::Lead { .. });
        self.tell(to, input)?;
        if hit && self.waiting(to).next().is_some() {
            self.trail.saw(Event::HitTooOld);
        }
        if alone && lead && self.world.holder(to).is_some_and(|holder| holder.flight.leads().is_some()) {
            self.trail.saw(Event::Adopted);
        }
        for message in waiting.flatten().into_iter().flatten() {
            self.hear(to, &message)?;
        }
        Ok(())
    }

    fn waiting(&self, flight: Address) -> impl Iterator<Item = Caller> {
        let waits = move |person: &Person| matches!(person, Person::Waiting { at, .. } if *at == flight);
        (0..).zip(&self.world.callers).filter(move |(_, person)| waits(person)).map(|(caller, _)| caller)
    }

    /// A message reaches a replica, hence every flight that listens.
    pub fn notified(&mut self, message: &Message) -> Checked {
        for replica in 0..self.world.replicas.len() {
            let life = self.world.replicas[replica].life;
            if inbox(replica, life) != message.to {
                continue;
            }
            let mut listening = Vec::new();
            for holder in &mut self.world.replicas[replica].holders {
                match &mut holder.arming {
                    Some(arming) => arming.push(message.clone()),
                    None if holder.armed => listening.push(Address { replica, life, flight: holder.id }),
                    None => {}
                }
            }
            for flight in listening {
                self.hear(flight, message)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, at: Address, message: &Message) -> Checked {
        let now = self.world.now;
        let Some(holder) = self.world.holder(at) else { return Ok(()) };
        let before = holder.found;
        let notice = match message.notice {
            store::Notice::Landed(fence) => {
                match message.found {
                    Some(found) => holder.found = Some(found),
                    None => holder.heard = Some((fence, now)),
                }
                Notice::Landed { fence, with_record: message.found.is_some() }
            }
            store::Notice::Retry => Notice::Retry,
            store::Notice::Scatter(_) => Notice::Scatter,
            store::Notice::Invalidated => {
                let epoch = &mut self.world.replicas[at.replica].epoch;
                *epoch = message.epoch.max(*epoch);
                Notice::Invalidated
            }
        };
        if notice == Notice::Retry && self.mutated(Mutation::DropsCallerOnRetry) {
            let dropped = self.waiting(at).next();
            if let Some(caller) = dropped {
                self.tell(at, Input::Leave { caller })?;
            }
        }
        self.tell(at, Input::Notified(notice))?;
        if let Some(holder) = self.world.holder(at) {
            holder.found = before;
        }
        Ok(())
    }

    /// There is no room for work that nobody waits for.
    pub fn no_room(&mut self, at: Address) -> Checked {
        self.tell(at, Input::Evict)
    }

    /// A timer fires.
    pub fn fire(&mut self, at: Address) -> Checked {
        let now = local_time(self.world.now);
        if let Some(holder) = self.world.holder(at) {
            holder.flight.handle_timeout(now);
        }
        self.drain(at)
    }

    fn tell(&mut self, at: Address, input: Input) -> Checked {
        let now = local_time(self.world.now);
        if let Some(holder) = self.world.holder(at) {
            holder.flight.handle(now, input);
        }
        self.drain(at)
    }

    fn drain(&mut self, at: Address) -> Checked {
        while let Some(output) = self.world.holder(at).and_then(|holder| holder.flight.poll_output()) {
            self.obey(at, output)?;
        }
        let Some(holder) = self.world.holder(at) else { return Ok(()) };
        if holder.flight.is_over() {
            Broken::unless(holder.work.is_none(), "I4", "a flight is over while its work runs")?;
            let replica = &mut self.world.replicas[at.replica];
            replica.table.take_if(|flight| *flight == at.flight);
            replica.holders.retain(|holder| holder.id != at.flight);
        }
        Ok(())
    }

    fn obey(&mut self, at: Address, output: Output) -> Checked {
        let epoch = self.world.ghost.epoch;
        let mutation = self.setup.mutation;
        let Some(holder) = self.world.holder(at) else { return Ok(()) };
        let op = match output {
            Output::Begin { attempt, followed } => {
                (holder.armed, holder.arming, holder.found) = (false, Some(Vec::new()), None);
                Op::Begin { attempt, followed }
            }
            Output::Work { caller } => {
                Broken::unless(holder.work.is_none(), "I7", "two works in one flight")?;
                if holder.ran.is_some() && holder.done.is_none() {
                    self.trail.saw(Event::TakenOver);
                }
                if holder.flight.is_uncoordinated() {
                    self.trail.saw(Event::Uncoordinated);
                }
                (holder.work, holder.done, holder.ran) = (Some(Work { caller, epoch }), None, None);
                let fresh = self.world.ghost.worked.insert(caller);
                return Broken::unless(fresh, "I7", "the work of one caller ran twice");
            }
            Output::Cancel => {
                holder.work = None;
                self.trail.saw(Event::Evicted);
                return Ok(());
            }
            Output::Renew { .. } if mutation == Some(Mutation::NeverRenews) => return Ok(()),
            Output::Renew { attempt } => Op::Renew { attempt },
            Output::Complete { attempt, fence, for_waiters } => {
                let Some(value) = holder.done else { return Err(Broken::new("value", "nothing to store")) };
                let keep = RULES.lease + core::time::Duration::from_secs(1);
                let lifetimes = match for_waiters && mutation != Some(Mutation::KeepsAdopted) {
                    true => Lifetimes { keep, ..Lifetimes::default() },
                    false => Lifetimes { keep, ..self.setup.lifetimes },
                };
                Op::Complete { attempt, fence, lifetimes, value }
            }
            Output::Abort { attempt, reason } => {
                if reason == Reason::Abandon {
                    self.trail.saw(Event::LeaseGivenBack);
                }
                if mutation == Some(Mutation::KeepsLease) {
                    self.world.responses.push(Response { to: at, input: Input::Aborted(attempt, true), found: None });
                    return Ok(());
                }
                Op::Abort { attempt, reason }
            }
            Output::Answer { mut callers, verdict } => {
                if verdict == Verdict::Ran && mutation == Some(Mutation::BlamesFollower) {
                    callers.extend(self.waiting(at).filter(|other| !callers.contains(other)).collect::<Vec<_>>());
                }
                if matches!(verdict, Verdict::Value(Origin::Computed(by)) if !callers.contains(&by)) {
                    self.trail.saw(Event::Outlived);
                }
                let again = callers.first().copied().filter(|_| mutation == Some(Mutation::AnswersTwice));
                return callers.into_iter().chain(again).try_for_each(|caller| self.answer(at, caller, verdict));
            }
            Output::Detach => {
                self.trail.saw(Event::Detached);
                if mutation != Some(Mutation::StaysInTable) {
                    self.world.replicas[at.replica].table.take_if(|flight| *flight == at.flight);
                }
                return Ok(());
            }
        };
        self.world.requests.push(Request { from: at, op, orphan: false });
        Ok(())
    }

    fn answer(&mut self, at: Address, caller: Caller, verdict: Verdict) -> Checked {
        let person = core::mem::replace(&mut self.world.callers[caller as usize], Person::Gone);
        let Person::Waiting { at: home, joined, epoch } = person else {
            return Err(Broken::new("once", "a caller that does not wait was answered"));
        };
        Broken::unless(home == at, "once", "a caller was answered by another flight")?;
        let (_, strict) = self.setup.callers[caller as usize];
        let Some(holder) = self.world.holder(at) else { return Ok(()) };
        let (done, ran, found) = (holder.done, holder.ran, holder.found);
        let value = match verdict {
            Verdict::Value(Origin::Computed(by)) => {
                let done = done.filter(|value| value.by == by);
                if by != caller {
                    self.trail.saw(Event::Joined);
                }
                done
            }
            // Only whoever ran the work is told so.
            Verdict::Value(Origin::Alone(_)) => done.filter(|value| value.by == caller as Caller),
            Verdict::Value(Origin::Landed) => {
                self.trail.saw(Event::Landed);
                done
            }
            Verdict::Value(Origin::Elsewhere | Origin::Stored) => {
                found.map(|found| self.received(at, joined, found)).transpose()?
            }
            Verdict::Stale => {
                self.trail.saw(Event::Stale);
                found.map(|found| found.value)
            }
            Verdict::Runs(_) | Verdict::Announced => return Err(Broken::new("value", "nothing was announced")),
            Verdict::Ran => return Broken::unless(ran == Some(caller), "I7", "told of work that was another's"),
            Verdict::Alone(why) => {
                Broken::unless(!strict, "strict", "a strict caller is to run by itself")?;
                Broken::unless(why == Alone::Unshareable, "I7", "sent away without a reason")?;
                self.trail.saw(Event::Scattered);
                return Ok(());
            }
            Verdict::Refused(why) => {
                Broken::unless(strict, "strict", "a caller was refused that is not strict")?;
                self.trail.saw(Event::Refused);
                let reason = match why {
                    Alone::Unshareable | Alone::Poisoned => self.world.ghost.troubled,
                    _ => {
                        !self.setup.prompt
                            || self.world.faults.iter().zip(self.setup.faults).any(|(left, (_, all))| left < all)
                    }
                };
                return Broken::unless(reason, "I7", "a strict caller was refused without a reason");
            }
        };
        let Some(value) = value else { return Err(Broken::new("value", "a value that no work produced")) };
        if value.failure {
            self.trail.saw(Event::FailureShared);
            Broken::unless(value.by != caller, "I7", "a caller was given its own failure as a value")?;
        }
        Broken::unless(value.epoch >= epoch, "epoch", "older than an invalidation the caller came after")
    }

    /// A record that is not fresh is for those who asked before it landed, give or take one delivery: that of the
    /// answer that brought it, or that of the message that told of it.
    fn received(&mut self, at: Address, joined: u64, found: Found) -> Result<Value, Broken> {
        let now = self.world.now;
        let Some(holder) = self.world.holder(at) else { return Ok(found.value) };
        let heard = holder.heard.filter(|(fence, _)| *fence == found.fence).map_or(0, |(_, at)| at);
        self.trail.saw(match (found.fresh, self.setup.lifetimes.fresh.is_zero()) {
            (true, true) => Event::CameWithMessage,
            (true, false) => Event::HitFresh,
            (false, _) => Event::HitFollowed,
        });
        let slack = 1000;
        let delivery = now - found.told;
        let waited = joined <= (found.landed + delivery).max(heard) + slack;
        Broken::unless(waited || found.fresh, "I5", "given to one who asked after it landed")?;
        Ok(found.value)
    }
}
