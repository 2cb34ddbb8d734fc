//! Running the work, with a lease or without.

use core::time::Duration;

use super::{
    Alone, Announced, Attempt, Caller, Fence, Flight, Instant, Lease, Origin, Outcome, Output, Phase, Reason, Renewal,
    Renewed, Settle, TAKE_OVERS, Verdict,
};

impl Flight {
    pub(super) fn lease(&self, attempt: Attempt, fence: Fence, failures: u32, sent: Instant) -> Lease {
        let until = sent.after(self.rules.lease);
        let renewal = Renewal::Due(sent.after(self.rules.lease / 3));
        Lease { attempt, fence, failures, adopted: false, until, renewal }
    }

    /// Starts the work of whoever has waited longest, with a lease or for a reason without one.
    pub(super) fn lead(&mut self, lease: Result<Lease, Alone>) {
        let first = self.callers.iter().min_by_key(|(caller, seat)| (seat.joined, **caller));
        let Some((&runner, _)) = first else {
            // Everybody left in the same instant.
            if let Ok(lease) = lease {
                self.outputs.push_back(Output::Abort { attempt: lease.attempt, reason: Reason::Abandon });
            }
            return self.rest();
        };
        self.spent = Duration::ZERO;
        self.phase = Phase::Leading { lease, runner, stale_until: None, detached: None, announced: None };
        self.outputs.push_back(Output::Work { caller: runner });
    }

    /// Local coalescing alone: still one execution at a time in this process, stored nowhere.
    pub(super) fn uncoordinated(&mut self, why: Alone) {
        let strict = self.callers.iter().filter(|(_, seat)| seat.strict).map(|(caller, _)| *caller).collect();
        self.answer(strict, Verdict::Refused(why));
        self.lead(Err(why));
    }

    /// The work has told its caller what it came for; what it has so far may be for everybody. Whoever is told goes on
    /// counting until he leaves, and is never asked for his own work.
    pub(super) fn announced(&mut self, open: bool) {
        let Phase::Leading { lease, runner, announced, .. } = &mut self.phase else { return };
        if let Some(told) = announced {
            told.open &= open;
            return;
        }
        // He may have left meanwhile, or been given a stale value.
        let own = self.callers.contains_key(runner).then_some(*runner);
        let others = self.callers.iter().filter(|(other, seat)| open && *other != runner && !seat.strict);
        let others: Vec<_> = others.map(|(other, _)| *other).collect();
        *announced = Some(Announced { open, audience: own.iter().chain(&others).copied().collect() });
        let alone = lease.err();
        self.answer(own.into_iter().collect(), Verdict::Runs(alone));
        self.answer(others, Verdict::Announced);
    }

    pub(super) fn worked(&mut self, now: Instant, outcome: Outcome) {
        let Phase::Leading { lease, runner, stale_until, .. } = self.phase else {
            return;
        };
        match outcome {
            Outcome::Value | Outcome::Passing => {
                self.failures = 0;
                let strict = self.callers.iter().filter(|(_, seat)| seat.strict).map(|(caller, _)| *caller);
                let strict: Vec<_> = strict.collect();
                let lease = match lease {
                    Ok(lease) => lease,
                    Err(why) => {
                        self.answer(strict, Verdict::Refused(Alone::Superseded));
                        self.answer_runner(runner, Verdict::Value(Origin::Alone(why)));
                        self.answer_all(Verdict::Value(Origin::Computed(runner)));
                        return self.next(now);
                    }
                };
                self.callers.retain(|_, seat| !seat.strict);
                self.answer_all(Verdict::Value(Origin::Computed(runner)));
                let passing = outcome == Outcome::Passing;
                let with = match stale_until {
                    // Nobody follows: whoever asks is served the stored value, which would be lost for nothing.
                    Some(until) if passing && until > now && strict.is_empty() => Settle::Abort(Reason::Abandon),
                    _ => Settle::Complete { fence: lease.fence, for_waiters: lease.adopted || passing },
                };
                self.settle(now, lease, with, strict);
            }
            Outcome::Failed { shareable } => {
                self.answer_runner(runner, Verdict::Ran);
                let before = lease.map_or(self.failures, |lease| lease.failures);
                let shared = shareable && before >= TAKE_OVERS && stale_until.is_none();
                if shared {
                    self.answer_all(Verdict::Value(Origin::Computed(runner)));
                    self.failures = 0;
                } else {
                    self.failures += 1;
                }
                let Ok(lease) = lease else { return self.next(now) };
                let with = match shared {
                    true => Settle::Complete { fence: lease.fence, for_waiters: true },
                    false => Settle::Abort(Reason::Retry),
                };
                self.settle(now, lease, with, Vec::new());
            }
            Outcome::Declined => {
                self.answer_runner(runner, Verdict::Ran);
                match lease {
                    Ok(lease) => self.settle(now, lease, Settle::Abort(Reason::Abandon), Vec::new()),
                    Err(_) => self.next(now),
                }
            }
            Outcome::Unshareable(time) => {
                self.answer_runner(runner, Verdict::Ran);
                self.scatter();
                if let Ok(lease) = lease {
                    self.settle(now, lease, Settle::Abort(Reason::Scatter(time)), Vec::new());
                }
            }
        }
    }

    /// The caller may have left meanwhile, or been given a stale value.
    fn answer_runner(&mut self, runner: Caller, verdict: Verdict) {
        if self.callers.contains_key(&runner) {
            self.answer(vec![runner], verdict);
        }
    }

    pub(super) fn renewed(&mut self, now: Instant, attempt: Attempt, renewed: Option<Renewed>) {
        let Phase::Leading { lease: held, .. } = &mut self.phase else { return };
        let Some(lease) = held.as_mut().ok().filter(|lease| lease.attempt == attempt) else { return };
        let Renewal::Sent(sent) = lease.renewal else { return };
        match renewed {
            Some(Renewed::Held) => {
                lease.until = sent.after(self.rules.lease);
                lease.renewal = Renewal::Due(sent.after(self.rules.lease / 3));
            }
            // Somebody else leads by now, or the key was invalidated and the message is lost: what comes of the work is
            // for those who wait alone.
            Some(Renewed::Lost) => {
                *held = Err(Alone::Superseded);
                self.cast_out();
            }
            // Unknown is not lost: the old deadline stands, and there is time to ask again.
            None => lease.renewal = Renewal::Due(now.after(self.rules.lease / 6)),
        }
    }

    /// Stops work that nobody waits for.
    pub(super) fn evict(&mut self, now: Instant) {
        let Phase::Leading { lease, detached: Some(_), .. } = self.phase else { return };
        self.outputs.push_back(Output::Cancel);
        match lease {
            Ok(lease) => self.settle(now, lease, Settle::Abort(Reason::Abandon), Vec::new()),
            Err(_) => self.next(now),
        }
    }
}
