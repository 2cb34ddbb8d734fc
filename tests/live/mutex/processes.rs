//! Holders and waiters that are processes of their own, and are killed.

use std::{
    env,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::*;
use crate::support::calls::PATIENCE;

/// Tells the test binary, when it is started once more, where it is to lock and for how many milliseconds.
const TOLD: &str = "SINGLEFLIGHT_LIVE_CONTENDER";

/// What a contender says when it holds the lock.
const HELD: &str = "the lock is held";

/// A process that locks, and holds what it has until it is killed.
struct Contender {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Contender {
    fn start(server: &Server, lease: Duration) -> Self {
        let mut process = Command::new(env::current_exe().expect("a test knows where it is"))
            .args(["--exact", "mutex::processes::a_contender", "--nocapture"])
            .env(TOLD, format!("{} {}", server.url(), lease.as_millis()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a test can be started");
        let says = BufReader::new(process.stdout.take().expect("its output is ours")).lines();
        Self { process, says }
    }

    async fn holds(&mut self) {
        let held = async {
            while let Some(line) = self.says.next_line().await.expect("its output is text") {
                // The harness may have begun the line.
                if line.ends_with(HELD) {
                    return;
                }
            }
            panic!("the contender ended");
        };
        timeout(PATIENCE, held).await.expect("it gets the lock");
    }

    /// Without warning (SIGKILL); returns when it is gone, for redis as well.
    async fn kill(mut self, server: &Server) {
        let before = inboxes(server).await;
        self.process.kill().await.expect("the process is ours");
        until(before - 1, async || inboxes(server).await).await;
    }
}

async fn inboxes(server: &Server) -> usize {
    server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()
}

/// The other process of the tests below. It does nothing unless they started it.
#[tokio::test]
async fn a_contender() {
    let Ok(told) = env::var(TOLD) else { return };
    let (url, lease) = told.split_once(' ').expect("an address and a lease");
    let redis = Redis::connect(url, APP).await.unwrap();
    let mutex = mutex(&[redis], NAME).ttl(Duration::from_millis(lease.parse().unwrap())).auto_renew(true);
    let guard = mutex.lock().await.unwrap();
    println!("{HELD}");
    guard.lost().await;
}

/// The lock of a killed process goes on to the next one when what is left of its lease is over: not before, and not
/// much later.
///
/// Fails if who waits does not look when the lease is over, as nobody releases it.
#[tokio::test]
async fn the_lock_of_a_killed_holder_is_held_after_the_rest_of_its_lease() {
    let server = Server::start();
    let lease = Duration::from_secs(3);
    let mut first = Contender::start(&server, lease);
    first.holds().await;
    let token = holder(&server, NAME).await;
    let mut second = Contender::start(&server, LEASE);
    waiting(&server, NAME, 1).await;
    first.kill(&server).await;
    let killed = Instant::now();
    let left: u64 = server.run(&["PTTL", &places(APP, NAME)[0]]).await;
    assert_eq!(holder(&server, NAME).await, token, "it could not release");
    second.holds().await;
    let waited = killed.elapsed();
    println!(
        "a lease of {lease:?} had {left} ms left when its holder was killed: the next one held it after {waited:?}"
    );
    assert!(waited >= Duration::from_millis(left));
    assert_ne!(holder(&server, NAME).await, token);
}

/// A place of a killed process is passed over by the release itself. Fails if the lock is granted to whoever is the first in
/// line: nobody would hold it for the whole lease.
#[tokio::test]
async fn a_killed_waiter_is_passed_over() {
    let server = Server::start();
    let (mutex, other) = (process(std::slice::from_ref(&server)).await, process(std::slice::from_ref(&server)).await);
    let guard = mutex.lock().await.unwrap();
    let killed = [Contender::start(&server, LEASE), Contender::start(&server, LEASE)];
    waiting(&server, NAME, 2).await;
    let waiter = tokio::spawn(async move { other.lock().await });
    waiting(&server, NAME, 3).await;
    for contender in killed {
        contender.kill(&server).await;
    }
    waiting(&server, NAME, 3).await;
    let start = Instant::now();
    guard.unlock().await.unwrap();
    let next = promptly("the way past the dead", waiter).await.unwrap().unwrap();
    println!("the release passed over two killed processes in {:?}", start.elapsed());
    next.unlock().await.unwrap();
}
