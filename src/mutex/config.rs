use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rand::seq::SliceRandom;

use super::{
    Mutex, Nodes, Retry, Token,
    ballot::Ballot,
    local::{Line, Local},
};
use crate::{
    backend::lock::{LockKey, Locks, Reply},
    key::Key,
    protocol::quorum::Term,
};

const YEAR: u64 = 366 * 24 * 3600;

/// No more than nodes count with: one that kept the lock for less than its holder believes would grant it to another.
const LONGEST: Duration = Duration::from_secs(30 * YEAR);

/// Before every name, unless set.
const PREFIX: &str = "lock:";

/// What a mutex was told.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) nodes: Nodes,
    pub(super) name: Arc<str>,
    prefix: Arc<str>,
    /// Where the nodes keep it: prefix and name.
    pub(super) key: LockKey,
    /// Who of this process wants it; found when somebody first does.
    line: OnceLock<Arc<Line>>,
    pub(super) ttl: Duration,
    pub(super) tries: Option<u32>,
    pub(super) wait_timeout: Option<Duration>,
    pub(super) retry: Retry,
    drift_factor: f64,
    timeout_factor: f64,
    pub(super) fail_fast: bool,
    pub(super) shuffle_nodes: bool,
    pub(super) set_nx_on_extend: bool,
    pub(super) auto_renew: Option<bool>,
    pub(super) metadata: Option<Arc<str>>,
    token: Tokens,
}

#[derive(Clone)]
enum Tokens {
    Random,
    Given(Arc<dyn Fn() -> Token + Send + Sync>),
}

impl Config {
    pub(super) fn new(nodes: Nodes, name: Arc<str>) -> Self {
        assert!(nodes.len() > 0, "a mutex has no nodes: give it at least one");
        if let Some((one, other)) = nodes.repeated() {
            panic!("the nodes {one} and {other} of a mutex are the same handle: give it independent servers");
        }
        assert!(!name.is_empty(), "the name of a mutex is empty: name what it protects");
        let mut config = Self {
            nodes,
            key: LockKey { name: "".into(), key: Key::builder("").finish(), replicas: 0, patience: Duration::ZERO },
            line: OnceLock::new(),
            name,
            prefix: PREFIX.into(),
            ttl: Duration::from_secs(10),
            tries: None,
            wait_timeout: None,
            retry: Retry::default(),
            drift_factor: 0.01,
            timeout_factor: 0.1,
            fail_fast: false,
            shuffle_nodes: false,
            set_nx_on_extend: false,
            auto_renew: None,
            metadata: None,
            token: Tokens::Random,
        };
        config.derive();
        config
    }

    /// What follows from the settings.
    fn derive(&mut self) {
        let Self { prefix, name, .. } = self;
        self.key.name = format!("{prefix}{{{name}}}").into();
        self.key.key = Key::builder("lock").part(prefix.as_bytes()).part(name.as_bytes()).finish();
        self.key.patience = self.ttl.mul_f64(self.timeout_factor);
        self.line = OnceLock::new();
    }

    pub(super) fn line(&self, local: &Local) -> Arc<Line> {
        Arc::clone(self.line.get_or_init(|| local.line(&self.key.key)))
    }

    /// A lease of `ttl`, as the nodes' clocks may have it.
    pub(super) fn term(&self, ttl: Duration) -> Term {
        Term::new(ttl, self.drift_factor)
    }

    pub(super) fn token(&self) -> Token {
        match &self.token {
            Tokens::Random => Token::random(),
            Tokens::Given(token) => token(),
        }
    }

    /// Asks all nodes at the same time.
    pub(super) fn ask<T: 'static>(
        self: &Arc<Self>,
        request: impl for<'a> Fn(&'a dyn Locks, &'a LockKey) -> Reply<'a, T> + Clone + Send + Sync + 'static,
    ) -> Ballot<T> {
        let mut order: Vec<_> = (0..self.nodes.len()).collect();
        if self.shuffle_nodes {
            shuffle(&mut order);
        }
        let requests = order.into_iter().map(|number| {
            let (config, request) = (Arc::clone(self), request.clone());
            let answer = async move { request(&*config.nodes.node(number).0, &config.key).await };
            (number, Box::pin(answer) as Reply<'static, T>)
        });
        Ballot::new(requests, self.key.patience)
    }

    pub(super) fn check_ttl(&self, setter: &str, ttl: Duration) {
        assert!(!ttl.is_zero(), "{setter} is zero: set a positive duration");
        assert!(
            ttl <= LONGEST,
            "{setter} is {ttl:?}: no node keeps a lock for longer than {} years",
            LONGEST.as_secs() / YEAR
        );
        let drift = self.term(ttl).drift;
        assert!(drift < ttl, "{setter} leaves {ttl:?} of which {drift:?} go off for drifting clocks: set a longer ttl");
    }
}

/// Settings. Each returns the mutex with one of them changed; clones made before keep theirs.
impl Mutex {
    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        let config = Arc::make_mut(&mut self.config);
        set(config);
        config.derive();
        self
    }

    /// How long a holder that does not extend or renew keeps the lock. Default: 10 s.
    ///
    /// A holder that dies holds the others up for what is left of it. It is sure of the lock for a little less: see
    /// [`drift_factor`](Self::drift_factor).
    ///
    /// # Panics
    ///
    /// If it is zero, longer than 30 years, or so short that nothing is left of it: less than about 2 ms.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.config.check_ttl("ttl", ttl);
        self.set(|config| config.ttl = ttl)
    }

    /// After so many attempts [`lock`](Self::lock) gives up, with the error of the last. Default: it waits for a holder as
    /// long as it takes, and gives up after 8 attempts in a row that failed because of nodes.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn tries(self, tries: u32) -> Self {
        assert!(tries > 0, "tries is zero: set at least one");
        self.set(|config| config.tries = Some(tries))
    }

    /// How long [`lock`](Self::lock) and [`with_lock`](Self::with_lock) wait at most. Default: no limit.
    #[must_use]
    pub fn wait_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.wait_timeout = Some(timeout))
    }

    /// How long to wait after an attempt that failed because of nodes. Default: [`Retry::default`].
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        self.set(|config| config.retry = retry)
    }

    /// The share of a lease that is taken off, besides 2 ms, because the clocks of nodes and holders may run at different
    /// speeds. Default: 0.01, as in Redlock's description.
    ///
    /// # Panics
    ///
    /// If it is negative or no number, or leaves nothing of the TTL.
    #[must_use]
    pub fn drift_factor(self, factor: f64) -> Self {
        assert!((0.0..1.0).contains(&factor), "drift_factor is {factor}: set a share from 0 to less than 1");
        let mutex = self.set(|config| config.drift_factor = factor);
        mutex.config.check_ttl("drift_factor", mutex.config.ttl);
        mutex
    }

    /// How long one node may take to answer, as a share of the TTL. Default: 0.1, a second for 10 s. The handle's own
    /// [`command_timeout`](crate::backend::redis::RedisBuilder::command_timeout) holds besides.
    ///
    /// # Panics
    ///
    /// If it is not between 0 and 1, or 0.
    #[must_use]
    pub fn timeout_factor(self, factor: f64) -> Self {
        assert!(factor > 0.0 && factor <= 1.0, "timeout_factor is {factor}: set a share above 0 and up to 1");
        self.set(|config| config.timeout_factor = factor)
    }

    /// Whether [`lock`](Self::lock) gives up at the first attempt that fails because of nodes. Default: no, it tries
    /// [again](Self::retry). Each attempt is decided as soon as a quorum is reached or impossible, in either case.
    #[must_use]
    pub fn fail_fast(self, fail_fast: bool) -> Self {
        self.set(|config| config.fail_fast = fail_fast)
    }

    /// Whether every round asks the nodes in another order. They are always asked at the same time; this spreads who is
    /// sent to first. Default: no.
    #[must_use]
    pub fn shuffle_nodes(self, shuffle: bool) -> Self {
        self.set(|config| config.shuffle_nodes = shuffle)
    }

    /// Whether an extension puts the lock back on nodes that have lost it, such as one that was restarted empty.
    /// Default: no.
    ///
    /// Only where a quorum of the others has just confirmed that it is held: what is put back is never counted for the
    /// extension that does so. A lock that is lost stays lost, and on a single node this does nothing.
    #[must_use]
    pub fn set_nx_on_extend(self, set: bool) -> Self {
        self.set(|config| config.set_nx_on_extend = set)
    }

    /// Whether a held lock is renewed by itself, every third of the time for which it is sure, until its guard is dropped.
    /// Default: yes in [`with_lock`](Self::with_lock), and no for guards.
    ///
    /// A renewed lock is held for as long as its process lives and the nodes answer; a holder that hangs holds it too.
    #[must_use]
    pub fn auto_renew(self, renew: bool) -> Self {
        self.set(|config| config.auto_renew = Some(renew))
    }

    /// What others are told of the holder: in [`LockError::Taken`](super::LockError::Taken) and [`info`](Self::info).
    /// Default: nothing.
    #[must_use]
    pub fn metadata(self, metadata: impl Into<String>) -> Self {
        let metadata = metadata.into();
        self.set(|config| config.metadata = Some(metadata.into()))
    }

    /// The one token of all guards of this mutex. Default: a random one for each.
    ///
    /// Whoever has the same token is the same holder: two processes that use it at the same time both hold the lock.
    #[must_use]
    pub fn token(self, token: Token) -> Self {
        self.token_fn(move || token.clone())
    }

    /// Makes the token of each guard; a token that was used before must not come again while it is in use.
    #[must_use]
    pub fn token_fn(self, token: impl Fn() -> Token + Send + Sync + 'static) -> Self {
        self.set(|config| config.token = Tokens::Given(Arc::new(token)))
    }

    /// What the names of locks begin with on the nodes, behind the prefix of the application. Default: `lock:`.
    ///
    /// # Panics
    ///
    /// If it is empty or contains a brace.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        assert!(!prefix.is_empty(), "prefix is empty: set one that nothing else begins with, like \"lock:\"");
        assert!(!prefix.contains(['{', '}']), "prefix {prefix:?} contains a brace, between which the name stands");
        self.set(|config| config.prefix = prefix.into())
    }

    /// How many replicas of each node must have acknowledged a lease before it counts (`WAIT`). Default: 0.
    ///
    /// It makes the loss of a lock by failover less likely and does not exclude it: a replica that has not acknowledged
    /// may still be promoted, and what it acknowledged is not on its disk. Independent nodes do exclude it. A node that
    /// has too few replicas counts as one that failed. Waiting for them takes up to three quarters of the node's
    /// [time limit](Self::timeout_factor), on the handle's connection for large bodies.
    #[must_use]
    pub fn min_replicas(self, replicas: u32) -> Self {
        self.set(|config| config.key.replicas = replicas)
    }
}

#[expect(clippy::disallowed_methods, reason = "who is asked first is drawn by lot")]
fn shuffle<T>(order: &mut [T]) {
    order.shuffle(&mut rand::rng());
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("nodes", &self.nodes.len())
            .field("ttl", &self.ttl)
            .field("tries", &self.tries)
            .field("wait_timeout", &self.wait_timeout)
            .field("retry", &self.retry)
            .field("drift_factor", &self.drift_factor)
            .field("timeout_factor", &self.timeout_factor)
            .field("fail_fast", &self.fail_fast)
            .field("shuffle_nodes", &self.shuffle_nodes)
            .field("set_nx_on_extend", &self.set_nx_on_extend)
            .field("auto_renew", &self.auto_renew)
            .field("metadata", &self.metadata)
            .field("min_replicas", &self.key.replicas)
            .finish_non_exhaustive()
    }
}
