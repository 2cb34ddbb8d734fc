//! Who fails to get the lock, or gives up, leaves nothing behind: no key, no place in line.

use std::time::Instant;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

use super::*;
use crate::support::fleet::MS;

/// How often a server has run scripts.
async fn scripts_run(server: &Server) -> usize {
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.and_then(|calls| calls.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

/// What one node granted, and two did not, is taken back, also from a node that only grants it when it goes on.
///
/// Fails if a failed attempt is not undone, or only on the nodes that have granted it.
#[tokio::test]
async fn after_failing() {
    let mut servers = servers::<3>();
    let mutex = process(&servers).await.timeout_factor(0.3 / LEASE.as_secs_f64());
    warm(&servers).await;
    for hung in [1, 2] {
        let before = scripts_run(&servers[0]).await;
        servers[..hung].iter().for_each(Server::pause);
        if hung == 1 {
            servers[1].kill();
        }
        let failed = if hung == 1 { mutex.try_lock().await } else { mutex.clone().fail_fast(true).lock().await };
        assert!(matches!(failed, Err(LockError::Quorum(_))), "{failed:?}");
        let start = Instant::now();
        empty(&servers[2..]).await;
        println!("the node that granted it was clean {:?} after the failure", start.elapsed());
        servers[..hung].iter().for_each(Server::resume);
        let start = Instant::now();
        // The attempt, and what undoes it.
        until(true, async || scripts_run(&servers[0]).await >= before + 2).await;
        empty(&servers[..hung]).await;
        println!("the nodes that hung were clean {:?} after they went on", start.elapsed());
        if hung == 1 {
            servers[1].restart().await;
            // Its handle has noticed, and the others have their part in it.
            until(true, async || {
                let guard = mutex.lock().await.unwrap();
                let held = holder(&servers[1], NAME).await.is_some();
                guard.unlock().await.unwrap();
                held
            })
            .await;
            warm(&servers).await;
        }
    }
}

/// Who is told that others are in line before it has no place there either.
#[tokio::test]
async fn after_being_refused() {
    let servers = servers::<3>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    let guard = mutex.lock().await.unwrap();
    assert!(is_taken(other.try_lock().await));
    assert!(is_taken(other.clone().tries(1).lock().await));
    let timed_out = other.lock_timeout(50 * MS).await.unwrap_err();
    assert!(matches!(timed_out, LockError::TimedOut { .. }), "{timed_out}");
    for server in &servers {
        waiting(server, NAME, 0).await;
    }
    guard.unlock().await.unwrap();
    empty(&servers).await;
}

/// Callers that leave at any moment: before they have asked, while the nodes answer, when they hold it.
///
/// Fails if what a dropped attempt was granted is not taken back.
#[tokio::test]
async fn after_callers_that_left() {
    let servers = servers::<3>();
    let mutexes = [process(&servers).await, process(&servers).await];
    let mut random = StdRng::seed_from_u64(1);
    warm(&servers).await;
    let mut held = 0;
    for hung in [None, Some(&servers[0]), None] {
        hung.inspect(|server| server.pause());
        for round in 0..100 {
            let moment = MS.mul_f64(random.random_range(0.0..3.0));
            // Not to wait for something: this is the moment at which it leaves.
            let left = timeout(moment, mutexes[round % 2].lock()).await;
            held += usize::from(left.is_ok());
        }
        hung.inspect(|server| server.resume());
        empty(&servers).await;
    }
    println!("{held} of 300 callers had the lock before they left");
    promptly("locking after them", mutexes[0].lock()).await.unwrap().unlock().await.unwrap();
    empty(&servers).await;
}

/// Callers that leave while they wait in line, one of them while it is being granted the lock: it is passed on.
///
/// Fails if a caller that leaves keeps its place: the release would grant the lock to nobody, for as long as its lease.
#[tokio::test]
async fn after_callers_that_left_the_line() {
    let servers = servers::<3>();
    let (mutex, other, last) = (process(&servers).await, process(&servers).await, process(&servers).await);
    let mut random = StdRng::seed_from_u64(2);
    warm(&servers).await;
    for hangs in [false, true] {
        for _ in 0..20 {
            let guard = mutex.lock().await.unwrap();
            let waiter = tokio::spawn({
                let other = other.clone();
                async move { other.lock().await.map(drop) }
            });
            in_line(&servers, NAME, 1).await;
            let next = tokio::spawn({
                let last = last.clone();
                async move { last.lock().await }
            });
            in_line(&servers, NAME, 2).await;
            if hangs {
                servers[1].pause();
            }
            let releasing = tokio::spawn(guard.unlock());
            // Not to wait for something: this is the moment at which it leaves.
            sleep(MS.mul_f64(random.random_range(0.0..1.0))).await;
            waiter.abort();
            releasing.await.unwrap().unwrap();
            let next = promptly("the way to the next one", next).await.unwrap().unwrap();
            promptly("unlocking", next.unlock()).await.unwrap();
            servers[1].resume();
            empty(&servers).await;
        }
    }
}
