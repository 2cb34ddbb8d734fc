//! Giving back: what is held, what may have been granted to one who is gone, and places among those who wait.
//!
//! All of it runs in tasks of its own, but for what the caller of `unlock` waits for. A node that does not answer is asked
//! again until what lies there has expired by itself.

use std::{future::Future, time::Duration};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    ballot::{Ballot, Pending},
    error::LockError,
    local::next_seq,
    parties::Parties,
};
use crate::{
    backend::lock::{self, Acquired},
    protocol::{
        lock::Release,
        quorum::{Verdict, Vote},
    },
};

/// A node that failed is asked again after this long, and then after twice as long each time.
const AGAIN: Duration = Duration::from_millis(50);

/// A request without an answer may still be on its way, on a connection that was replaced: after this long it has come.
const LATE: Duration = Duration::from_millis(500);

/// What may lie on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// Nothing.
    Clean,
    /// A place among those who wait.
    Place,
    /// A grant.
    Held,
    /// A grant, or one that is still to come.
    Unknown,
    /// What was there is being taken back.
    Undone,
}

impl Trace {
    /// On a node that refused: one who waits has its place there.
    pub(super) fn of_refusal(ticket: Option<u64>) -> Self {
        if ticket.is_some() { Self::Place } else { Self::Clean }
    }
}

impl Parties {
    /// Takes back what an attempt may have left.
    pub(super) fn undo(&self, traces: &[Trace], mut pending: Pending<Acquired>, seq: u64, ticket: Option<u64>) {
        let release = Release { token: self.token.text(), seq, undo: true, ticket };
        for (node, trace) in dirty(traces) {
            let at = pending.iter().position(|(other, _)| *other == node);
            let before = at.map(|at| pending.swap_remove(at).1);
            let (parties, release) = (self.clone(), release.clone());
            self.detach(async move {
                // A request that is asked for its script would be sent once more, behind what undoes it.
                if let Some(before) = before {
                    let _ = timeout(parties.config.key.patience.min(LATE), before).await;
                }
                let life = parties.config.ttl;
                parties.clean_node(node, trace, life, release).await;
            });
        }
        self.follow(pending);
    }

    /// Sees to it that what was sent is not broken off.
    pub(super) fn follow<T: Send + 'static>(&self, pending: Pending<T>) {
        for (_, request) in pending {
            let patience = self.config.key.patience;
            self.detach(async move { drop(timeout(patience, request).await) });
        }
    }

    /// Gives up places, and nothing that is held: no holder has this token.
    pub(super) fn leave(&self, traces: &[Trace], ticket: Option<u64>) {
        let places: Vec<_> = traces
            .iter()
            .map(|trace| match trace {
                Trace::Clean | Trace::Held => Trace::Clean,
                Trace::Place | Trace::Unknown | Trace::Undone => *trace,
            })
            .collect();
        self.clean(&places, self.config.ttl, Release { token: "".into(), seq: next_seq(), undo: false, ticket });
    }

    /// Gives back what is held, for `life` at most. Tells the outcome as soon as it is decided.
    pub(super) fn release(
        self,
        traces: Vec<Trace>,
        seq: u64,
        ticket: Option<u64>,
        life: Duration,
    ) -> (impl Future<Output = ()> + Send + 'static, oneshot::Receiver<Result<(), LockError>>) {
        let (tell, told) = oneshot::channel();
        let work = async move {
            let release = Release { token: self.token.text(), seq, undo: false, ticket };
            let mut left = traces;
            let mut ballot = {
                let release = release.clone();
                self.config.ask(move |node, key| node.release(key, release.clone()))
            };
            let verdict = ballot.decide(|node, released| note(&mut left[node], released)).await;
            // Whoever does not want to know has dropped the other end.
            let _ = tell.send(outcome(verdict, &mut ballot));
            while let Some((node, answer)) = ballot.next().await {
                if let Some(released) = answer {
                    note(&mut left[node], released);
                }
            }
            self.clean(&left, life, release);
        };
        (work, told)
    }

    fn clean(&self, traces: &[Trace], life: Duration, release: Release<lock::Token>) {
        for (node, trace) in dirty(traces) {
            self.detach(self.clone().clean_node(node, trace, life, release.clone()));
        }
    }

    async fn clean_node(self, node: usize, mut trace: Trace, life: Duration, release: Release<lock::Token>) {
        let (node, end) = (self.config.nodes.node(node), self.local.now().after(life));
        let mut pause = AGAIN;
        loop {
            match timeout(self.config.key.patience, node.0.release(&self.config.key, release.clone())).await {
                Ok(Ok(released)) if released || trace != Trace::Unknown => return,
                // Nothing is there yet. Once more, for what comes late.
                Ok(Ok(_)) => (trace, pause) = (Trace::Held, LATE),
                _ if self.local.now() >= end => return,
                _ => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(LATE);
        }
    }
}

fn dirty(traces: &[Trace]) -> impl Iterator<Item = (usize, Trace)> {
    traces.iter().copied().enumerate().filter(|(_, trace)| *trace != Trace::Clean)
}

/// What is left on a node that has answered.
fn note(trace: &mut Trace, released: bool) -> Vote {
    if released || *trace != Trace::Unknown {
        *trace = Trace::Clean;
    }
    if released { Vote::Yes } else { Vote::No }
}

fn outcome(verdict: Verdict, ballot: &mut Ballot<bool>) -> Result<(), LockError> {
    match verdict {
        Verdict::Reached => Ok(()),
        Verdict::Refused => Err(LockError::NotHeld),
        Verdict::Failed | Verdict::Divided => Err(LockError::Quorum(ballot.failed())),
    }
}
