//! Everything there is: a few nodes with clocks of their own, two contenders, and what is in the air between them.

use core::time::Duration;

use super::{
    super::{
        explore::Air,
        lease::{Fence, Inbox},
        lock::{Grant, Lock, Place},
        quorum::{Hold, Round, Term, Vote},
        time::{Instant, Local, Store},
    },
    mutants::Mutation,
};

/// The beat of all clocks.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A lease, of which one tick is taken off for a clock that goes too fast.
pub(super) const LONG: Term = Term { ttl: Duration::from_millis(300), drift: TICK };

/// A lease that an extension shortens.
pub(super) const SHORT: Term = Term { ttl: Duration::from_millis(200), drift: TICK };

pub(super) const LINGER: Duration = Duration::from_secs(60);

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// A request is later than its sender waits for it, hence later than others that were sent after it.
    Late,
    /// A request is lost, or the message of a grant.
    Lose,
    /// A request is done, and nobody is told.
    LoseReply,
    /// An answer is later than its sender waits for it.
    LateReply,
    /// Nobody hears the inbox of one who waits when the lock comes to it.
    Deaf,
    /// A contender stops for ever. What it sent stays in the air.
    Crash,
    /// The clock of a node goes a tick too fast.
    Fast,
    /// The clock of a node steps back by four ticks.
    StepBack,
}

/// One configuration, explored completely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// By how many ticks the clock of each node is ahead.
    pub nodes: &'static [u64],
    /// Ticks until nobody comes any more.
    pub horizon: u64,
    /// How often each contender tries.
    pub attempts: [u8; 2],
    /// How often each extends what it holds, and how often it shortens it.
    pub extensions: [u8; 2],
    pub shortenings: [u8; 2],
    /// Who is refused waits until the lock is granted to it.
    pub waits: bool,
    /// Who writes its fence back once it has the lock.
    pub writes_back: [bool; 2],
    /// Whose requests are never late.
    pub prompt: [bool; 2],
    /// Whoever waits hears every node that answers before it takes an attempt for refused.
    pub patient: bool,
    /// What is in the air for one who waits has come when its attempt is decided; otherwise it comes later.
    pub hears: bool,
    /// Whoever waits may stop during an attempt as well.
    pub cancels: bool,
    /// So many faults of any of these kinds. Each kind stands in one group at most.
    pub faults: &'static [(&'static [Fault], u8)],
    pub mutation: Option<Mutation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub lock: Lock<usize>,
    pub now: Instant<Store>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Acquire { place: Option<Place> },
    Extend(Duration),
    Raise(Fence),
    Release { undo: bool, ticket: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub from: usize,
    pub node: usize,
    pub seq: u64,
    pub op: Op,
    /// Nobody waits for it any more.
    pub late: bool,
}

/// What a node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reply {
    pub to: usize,
    pub node: usize,
    pub seq: u64,
    pub op: Op,
    pub vote: Vote,
    pub fence: Fence,
}

/// The message of a grant, which comes whenever it likes: nobody waits for it by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Message {
    pub to: usize,
    pub node: usize,
    pub grant: Grant,
}

/// A round in the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asking {
    pub op: Op,
    pub seq: u64,
    pub sent: Instant<Local>,
    pub term: Term,
    pub round: Round,
    /// Who has not voted, and who said no or yes, bit by bit.
    pub open: u8,
    pub refused: u8,
    pub granted: u8,
    pub fence: Fence,
}

/// A lock that was granted, as its holder knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    pub hold: Hold,
    /// The attempt that it came from.
    pub seq: u64,
    /// It has been told that it is over.
    pub over: bool,
    /// One round at a time.
    pub asking: Option<Asking>,
}

/// An attempt that was refused, as one who waits remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub seq: u64,
    pub sent: Instant<Local>,
    pub term: Term,
    /// Where it is being undone, and where the lock was granted since, bit by bit.
    pub undone: u8,
    pub granted: u8,
    pub fence: Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Acquiring(Asking),
    Waiting(Waiting),
    Holding(Holding),
    Crashed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Contender {
    pub phase: Phase,
    pub seq: u64,
    /// The attempt by which it held the lock last.
    pub held: u64,
    /// New whenever it comes for the lock.
    pub ticket: u64,
    pub attempts: u8,
    pub extensions: u8,
    pub shortenings: u8,
}

/// How a node came to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Passed {
    /// By a request of its own.
    Not,
    /// By a release. The message is on its way, or has come.
    Told,
    /// By a release, and the message was lost.
    Lost,
}

/// What only the checker knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ghost {
    /// By node and contender: the youngest request that was done and changed something.
    pub newest: Vec<[u64; 2]>,
    /// By node: a release granted it to its holder, whose message is on its way.
    pub passed: Vec<Passed>,
    /// Every fence from now on has to be greater.
    pub fence: Fence,
    /// The last one to hold, and its fence.
    pub last: Option<(usize, Fence)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub ticks: u64,
    pub nodes: Vec<Node>,
    pub contenders: [Contender; 2],
    pub requests: Air<Request>,
    pub replies: Air<Reply>,
    pub messages: Air<Message>,
    /// What is left of each group of faults.
    pub faults: Vec<u8>,
    pub ghost: Ghost,
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let now = |ahead: &u64| Instant::ZERO.after(TICK * (10 + *ahead as u32));
        let contender = |who| Contender {
            phase: Phase::Idle,
            seq: 0,
            held: 0,
            ticket: who as u64,
            attempts: setup.attempts[who],
            extensions: setup.extensions[who],
            shortenings: setup.shortenings[who],
        };
        Self {
            ticks: 0,
            nodes: setup.nodes.iter().map(|ahead| Node { lock: Lock::default(), now: now(ahead) }).collect(),
            contenders: [0, 1].map(contender),
            requests: Air(Vec::new()),
            replies: Air(Vec::new()),
            messages: Air(Vec::new()),
            faults: setup.faults.iter().map(|(_, budget)| *budget).collect(),
            ghost: Ghost {
                newest: vec![[0; 2]; setup.nodes.len()],
                passed: vec![Passed::Not; setup.nodes.len()],
                fence: Fence::NONE,
                last: None,
            },
        }
    }

    /// On the clock of the contenders, which has nothing in common with those of the nodes.
    pub fn now(&self) -> Instant<Local> {
        Instant::ZERO.after(TICK * (1000 + self.ticks as u32))
    }

    /// How many faults of this kind may still happen.
    pub fn budget(&self, setup: &Setup, fault: Fault) -> u8 {
        setup.faults.iter().position(|(group, _)| group.contains(&fault)).map_or(0, |group| self.faults[group])
    }

    pub fn spend(&mut self, setup: &Setup, fault: Fault, times: u8) {
        let group = setup.faults.iter().position(|(group, _)| group.contains(&fault));
        self.faults[group.expect("it has a budget")] -= times;
    }

    /// Whether nothing went wrong so far.
    pub fn is_unharmed(&self, setup: &Setup) -> bool {
        setup.faults.iter().map(|(_, budget)| budget).eq(&self.faults)
    }

    /// Who surely holds the lock.
    pub fn sure(&self) -> impl Iterator<Item = usize> {
        let sure = |phase: &Phase| matches!(phase, Phase::Holding(holding) if holding.hold.is_sure(self.now()));
        (0..2).filter(move |who| sure(&self.contenders[*who].phase))
    }
}

/// A ticket tells whose it is.
pub(super) fn owner(ticket: u64) -> usize {
    ticket as usize % 2
}

pub(super) fn place(ticket: u64) -> Place {
    Place { ticket, inbox: Inbox([owner(ticket) as u8; 12]) }
}
