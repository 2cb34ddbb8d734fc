//! What can go wrong with a lock, as far as a caller can act on it.

use std::{error::Error as StdError, fmt, time::Duration};

use thiserror::Error;

use crate::backend::{BackendError, ErrorKind};

/// Why a lock was not acquired, extended or released.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else holds it.
    #[error("the lock is {0}")]
    Taken(Taken),
    /// Its lease ended before it was extended: somebody else may hold it by now.
    #[error("the lock has expired; extend it in time, renew it automatically, or give it a longer ttl")]
    Expired,
    /// The nodes say that this token does not hold it, though its lease had not ended: it was deleted or taken over.
    #[error("the lock is not held any more: the nodes have lost it, or somebody deleted it")]
    NotHeld,
    /// Not enough nodes did what they were asked, for other reasons than that somebody else holds the lock.
    #[error("{0}")]
    Quorum(QuorumError),
    /// It could not be acquired within the time that the caller had.
    #[error("the lock was not acquired within {waited:?}")]
    TimedOut {
        /// How long the caller waited.
        waited: Duration,
        /// How the last attempt ended, or what it waited for before the first one ended.
        #[source]
        last: Option<Box<LockError>>,
    },
    /// It ended before its outcome was known: the retry policy gave up, or the runtime is shutting down.
    #[error("it was given up before its outcome was known")]
    Cancelled,
}

/// Who holds a lock that could not be acquired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// What the holder says of itself ([`Mutex::metadata`](super::Mutex::metadata)).
    pub holder: Option<String>,
    /// When the lock could be free at the earliest, unless it is released before; `None` if nobody told: another task
    /// of this process is in line for it.
    pub left: Option<Duration>,
    /// The nodes on which it is taken, by their position; none if the holder is of this process, so that they need not
    /// be asked.
    pub nodes: Vec<usize>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("taken")?;
        if let Some(holder) = &self.holder {
            write!(f, " by {holder}")?;
        }
        if let Some(left) = self.left {
            write!(f, ", for at most {} ms unless it is extended", left.as_millis())?;
        }
        Ok(())
    }
}

/// A round that did not reach more than half of the nodes.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuorumError {
    /// How many nodes are more than half.
    pub needed: usize,
    /// What each node did, in the order of the nodes.
    pub nodes: Vec<NodeOutcome>,
}

impl QuorumError {
    /// Whether no other attempt can succeed before somebody changes a setting.
    pub(super) fn is_misconfigured(&self) -> bool {
        let wrong =
            |outcome: &&NodeOutcome| matches!(outcome, NodeOutcome::Failed(error) if error.kind() == ErrorKind::Config);
        self.nodes.iter().filter(wrong).count() > self.nodes.len() - self.needed
    }
}

/// It has no source: what each node did is part of what it says.
impl StdError for QuorumError {}

/// What one node did when it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeOutcome {
    /// What it was asked.
    Done,
    /// It refused: somebody else holds the lock there, or nobody does who should.
    Refused,
    /// It did not answer in time ([`Mutex::timeout_factor`](super::Mutex::timeout_factor)).
    TimedOut,
    /// It could not be asked, or failed.
    Failed(BackendError),
    /// The outcome was decided before it answered.
    Undecided,
}

impl fmt::Display for QuorumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [outcome] = &self.nodes[..] {
            return write!(f, "the node of the lock {outcome}");
        }
        let done = self.nodes.iter().filter(|outcome| matches!(outcome, NodeOutcome::Done)).count();
        write!(f, "{done} of {} nodes did it, and {} were needed: ", self.nodes.len(), self.needed)?;
        for (node, outcome) in self.nodes.iter().enumerate() {
            write!(f, "{}node {node} {outcome}", if node > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("did it"),
            Self::Refused => f.write_str("refused"),
            Self::TimedOut => f.write_str("did not answer in time"),
            Self::Failed(error) => {
                write!(f, "failed ({error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, ": {cause}")?;
                    source = cause.source();
                }
                f.write_str(")")
            }
            Self::Undecided => f.write_str("had not answered yet"),
        }
    }
}

/// Why a text is no [`Token`](super::Token).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Everybody would be the same holder.
    #[error("a token is empty; use one that nobody else uses")]
    Empty,
    /// It is sent with every request.
    #[error("a token has {length} bytes; {longest} are the most")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The greatest length in bytes.
        longest: usize,
    },
}
