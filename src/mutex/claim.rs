//! One caller's way to a lock: attempts, and what it waits for between them.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::yield_now,
    time::{sleep_until, timeout},
};

use super::{
    Taken,
    ballot::{Ballot, Pending},
    cleanup::Trace,
    config::Config,
    error::{LockError, QuorumError},
    held::{Grant, Held},
    local::{Foremost, Moment, next_seq},
    parties::Parties,
};
use crate::{
    backend::{
        Watch,
        lock::{Acquire, Acquired, Call},
    },
    protocol::{
        lease::Fence,
        lock,
        quorum::{Hold, OTHERS, Round, Term, Verdict, Vote, Wait},
    },
};

/// Without a limit to its attempts, a caller gives up after so many in a row that failed because of nodes.
const FAILURES: u32 = 8;

/// Who waits for the end of a lease comes up to this much later, so that all who do so do not come at once.
const SPREAD: Duration = Duration::from_millis(50);

/// The most by which a contender that has a part of the nodes waits longer for the others, in usual patiences.
const SPLITS: u32 = 16;

/// When it is dropped, all that it may have left on the nodes is taken back.
pub(super) struct Claim {
    parties: Parties,
    /// Who waits has one.
    ticket: Option<u64>,
    calls: Vec<Watch<Call>>,
    traces: Vec<Trace>,
    /// The attempt in the air.
    asking: Option<Ballot<Acquired>>,
    /// The last attempt, and when its first request was sent.
    seq: u64,
    sent: Moment,
    /// The greatest fence that it was granted.
    fence: Fence,
    /// By up to so many usual patiences it waits longer for nodes that others were granted.
    splits: u32,
    /// A message came that only another attempt can make sense of.
    again: bool,
    foremost: Foremost,
}

/// An attempt that failed.
enum Refusal {
    Taken(Taken),
    Failed(QuorumError),
}

/// What an attempt heard from the nodes.
#[derive(Default)]
struct Heard {
    fence: Fence,
    left: Vec<Duration>,
    taken: Taken,
}

impl Claim {
    /// Waits in line behind other callers of this process, and then for the lock.
    pub(super) async fn wait(config: Arc<Config>, last: &mut Option<LockError>) -> Result<Arc<Held>, LockError> {
        let parties = Parties::new(Arc::clone(&config), config.token());
        let local = Arc::clone(&parties.local);
        *last = Some(LockError::Taken(Taken::default()));
        let foremost = config.line(&local).queue().await;
        let (mut attempts, mut failures) = (0, 0);
        // Also for one whose token is the same: it would be granted what another one may give back at any moment.
        while let Some(taken) = local.taken(&foremost.line) {
            attempts += 1;
            if parties.config.tries.is_some_and(|tries| attempts >= tries) {
                return Err(LockError::Taken(taken));
            }
            *last = Some(LockError::Taken(taken));
            local.vacant(&foremost.line).await;
        }
        local.vacant(&foremost.line).await;
        // From here on the nodes tell.
        *last = None;
        let mut claim = Self::new(parties, Some(ticket()), foremost);
        loop {
            attempts += 1;
            let refusal = match claim.attempt().await {
                Ok(grant) => return Ok(claim.hold(grant)),
                Err(refusal) => refusal,
            };
            // Before anything is undone: others may have made room meanwhile.
            if let Some(grant) = claim.made_up() {
                return Ok(claim.hold(grant));
            }
            claim.step_back();
            failures = if matches!(refusal, Refusal::Failed(_)) { failures + 1 } else { 0 };
            let config = &claim.parties.config;
            let last_try = config.tries.is_some_and(|tries| attempts >= tries);
            let hopeless = matches!(&refusal, Refusal::Failed(failed) if failed.is_misconfigured());
            let limit = if config.fail_fast || hopeless { 1 } else { FAILURES };
            let broken = failures >= limit && (config.tries.is_none() || limit == 1);
            if last_try || broken {
                return Err(refusal.into());
            }
            let pause = match &refusal {
                Refusal::Taken(Taken { left: Some(left), .. }) => Some(*left + jitter(SPREAD.min(*left))),
                _ => config.retry.after(failures.max(1)),
            };
            let Some(pause) = pause else { return Err(LockError::Cancelled) };
            *last = Some(refusal.into());
            if let Some(grant) = claim.pause(pause).await {
                return Ok(claim.hold(grant));
            }
        }
    }

    /// One attempt, for the lock as it is now.
    pub(super) async fn try_now(config: Arc<Config>) -> Result<Arc<Held>, LockError> {
        let parties = Parties::new(Arc::clone(&config), config.token());
        let Some(foremost) = config.line(&parties.local).try_queue() else {
            return Err(LockError::Taken(Taken::default()));
        };
        if let Some(taken) = parties.local.taken(&foremost.line) {
            return Err(LockError::Taken(taken));
        }
        parties.local.vacant(&foremost.line).await;
        let mut claim = Self::new(parties, None, foremost);
        match claim.attempt().await {
            Ok(grant) => Ok(claim.hold(grant)),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn new(parties: Parties, ticket: Option<u64>, foremost: Foremost) -> Self {
        let (nodes, key) = (&parties.config.nodes, &parties.config.key);
        // Before the first attempt: a grant that comes right behind its answer is heard.
        let calls = match ticket {
            Some(_) => nodes.iter().map(|node| node.0.calls(key)).collect(),
            None => Vec::new(),
        };
        let traces = vec![Trace::Clean; nodes.len()];
        Self {
            parties,
            ticket,
            calls,
            traces,
            asking: None,
            seq: 0,
            sent: Moment::ZERO,
            fence: Fence::NONE,
            splits: 1,
            again: false,
            foremost,
        }
    }

    async fn attempt(&mut self) -> Result<Grant, Refusal> {
        let Self { parties, ticket, traces, asking, seq, sent, fence, .. } = self;
        let config = &parties.config;
        *seq = next_seq();
        let before = mem::replace(traces, vec![Trace::Unknown; config.nodes.len()]);
        let acquire = Acquire {
            token: parties.token.text(),
            seq: *seq,
            ttl: config.ttl,
            ticket: *ticket,
            sole: config.nodes.len() == 1,
            metadata: config.metadata.clone(),
        };
        *sent = parties.local.now();
        let ballot = asking.insert(config.ask(move |node, key| node.acquire(key, acquire.clone())));
        let refused = Trace::of_refusal(*ticket);
        let mut heard = Heard::default();
        let mut note = |node: usize, answer| {
            let vote = heard.note(node, answer);
            traces[node] = if vote == Vote::Yes { Trace::Held } else { refused };
            vote
        };
        let verdict = ballot.decide(&mut note).await;
        // Who waits wants to know where it has a place: only there can it be granted the lock without asking again.
        if ticket.is_some() && matches!(verdict, Verdict::Refused | Verdict::Divided) {
            let others = async {
                while let Some((node, answer)) = ballot.next().await {
                    let _ = answer.map(|answer| note(node, answer));
                }
            };
            let _ = timeout(OTHERS, others).await;
        }
        *fence = heard.fence;
        // A node that is down for long is not to be cleaned up after each attempt.
        for (node, trace) in traces.iter_mut().enumerate().filter(|(node, _)| ballot.is_unsent(*node)) {
            *trace = before[node];
        }
        let term = config.term(config.ttl);
        match (verdict, Hold::begun(parties.local.now(), *sent, term)) {
            (Verdict::Reached, Some(hold)) => Ok(Grant { hold, fence: heard.fence }),
            (Verdict::Reached, None) => Err(Refusal::Failed(ballot.late())),
            // Divided: the others would be enough, were it free on them.
            (Verdict::Refused | Verdict::Divided, _) => Err(Refusal::Taken(heard.taken(config.nodes.len()))),
            (Verdict::Failed, _) => Err(Refusal::Failed(ballot.failed())),
        }
    }

    /// What answers and the messages that have come since are worth together, if a quorum has granted it the lock.
    fn made_up(&mut self) -> Option<Grant> {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready((node, call)) = poll_next(&mut self.calls, &mut cx) {
            self.again |= match call {
                Call::Granted(grant) => !self.note(node, grant) && Some(grant.ticket) == self.ticket,
                Call::Again => true,
            };
        }
        let held = self.traces.iter().filter(|trace| **trace == Trace::Held).count();
        let reached = held >= Round::new(self.traces.len()).quorum();
        let hold = Hold::begun(self.parties.local.now(), self.sent, self.term()).filter(|_| reached)?;
        Some(Grant { hold, fence: self.fence })
    }

    fn term(&self) -> Term {
        self.parties.config.term(self.parties.config.ttl)
    }

    /// Whether a message grants what this attempt asked for. Where the attempt is being undone, so may be what was
    /// granted to it. And what replicas must acknowledge is not held before they have.
    fn note(&mut self, node: usize, grant: lock::Grant) -> bool {
        let own = (Some(grant.ticket), grant.seq) == (self.ticket, self.seq);
        let counts = own && self.traces[node] != Trace::Undone && self.parties.config.key.replicas == 0;
        if counts {
            self.traces[node] = Trace::Held;
            self.fence = self.fence.max(grant.fence);
        }
        counts
    }

    /// Takes back what was granted, or may have been. Places are kept where the node said that there is one.
    fn step_back(&mut self) {
        let kept = if self.ticket.is_some() { Trace::Undone } else { Trace::Clean };
        let undone: Vec<_> = self
            .traces
            .iter_mut()
            .map(|trace| if *trace == Trace::Place { Trace::Clean } else { mem::replace(trace, kept) })
            .collect();
        let pending = self.pending();
        self.parties.undo(&undone, pending, self.seq, self.ticket);
    }

    /// What was asked and not answered: it has to end before it is undone.
    fn pending(&mut self) -> Pending<Acquired> {
        self.asking.take().map_or_else(Vec::new, |mut ballot| ballot.pending())
    }

    /// Waits until a quorum has granted the lock to it, and not longer than `pause`.
    ///
    /// One that was granted some nodes waits for the others, each time for another while, and longer after every attempt
    /// in vain: contenders that were granted a part each, and give it back in step, would be granted the other's part, and
    /// so on for ever.
    async fn pause(&mut self, pause: Duration) -> Option<Grant> {
        let local = Arc::clone(&self.parties.local);
        let mut wait = Wait::new(self.traces.len(), local.now().after(pause));
        let mut more = Duration::ZERO;
        if mem::take(&mut self.again) {
            wait.again(local.now());
        }
        // Also where there is nothing to wait for, so that a limit to it all can end it.
        yield_now().await;
        while local.now() < wait.due().after(more) {
            let (node, call) = tokio::select! {
                call = poll_fn(|cx| poll_next(&mut self.calls, cx)) => call,
                () = sleep_until(local.at(wait.due().after(more))) => break,
            };
            let now = local.now();
            match call {
                // Of another caller of this process.
                Call::Granted(grant) if Some(grant.ticket) != self.ticket => {}
                Call::Granted(grant) if self.note(node, grant) => {
                    if wait.granted(now, node) {
                        let hold = Hold::granted(now, self.sent, self.term());
                        return hold.map(|hold| Grant { hold, fence: self.fence });
                    }
                    if more.is_zero() {
                        more = jitter(OTHERS.saturating_mul(self.splits));
                        self.splits = (self.splits * 2).min(SPLITS);
                    }
                }
                Call::Granted(_) | Call::Again => {
                    wait.again(now);
                    more = Duration::ZERO;
                }
            }
        }
        None
    }

    /// What was granted is the caller's to give back.
    fn hold(mut self, grant: Grant) -> Arc<Held> {
        let traces = mem::take(&mut self.traces);
        let held = Held::new(self.parties.clone(), grant, traces, self.seq, self.ticket);
        held.stand_for(&self.foremost.line);
        held
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let pending = self.pending();
        // After a success there is nothing to undo; what is still on its way belongs to what is held.
        self.parties.undo(&self.traces, pending, self.seq, self.ticket);
    }
}

impl Heard {
    fn note(&mut self, node: usize, answer: Acquired) -> Vote {
        match answer {
            Acquired::Granted(fence) => {
                self.fence = self.fence.max(fence);
                Vote::Yes
            }
            Acquired::Taken { left, metadata } => {
                self.left.push(left);
                self.taken.nodes.push(node);
                self.taken.holder = self.taken.holder.take().or_else(|| metadata.map(|holder| holder.to_string()));
                Vote::No
            }
        }
    }

    fn taken(mut self, nodes: usize) -> Taken {
        self.taken.nodes.sort_unstable();
        Taken { left: Wait::until_free(nodes, self.left), ..self.taken }
    }
}

impl From<Refusal> for LockError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Taken(taken) => Self::Taken(taken),
            Refusal::Failed(failed) => Self::Quorum(failed),
        }
    }
}

/// The next message of any node.
fn poll_next(calls: &mut [Watch<Call>], cx: &mut Context<'_>) -> Poll<(usize, Call)> {
    let heard = calls.iter_mut().enumerate().find_map(|(node, calls)| match calls.poll_next(cx) {
        Poll::Ready(call) => Some((node, call)),
        Poll::Pending => None,
    });
    heard.map_or(Poll::Pending, Poll::Ready)
}

#[expect(clippy::disallowed_methods, reason = "nobody else may have the same")]
fn ticket() -> u64 {
    rand::random()
}

#[expect(clippy::disallowed_methods, reason = "contenders must not come in step")]
fn jitter(at_most: Duration) -> Duration {
    at_most.mul_f64(rand::random_range(0.0..=1.0))
}
