//! One node behind a connection that fails.

use tokio::time::timeout;
use tower_singleflight::LockError;

use super::*;
use crate::support::{Proxy, fleet::MS};

/// Faults begin and end.
type Fault = fn(&Proxy, bool);

const FAULTS: [(&str, Fault); 6] = [
    ("nothing passes", |proxy, on| proxy.hang(on)),
    ("answers do not pass", |proxy, on| proxy.mute(on)),
    ("answers are lost with their connections", |proxy, on| {
        if !on {
            proxy.cut();
        }
        proxy.mute(on);
    }),
    ("there is no connection", |proxy, on| {
        proxy.refuse(on);
        proxy.cut();
    }),
    ("messages are lost", |proxy, on| proxy.drop_messages(on)),
    ("connections break", |proxy, _| proxy.cut()),
];

/// Whatever becomes of one connection of three, nobody waits for it, and nothing is left when it is well again.
///
/// Fails if a request that was done, and whose answer was lost, is not undone.
#[tokio::test]
async fn one_of_three() {
    let servers = servers::<3>();
    let proxy = Proxy::start(servers[0].port()).await;
    for (fault, set) in FAULTS {
        println!("{fault}");
        let behind = Redis::builder(APP).command_timeout(LEASE).connect(&proxy.url()).await.unwrap();
        let nodes = [behind, handle(&servers[1]).await, handle(&servers[2]).await];
        let (mutex, other) = (mutex(&nodes, NAME), process(&servers).await);
        warm(&servers).await;
        let early = mutex.lock().await.unwrap();
        set(&proxy, true);
        promptly("extending", early.extend()).await.unwrap();
        promptly("unlocking", early.unlock()).await.unwrap();
        // What was held there may be held until this connection is well; the others are enough.
        let guard = promptly("locking", mutex.lock()).await.unwrap();
        let waiter = tokio::spawn({
            let other = other.clone();
            async move { other.lock().await }
        });
        in_line(&servers, NAME, 1).await;
        promptly("unlocking", guard.unlock()).await.unwrap();
        let next = promptly("the way to the next one", waiter).await.unwrap().unwrap();
        // Not to wait for something: this is the moment at which it leaves.
        assert!(timeout(5 * MS, mutex.lock()).await.is_err());
        set(&proxy, false);
        next.unlock().await.unwrap();
        empty(&servers).await;
    }
}

/// A grant of which the only node's answer was lost is recognised as one's own by the next attempt. Fails if each
/// attempt has a token of its own.
#[tokio::test]
async fn the_only_one_loses_an_answer() {
    let server = Server::start();
    let servers = std::slice::from_ref(&server);
    warm(servers).await;
    for _ in 0..5 {
        // A handle whose connections are all well.
        let proxy = Proxy::start(server.port()).await;
        let mutex = mutex(&[Redis::connect(&proxy.url(), APP).await.unwrap()], NAME);
        proxy.mute(true);
        let locking = tokio::spawn({
            let mutex = mutex.clone();
            async move { mutex.lock().await }
        });
        until(true, async || holder(&server, NAME).await.is_some()).await;
        let token = holder(&server, NAME).await;
        proxy.cut();
        proxy.mute(false);
        let guard = promptly("locking after all", locking).await.unwrap().unwrap();
        assert_eq!(Some(guard.token().to_string()), token);
        // What undoes the first attempt does not take it away.
        guard.extend().await.unwrap();
        assert_eq!(holder(&server, NAME).await, token);
        guard.unlock().await.unwrap();
        gone(servers, NAME).await;
    }
}

/// A release of which the answer was lost, and one that never arrived.
#[tokio::test]
async fn the_only_one_loses_a_release() {
    let server = Server::start();
    let servers = std::slice::from_ref(&server);
    let proxy = Proxy::start(server.port()).await;
    let nodes = [Redis::connect(&proxy.url(), APP).await.unwrap()];
    let mutex = mutex(&nodes, NAME).timeout_factor(0.2 / LEASE.as_secs_f64());
    warm(servers).await;
    for arrives in [true, false] {
        let guard = mutex.lock().await.unwrap();
        if arrives {
            proxy.mute(true);
        } else {
            proxy.hang(true);
        }
        let outcome = guard.unlock().await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))), "it is not known: {outcome:?}");
        proxy.cut();
        proxy.mute(false);
        proxy.hang(false);
        gone(servers, NAME).await;
        // The first exchange after a loss may tell of it.
        until(true, async || mutex.lock_timeout(500 * MS).await.is_ok()).await;
        gone(servers, NAME).await;
    }
}
