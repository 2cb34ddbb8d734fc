//! A contender's side of a lock as pure values: how a round over the nodes is decided, and how long its outcome holds.
//!
//! One node is a quorum of one: its lease. On several independent nodes this is Redlock
//! (<https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>): a contender holds the lock while more
//! than half of the nodes grant it to its token, as far as it can tell by its own monotonic clock.

use core::time::Duration;

use super::time;

type Instant = time::Instant<time::Local>;

/// Expiry on a node is exact to the millisecond; so much goes off every lease besides the share for drifting clocks.
const GRAIN: Duration = Duration::from_millis(2);

/// A contender that was granted some nodes, but not a quorum yet, waits this long for the others.
pub const OTHERS: Duration = Duration::from_millis(20);

/// Who was granted the lock while it waited must have all of its lease but this share.
const WORTH: u32 = 8;

/// A lease as a contender asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// What the nodes are told.
    pub ttl: Duration,
    /// What is taken off, because clocks may run at different speeds.
    pub drift: Duration,
}

impl Term {
    /// A lease of `ttl`, of which `drift_factor` and 2 ms are taken off.
    pub fn new(ttl: Duration, drift_factor: f64) -> Self {
        Self { ttl, drift: ttl.mul_f64(drift_factor).saturating_add(GRAIN) }
    }

    /// Until when it surely holds if the first request was sent at `sent`: no node granted it earlier.
    pub fn until(&self, sent: Instant) -> Instant {
        sent.after(self.ttl.saturating_sub(self.drift))
    }
}

/// What one node said to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Done.
    Yes,
    /// Not done, and it will not be.
    No,
    /// Nothing that can be relied upon: it may have been done, or be done later.
    Unknown,
}

/// How a round is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// More than half said yes.
    Reached,
    /// So many said no that more than half cannot say yes.
    Refused,
    /// So many failed that more than half cannot say yes.
    Failed,
    /// Those that said no and those that failed are too many together. Votes to come may yet make it one of the two.
    Divided,
}

/// The votes of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    nodes: usize,
    yes: usize,
    no: usize,
    unknown: usize,
}

impl Round {
    /// A round over so many nodes, none of which has voted.
    pub const fn new(nodes: usize) -> Self {
        Self { nodes, yes: 0, no: 0, unknown: 0 }
    }

    /// More than half.
    pub const fn quorum(&self) -> usize {
        self.nodes / 2 + 1
    }

    /// Counts a vote. Each node votes once.
    pub fn count(&mut self, vote: Vote) {
        match vote {
            Vote::Yes => self.yes += 1,
            Vote::No => self.no += 1,
            Vote::Unknown => self.unknown += 1,
        }
    }

    /// The outcome, as soon as no vote to come can change whether it is reached.
    pub fn verdict(&self) -> Option<Verdict> {
        let spare = self.nodes - self.quorum();
        if self.yes >= self.quorum() {
            Some(Verdict::Reached)
        } else if self.no > spare {
            Some(Verdict::Refused)
        } else if self.unknown > spare {
            Some(Verdict::Failed)
        } else if self.no + self.unknown > spare {
            Some(Verdict::Divided)
        } else {
            None
        }
    }
}

/// What a contender believes of a lock that it was granted.
///
/// A belief only ever ends: what comes after its end, good news included, does not bring it back, because the end has
/// been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    until: Instant,
}

impl Hold {
    /// After a round of acquisition whose first request was sent at `sent` reached its quorum. `None` if that took so long
    /// that the lease may be over.
    pub fn begun(now: Instant, sent: Instant, term: Term) -> Option<Self> {
        let until = term.until(sent);
        (now < until).then_some(Self { until })
    }

    /// After a quorum granted the lock to one who waited, whose last attempt was sent at `sent`: the leases began
    /// later. `None` if that is so long ago that another attempt is better than what is left of them.
    pub fn granted(now: Instant, sent: Instant, term: Term) -> Option<Self> {
        let whole = term.until(sent).since(sent);
        Self::begun(now, sent, term).filter(|hold| hold.until.since(now) >= whole - whole / WORTH)
    }

    /// Until when it surely holds.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Whether it surely holds.
    pub fn is_sure(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Before an extension is sent. One that shortens the lease may be done although no answer tells so.
    pub fn extending(&mut self, sent: Instant, term: Term) {
        self.until = self.until.min(term.until(sent));
    }

    /// After the round of an extension whose first request was sent at `sent`. One that was refused is the end. One
    /// that failed, or was divided, is unknown: what was granted before still is.
    pub fn extended(&mut self, now: Instant, sent: Instant, term: Term, verdict: Verdict) {
        match verdict {
            Verdict::Reached if self.is_sure(now) => self.until = term.until(sent),
            Verdict::Refused => self.end(now),
            Verdict::Reached | Verdict::Failed | Verdict::Divided => {}
        }
    }

    /// Nothing is believed from now on.
    pub fn end(&mut self, now: Instant) {
        self.until = self.until.min(now);
    }
}

/// When to try again for a lock that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    /// By node: whether it granted the lock meanwhile.
    granted: Vec<bool>,
    due: Instant,
}

impl Wait {
    /// Waits for messages of so many nodes, and not longer than until `due`.
    pub fn new(nodes: usize, due: Instant) -> Self {
        Self { granted: vec![false; nodes], due }
    }

    /// When to try again.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// A node has granted the lock. Returns whether it is a quorum that has. Less is worth a moment's patience, because a
    /// release reaches the nodes one after the other.
    pub fn granted(&mut self, now: Instant, node: usize) -> bool {
        self.granted[node] = true;
        let granted = self.granted.iter().filter(|granted| **granted).count();
        self.due = self.due.min(now.after(OTHERS));
        granted >= Round::new(self.granted.len()).quorum()
    }

    /// There is something that only another attempt can tell.
    pub fn again(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// How long until a quorum of the nodes could be free, by what is left of the leases that they told; `None` if not
    /// enough of them told.
    pub fn until_free(nodes: usize, left: impl IntoIterator<Item = Duration>) -> Option<Duration> {
        let mut left: Vec<_> = left.into_iter().collect();
        left.sort_unstable();
        // The nodes that are not among them were free, or nothing is known of them.
        let round = Round::new(nodes);
        let spare = nodes - round.quorum();
        (left.len() > spare).then(|| left[left.len() - spare - 1])
    }
}

#[cfg(test)]
mod tests;
