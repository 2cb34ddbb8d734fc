//! Asking the store, and waiting for another replica.

use core::time::Duration;

use super::{
    AGE_SLACK, Alone, Attempt, Fence, Flight, Instant, Lease, Notice, Origin, Output, Phase, Reason, Renewal, Reply,
    Verdict,
};

impl Flight {
    /// Asks the store, unless the time for that is spent. One begin in the air per key: one that nobody waits for any
    /// more is taken up again.
    pub(super) fn begin(&mut self, now: Instant) {
        let left = self.rules.budget.saturating_sub(self.spent);
        if left.is_zero() {
            return self.uncoordinated(Alone::Unavailable);
        }
        let until = now.after(left);
        if let Some((attempt, sent)) = self.late.take() {
            self.phase = Phase::Beginning { attempt, sent, since: now, until };
            return;
        }
        self.attempts += 1;
        let attempt = self.attempts;
        self.phase = Phase::Beginning { attempt, sent: now, since: now, until };
        self.outputs.push_back(Output::Begin { attempt, followed: self.followed });
    }

    pub(super) fn begun(&mut self, now: Instant, attempt: Attempt, reply: Reply) {
        let (sent, since) = match self.phase {
            Phase::Beginning { attempt: current, sent, since, .. } if current == attempt => (sent, since),
            _ => return self.begun_late(now, attempt, reply),
        };
        self.spent += now.since(since);
        match reply {
            Reply::Hit { fence, age, fresh } => self.hit(now, fence, age, fresh),
            Reply::Lead { fence, failures, stale } => {
                let lease = self.lease(attempt, fence, failures, sent);
                self.lead(Ok(lease));
                if let (Some(left), Phase::Leading { stale_until, detached, .. }) = (stale, &mut self.phase) {
                    *stale_until = Some(now.after(left));
                    *detached = Some(now.after(self.rules.detached));
                    self.answer_all(Verdict::Stale);
                }
            }
            Reply::Follow { fence, left } => {
                self.followed = self.followed.max(fence);
                // The store answers: however often a long flight is asked about, that does not use its budget up.
                self.spent = Duration::ZERO;
                self.phase = Phase::Following { fence, until: now.after(left) };
            }
            Reply::Stale => {
                self.answer_all(Verdict::Stale);
                self.rest();
            }
            Reply::Scatter => self.scatter(),
            Reply::Poisoned => self.uncoordinated(Alone::Poisoned),
            Reply::Failed { may_have_run } => {
                if may_have_run {
                    self.outputs.push_back(Output::Abort { attempt, reason: Reason::Abandon });
                }
                self.uncoordinated(Alone::Unavailable);
            }
        }
    }

    /// The answer to a begin that had been given up. A lease is not wasted while the work still runs: whoever follows it
    /// is served. Its result is fresh for nobody, for nothing tells whether an invalidation came between the two.
    pub(super) fn begun_late(&mut self, now: Instant, attempt: Attempt, reply: Reply) {
        let Some((_, sent)) = self.late.take_if(|(late, _)| *late == attempt) else {
            return;
        };
        match (reply, &mut self.phase) {
            (Reply::Lead { fence, failures, .. }, Phase::Leading { lease: lease @ Err(_), .. }) if !self.outcast => {
                let until = sent.after(self.rules.lease);
                *lease = Ok(Lease { attempt, fence, failures, adopted: true, until, renewal: Renewal::Due(now) });
            }
            (Reply::Lead { .. } | Reply::Failed { may_have_run: true }, _) => {
                self.outputs.push_back(Output::Abort { attempt, reason: Reason::Abandon });
            }
            _ => {}
        }
    }

    /// A record that is not fresh is only for those who asked before it landed.
    pub(super) fn hit(&mut self, now: Instant, fence: Fence, age: Duration, fresh: bool) {
        let mut landed = now.before(age).after(AGE_SLACK);
        if let Some((_, at)) = self.heard.filter(|(heard, _)| *heard == fence) {
            landed = landed.max(at);
        }
        let origin = if self.followed > Fence::NONE { Origin::Elsewhere } else { Origin::Stored };
        let served = self.callers.iter().filter(|(_, seat)| fresh || seat.joined <= landed);
        let served = served.map(|(caller, _)| *caller).collect();
        self.answer(served, Verdict::Value(origin));
        self.followed = Fence::NONE;
        self.next(now);
    }

    pub(super) fn notified(&mut self, now: Instant, notice: Notice) {
        match (&mut self.phase, notice) {
            (Phase::Following { fence, .. }, Notice::Landed { fence: landed, with_record }) if landed >= *fence => {
                if with_record {
                    self.answer_all(Verdict::Value(Origin::Elsewhere));
                    self.rest();
                } else {
                    self.heard = Some((landed, now));
                    self.begin(now);
                }
            }
            (Phase::Following { .. }, Notice::Retry | Notice::Invalidated) => self.begin(now),
            (Phase::Following { .. }, Notice::Scatter) => {
                self.scatter();
                self.rest();
            }
            // Later arrivals open a flight of their own; those who wait get what they asked for, and nothing is stored.
            (Phase::Leading { lease, stale_until, .. }, Notice::Invalidated) => {
                // The message may be older than the lease, which then still stands: nobody shall wait for it.
                if let Ok(Lease { attempt, .. }) = core::mem::replace(lease, Err(Alone::Superseded)) {
                    self.outputs.push_back(Output::Abort { attempt, reason: Reason::Abandon });
                }
                *stale_until = None;
                self.cast_out();
            }
            _ => {}
        }
    }
}
