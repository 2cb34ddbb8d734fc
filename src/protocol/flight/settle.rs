//! Telling the store how the flight ended.

use super::{
    Alone, Attempt, Caller, Completed, Flight, Instant, Lease, Origin, Output, Phase, Settle, Settling, Verdict,
};

impl Flight {
    /// Until the flight has settled, this replica's next begin for the key waits: else it would find itself leading.
    pub(super) fn settle(&mut self, now: Instant, lease: Lease, with: Settle, landing: Vec<Caller>) {
        let waits = !self.callers.is_empty();
        self.phase = Phase::Settling(Settling {
            attempt: lease.attempt,
            with,
            until: lease.until.max(now.after(self.rules.budget)),
            again: None,
            tries: 0,
            landing,
            patience: waits.then(|| now.after(self.rules.budget)),
        });
        self.send_settle();
    }

    pub(super) fn send_settle(&mut self) {
        let Phase::Settling(Settling { attempt, with, tries, .. }) = &mut self.phase else { return };
        *tries += 1;
        let attempt = *attempt;
        self.outputs.push_back(match *with {
            Settle::Complete { fence, for_waiters } => Output::Complete { attempt, fence, for_waiters },
            Settle::Abort(reason) => Output::Abort { attempt, reason },
        });
    }

    pub(super) fn completed(&mut self, now: Instant, attempt: Attempt, completed: Option<Completed>) {
        let Phase::Settling(settling) = &mut self.phase else { return };
        if settling.attempt != attempt || !matches!(settling.with, Settle::Complete { .. }) {
            return;
        }
        let Some(completed) = completed else { return self.settle_again(now) };
        let landing = core::mem::take(&mut settling.landing);
        self.answer(
            landing,
            match completed {
                Completed::Stored => Verdict::Value(Origin::Landed),
                Completed::Superseded => Verdict::Refused(Alone::Superseded),
            },
        );
        self.next(now);
    }

    pub(super) fn aborted(&mut self, now: Instant, attempt: Attempt, done: bool) {
        let Phase::Settling(settling) = &self.phase else { return };
        if settling.attempt != attempt || !matches!(settling.with, Settle::Abort(_)) {
            return;
        }
        if done { self.next(now) } else { self.settle_again(now) }
    }

    /// No answer: sent again while it can still succeed, later each time.
    pub(super) fn settle_again(&mut self, now: Instant) {
        let Phase::Settling(settling) = &mut self.phase else { return };
        let pause = self.rules.budget / 4 * 2_u32.saturating_pow(settling.tries.min(8) - 1);
        let again = now.after(pause);
        if again < settling.until {
            settling.again = Some(again);
        } else {
            let landing = core::mem::take(&mut settling.landing);
            self.answer(landing, Verdict::Refused(Alone::Unavailable));
            self.next(now);
        }
    }
}
