//! One replica's side of one flight as a pure value: who waits, what has been asked, what to do next.
//!
//! ```text
//!              Join            Lead               Worked: value, failure      settled, nobody waits
//!   Idle ─────────────▶ Beginning ──▶ Leading ──────────────▶ Settling ─────────────────────▶ Idle
//!                        ▲  │  ▲                                 │ settled, somebody waits
//!      lease over, Retry,│  │  └─────────────────────────────────┘
//!      landed elsewhere  │  │ Follow               Hit, Stale, Scatter; or landed with the message
//!                     Following ─────────────────────────────────────────────────────────────▶ Idle
//!
//!   Beginning ── no answer in time, Poisoned ──▶ Leading without a lease (stores nothing) ──▶ Idle
//! ```

mod begin;
mod lead;
mod settle;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use super::words::{Alone, Attempt, Caller, Input, Notice, Origin, Outcome, Output, Reply, Rules, Verdict};
use super::{
    lease::{Completed, Fence, Reason, Renewed},
    time,
};

type Instant = time::Instant<time::Local>;

/// The store tells ages in whole milliseconds; so much later may a record have landed.
const AGE_SLACK: Duration = Duration::from_millis(1);

/// A first failure is taken over; the next one is given to those who wait, if it is a result.
const TAKE_OVERS: u32 = 1;

/// One flight of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    rules: Rules,
    callers: BTreeMap<Caller, Seat>,
    phase: Phase,
    /// Begins sent so far.
    attempts: Attempt,
    /// A begin that nobody waits for any more, and whose answer is still to come.
    late: Option<(Attempt, Instant)>,
    /// The greatest fence followed, by those who wait now.
    followed: Fence,
    /// The last landing heard of, and when: a record of that fence serves everybody who came before.
    heard: Option<(Fence, Instant)>,
    /// Time spent on the store since work was last started.
    spent: Duration,
    /// Failures without a lease, in a row.
    failures: u32,
    /// No longer in the local table, because the key was invalidated or the lease was lost while the work ran.
    outcast: bool,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Seat {
    joined: Instant,
    strict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// `since` is when somebody began to wait for it: later than `sent` if it had been given up in between.
    Beginning {
        attempt: Attempt,
        sent: Instant,
        since: Instant,
        until: Instant,
    },
    Leading {
        /// Or why there is none.
        lease: Result<Lease, Alone>,
        runner: Caller,
        stale_until: Option<Instant>,
        detached: Option<Instant>,
        announced: Option<Announced>,
    },
    Following {
        fence: Fence,
        until: Instant,
    },
    Settling(Settling),
}

/// What the work has told before its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Announced {
    /// Whether to everybody.
    open: bool,
    /// Who has been told, and has not left: the work goes on for them, though they wait for no answer.
    audience: BTreeSet<Caller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    attempt: Attempt,
    fence: Fence,
    failures: u32,
    /// The work began before the lease did: an invalidation in between told nobody, so its result is not kept.
    adopted: bool,
    until: Instant,
    renewal: Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Renewal {
    Due(Instant),
    Sent(Instant),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Settling {
    attempt: Attempt,
    with: Settle,
    /// Not sent again after this.
    until: Instant,
    /// When to send again; `None` while an answer is to come.
    again: Option<Instant>,
    tries: u32,
    /// Strict callers who have their value and wait for it to land.
    landing: Vec<Caller>,
    /// When those who wait for the next round stop waiting for this one to settle.
    patience: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Settle {
    Complete { fence: Fence, for_waiters: bool },
    Abort(Reason),
}

impl Flight {
    /// A flight that nobody has joined yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            callers: BTreeMap::new(),
            phase: Phase::Idle,
            attempts: 0,
            late: None,
            followed: Fence::NONE,
            heard: None,
            spent: Duration::ZERO,
            failures: 0,
            outcast: false,
            outputs: VecDeque::new(),
        }
    }

    /// What to do next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Beginning { until, .. } | Phase::Following { until, .. } => Some(*until),
            Phase::Leading { lease, detached, .. } => {
                let renewal = lease.ok().and_then(|lease| match lease.renewal {
                    Renewal::Due(at) => Some(at),
                    Renewal::Sent(_) => None,
                });
                renewal.into_iter().chain(*detached).min()
            }
            Phase::Settling(settling) => settling.again.into_iter().chain(settling.patience).min(),
        }
    }

    /// Whether nothing is left to do and no answer is to come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Idle && self.late.is_none() && self.callers.is_empty() && self.outputs.is_empty()
    }

    /// Whether outputs wait to be polled.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Whether callers wait for the store to say how it stands.
    pub fn is_beginning(&self) -> bool {
        matches!(self.phase, Phase::Beginning { .. })
    }

    /// Whether work runs that no caller waits for.
    pub fn is_detached(&self) -> bool {
        matches!(self.phase, Phase::Leading { detached: Some(_), .. })
    }

    /// Whose work runs.
    pub fn runner(&self) -> Option<Caller> {
        if let Phase::Leading { runner, .. } = self.phase { Some(runner) } else { None }
    }

    /// Why the work that runs has no lease, if it has none.
    pub fn alone(&self) -> Option<Alone> {
        if let Phase::Leading { lease, .. } = &self.phase { lease.err() } else { None }
    }

    /// How many works before this one failed in a row.
    pub fn failures(&self) -> u32 {
        if let Phase::Leading { lease: Ok(lease), .. } = &self.phase { lease.failures } else { self.failures }
    }

    /// Whether the work has told this caller what it came for, and goes on for it.
    pub fn is_audience(&self, caller: Caller) -> bool {
        matches!(&self.phase, Phase::Leading { announced: Some(told), .. } if told.audience.contains(&caller))
    }

    /// Whether the work has told what it has so far to everybody.
    pub fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Leading { announced: Some(Announced { open: true, .. }), .. })
    }

    /// Whether work runs without a lease.
    pub fn is_uncoordinated(&self) -> bool {
        matches!(self.phase, Phase::Leading { lease: Err(_), .. })
    }

    /// The fence under which this replica believes it leads.
    pub fn leads(&self) -> Option<Fence> {
        match &self.phase {
            Phase::Leading { lease: Ok(lease), .. } => Some(lease.fence),
            _ => None,
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Join { caller, strict } => self.join(now, caller, strict),
            Input::Leave { caller } => self.leave(now, caller),
            Input::Begun(attempt, reply) => self.begun(now, attempt, reply),
            Input::Announced { open } => self.announced(open),
            Input::Worked(outcome) => self.worked(now, outcome),
            Input::Renewed(attempt, renewed) => self.renewed(now, attempt, renewed),
            Input::Completed(attempt, completed) => self.completed(now, attempt, completed),
            Input::Aborted(attempt, done) => self.aborted(now, attempt, done),
            Input::Notified(notice) => self.notified(now, notice),
            Input::Evict => self.evict(now),
        }
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Beginning { attempt, sent, .. } => {
                // The answer may still come, and may say that this replica leads.
                self.late = Some((*attempt, *sent));
                self.uncoordinated(Alone::Unavailable);
            }
            Phase::Following { .. } => self.begin(now),
            Phase::Leading { detached: Some(until), .. } if *until <= now => self.evict(now),
            Phase::Leading { lease: Ok(lease), .. } => {
                lease.renewal = Renewal::Sent(now);
                self.outputs.push_back(Output::Renew { attempt: lease.attempt });
            }
            Phase::Leading { .. } => {}
            Phase::Settling(settling) => {
                if settling.patience.is_some_and(|until| until <= now) {
                    let landing = core::mem::take(&mut settling.landing);
                    self.answer(landing, Verdict::Refused(Alone::Unavailable));
                    self.uncoordinated(Alone::Unavailable);
                } else {
                    settling.again = None;
                    self.send_settle();
                }
            }
        }
    }

    fn join(&mut self, now: Instant, caller: Caller, strict: bool) {
        match &mut self.phase {
            Phase::Leading { stale_until: Some(until), .. } if *until > now => {
                return self.answer(vec![caller], Verdict::Stale);
            }
            Phase::Leading { lease: Err(why), .. } if strict => {
                let why = *why;
                return self.answer(vec![caller], Verdict::Refused(why));
            }
            Phase::Leading { announced: Some(told), detached, .. } if told.open && !strict => {
                *detached = None;
                told.audience.insert(caller);
                return self.answer(vec![caller], Verdict::Announced);
            }
            Phase::Leading { detached, .. } => *detached = None,
            Phase::Settling(settling) => {
                settling.patience.get_or_insert(now.after(self.rules.budget));
            }
            Phase::Idle | Phase::Beginning { .. } | Phase::Following { .. } => {}
        }
        self.callers.insert(caller, Seat { joined: now, strict });
        if self.phase == Phase::Idle {
            self.begin(now);
        }
    }

    fn leave(&mut self, now: Instant, caller: Caller) {
        self.callers.remove(&caller);
        match &mut self.phase {
            Phase::Settling(settling) => settling.landing.retain(|landing| *landing != caller),
            Phase::Leading { announced: Some(told), .. } => {
                told.audience.remove(&caller);
            }
            _ => {}
        }
        let unstarted = self.outputs.iter().position(|output| *output == Output::Work { caller });
        if let (Some(unstarted), &Phase::Leading { lease, stale_until: stale, .. }) = (unstarted, &self.phase) {
            // The work left with its caller before anybody started it: the next one leads under the same lease.
            self.outputs.remove(unstarted);
            match lease {
                Ok(lease) => self.lead(Ok(lease)),
                Err(why) => self.uncoordinated(why),
            }
            if let Phase::Leading { stale_until, .. } = &mut self.phase {
                *stale_until = stale;
            }
            return;
        }
        if !self.callers.is_empty() {
            return;
        }
        match &mut self.phase {
            Phase::Beginning { attempt, sent, .. } => {
                self.late = Some((*attempt, *sent));
                self.rest();
            }
            Phase::Following { .. } => self.rest(),
            Phase::Leading { announced: Some(told), .. } if !told.audience.is_empty() => {}
            Phase::Leading { detached, .. } => {
                detached.get_or_insert(now.after(self.rules.detached));
            }
            Phase::Settling(settling) => settling.patience = None,
            Phase::Idle => {}
        }
    }

    /// Later arrivals open a flight of their own.
    fn cast_out(&mut self) {
        if !core::mem::replace(&mut self.outcast, true) {
            self.outputs.push_back(Output::Detach);
        }
    }

    fn scatter(&mut self) {
        let (strict, free): (Vec<_>, Vec<_>) = self.callers.iter().partition(|(_, seat)| seat.strict);
        let [strict, free] = [strict, free].map(|seats| seats.into_iter().map(|(caller, _)| *caller).collect());
        self.answer(strict, Verdict::Refused(Alone::Unshareable));
        self.answer(free, Verdict::Alone(Alone::Unshareable));
        self.rest();
    }

    /// The next round for those who still wait.
    fn next(&mut self, now: Instant) {
        if self.callers.is_empty() { self.rest() } else { self.begin(now) }
    }

    fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.followed = Fence::NONE;
        self.heard = None;
        self.spent = Duration::ZERO;
    }

    fn answer_all(&mut self, verdict: Verdict) {
        let callers = self.callers.keys().copied().collect();
        self.answer(callers, verdict);
    }

    fn answer(&mut self, mut callers: Vec<Caller>, verdict: Verdict) {
        for caller in &callers {
            self.callers.remove(caller);
        }
        callers.sort_unstable();
        if !callers.is_empty() {
            self.outputs.push_back(Output::Answer { callers, verdict });
        }
    }
}
