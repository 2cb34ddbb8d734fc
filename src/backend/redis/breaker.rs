//! When not to ask at all.

use std::time::Duration;

use tokio::time::Instant;

/// What opens the breaker, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// So many errors without an answer in between; timeouts are not among them.
    pub(super) errors: u32,
    /// So many timeouts without an answer in between: a hung server costs each of them the whole command timeout.
    pub(super) timeouts: u32,
    /// After this long, one operation tries again.
    pub(super) rest: Duration,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The store answered.
    Answered,
    /// The store could not be reached, went away, or refused.
    Failed,
    /// No answer came in time.
    TimedOut,
    /// Nobody waited for the end.
    Dropped,
}

/// As what an operation may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As one of many.
    Routine,
    /// As the one that tries whether the store is back.
    Probe,
}

/// Shared by all operations of a handle: after too many failures in a row they fail at once instead of waiting.
///
/// ```text
///            too many failures in a row              `rest` over: one probe
///   closed ────────────────────────────▶ open ───────────────────────────────▶ probing
///     ▲                                   ▲ ▲            dropped                │  │  │
///     │                                   │ └───────────────────────────────────┘  │  │
///     │                                   └─────────── failed: rests again ────────┘  │
///     └─────────────────────────────────── answered ──────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Breaker {
    limits: Limits,
    errors: u32,
    timeouts: u32,
    open_until: Option<Instant>,
    probing: bool,
}

impl Breaker {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, errors: 0, timeouts: 0, open_until: None, probing: false }
    }

    /// Whether all is well: nothing failed since the last answer.
    pub(super) fn is_calm(&self) -> bool {
        self.errors == 0 && self.timeouts == 0 && self.open_until.is_none()
    }

    /// Whether an operation would be refused now.
    pub(super) fn refuses(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until || self.probing)
    }

    /// Whether an operation may be sent, and as what; it must [`end`](Self::end) then.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Admission> {
        if self.refuses(now) {
            return None;
        }
        self.probing = self.open_until.is_some();
        Some(if self.probing { Admission::Probe } else { Admission::Routine })
    }

    /// Notes how an operation ended.
    pub(super) fn end(&mut self, now: Instant, admission: Admission, outcome: Outcome) {
        match outcome {
            Outcome::Answered => return *self = Self::new(self.limits),
            Outcome::Failed => self.errors += 1,
            Outcome::TimedOut => self.timeouts += 1,
            Outcome::Dropped => {}
        }
        // While it is open, what was sent before does not matter unless it is answered: the probe decides.
        if admission == Admission::Routine && self.open_until.is_some() {
            return;
        }
        self.probing = false;
        let tripped = self.errors >= self.limits.errors || self.timeouts >= self.limits.timeouts;
        if tripped && outcome != Outcome::Dropped {
            self.open_until = Some(now + self.limits.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        (Breaker::new(Limits { errors: 5, timeouts: 3, rest: REST }), Instant::now())
    }

    /// Sends an operation that ends like this.
    fn send(breaker: &mut Breaker, now: Instant, outcome: Outcome) {
        let admission = breaker.admit(now).expect("it is admitted");
        breaker.end(now, admission, outcome);
    }

    fn fail(breaker: &mut Breaker, now: Instant, outcome: Outcome, times: u32) {
        (0..times).for_each(|_| send(breaker, now, outcome));
    }

    #[test]
    fn five_errors_in_a_row_open_it() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::Failed, 4);
        send(&mut breaker, now, Outcome::Answered);
        assert!(breaker.is_calm());
        fail(&mut breaker, now, Outcome::Failed, 5);
        assert!(breaker.refuses(now) && breaker.admit(now).is_none());
    }

    #[test]
    fn three_timeouts_in_a_row_open_it() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::TimedOut, 2);
        send(&mut breaker, now, Outcome::Answered);
        fail(&mut breaker, now, Outcome::TimedOut, 3);
        assert_eq!(breaker.admit(now), None);
    }

    #[test]
    fn timeouts_and_errors_are_counted_apart() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Limits { errors: 5, timeouts: 10, rest: REST });
        fail(&mut breaker, now, Outcome::TimedOut, 9);
        fail(&mut breaker, now, Outcome::Failed, 4);
        send(&mut breaker, now, Outcome::TimedOut);
        assert_eq!(breaker.admit(now), None);
    }

    #[test]
    fn one_probe_after_the_rest_decides() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::Failed, 5);
        assert_eq!(breaker.admit(now + REST - Duration::from_millis(1)), None);
        assert_eq!(breaker.admit(now + REST), Some(Admission::Probe));
        assert_eq!(breaker.admit(now + REST), None, "one probe at a time");
        breaker.end(now + REST, Admission::Probe, Outcome::Failed);
        assert_eq!(breaker.admit(now + REST), None, "a failed probe rests again");
        send(&mut breaker, now + 2 * REST, Outcome::Answered);
        assert!(breaker.is_calm());
        assert_eq!(breaker.admit(now + 2 * REST), Some(Admission::Routine));
    }

    #[test]
    fn a_dropped_probe_lets_the_next_one_try() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::TimedOut, 3);
        send(&mut breaker, now + REST, Outcome::Dropped);
        assert_eq!(breaker.admit(now + REST), Some(Admission::Probe));
    }

    #[test]
    fn what_was_sent_before_it_opened_does_not_end_the_probe() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::Failed, 5);
        assert_eq!(breaker.admit(now + REST), Some(Admission::Probe));
        for outcome in [Outcome::Dropped, Outcome::TimedOut, Outcome::Failed] {
            breaker.end(now + REST, Admission::Routine, outcome);
            assert_eq!(breaker.admit(now + REST), None, "one probe at a time, whatever else is {outcome:?}");
        }
        breaker.end(now + REST, Admission::Routine, Outcome::Answered);
        assert!(breaker.is_calm(), "but an answer is an answer");
    }
}
