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
    time::timeout,
};

use super::{
    BackendError, ErrorKind,
    breaker::Outcome,
    error::Failure,
    reconnect::{End, Pace, Rumours, State, heard, spread, up},
};

/// Half-open sockets are noticed after this long without traffic.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// And after this long if what was sent is not acknowledged, where the platform can tell.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Operations that may wait to be written. The library's 50 stall under load.
const PIPELINE: usize = 512;

/// A hung server shows only in timeouts: after so many in a row the connection is replaced.
const TIMEOUTS: u32 = 3;

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

/// The server, and how to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) client: Client,
    /// Host and port, without user name and password.
    pub(super) place: Arc<str>,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    /// What its connections tell each other.
    pub(super) rumours: Rumours,
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
        Ok(Self { client, place, connect_timeout, command_timeout, rumours: Rumours::default() })
    }

    async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, Failure> {
        // One time for all of it, the first answer included: the time for an operation may be shorter.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE);
        let connect = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            // A hung server still accepts: only an answer proves that it is there.
            let answer = ping(&connection).await?;
            connection.set_response_timeout(response_timeout);
            Ok((connection, answer))
        };
        match timeout(self.connect_timeout, connect).await {
            Ok(Ok((connection, Value::SimpleString(_)))) => Ok(connection),
            Ok(Ok((_, Value::ServerError(error)))) => Err(Failure::of_connecting(&self.place, error.into())),
            Ok(Ok((_, value))) => Err(Failure::odd(&value)),
            Ok(Err(error)) => Err(Failure::of_connecting(&self.place, error)),
            Err(_) => Err(Failure::silent(&self.place)),
        }
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
    /// The greatest generation that was found broken, and how.
    broken: watch::Sender<(u64, Option<Failure>)>,
    timeouts: AtomicU32,
}

impl Link {
    /// A connection whose operations end after `response_timeout`, made when it is first needed.
    pub(super) fn new(address: Address, response_timeout: Duration) -> Self {
        let signals = Arc::new(Signals {
            wanted: Notify::new(),
            broken: watch::Sender::new((0, None)),
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

    /// Notes how an operation on `live` ended. What ended together with it says so only once.
    pub(super) fn note(&self, live: &Live, mut failure: Option<&mut Failure>) {
        let timed_out = failure.as_ref().is_some_and(|failure| failure.outcome == Outcome::TimedOut);
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
        let Some(failure) = failure.as_mut().filter(|failure| hung || failure.replace) else { return };
        timeouts.store(0, Ordering::Relaxed);
        if self.state.has_changed().is_err() {
            failure.message = Failure::orphaned().message;
        }
        let news = self.signals.broken.send_if_modified(|(broken, why)| {
            let news = *broken < live.generation;
            if news {
                (*broken, *why) = (live.generation, Some(failure.clone()));
            }
            news
        });
        // All that was in the air found the same connection broken. It is replaced once, and speaks against the server
        // once: else a single lost connection would pass for a server that fails again and again.
        if !news && failure.replace {
            failure.outcome = Outcome::Dropped;
        }
    }
}

async fn supervise(
    address: Address,
    response_timeout: Duration,
    publish: watch::Sender<State<Live>>,
    signals: Arc<Signals>,
) {
    signals.wanted.notified().await;
    let mut pace = Pace::new(address.rumours.clone());
    let mut refused = false;
    for generation in 1.. {
        let (connection, made) = pace.persist(&publish, || address.connect(response_timeout)).await;
        let mut lost = address.rumours.lost().subscribe();
        publish.send_replace(State::Up(Live { connection: connection.clone(), generation }));
        if refused {
            // Only now: where this connection leads is where the others should.
            spread(address.rumours.moved());
        }
        let mut broken = signals.broken.subscribe();
        let end = loop {
            tokio::select! {
                end = ended(&mut broken, generation) => break end,
                () = heard(&mut lost) => match timeout(address.command_timeout, ping(&connection)).await {
                    Ok(Ok(Value::SimpleString(_))) => {}
                    Ok(_) => break End::Closed,
                    Err(_) => break End::Silent,
                },
            }
        };
        refused = matches!(end, End::Refused(_));
        pace.lost(&publish, made, &address.place, end).await;
    }
}

/// Waits until an operation found the connection with this generation broken.
async fn ended(broken: &mut watch::Receiver<(u64, Option<Failure>)>, generation: u64) -> End {
    let broken = broken.wait_for(|(broken, _)| *broken >= generation).await;
    match broken.as_deref() {
        Ok((_, Some(failure))) if failure.outcome == Outcome::TimedOut => End::Silent,
        // The server answered: it is there, and does not want this.
        Ok((_, Some(failure))) if failure.kind != ErrorKind::Unknown => End::Refused(failure.clone()),
        _ => End::Closed,
    }
}
