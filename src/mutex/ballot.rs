//! One round over the nodes.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep, timeout};

use super::error::{NodeOutcome, QuorumError};
use crate::{
    backend::{ErrorKind, lock::Reply},
    protocol::quorum::{OTHERS, Round, Verdict, Vote},
};

/// Requests that have not been answered, by node.
pub(super) type Pending<T> = Vec<(usize, Reply<'static, T>)>;

/// Requests to the nodes, sent at the same time, of which each has as long to answer.
pub(super) struct Ballot<T> {
    pending: Pending<T>,
    answers: VecDeque<(usize, Result<T, NodeOutcome>)>,
    timer: Pin<Box<Sleep>>,
    round: Round,
    outcomes: Vec<NodeOutcome>,
}

impl<T> Ballot<T> {
    /// Sends in this order.
    pub(super) fn new(requests: impl IntoIterator<Item = (usize, Reply<'static, T>)>, patience: Duration) -> Self {
        let pending: Vec<_> = requests.into_iter().collect();
        let nodes = pending.len();
        Self {
            pending,
            answers: VecDeque::with_capacity(nodes),
            timer: Box::pin(sleep(patience)),
            round: Round::new(nodes),
            outcomes: (0..nodes).map(|_| NodeOutcome::Undecided).collect(),
        }
    }

    /// Counts votes until the outcome is decided. `vote` sees what each node answered.
    pub(super) async fn decide(&mut self, vote: impl FnMut(usize, T) -> Vote) -> Verdict {
        self.count(vote, false).await
    }

    /// As [`decide`](Self::decide); where some refused and some failed, answers that follow within a moment may yet tell
    /// that it was refused.
    pub(super) async fn decide_why(&mut self, mut vote: impl FnMut(usize, T) -> Vote) -> Verdict {
        let verdict = self.count(&mut vote, false).await;
        if verdict != Verdict::Divided {
            return verdict;
        }
        timeout(OTHERS, self.count(vote, true)).await.unwrap_or(verdict)
    }

    async fn count(&mut self, mut vote: impl FnMut(usize, T) -> Vote, why: bool) -> Verdict {
        loop {
            let verdict = self.round.verdict();
            // Answers that are here already are looked at in either case.
            let more = verdict.is_none_or(|verdict| match verdict {
                Verdict::Reached | Verdict::Refused => false,
                Verdict::Failed => !self.answers.is_empty(),
                Verdict::Divided => why || !self.answers.is_empty(),
            });
            if let Some(verdict) = verdict.filter(|_| !more) {
                return verdict;
            }
            let Some((node, answer)) = self.next().await else {
                return verdict.expect("all votes together decide");
            };
            let vote = answer.map_or(Vote::Unknown, |answer| vote(node, answer));
            if vote == Vote::No {
                self.outcomes[node] = NodeOutcome::Refused;
            }
            self.round.count(vote);
        }
    }

    /// What the next node answered, if it did; `None` if all have had their time.
    pub(super) async fn next(&mut self) -> Option<(usize, Option<T>)> {
        let (node, answer) = poll_fn(|cx| self.poll_next(cx)).await?;
        let (answer, outcome) = match answer {
            Ok(answer) => (Some(answer), NodeOutcome::Done),
            Err(outcome) => (None, outcome),
        };
        // They may have been told already.
        if let Some(told) = self.outcomes.get_mut(node) {
            *told = outcome;
        }
        Some((node, answer))
    }

    /// Whether the request has surely not reached this node.
    pub(super) fn is_unsent(&self, node: usize) -> bool {
        let unsent =
            |outcome: &_| matches!(outcome, NodeOutcome::Failed(error) if error.kind() == ErrorKind::Unavailable);
        // Told, or known and not looked at because the outcome was decided.
        let mut waiting = self.answers.iter().filter(|(other, _)| *other == node);
        unsent(&self.outcomes[node]) || waiting.any(|(_, answer)| answer.as_ref().is_err_and(unsent))
    }

    /// The requests that are still on their way. What was sent has to be followed to its end: a server that has forgotten a
    /// script asks for it, and one that is not given it never takes part again.
    pub(super) fn pending(&mut self) -> Pending<T> {
        mem::take(&mut self.pending)
    }

    /// What each node did.
    pub(super) fn failed(&mut self) -> QuorumError {
        QuorumError { needed: self.round.quorum(), nodes: mem::take(&mut self.outcomes) }
    }

    /// The same, where what was done was done so late that it does not count.
    pub(super) fn late(&mut self) -> QuorumError {
        let done = self.outcomes.iter_mut().filter(|outcome| matches!(outcome, NodeOutcome::Done));
        done.for_each(|outcome| *outcome = NodeOutcome::TimedOut);
        self.failed()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<T, NodeOutcome>)>> {
        // All of them, whatever the first ones say: a request is on its way once it was polled.
        let answers = &mut self.answers;
        self.pending.retain_mut(|(node, request)| match request.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                answers.push_back((*node, answer.map_err(NodeOutcome::Failed)));
                false
            }
            Poll::Pending => true,
        });
        if answers.is_empty() && !self.pending.is_empty() {
            ready!(self.timer.as_mut().poll(cx));
            answers.extend(self.pending.drain(..).map(|(node, _)| (node, Err(NodeOutcome::TimedOut))));
        }
        Poll::Ready(answers.pop_front())
    }
}
