//! Mutexes on real servers, through nothing but the public interface.
//!
//! Leases are [`LEASE`] long where their length is not the subject: what ends within a test's patience was ended by
//! somebody, and did not expire.

mod connections;
mod contention;
mod faults;
mod fences;
mod guards;
mod held;
mod lost;
mod nodes;
mod order;
mod processes;
mod restarts;
mod traces;

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tower_singleflight::{LockError, Mutex, MutexGuard, backend::Redis, mutex::NodeOutcome};

use crate::support::{
    Server,
    fleet::{APP, until},
    locks::{Laid, floor_of, places, waiters},
};

/// Far longer than any test is patient.
const LEASE: Duration = Duration::from_secs(120);

/// A node's time limit. What takes less than half of it has not waited for a node.
const LIMIT: Duration = Duration::from_secs(8);

/// The name of most locks.
const NAME: &str = "job";

fn servers<const N: usize>() -> [Server; N] {
    std::array::from_fn(|_| Server::start())
}

/// A handle that leaves it to the mutex to give a node up.
async fn handle(server: &Server) -> Redis {
    Redis::builder(APP).command_timeout(LEASE).connect(&server.url()).await.unwrap()
}

/// Handles of one process.
async fn handles(servers: &[Server]) -> Vec<Redis> {
    let mut handles = Vec::new();
    for server in servers {
        handles.push(handle(server).await);
    }
    handles
}

/// A mutex with the usual settings.
fn mutex(nodes: &[Redis], name: &str) -> Mutex {
    Mutex::new(nodes.to_vec(), name).ttl(LEASE).timeout_factor(LIMIT.as_secs_f64() / LEASE.as_secs_f64())
}

/// A mutex of one process, on handles of its own.
async fn process(servers: &[Server]) -> Mutex {
    mutex(&handles(servers).await, NAME)
}

/// Has every server learn the scripts, and leaves it empty.
async fn warm(servers: &[Server]) {
    for server in servers {
        let guard = mutex(&[handle(server).await], NAME).lock().await.unwrap();
        guard.extend().await.unwrap();
        guard.unlock().await.unwrap();
        let () = server.run(&["FLUSHALL"]).await;
    }
}

/// The token under which a server knows the lock to be held.
async fn holder(server: &Server, name: &str) -> Option<String> {
    Laid::read(server, &places(APP, name)[0]).await.map(|laid| laid.token)
}

/// Waits until the servers know nothing of the lock, except its floor if it had one.
async fn gone(servers: &[Server], name: &str) {
    for server in servers {
        until(0, async || server.run::<usize>(&["EXISTS", &places(APP, name)[0]]).await).await;
    }
}

/// Waits until there is nothing at all on the servers.
async fn empty(servers: &[Server]) {
    for server in servers {
        until(0, async || server.run::<usize>(&["DBSIZE"]).await).await;
    }
}

/// Waits until so many have a place in line on a server.
async fn waiting(server: &Server, name: &str, places_taken: usize) {
    until(places_taken, async || waiters(server, &places(APP, name)[0]).await).await;
}

/// Waits until so many wait for the lock: each has a place in line on more than half of the servers.
async fn in_line(servers: &[Server], name: &str, contenders: usize) {
    let quorum = servers.len() / 2 + 1;
    until(true, async || {
        let mut count = 0;
        for server in servers {
            count += waiters(server, &places(APP, name)[0]).await;
        }
        count >= contenders * quorum
    })
    .await;
}

/// Does something, no node of which is waited for.
async fn promptly<T>(what: &str, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let value = timeout(LIMIT / 2, work).await.unwrap_or_else(|_| panic!("{what} waits for a node, or for nothing"));
    println!("{what} took {:?}", start.elapsed());
    value
}

/// What each node did when an operation failed because of them.
fn outcomes<T>(outcome: Result<T, LockError>) -> Vec<NodeOutcome> {
    match outcome {
        Err(LockError::Quorum(failed)) => failed.nodes,
        Err(other) => panic!("nodes failed, and it says: {other}"),
        Ok(_) => panic!("too many nodes failed, and it succeeded"),
    }
}

fn is_taken<T>(outcome: Result<T, LockError>) -> bool {
    matches!(outcome, Err(LockError::Taken(_)))
}

/// Everything a holder does, on nodes of which a minority fails.
async fn all_goes_well(mutex: &Mutex, other: &Mutex) -> MutexGuard {
    let guard = promptly("locking", mutex.lock()).await.unwrap();
    promptly("extending", guard.extend()).await.unwrap();
    promptly("raising the fence", guard.fence()).await.unwrap();
    assert!(promptly("asking whether it is held", other.is_locked()).await.unwrap());
    assert!(is_taken(promptly("being refused", other.try_lock()).await));
    promptly("unlocking", guard.unlock()).await.unwrap();
    assert!(!promptly("asking whether it is free", mutex.is_locked()).await.unwrap());
    let guard = promptly("locking elsewhere", other.lock()).await.unwrap();
    assert!(is_taken(promptly("being refused in turn", mutex.try_lock()).await));
    guard
}
