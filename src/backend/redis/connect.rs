//! Connections that are made again when they are lost.
//!
//! The client library brings a connection manager; it is not used, because it falls silent after six failed attempts
//! until somebody sends a command, and because it reconnects twice under load.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, Value, aio::MultiplexedConnection,
    io::tcp::socket2::TcpKeepalive,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{BackendError, ErrorKind, breaker::Outcome, error::Failure};

/// Half-open sockets are noticed after this long without traffic.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// And after this long if what was sent is not acknowledged, where the platform can tell.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Operations that may wait to be written. The library's 50 stall under load.
const PIPELINE: usize = 512;

/// A hung server shows only in timeouts: after so many in a row the connection is replaced.
const TIMEOUTS: u32 = 3;

/// Pauses between attempts to connect: from, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Something that is either there, being made, or known to be away.
#[derive(Clone, Debug)]
pub(super) enum State<T> {
    /// Not tried yet, or just lost: worth waiting for.
    Pending,
    /// There.
    Up(T),
    /// The last attempt failed: not worth waiting for.
    Down(Failure),
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Task {
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is there, waiting for it at most `patience`.
pub(super) async fn up<T: Clone>(state: &watch::Receiver<State<T>>, patience: Duration) -> Result<T, Failure> {
    if let State::Up(value) = &*state.borrow() {
        return Ok(value.clone());
    }
    let mut state = state.clone();
    let settled = timeout(patience, state.wait_for(|state| !matches!(state, State::Pending))).await;
    match settled.as_ref().map(|state| state.as_deref()) {
        Ok(Ok(State::Up(value))) => Ok(value.clone()),
        Ok(Ok(State::Down(failure))) => {
            // Whatever made the attempt fail, this operation was not sent. Wrong settings stay wrong settings.
            let kind = if failure.kind == ErrorKind::Config { ErrorKind::Config } else { ErrorKind::Unavailable };
            Err(Failure { kind, outcome: Outcome::Failed, ..failure.clone() })
        }
        _ => Err(Failure::new(ErrorKind::Unavailable, "redis is not connected")),
    }
}

/// Pauses between attempts: doubled each time, with jitter, so that a fleet does not come back in step.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(PAUSE.0)
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.0.mul_f64(rand::random_range(0.5..1.0))).await;
        self.0 = (self.0 * 2).min(PAUSE.1);
    }
}

/// The server, and how to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) client: Client,
    /// Host and port, without user name and password.
    pub(super) place: Arc<str>,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
}

impl Address {
    pub(super) fn new(
        info: ConnectionInfo,
        connect_timeout: Duration,
        command_timeout: Duration,
    ) -> Result<Self, BackendError> {
        let place = info.addr().to_string().into();
        let mut tcp = info.tcp_settings().clone().set_nodelay(true);
        if tcp.keepalive().is_none() {
            tcp = tcp.set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE));
        }
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        if tcp.user_timeout().is_none() && !matches!(info.addr(), ConnectionAddr::Unix(_)) {
            tcp = tcp.set_user_timeout(USER_TIMEOUT);
        }
        // RESP2 everywhere: an unsolicited push on a connection that carries data can shift every later reply by one.
        // And no `CLIENT SETINFO`: it is one more right that a limited user would need.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let client = Client::open(info.set_tcp_settings(tcp).set_redis_settings(settings))
            .map_err(|error| Failure::of_connecting("this address", error))?;
        Ok(Self { client, place, connect_timeout, command_timeout })
    }

    async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(PIPELINE);
        let connect = async {
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            // A hung server still accepts: only an answer proves that it is there.
            let answer = ping(&connection).await?;
            Ok((connection, answer))
        };
        match timeout(self.connect_timeout, connect).await {
            Ok(Ok((connection, Value::SimpleString(_)))) => Ok(connection),
            Ok(Ok((_, Value::ServerError(error)))) => Err(Failure::of_server(error)),
            Ok(Ok((_, value))) => Err(Failure::odd(&value)),
            Ok(Err(error)) => Err(Failure::of_connecting(&self.place, error)),
            Err(_) => Err(self.too_slow()),
        }
    }

    /// The server accepted, or seemed to, and then said nothing.
    pub(super) fn too_slow(&self) -> Failure {
        let place = &self.place;
        let why = "it did not answer in time; check address, network and firewall";
        Failure::new(ErrorKind::Unavailable, format!("cannot connect to redis at {place}: {why}"))
    }
}

async fn ping(connection: &MultiplexedConnection) -> redis::RedisResult<Value> {
    connection.clone().send_packed_command(&redis::cmd("PING")).await
}

/// One multiplexed connection under supervision.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Receiver<State<Live>>,
    signals: Arc<Signals>,
    patience: Duration,
    _task: Task,
}

/// A connection, and which one it is.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    generation: u64,
}

#[derive(Debug)]
struct Signals {
    /// Somebody needs the connection: it is not made before.
    wanted: Notify,
    /// The greatest generation that was found broken.
    broken: watch::Sender<u64>,
    /// There is reason to doubt that the connection still lives.
    doubted: Notify,
    timeouts: AtomicU32,
}

impl Link {
    /// A connection whose operations end after `response_timeout`, made when it is first needed.
    pub(super) fn new(address: Address, response_timeout: Duration) -> Self {
        let signals = Arc::new(Signals {
            wanted: Notify::new(),
            broken: watch::Sender::new(0),
            doubted: Notify::new(),
            timeouts: AtomicU32::new(0),
        });
        let (publish, state) = watch::channel(State::Pending);
        let patience = address.command_timeout;
        let task = Task::spawn(supervise(address, response_timeout, publish, Arc::clone(&signals)));
        Self { state, signals, patience, _task: task }
    }

    /// The connection; waits for it if it is just being made.
    pub(super) async fn live(&self) -> Result<Live, Failure> {
        if let State::Up(live) = &*self.state.borrow() {
            return Ok(live.clone());
        }
        // On the heap, as this is rare: operations are made once per call, and their futures should stay small.
        Box::pin(self.made()).await
    }

    async fn made(&self) -> Result<Live, Failure> {
        self.signals.wanted.notify_one();
        up(&self.state, self.patience).await
    }

    /// Waits for the first attempt to connect to end.
    pub(super) async fn settled(&self, patience: Duration) -> Result<(), Failure> {
        self.signals.wanted.notify_one();
        up(&self.state, patience).await.map(drop)
    }

    /// Notes how an operation on `live` ended.
    pub(super) fn note(&self, live: &Live, failure: Option<&Failure>) {
        let timed_out = failure.is_some_and(|failure| failure.outcome == Outcome::TimedOut);
        let timeouts = &self.signals.timeouts;
        // Reading first keeps the cache line shared while all is well.
        let hung = if timed_out {
            timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS
        } else {
            if timeouts.load(Ordering::Relaxed) > 0 {
                timeouts.store(0, Ordering::Relaxed);
            }
            false
        };
        if hung || failure.is_some_and(|failure| failure.replace) {
            timeouts.store(0, Ordering::Relaxed);
            // Many operations find the same connection broken; it is replaced once.
            self.signals.broken.send_if_modified(|broken| {
                let news = *broken < live.generation;
                *broken = live.generation.max(*broken);
                news
            });
        }
    }

    /// Has the connection checked, because another one to the same server was lost.
    pub(super) fn doubt(&self) {
        self.signals.doubted.notify_one();
    }
}

async fn supervise(
    address: Address,
    response_timeout: Duration,
    publish: watch::Sender<State<Live>>,
    signals: Arc<Signals>,
) {
    signals.wanted.notified().await;
    for generation in 1.. {
        let mut backoff = Backoff::new();
        let connection = loop {
            match address.connect(response_timeout).await {
                Ok(connection) => break connection,
                Err(failure) => publish.send_replace(State::Down(failure)),
            };
            backoff.pause().await;
        };
        publish.send_replace(State::Up(Live { connection: connection.clone(), generation }));
        let mut broken = signals.broken.subscribe();
        loop {
            tokio::select! {
                () = async { drop(broken.wait_for(|broken| *broken >= generation).await) } => break,
                () = signals.doubted.notified() => {
                    let alive = timeout(address.command_timeout, ping(&connection)).await;
                    if !matches!(alive, Ok(Ok(Value::SimpleString(_)))) {
                        break;
                    }
                }
            }
        }
        publish.send_replace(State::Pending);
    }
}
