//! What locks cost in connections and exchanges.

use std::{slice, time::Duration};

use tower_singleflight::{SingleflightLayer, backend::Redis};

use super::*;
use crate::support::{
    Proxy,
    calls::LONG,
    fleet::{Job, answers, assert_all, call, group},
};

/// Layer, groups and locks have the connections of their handle in common, however many locks are held and waited for.
///
/// Fails if a mutex, or one who waits, connects by itself.
#[tokio::test]
async fn one_set_of_connections_serves_everything() {
    let server = Server::start();
    let servers = slice::from_ref(&server);
    let (mut connection, other) = (server.connection().await, handles(servers).await);
    let mut clients = async || -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        list.lines().count()
    };
    // Each has a connection for small commands and an inbox; one for large bodies is made when it is needed.
    until(1 + 2, &mut clients).await;
    let redis = handles(servers).await;
    let layer = SingleflightLayer::new(redis[0].clone()).lock_ttl(LONG);
    let group = group(redis[0].clone());
    let job = Job::sized(200_000);
    job.release();
    assert_all(&answers([call(&group, "large", &job)]).await, &job.value(1));
    until(1 + 2 + 3, &mut clients).await;

    let held = "held by the other";
    let blocker = mutex(&other, held).lock().await.unwrap();
    let (mut guards, mut waiters) = (Vec::new(), tokio::task::JoinSet::new());
    for number in 0..100 {
        guards.push(mutex(&redis, &format!("lock {number}")).auto_renew(true).lock().await.unwrap());
        let name = if number % 2 == 0 { held.to_owned() } else { format!("held {number}") };
        if number % 2 == 1 {
            std::mem::forget(mutex(&other, &name).lock().await.unwrap());
        }
        let waiter = mutex(&redis, &name);
        waiters.spawn(async move { waiter.lock().await.map(drop) });
    }
    // Those who wait for one lock are one to redis.
    waiting(&server, held, 1).await;
    for number in (1..100).step_by(2) {
        waiting(&server, &format!("held {number}"), 1).await;
    }
    assert_eq!(clients().await, 1 + 2 + 3);
    assert_all(&answers([call(&group, "another", &job)]).await, &job.value(2));
    assert_eq!(clients().await, 1 + 2 + 3);
    drop((blocker, layer));
    waiters.shutdown().await;
    drop(guards);
    assert_eq!(clients().await, 1 + 2 + 3);
}

/// A hundred locks are renewed in far fewer exchanges than there are renewals, though they were acquired at a hundred
/// moments.
///
/// Fails if each is renewed at a moment of its own.
#[tokio::test]
async fn renewals_travel_together() {
    const LOCKS: usize = 100;
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = [Redis::connect(&proxy.url(), APP).await.unwrap()];
    let lease = Duration::from_secs(4);
    let mut guards = Vec::new();
    for number in 0..LOCKS {
        let mutex = mutex(&redis, &format!("lock {number}")).ttl(lease).auto_renew(true);
        guards.push(mutex.lock().await.unwrap());
        // Spread over most of a cadence.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = (proxy.exchanges(), proxy.commands().len());
    until(true, async || proxy.commands().len() >= before.1 + 4 * LOCKS).await;
    let (exchanges, renewals) = (proxy.exchanges() - before.0, proxy.commands().len() - before.1);
    println!("{renewals} renewals of {LOCKS} locks travelled in {exchanges} exchanges");
    assert!(proxy.commands()[before.1..].iter().all(|command| command.starts_with("EVAL")));
    assert!(exchanges <= renewals / 4, "{renewals} renewals in {exchanges} exchanges");
    assert!(guards.iter().all(|guard| guard.until() > tokio::time::Instant::now()));
}
