//! A lock that is held: what its holder may believe, and the rounds that keep it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{self, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    ballot::Ballot,
    cleanup::Trace,
    error::LockError,
    inline::Inline,
    local::{Holder, Line, Moment, follow_seq, next_seq},
    parties::Parties,
};
use crate::{
    backend::lock::Acquire,
    protocol::{
        lease::Fence,
        lock::{Extended, LEAP},
        quorum::{Hold, OTHERS, Verdict, Vote},
    },
};

/// A renewal whose outcome is unknown is sent again no sooner than this, unless there is hardly more time.
const BREATH: Duration = Duration::from_millis(20);

/// What a round that reached its quorum brought.
pub(super) struct Grant {
    pub(super) hold: Hold,
    pub(super) fence: Fence,
}

/// Shared by a guard and the task that renews for it.
pub(super) struct Held {
    pub(super) parties: Parties,
    hold: watch::Sender<Hold>,
    /// One round at a time: extensions that overtake each other would leave it unknown which one counts.
    rounds: sync::Mutex<()>,
    facts: Mutex<Facts>,
    /// Who else of this process wants it.
    line: OnceLock<Arc<Line>>,
}

struct Facts {
    fence: Fence,
    /// All fences to come are greater.
    raised: bool,
    /// The nodes said that it was over before its time.
    refused: bool,
    traces: Vec<Trace>,
    /// The last request that may change it on the nodes. Its release has the same number, and so takes nothing from the
    /// next one with this token, which may be asked for before the release is sent, or when the time of this one is over.
    seq: u64,
    /// It is being given back: nothing else is sent.
    released: bool,
    /// Of the place that may be left on a node that did not grant it yet.
    ticket: Option<u64>,
    /// The longest lease that a node may keep.
    life: Duration,
}

impl Held {
    /// `seq` is that of the request that was granted.
    pub(super) fn new(parties: Parties, grant: Grant, traces: Vec<Trace>, seq: u64, ticket: Option<u64>) -> Arc<Self> {
        let (raised, life) = (parties.config.nodes.len() == 1, parties.config.ttl);
        let facts = Facts { fence: grant.fence, raised, refused: false, traces, seq, released: false, ticket, life };
        Arc::new(Self {
            parties,
            hold: watch::Sender::new(grant.hold),
            rounds: sync::Mutex::default(),
            facts: Mutex::new(facts),
            line: OnceLock::new(),
        })
    }

    /// Others of this process wait until it is released or over.
    pub(super) fn stand_for(&self, line: &Arc<Line>) {
        let metadata = self.parties.config.metadata.clone();
        line.hold(Holder { hold: self.hold.subscribe(), metadata });
        let _ = self.line.set(Arc::clone(line));
    }

    /// Goes on with a lock that another process holds with this token.
    pub(super) async fn adopt(parties: Parties) -> Result<Arc<Self>, LockError> {
        let config = Arc::clone(&parties.config);
        let term = config.term(config.ttl);
        let sent = parties.local.now();
        let (mut traces, mut fence) = (vec![Trace::Unknown; config.nodes.len()], Fence::NONE);
        let mut ballot = {
            let (token, ttl) = (parties.token.text(), config.ttl);
            config.ask(move |node, key| node.extend(key, Arc::clone(&token), None, ttl))
        };
        let mut note = |node: usize, answer| match answer {
            Extended::Held(held, seq) => {
                // Nodes that answer too late may have counted further, but not by that much.
                follow_seq(seq + LEAP / 2);
                fence = fence.max(held);
                traces[node] = Trace::Held;
                Vote::Yes
            }
            Extended::Gone | Extended::Taken => {
                traces[node] = Trace::Clean;
                Vote::No
            }
        };
        let verdict = ballot.decide(&mut note).await;
        // What they have counted to has to be known before anything else is asked.
        let others = async {
            while let Some((node, answer)) = ballot.next().await {
                let _ = answer.map(|answer| note(node, answer));
            }
        };
        let _ = timeout(OTHERS, others).await;
        parties.follow(ballot.pending());
        match (verdict, Hold::begun(parties.local.now(), sent, term)) {
            (Verdict::Reached, Some(hold)) => Ok(Self::new(parties, Grant { hold, fence }, traces, next_seq(), None)),
            (Verdict::Reached, None) => Err(LockError::Expired),
            (Verdict::Refused, _) => Err(LockError::NotHeld),
            (Verdict::Failed | Verdict::Divided, _) => Err(LockError::Quorum(ballot.failed())),
        }
    }

    /// Lets the lease run for `ttl` from now.
    pub(super) async fn extend(self: &Arc<Self>, ttl: Duration) -> Result<(), LockError> {
        let _one = self.rounds.lock().await;
        let (parties, config) = (&self.parties, &self.parties.config);
        let (sent, term) = (parties.local.now(), config.term(ttl));
        let Some(seq) = self.number(|facts| facts.life = facts.life.max(ttl)) else { return Err(self.end()) };
        self.hold.send_modify(|hold| hold.extending(sent, term));
        let mut missing = Vec::new();
        let mut count = |node, answer| match answer {
            Extended::Held(_, last) if last <= seq => Vote::Yes,
            // Somebody else with this token has asked for something since: whatever holds there is not this.
            Extended::Held(..) => Vote::Unknown,
            Extended::Taken => Vote::No,
            Extended::Gone => {
                missing.push(node);
                Vote::No
            }
        };
        let mut ballot = {
            let token = parties.token.text();
            config.ask(move |node, key| node.extend(key, Arc::clone(&token), Some(seq), ttl))
        };
        let verdict = ballot.decide_why(&mut count).await;
        let ours = config.set_nx_on_extend && verdict == Verdict::Reached;
        if !ours {
            parties.follow(ballot.pending());
        }
        let now = parties.local.now();
        let in_time = self.hold.borrow().is_sure(now);
        // Before anyone is told that it is over: they want to know why.
        self.facts().refused |= in_time && verdict == Verdict::Refused;
        self.hold.send_modify(|hold| hold.extended(now, sent, term, verdict));
        match verdict {
            // Whatever the nodes say, its time was over.
            _ if !in_time => Err(self.end()),
            Verdict::Refused => Err(LockError::NotHeld),
            Verdict::Failed | Verdict::Divided => Err(LockError::Quorum(ballot.failed())),
            Verdict::Reached => {
                if ours {
                    self.put_back(missing, ballot, ttl);
                }
                Ok(())
            }
        }
    }

    /// Where others have just confirmed that it is held, those that lost it take it again: those that said so, and those
    /// that say so later.
    fn put_back(self: &Arc<Self>, missing: Vec<usize>, mut ballot: Ballot<Extended>, ttl: Duration) {
        let held = Arc::clone(self);
        self.parties.detach(async move {
            for node in missing {
                held.put_back_on(node, ttl).await;
            }
            while let Some((node, answer)) = ballot.next().await {
                if answer == Some(Extended::Gone) {
                    held.put_back_on(node, ttl).await;
                }
            }
        });
    }

    async fn put_back_on(&self, node: usize, ttl: Duration) {
        // Whoever releases it from now on knows that it may be there, or be there later.
        let Some(seq) = self.number(|facts| facts.traces[node] = Trace::Unknown) else { return };
        let config = &self.parties.config;
        let acquire = Acquire {
            token: self.parties.token.text(),
            seq,
            ttl,
            ticket: None,
            sole: false,
            metadata: config.metadata.clone(),
        };
        // If it is taken by now, or fails, a quorum of the others goes on holding it.
        let _ = timeout(config.key.patience, config.nodes.node(node).0.acquire(&config.key, acquire)).await;
    }

    /// The fence, once all fences to come are greater.
    pub(super) async fn fence(&self) -> Result<Fence, LockError> {
        let _one = self.rounds.lock().await;
        let (parties, config) = (&self.parties, &self.parties.config);
        let fence = {
            let facts = self.facts();
            if facts.raised {
                return Ok(facts.fence);
            }
            facts.fence
        };
        if !self.is_sure() {
            return Err(self.end());
        }
        let mut ballot = {
            let token = parties.token.text();
            config.ask(move |node, key| node.raise(key, Arc::clone(&token), fence))
        };
        let verdict = ballot.decide(|_, raised| if raised { Vote::Yes } else { Vote::No }).await;
        parties.follow(ballot.pending());
        match verdict {
            // Only if it was held all the time: else a later holder may have a smaller one.
            Verdict::Reached if !self.is_sure() => Err(self.end()),
            Verdict::Reached => {
                self.facts().raised = true;
                Ok(fence)
            }
            Verdict::Refused => Err(LockError::NotHeld),
            Verdict::Failed | Verdict::Divided => Err(LockError::Quorum(ballot.failed())),
        }
    }

    /// Renews until the lock is lost: whenever a third of the time has passed for which it is sure.
    pub(super) async fn renew(self: Arc<Self>) {
        let (local, ttl) = (&self.parties.local, self.parties.config.ttl);
        let mut hold = self.hold.subscribe();
        loop {
            let (now, until) = (local.now(), hold.borrow_and_update().until());
            if now >= until {
                return;
            }
            let due = tick(now, until.since(now));
            tokio::select! {
                () = sleep_until(local.at(due)) => {}
                // Somebody extended it, perhaps for a shorter time.
                _ = hold.changed() => continue,
            }
            // One whose outcome is unknown is repeated as long as there is time; the end of the lock ends the loop.
            let _ = self.extend(ttl).await;
        }
    }

    /// Ends when the lock is no longer surely held.
    pub(super) async fn lost(&self) {
        let mut hold = self.hold.subscribe();
        loop {
            let until = hold.borrow_and_update().until();
            if self.parties.local.now() >= until {
                return;
            }
            tokio::select! {
                () = sleep_until(self.parties.local.at(until)) => {}
                _ = hold.changed() => {}
            }
        }
    }

    pub(super) fn until(&self) -> Instant {
        self.parties.local.at(self.hold.borrow().until())
    }

    pub(super) fn is_sure(&self) -> bool {
        self.hold.borrow().is_sure(self.parties.local.now())
    }

    /// How it ended.
    pub(super) fn end(&self) -> LockError {
        if self.facts().refused { LockError::NotHeld } else { LockError::Expired }
    }

    /// Gives it back, and tells how that went.
    pub(super) fn unlock(&self) -> Inline<Result<(), LockError>> {
        let (work, told) = self.releasing();
        // What is asked for behind a release that was sent needs no message.
        let inline = Inline::begin(&self.parties, work, told);
        self.leave();
        inline
    }

    /// Gives it back, in a task of its own: the caller may be anywhere.
    pub(super) fn release(self: &Arc<Self>) {
        let (held, (work, _)) = (Arc::clone(self), self.releasing());
        self.parties.detach(async move {
            let mut work = pin!(work);
            let begun = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            held.leave();
            if begun.is_pending() {
                work.await;
            }
        });
    }

    fn releasing(&self) -> (impl Future<Output = ()> + Send + 'static, oneshot::Receiver<Result<(), LockError>>) {
        let (traces, seq, ticket, life) = {
            let mut facts = self.facts();
            facts.released = true;
            (facts.traces.clone(), facts.seq, facts.ticket, facts.life)
        };
        self.hold.send_modify(|hold| hold.end(self.parties.local.now()));
        self.parties.clone().release(traces, seq, ticket, life)
    }

    /// Another one goes on with it: what it does not know of is given up.
    pub(super) fn hand_over(&self) {
        let mut facts = self.facts();
        facts.released = true;
        self.parties.leave(&facts.traces, facts.ticket);
        drop(facts);
        self.leave();
    }

    /// Who waits for it in this process need not wait any longer.
    fn leave(&self) {
        if let Some(line) = self.line.get() {
            line.free(&self.hold.subscribe());
        }
    }

    /// The number of one more request, of which `note` says what it may change; none if it is over or being given back.
    /// In one step: no request has a greater number than the release.
    fn number(&self, note: impl FnOnce(&mut Facts)) -> Option<u64> {
        let mut facts = self.facts();
        if facts.released || !self.is_sure() {
            return None;
        }
        note(&mut facts);
        facts.seq = next_seq();
        Some(facts.seq)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to renew what is sure for `left`: after a third of it, or a little earlier, on a grid that the locks of a
/// process have in common, so that their renewals travel together.
fn tick(now: Moment, left: Duration) -> Moment {
    let pause = (left / 3).max(BREATH).min(left / 2);
    let due = now.after(pause);
    let grid = u64::try_from(pause.as_micros()).map_or(1, |pause| (pause / 4).next_power_of_two() / 2).max(1);
    let tick = Moment::from_micros(due.as_micros() / grid * grid);
    if tick > now.after(pause / 2) { tick } else { due }
}
