//! Replicas in one process, callers that stand in their tables, and work that runs until the test lets it go.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Future, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_singleflight::{
    Group, Key,
    backend::Redis,
    group::{Error, Flown},
};

use super::{
    Proxy, Server,
    calls::{LONG, PATIENCE},
    forge,
};

/// The name of the application on every server.
pub const APP: &str = "live";

pub const MS: Duration = Duration::from_millis(1);

/// Work that counts its executions.
#[derive(Clone)]
pub struct Job(Arc<Inner>);

struct Inner {
    runs: watch::Sender<usize>,
    open: watch::Sender<bool>,
    running: AtomicUsize,
    peak: AtomicUsize,
    size: usize,
}

/// One execution, until it ends or is dropped.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Job {
    fn new(open: bool, size: usize) -> Self {
        let (runs, open) = (watch::Sender::new(0), watch::Sender::new(open));
        Self(Arc::new(Inner { runs, open, running: AtomicUsize::new(0), peak: AtomicUsize::new(0), size }))
    }

    /// Work that runs until it is released.
    pub fn held() -> Self {
        Self::new(false, 0)
    }

    /// Work that ends at once.
    pub fn quick() -> Self {
        Self::new(true, 0)
    }

    /// Work that runs until it is released, with a result of at least so many bytes.
    pub fn sized(size: usize) -> Self {
        Self::new(false, size)
    }

    /// What the execution with this number returns.
    pub fn value(&self, run: usize) -> String {
        format!("run {run}{}", ".".repeat(self.0.size))
    }

    pub async fn run(self) -> Result<String, Infallible> {
        let inner = &self.0;
        inner.peak.fetch_max(inner.running.fetch_add(1, SeqCst) + 1, SeqCst);
        let _running = Running(Arc::clone(inner));
        let mut run = 0;
        inner.runs.send_modify(|runs| {
            *runs += 1;
            run = *runs;
        });
        drop(inner.open.subscribe().wait_for(|open| *open).await);
        Ok(self.value(run))
    }

    /// Waits until so many executions have begun.
    pub async fn started(&self, runs: usize) {
        let mut seen = self.0.runs.subscribe();
        let begun = timeout(PATIENCE, seen.wait_for(|seen| *seen >= runs)).await;
        assert!(begun.is_ok(), "{} executions instead of {runs}", self.runs());
    }

    /// Lets all executions end, and those to come.
    pub fn release(&self) {
        self.0.open.send_replace(true);
    }

    /// Executions so far.
    pub fn runs(&self) -> usize {
        *self.0.runs.borrow()
    }

    /// The most executions at one time.
    pub fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }
}

/// Runs a call up to where it waits, so that it has its place before this returns, and leaves the rest to a task.
pub fn at_once<F>(call: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut call = Box::pin(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => tokio::spawn(ready(output)),
        Poll::Pending => tokio::spawn(call),
    }
}

/// A caller that waits in the local table, or leads.
pub fn call(group: &Group<String>, key: impl AsRef<[u8]>, job: &Job) -> JoinHandle<Flown<String>> {
    let (group, key, job) = (group.clone(), key.as_ref().to_vec(), job.clone());
    at_once(async move { group.fly(key, || job.run()).await.unwrap_or_else(|never| match never {}) })
}

/// A strict caller.
pub fn strict(
    group: &Group<String>,
    key: impl AsRef<[u8]>,
    job: &Job,
) -> JoinHandle<Result<String, Error<Infallible>>> {
    let (group, key, job) = (group.clone(), key.as_ref().to_vec(), job.clone());
    at_once(async move { group.try_work(key, || job.run()).await })
}

/// So many callers on one replica.
pub fn callers(
    group: &Group<String>,
    callers: usize,
    key: impl AsRef<[u8]>,
    job: &Job,
) -> Vec<JoinHandle<Flown<String>>> {
    (0..callers).map(|_| call(group, &key, job)).collect()
}

/// Nobody hangs: all answers, in the order of the calls.
pub async fn answers<T>(calls: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let all = async {
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("no call panics"));
        }
        answers
    };
    timeout(PATIENCE, all).await.expect("every caller is answered")
}

/// That all got what the execution with this number returned.
pub fn assert_all(flown: &[Flown<String>], value: &str) {
    assert!(!flown.is_empty() && flown.iter().all(|flown| flown.value == value), "{value:?} for all, got {flown:?}");
}

/// Repeats a look at something until it shows what is expected.
pub async fn until<T: PartialEq + Debug>(expected: T, mut look: impl AsyncFnMut() -> T) {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if seen == expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "expected {expected:?}, and there is {seen:?}");
        sleep(2 * MS).await;
    }
}

/// The key under which a group of the fleet stores.
pub fn group_key(key: impl AsRef<[u8]>) -> Key {
    Key::builder("group").part("test").part("").part(1_u32.to_be_bytes()).part(key).finish()
}

/// A group on a handle of its own: one replica.
pub fn group(redis: Redis) -> Group<String> {
    // Longer than any test is patient: whoever hangs is seen to hang.
    Group::new(redis, "test").wait_timeout(LONG)
}

/// So many replicas, connected.
pub async fn replicas(server: &Server, n: usize, set: impl Fn(Group<String>) -> Group<String>) -> Vec<Group<String>> {
    let mut groups = Vec::new();
    for _ in 0..n {
        groups.push(set(group(Redis::connect(&server.url(), APP).await.unwrap())));
    }
    groups
}

/// So many replicas, each behind a proxy of its own.
pub async fn proxied(
    server: &Server,
    n: usize,
    set: impl Fn(Group<String>) -> Group<String>,
) -> (Vec<Proxy>, Vec<Group<String>>) {
    let (mut proxies, mut groups) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let proxy = Proxy::start(server.port()).await;
        groups.push(set(group(Redis::connect(&proxy.url(), APP).await.unwrap())));
        proxies.push(proxy);
    }
    (proxies, groups)
}

/// Waits until so many inboxes are noted in the state of a key.
pub async fn parked(server: &Server, key: &Key, inboxes: usize) {
    let mut connection = server.connection().await;
    let state = forge::name(APP, key, "s");
    until(inboxes, async || {
        let waiting: Option<String> =
            redis::cmd("HGET").arg(&state).arg("w").query_async(&mut connection).await.unwrap();
        waiting.unwrap_or_default().split_whitespace().count()
    })
    .await;
}

/// Waits until the record of a key is stored.
pub async fn landed(server: &Server, key: &Key) {
    let mut connection = server.connection().await;
    let record = forge::name(APP, key, "r");
    until(1, async || redis::cmd("EXISTS").arg(&record).query_async::<u32>(&mut connection).await.unwrap()).await;
}

/// Waits until the handles work again by themselves: a strict call tells what the others bridge.
pub async fn recovered(groups: &[Group<String>]) -> Duration {
    let start = Instant::now();
    for (replica, group) in groups.iter().enumerate() {
        while let Err(error) = group.try_work(format!("recovered {replica}"), || Job::quick().run()).await {
            assert!(start.elapsed() < PATIENCE, "replica {replica} does not recover: {error}");
            sleep(5 * MS).await;
        }
    }
    start.elapsed()
}

/// Callers on all replicas at once share one execution.
pub async fn burst(server: &Server, groups: &[Group<String>], key: &str) {
    let job = Job::held();
    let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 5, key, &job)).collect();
    job.started(1).await;
    parked(server, &group_key(key), groups.len() - 1).await;
    job.release();
    assert_all(&answers(calls).await, &job.value(1));
    assert_eq!(job.runs(), 1);
}
