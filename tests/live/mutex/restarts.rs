//! Servers that come back empty while the lock is held.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tower_singleflight::LockError;

use super::*;
use crate::support::calls::PATIENCE;

/// A lease that is renewed every three seconds.
const RENEWED: Duration = Duration::from_secs(9);

async fn restart(servers: &mut [Server]) {
    servers.iter_mut().for_each(Server::kill);
    for server in servers {
        server.restart().await;
    }
}

/// What the nodes have forgotten is lost, and its holder is told by its next renewal: not by the end of its lease, nor
/// before it is true. Who waited for it is granted it although its places are gone.
///
/// Fails if a renewal that is refused by a quorum is taken for one whose outcome is unknown, or nobody tells those who
/// wait that messages may have been lost.
#[tokio::test]
async fn all_of_them() {
    let mut servers = servers::<3>();
    let (mutex, other) = (process(&servers).await.ttl(RENEWED).auto_renew(true), process(&servers).await);
    warm(&servers).await;
    let held = mutex.lock().await.unwrap();
    let waiter = tokio::spawn({
        let other = other.clone();
        async move { other.lock().await }
    });
    in_line(&servers, NAME, 1).await;
    let restarted = Instant::now();
    restart(&mut servers).await;
    let next = timeout(PATIENCE, waiter).await.expect("it asks again").unwrap().unwrap();
    println!("the one that waited held it {:?} after the servers were killed", restarted.elapsed());
    timeout(PATIENCE, held.lost()).await.expect("it is told");
    let told = restarted.elapsed();
    println!("the holder was told {told:?} after they were killed");
    assert!(told < 2 * RENEWED / 3, "a renewal is due every third of {RENEWED:?}");
    assert!(matches!(held.extend().await, Err(LockError::NotHeld)), "it did not just expire");
    assert!(matches!(held.unlock().await, Err(LockError::NotHeld | LockError::Expired)));
    next.extend().await.unwrap();
    next.unlock().await.unwrap();
    empty(&servers).await;
}

/// The others go on holding it. What is put back, where that was asked for, is released with the rest.
///
/// Fails if `set_nx_on_extend` does nothing, or does it without having been asked.
#[tokio::test]
async fn one_of_them() {
    let mut servers = servers::<3>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    for put_back in [false, true] {
        // One that was restarted has to learn the scripts again.
        warm(&servers).await;
        let guard = mutex.clone().set_nx_on_extend(put_back).lock().await.unwrap();
        let token = Some(guard.token().to_string());
        for server in &servers {
            until(token.clone(), async || holder(server, NAME).await).await;
        }
        restart(&mut servers[1..2]).await;
        // Its handle may not have noticed yet that it is back.
        until(true, async || {
            guard.extend().await.unwrap();
            !put_back || holder(&servers[1], NAME).await == token
        })
        .await;
        let extensions: usize = if put_back { 0 } else { extensions_refused(&servers[1], &guard).await };
        assert_eq!(holder(&servers[1], NAME).await, token.filter(|_| put_back), "{extensions} extensions later");
        assert!(is_taken(other.try_lock().await));
        guard.unlock().await.unwrap();
        empty(&servers).await;
    }
}

/// Extends until a server that knows nothing of the lock has been asked several times.
async fn extensions_refused(server: &Server, guard: &MutexGuard) -> usize {
    let mut extensions = 0;
    until(true, async || {
        guard.extend().await.unwrap();
        extensions += 1;
        let stats: String = server.run(&["INFO", "commandstats"]).await;
        stats.lines().filter(|line| line.starts_with("cmdstat_eval")).any(|line| !line.contains("calls=1,"))
    })
    .await;
    extensions
}

/// A node that has forgotten the scripts, as one that was restarted has, learns them from the next request, though the
/// others have decided before it could be repeated.
///
/// Fails if a request is dropped with its round where it has to be sent once more: the node would take no part from then on.
#[tokio::test]
async fn one_that_forgot_the_scripts() {
    let servers = servers::<3>();
    let mutex = process(&servers).await;
    warm(&servers).await;
    for _ in 0..20 {
        let () = servers[2].run(&["SCRIPT", "FLUSH"]).await;
        let guard = mutex.lock().await.unwrap();
        until(Some(guard.token().to_string()), async || holder(&servers[2], NAME).await).await;
        guard.unlock().await.unwrap();
        empty(&servers).await;
    }
}
