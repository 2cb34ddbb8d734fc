use std::{sync::Arc, time::Duration};

use redis::IntoConnectionInfo;
use tokio::runtime::Handle;

use super::{
    super::BUDGET,
    BackendError, ErrorKind, Inner, Redis,
    breaker::Limits,
    connect::{Address, Link},
    error::Failure,
    inbox::Inbox,
    keys::Names,
    known,
    lane::{Gate, Lane},
};
use crate::backend::{Locals, Watches};

/// Sets up a [`Redis`] backend; made by [`Redis::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_singleflight::backend::Redis;
///
/// let redis = Redis::builder("shop")
///     .command_timeout(Duration::from_millis(500))
///     .inline_limit(4096)
///     .connect("redis://127.0.0.1/")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RedisBuilder {
    prefix: String,
    connect_timeout: Duration,
    pub(super) settings: Settings,
}

/// What a connected handle needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) budget: Duration,
    pub(super) command_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) linger: Duration,
    pub(super) inline_limit: usize,
    pub(super) breaker: Limits,
}

impl RedisBuilder {
    pub(super) fn new(prefix: String) -> Self {
        let settings = Settings {
            budget: BUDGET,
            command_timeout: Duration::from_secs(1),
            body_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(60),
            inline_limit: 8 * 1024,
            breaker: Limits { errors: 5, timeouts: 3, rest: Duration::from_secs(1) },
        };
        Self { prefix, connect_timeout: Duration::from_secs(2), settings }
    }

    /// How long one attempt to connect may take; 2 s unless set.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = positive("connect_timeout", timeout);
        self
    }

    /// How long a call waits for redis before its work, all exchanges together; 250 ms unless set. Then its process
    /// coalesces by itself. What is sent goes on for as long as [`command_timeout`](Self::command_timeout) allows.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.settings.budget = positive("budget", budget);
        self
    }

    /// How long redis may take to answer a command; 1 s unless set. The budget of a request is separate and shorter.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.settings.command_timeout = positive("command_timeout", timeout);
        self
    }

    /// How long redis may take to answer when bodies above 64 KiB travel; 5 s unless set.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.settings.body_timeout = positive("body_timeout", timeout);
        self
    }

    /// How long the state of a key outlives its lease and its record; 60 s unless set.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = positive("linger", linger);
        self
    }

    /// Records up to this many bytes, head and key included, travel inside the message that tells of them; 8 KiB unless
    /// set. A larger one costs each following replica one more exchange.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn inline_limit(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "inline_limit is zero: set at least one byte");
        self.settings.inline_limit = bytes;
        self
    }

    /// So many errors without an answer in between open the breaker: operations then fail at once instead of being sent.
    /// 5 unless set; timeouts are counted apart.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn breaker_errors(mut self, errors: u32) -> Self {
        assert!(errors > 0, "breaker_errors is zero: set at least one");
        self.settings.breaker.errors = errors;
        self
    }

    /// So many timeouts without an answer in between open the breaker. 3 unless set.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn breaker_timeouts(mut self, timeouts: u32) -> Self {
        assert!(timeouts > 0, "breaker_timeouts is zero: set at least one");
        self.settings.breaker.timeouts = timeouts;
        self
    }

    /// How long an open breaker waits until one operation tries again. 1 s unless set.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn breaker_rest(mut self, rest: Duration) -> Self {
        self.settings.breaker.rest = positive("breaker_rest", rest);
        self
    }

    /// Connects to the redis at `url`, such as `redis://user:password@host:6379/0`.
    ///
    /// # Errors
    ///
    /// As [`Redis::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when the future is dropped, its connections are closed.
    pub async fn connect(self, url: &str) -> Result<Redis, BackendError> {
        self.connect_with(url).await
    }

    /// As [`connect`](Self::connect), to the server that a `redis::ConnectionInfo` (or anything that becomes one) names.
    ///
    /// For settings that no address can express, such as certificates: make a `redis::Client` with them, and hand in a
    /// clone of its `get_connection_info()`.
    ///
    /// # Errors
    ///
    /// As [`Redis::connect`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when the future is dropped, its connections are closed.
    pub async fn connect_with(self, info: impl IntoConnectionInfo) -> Result<Redis, BackendError> {
        let patience = self.connect_timeout.saturating_mul(2);
        let redis = self.connect_lazy_with(info)?;
        let connected = tokio::join!(redis.0.commands.link.settled(patience), redis.0.inbox.settled(patience));
        // Both fail for the same reason, if they fail; the first says it well enough.
        connected.0.and(connected.1)?;
        Ok(redis)
    }

    /// Returns a backend that connects in the background.
    ///
    /// # Errors
    ///
    /// As [`Redis::connect_lazy`].
    pub fn connect_lazy(self, url: &str) -> Result<Redis, BackendError> {
        self.connect_lazy_with(url)
    }

    /// As [`connect_lazy`](Self::connect_lazy), to the server that a `redis::ConnectionInfo` (or anything that becomes
    /// one) names.
    ///
    /// # Errors
    ///
    /// As [`Redis::connect_lazy`].
    pub fn connect_lazy_with(self, info: impl IntoConnectionInfo) -> Result<Redis, BackendError> {
        let Self { prefix, connect_timeout, settings } = self;
        let names = Arc::new(Names::new(&prefix)?);
        let info = info.into_connection_info().map_err(malformed)?;
        if Handle::try_current().is_err() {
            let message =
                "connecting to redis needs a tokio runtime; call it from async code or inside `Runtime::enter`";
            return Err(BackendError::new(ErrorKind::Config, message));
        }
        let address = Address::new(info, connect_timeout, settings.command_timeout)?;
        let commands = Arc::new(Link::new(address.clone(), settings.command_timeout));
        let bodies = Arc::new(Link::new(address.clone(), settings.body_timeout));
        let (watches, calls) = (Watches::default(), Watches::default());
        let inbox = Inbox::new(address, Arc::clone(&names), watches.clone(), calls.clone());
        let gate = Arc::new(Gate::new(settings.breaker));
        Ok(Redis(Arc::new(Inner {
            names,
            settings,
            locals: Locals::default(),
            watches,
            calls,
            known: known::Memory::default(),
            inbox,
            commands: Lane { link: commands, gate: Arc::clone(&gate) },
            bodies: Lane { link: bodies, gate },
        })))
    }
}

fn positive(setter: &str, duration: Duration) -> Duration {
    assert!(!duration.is_zero(), "{setter} is zero: set a positive duration");
    duration
}

/// The address may hold a password, and therefore is not repeated.
fn malformed(error: redis::RedisError) -> BackendError {
    // The client library tells an address that it was built without from one that is wrong only in words.
    if error.to_string().contains("TLS") {
        let message = "an address with rediss:// needs TLS, which is not compiled in; use redis://, or enable TLS in the crate `redis`";
        return BackendError::from(Failure::new(ErrorKind::Config, message)).with_source(error);
    }
    let why = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    let message = format!("the address of redis is malformed ({why}); write it like redis://user:password@host:6379/0");
    BackendError::from(Failure::new(ErrorKind::Config, message)).with_source(error)
}
