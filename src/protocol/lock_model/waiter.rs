//! A contender that waits: it does what the driver of the real one does between its attempts.

use core::mem;

use super::{
    super::{
        explore::Broken,
        lease::Fence,
        lock::Grant,
        quorum::{Hold, Wait},
        time::Instant,
    },
    contender::Driver,
    event::Event,
    mutants::Mutation,
    world::{Asking, Message, Phase, Waiting},
};

impl Waiting {
    pub fn new(asking: Asking, undone: u8) -> Self {
        let Asking { seq, sent, term, .. } = asking;
        Self { seq, sent, term, undone, granted: 0, fence: Fence::NONE }
    }
}

impl Driver<'_> {
    /// A message came. Who does not wait any more does not hear it; who waits and cannot use it may ask again, as it
    /// may at any other time.
    pub fn call(&mut self, message: Message) -> Result<(), Broken> {
        let (now, Message { node, grant, .. }) = (self.world.now(), message);
        let Phase::Waiting(mut waiting) = *self.phase() else { return Ok(()) };
        if !self.is_current(grant, waiting.seq) {
            return Ok(());
        }
        if waiting.undone & 1 << node != 0 && !self.is(Mutation::AcceptsUndoneGrants) {
            self.trail.saw(Event::UndoneGrant);
            return Ok(());
        }
        waiting.granted |= 1 << node;
        waiting.fence = waiting.fence.max(grant.fence);
        *self.phase() = Phase::Waiting(waiting);
        if !self.is_quorum(waiting.granted) {
            return Ok(());
        }
        let Waiting { seq, sent, term, fence, .. } = waiting;
        let hold = if self.is(Mutation::CountsFromMessage) {
            Hold::granted(now, now, term)
        } else if self.is(Mutation::HoldsWhatIsOver) {
            Hold::begun(sent, sent, term)
        } else {
            Hold::granted(now, sent, term)
        };
        let Some(hold) = hold else {
            self.trail.saw(Event::TooOldGrant);
            return Ok(());
        };
        self.trail.saw(Event::HeldByGrants);
        self.begin(hold, seq, fence)
    }

    /// What came while an attempt was in the air counts together with its answers, before anything is undone.
    pub(super) fn made_up(&mut self, asking: &mut Asking) -> Option<Hold> {
        if !self.setup.hears {
            return None;
        }
        let who = self.who;
        let (come, others): (Vec<_>, Vec<_>) =
            mem::take(&mut self.world.messages.0).into_iter().partition(|message| message.to == who);
        self.world.messages.0 = others;
        for Message { node, grant, .. } in come {
            if self.is_current(grant, asking.seq) {
                asking.granted |= 1 << node;
                asking.refused &= !(1 << node);
                asking.fence = asking.fence.max(grant.fence);
            }
        }
        let hold =
            Hold::begun(self.world.now(), asking.sent, asking.term).filter(|_| self.is_quorum(asking.granted))?;
        self.trail.saw(Event::MadeUp);
        Some(hold)
    }

    /// Whether a message is an answer to its last attempt.
    fn is_current(&mut self, grant: Grant, seq: u64) -> bool {
        let is_of_last = grant.seq == seq || self.is(Mutation::AcceptsOlderGrants);
        let is_current = Some(grant.ticket) == self.ticket() && is_of_last;
        if !is_current {
            self.trail.saw(Event::OlderGrant);
        }
        is_current
    }

    /// Does not want it any more, during an attempt or while it waits.
    pub fn leave(&mut self) {
        // What is being undone takes the place along.
        let (seq, undone) = match *self.phase() {
            Phase::Waiting(waiting) => (waiting.seq, waiting.undone),
            Phase::Acquiring(asking) => (asking.seq, 0),
            Phase::Idle | Phase::Holding(_) | Phase::Crashed => return,
        };
        let ticket = self.ticket();
        *self.phase() = Phase::Idle;
        if !self.is(Mutation::LeavesSilently) {
            self.undo_on(!undone, seq, ticket);
        }
    }

    /// As the driver counts them, which wants to know when as well.
    fn is_quorum(&self, granted: u8) -> bool {
        let mut wait = Wait::new(self.setup.nodes.len(), Instant::ZERO);
        let nodes = (0..self.setup.nodes.len()).filter(|node| granted & 1 << node != 0);
        nodes.fold(false, |_, node| wait.granted(Instant::ZERO, node))
    }
}
