//! Three servers, or an even number of them, some of which are killed or hang.

use std::time::{Duration, Instant};

use tower_singleflight::{
    LockError,
    backend::Redis,
    mutex::{NodeOutcome, Retry},
};

use super::*;
use crate::support::{calls::PATIENCE, fleet::MS};

#[tokio::test]
async fn one_that_is_killed_is_not_missed() {
    let mut servers = servers::<3>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    warm(&servers).await;
    let early = mutex.lock().await.unwrap();
    servers[1].kill();
    promptly("extending what was held before", early.extend()).await.unwrap();
    promptly("unlocking what was held before", early.unlock()).await.unwrap();
    all_goes_well(&mutex, &other).await.unlock().await.unwrap();
    gone(&servers[..1], NAME).await;
    gone(&servers[2..], NAME).await;
}

/// Nobody waits for it, and what it was asked meanwhile leaves nothing when it goes on.
///
/// Fails if a round waits for all of its nodes.
#[tokio::test]
async fn one_that_hangs_is_not_waited_for() {
    let servers = servers::<3>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    warm(&servers).await;
    servers[0].pause();
    let guard = all_goes_well(&mutex, &other).await;
    promptly("unlocking elsewhere", guard.unlock()).await.unwrap();
    servers[0].resume();
    gone(&servers, NAME).await;
}

/// At once, and by name, it is told which nodes failed; what is held ends by its own time.
///
/// Fails if a round waits for the node that cannot change its outcome, or a renewal that failed is taken for good or
/// bad news.
#[tokio::test]
async fn without_a_majority_nothing_is_promised() {
    let mut servers = servers::<3>();
    let lease = Duration::from_secs(2);
    let nodes = handles(&servers).await;
    let held = mutex(&nodes, "held").ttl(lease).auto_renew(true).lock().await.unwrap();
    let contender = mutex(&nodes, NAME).fail_fast(true);
    servers[0].kill();
    servers[2].kill();
    let killed = Instant::now();
    let error = promptly("failing", contender.lock()).await.unwrap_err();
    let text = error.to_string();
    assert!((0..3).all(|node| text.contains(&format!("node {node} "))), "{text}");
    let outcomes = outcomes::<()>(Err(error));
    assert!(matches!(outcomes[..], [NodeOutcome::Failed(_), _, NodeOutcome::Failed(_)]), "{outcomes:?}");
    // Once it is known that they are away, also where they were.
    let text = promptly("failing again", contender.lock()).await.unwrap_err().to_string();
    assert!([0, 2].iter().all(|node| text.contains(&servers[*node].port().to_string())), "{text}");
    assert!(matches!(promptly("looking", contender.is_locked()).await, Err(LockError::Quorum(_))));

    held.lost().await;
    let until = held.until().into_std();
    assert!(until <= Instant::now() && until <= killed + lease, "no renewal could succeed any more");
    assert!(matches!(held.extend().await, Err(LockError::Expired)));
    drop(held);
    empty(&servers[1..2]).await;
}

/// The time limit of a node is what a failure costs. When they go on, what they were asked is taken back.
#[tokio::test]
async fn a_majority_that_hangs_costs_the_time_limit() {
    let servers = servers::<3>();
    let limit = Duration::from_millis(700);
    let nodes = handles(&servers).await;
    let contender = mutex(&nodes, NAME).timeout_factor(limit.as_secs_f64() / LEASE.as_secs_f64());
    warm(&servers).await;
    let held = mutex(&nodes, "held").ttl(Duration::from_secs(2)).auto_renew(true).lock().await.unwrap();
    servers[0].pause();
    servers[1].pause();
    let paused = Instant::now();
    let outcomes = outcomes(contender.try_lock().await);
    println!("failing took {:?}, where nodes have {limit:?}", paused.elapsed());
    assert!(paused.elapsed() >= limit && paused.elapsed() < limit + PATIENCE);
    assert!(matches!(outcomes[..2], [NodeOutcome::TimedOut, NodeOutcome::TimedOut]), "{outcomes:?}");
    assert!(matches!(outcomes[2], NodeOutcome::Done | NodeOutcome::TimedOut), "{outcomes:?}");
    held.lost().await;
    assert!(held.until().into_std() <= paused + Duration::from_secs(2));
    assert!(matches!(held.extend().await, Err(LockError::Expired)));
    drop(held);
    servers[0].resume();
    servers[1].resume();
    empty(&servers).await;
    contender.lock().await.unwrap().unlock().await.unwrap();
    empty(&servers).await;
}

/// Half of an even number decides at once that there is no quorum, though the others hang. Fails if it waits for them.
#[tokio::test]
async fn half_of_an_even_number_is_too_few() {
    let mut servers = servers::<4>();
    for count in [2, 4] {
        let mutex = process(&servers[..count]).await.fail_fast(true);
        warm(&servers[..count]).await;
        let (killed, hung) = servers[..count].split_at_mut(count / 2);
        killed.iter_mut().for_each(Server::kill);
        hung.iter().for_each(Server::pause);
        let outcomes = outcomes(promptly(&format!("failing on {count} nodes"), mutex.lock()).await);
        let failed = |outcome: &NodeOutcome| matches!(outcome, NodeOutcome::Failed(_));
        assert!(outcomes[..count / 2].iter().all(failed), "{outcomes:?}");
        hung.iter().for_each(Server::resume);
        empty(hung).await;
        for server in killed {
            server.restart().await;
        }
    }
}

/// Handles of servers that are not there yet: as many as are needed, and then all.
#[tokio::test]
async fn one_that_is_started_late_takes_part() {
    let mut servers = servers::<3>();
    servers[1..].iter_mut().for_each(Server::kill);
    let nodes: Vec<_> = servers.iter().map(|server| Redis::connect_lazy(&server.url(), APP).unwrap()).collect();
    let mutex = mutex(&nodes, NAME).retry(Retry::fixed(20 * MS)).tries(u32::MAX);
    let mut locking = Box::pin(mutex.lock());
    assert!(outcomes(mutex.clone().fail_fast(true).info().await).len() == 3);
    // It goes on trying while one server is all there is.
    assert!(timeout(200 * MS, &mut locking).await.is_err());
    servers[1].restart().await;
    let guard = timeout(PATIENCE, locking).await.expect("a quorum is there").unwrap();
    servers[2].restart().await;
    guard.unlock().await.unwrap();
    empty(&servers).await;
    // It is asked as well as soon as its handle has noticed, and then it is enough with either of the others.
    until(true, async || {
        let guard = mutex.lock().await.unwrap();
        let held = holder(&servers[2], NAME).await.is_some();
        guard.unlock().await.unwrap();
        held
    })
    .await;
    servers[0].kill();
    mutex.lock().await.unwrap().unlock().await.unwrap();
    empty(&servers[1..]).await;
}

/// It says so itself, while it is still listened to.
///
/// Fails if Redis waits for replicas for as long as the node may take.
#[tokio::test]
async fn one_without_its_replicas_says_so() {
    let servers = servers::<1>();
    let mutex = process(&servers).await.timeout_factor(0.1).ttl(Duration::from_secs(10)).min_replicas(1);
    warm(&servers).await;
    let told = outcomes(mutex.try_lock().await);
    let [NodeOutcome::Failed(error)] = &told[..] else { panic!("{told:?}") };
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    gone(&servers, NAME).await;
}
