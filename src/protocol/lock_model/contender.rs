//! A contender: it does what the driver of the real one does.

use core::mem;

use super::{
    super::{
        explore::Broken,
        lease::Fence,
        quorum::{Hold, Round, Term, Verdict, Vote},
    },
    event::{Event, Trail},
    mutants::Mutation,
    world::{Asking, Holding, LONG, Op, Phase, Reply, Request, SHORT, Setup, Waiting, World, place},
};

/// What all that a contender does is done with.
pub(super) struct Driver<'a> {
    pub world: &'a mut World,
    pub setup: &'a Setup,
    pub trail: &'a mut Trail,
    pub who: usize,
}

impl Driver<'_> {
    pub(super) fn is(&self, mutation: Mutation) -> bool {
        self.setup.mutation == Some(mutation)
    }

    pub(super) fn phase(&mut self) -> &mut Phase {
        &mut self.world.contenders[self.who].phase
    }

    fn next_seq(&mut self) -> u64 {
        let contender = &mut self.world.contenders[self.who];
        contender.seq += 1;
        contender.seq
    }

    fn send(&mut self, node: usize, seq: u64, op: Op) {
        self.world.requests.push(Request { from: self.who, node, seq, op, late: false });
    }

    /// Asks all nodes.
    fn ask(&mut self, op: Op, term: Term) -> Asking {
        let seq = self.next_seq();
        let nodes = self.setup.nodes.len();
        (0..nodes).for_each(|node| self.send(node, seq, op));
        let round = Round::new(if self.is(Mutation::HalfIsEnough) { nodes - 1 } else { nodes });
        let drift = if self.is(Mutation::IgnoresDrift) { core::time::Duration::ZERO } else { term.drift };
        let term = Term { drift, ..term };
        let (sent, open, fence) = (self.world.now(), (1 << nodes) - 1, Fence::NONE);
        Asking { op, seq, sent, term, round, open, refused: 0, granted: 0, fence }
    }

    pub fn start(&mut self) {
        let contender = &mut self.world.contenders[self.who];
        contender.attempts -= 1;
        if contender.phase == Phase::Idle {
            contender.ticket += 2;
        }
        let place = self.ticket().map(place);
        let asking = self.ask(Op::Acquire { place }, LONG);
        *self.phase() = Phase::Acquiring(asking);
    }

    /// Of one who waits.
    pub fn ticket(&self) -> Option<u64> {
        self.setup.waits.then(|| self.world.contenders[self.who].ticket)
    }

    pub fn extend(&mut self, shorten: bool) {
        let contender = &mut self.world.contenders[self.who];
        let left = if shorten { &mut contender.shortenings } else { &mut contender.extensions };
        *left -= 1;
        let term = if shorten { SHORT } else { LONG };
        let asking = self.ask(Op::Extend(term.ttl), term);
        let early = !self.is(Mutation::ShortensWhenConfirmed);
        let Phase::Holding(holding) = self.phase() else { return };
        if early {
            holding.hold.extending(asking.sent, asking.term);
        }
        holding.asking = Some(asking);
    }

    pub fn release(&mut self) {
        *self.phase() = Phase::Idle;
        // That of its last request: whatever it asks for next is not released.
        let seq = self.world.contenders[self.who].seq;
        let ticket = self.ticket();
        (0..self.setup.nodes.len()).for_each(|node| self.send(node, seq, Op::Release { undo: false, ticket }));
    }

    /// An answer came.
    pub fn hear(&mut self, reply: Reply) -> Result<(), Broken> {
        if self.vote(reply.node, reply.seq, reply.vote, reply.fence)? {
            return Ok(());
        }
        let is_held = match *self.phase() {
            Phase::Crashed => return Ok(()),
            Phase::Holding(holding) => holding.seq == reply.seq,
            Phase::Idle | Phase::Acquiring(_) | Phase::Waiting(_) => false,
        };
        let Op::Acquire { place } = reply.op else { return Ok(()) };
        if reply.vote == Vote::Yes && !is_held {
            self.trail.saw(Event::LateGrant);
        }
        // A place that was noted late goes as well.
        if (reply.vote == Vote::Yes || place.is_some()) && !is_held {
            let ticket = place.map(|place| place.ticket);
            // What was held was known, whatever is released of it late.
            if self.world.contenders[self.who].held == reply.seq {
                self.send(reply.node, reply.seq, Op::Release { undo: false, ticket });
            } else {
                self.undo(reply.node, reply.seq, ticket);
            }
        }
        Ok(())
    }

    /// No answer came in time.
    pub fn give_up(&mut self, node: usize, seq: u64) -> Result<(), Broken> {
        self.vote(node, seq, Vote::Unknown, Fence::NONE).map(|_| ())
    }

    /// With the `seq` of the attempt: whatever was asked since is not undone.
    pub(super) fn undo(&mut self, node: usize, seq: u64, ticket: Option<u64>) {
        let seq = if self.is(Mutation::UndoesWithFreshSeq) { self.next_seq() } else { seq };
        self.send(node, seq, Op::Release { undo: true, ticket });
    }

    /// Whether the round is in the air still.
    fn vote(&mut self, node: usize, seq: u64, vote: Vote, fence: Fence) -> Result<bool, Broken> {
        let asking = match self.phase() {
            Phase::Acquiring(asking) => asking,
            Phase::Holding(Holding { asking: Some(asking), .. }) => asking,
            Phase::Idle | Phase::Waiting(_) | Phase::Holding(_) | Phase::Crashed => return Ok(false),
        };
        if asking.seq != seq || asking.open & 1 << node == 0 {
            return Ok(false);
        }
        asking.open &= !(1 << node);
        asking.round.count(vote);
        match vote {
            Vote::Yes => {
                asking.granted |= 1 << node;
                asking.fence = asking.fence.max(fence);
            }
            Vote::No => asking.refused |= 1 << node,
            Vote::Unknown => {}
        }
        let mut asking = *asking;
        // Whoever holds goes on until it is clear whether it was refused.
        let may_clear = asking.open != 0 && matches!(asking.op, Op::Extend(_));
        let listens = asking.open != 0 && matches!(asking.op, Op::Acquire { place: Some(_) }) && self.setup.patient;
        let verdict = asking.round.verdict();
        let verdict = verdict.filter(|verdict| !may_clear || *verdict != Verdict::Divided);
        let verdict = verdict.filter(|verdict| !listens || *verdict == Verdict::Reached);
        let Some(verdict) = verdict else { return Ok(true) };
        if self.is(Mutation::CountsFromDecision) {
            asking.sent = self.world.now();
        }
        match *self.phase() {
            Phase::Holding(holding) => {
                let holding = self.decided(Holding { asking: None, ..holding }, asking, verdict)?;
                *self.phase() = Phase::Holding(holding);
            }
            _ => self.acquired(asking, verdict)?,
        }
        Ok(true)
    }

    fn acquired(&mut self, mut asking: Asking, verdict: Verdict) -> Result<(), Broken> {
        let now = self.world.now();
        let hold = Hold::begun(now, asking.sent, asking.term).filter(|_| verdict == Verdict::Reached);
        let Some(hold) = hold.or_else(|| self.made_up(&mut asking)) else {
            self.failed(asking, verdict);
            return Ok(());
        };
        self.begin(hold, asking.seq, asking.fence)
    }

    /// It is told that it holds.
    pub(super) fn begin(&mut self, hold: Hold, seq: u64, fence: Fence) -> Result<(), Broken> {
        Broken::unless(hold.is_sure(self.world.now()), "L4", "what was over began")?;
        // Before the fences, which are wrong then as well.
        let is_free = self.world.sure().all(|other| other == self.who);
        Broken::unless(is_free, "L1", "one begins while another is sure that it holds it")?;
        let ghost = &mut self.world.ghost;
        let last = ghost.last.replace((self.who, fence));
        // Equal tokens are one holder: it may have the fence again that it has not given back everywhere.
        let is_last = last.is_some_and(|(who, _)| who == self.who);
        if last.is_some() && !is_last {
            self.trail.saw(Event::ChangedHands);
        }
        let sole = self.setup.nodes.len() == 1;
        if sole || self.setup.writes_back != [false; 2] {
            let is_above = fence > ghost.fence || is_last && fence == ghost.fence;
            Broken::unless(is_above, "L2", "a holder's fence is not above that of an earlier one")?;
        }
        if sole {
            ghost.fence = fence;
        }
        let asking = (self.setup.writes_back[self.who] && !sole).then(|| self.ask(Op::Raise(fence), LONG));
        *self.phase() = Phase::Holding(Holding { hold, seq, over: false, asking });
        self.world.contenders[self.who].held = seq;
        Ok(())
    }

    /// An attempt is given up, and undone where it was not refused, with the place. Who waits has one on the others.
    fn failed(&mut self, asking: Asking, verdict: Verdict) {
        if verdict == Verdict::Reached {
            self.trail.saw(Event::TooLate);
        } else if asking.fence > Fence::NONE && asking.refused != 0 {
            self.trail.saw(Event::Split);
        }
        let ticket = self.ticket();
        let nodes = 0..self.setup.nodes.len();
        let undone = nodes.filter(|node| asking.refused & 1 << node == 0).fold(0, |undone, node| undone | 1 << node);
        *self.phase() = if ticket.is_some() { Phase::Waiting(Waiting::new(asking, undone)) } else { Phase::Idle };
        if !self.is(Mutation::UndoesNothing) {
            self.undo_on(undone, asking.seq, ticket);
        }
    }

    /// With the `seq` of the attempt: whatever was asked since is not undone.
    pub(super) fn undo_on(&mut self, nodes: u8, seq: u64, ticket: Option<u64>) {
        let nodes = (0..self.setup.nodes.len()).filter(|node| nodes & 1 << node != 0);
        nodes.for_each(|node| self.undo(node, seq, ticket));
    }

    /// A round of a holder was decided.
    fn decided(&mut self, mut holding: Holding, asking: Asking, verdict: Verdict) -> Result<Holding, Broken> {
        let now = self.world.now();
        let is_sure = holding.hold.is_sure(now);
        match asking.op {
            // Only if it held all the time: else another one may have held in between, below this fence.
            Op::Raise(fence) if verdict == Verdict::Reached && (is_sure || self.is(Mutation::WritesBackTooLate)) => {
                self.trail.saw(Event::WrittenBack);
                let ghost = &mut self.world.ghost;
                let is_least = ghost.last.is_none_or(|(who, latest)| who == self.who || latest > fence);
                Broken::unless(is_least, "L2", "one who came later has a smaller fence")?;
                ghost.fence = fence.max(ghost.fence);
            }
            Op::Extend(ttl) => {
                let verdict = match verdict {
                    Verdict::Failed | Verdict::Divided if self.is(Mutation::FailureCounts) => Verdict::Reached,
                    verdict => verdict,
                };
                self.trail.saw(match verdict {
                    Verdict::Reached if !is_sure => Event::LateGoodNews,
                    Verdict::Reached if ttl == SHORT.ttl => Event::Shortened,
                    Verdict::Reached => Event::Extended,
                    Verdict::Refused => Event::ExtensionRefused,
                    Verdict::Failed | Verdict::Divided => Event::ExtensionFailed,
                });
                if verdict == Verdict::Reached && self.is(Mutation::Revives) {
                    holding.hold = Hold::begun(now, asking.sent, asking.term).unwrap_or(holding.hold);
                }
                holding.hold.extended(now, asking.sent, asking.term, verdict);
            }
            Op::Raise(_) | Op::Acquire { .. } | Op::Release { .. } => {}
        }
        Ok(holding)
    }

    /// Whoever is not sure any more is told so, and stays told.
    pub fn look(&mut self) -> Result<(), Broken> {
        let now = self.world.now();
        let Phase::Holding(holding) = self.phase() else { return Ok(()) };
        let is_sure = holding.hold.is_sure(now);
        let was_over = mem::replace(&mut holding.over, !is_sure);
        if !was_over && !is_sure {
            self.trail.saw(Event::RanOut);
        }
        Broken::unless(!was_over || !is_sure, "L4", "a hold that had ended holds again")
    }
}
