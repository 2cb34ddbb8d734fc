//! When not to ask at all.

use std::time::Duration;

use tokio::time::Instant;

/// What opens the breaker, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// So many errors in a row.
    pub(super) errors: u32,
    /// So many timeouts in a row: a hung server costs each of them the whole command timeout.
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

    /// Whether an operation may be sent, which then must [`end`](Self::end).
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now >= until && !self.probing => {
                self.probing = true;
                true
            }
            Some(_) => false,
        }
    }

    /// Notes how an operation ended.
    pub(super) fn end(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Answered => *self = Self::new(self.limits),
            Outcome::Failed => self.errors += 1,
            Outcome::TimedOut => {
                self.errors += 1;
                self.timeouts += 1;
            }
            // Only a probe can end while the breaker is open and matter here: the next operation may probe instead.
            Outcome::Dropped => self.probing = false,
        }
        if outcome == Outcome::Failed {
            self.timeouts = 0;
        }
        let tripped = self.errors >= self.limits.errors || self.timeouts >= self.limits.timeouts;
        if tripped && matches!(outcome, Outcome::Failed | Outcome::TimedOut) {
            self.open_until = Some(now + self.limits.rest);
            self.probing = false;
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

    fn fail(breaker: &mut Breaker, now: Instant, outcome: Outcome, times: u32) {
        for _ in 0..times {
            assert!(breaker.admit(now));
            breaker.end(now, outcome);
        }
    }

    #[test]
    fn five_errors_in_a_row_open_it() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::Failed, 4);
        fail(&mut breaker, now, Outcome::Answered, 1);
        assert!(breaker.is_calm());
        fail(&mut breaker, now, Outcome::Failed, 5);
        assert!(!breaker.admit(now));
    }

    #[test]
    fn three_timeouts_in_a_row_open_it() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::TimedOut, 2);
        fail(&mut breaker, now, Outcome::Answered, 1);
        fail(&mut breaker, now, Outcome::TimedOut, 3);
        assert!(!breaker.admit(now));
    }

    #[test]
    fn one_probe_after_the_rest_decides() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::Failed, 5);
        assert!(!breaker.admit(now + REST - Duration::from_millis(1)));
        assert!(breaker.admit(now + REST));
        assert!(!breaker.admit(now + REST), "one probe at a time");
        breaker.end(now + REST, Outcome::Failed);
        assert!(!breaker.admit(now + REST), "a failed probe rests again");
        assert!(breaker.admit(now + 2 * REST));
        breaker.end(now + 2 * REST, Outcome::Answered);
        assert!(breaker.is_calm() && breaker.admit(now + 2 * REST));
    }

    #[test]
    fn a_dropped_probe_lets_the_next_one_try() {
        let (mut breaker, now) = breaker();
        fail(&mut breaker, now, Outcome::TimedOut, 3);
        assert!(breaker.admit(now + REST));
        breaker.end(now + REST, Outcome::Dropped);
        assert!(breaker.admit(now + REST));
    }
}
