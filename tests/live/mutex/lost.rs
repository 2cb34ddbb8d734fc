//! Locks that end before their holder wants them to.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tower_singleflight::LockError;

use super::*;
use crate::support::{calls::PATIENCE, fleet::MS};

/// A lease that is renewed every three seconds.
const RENEWED: Duration = Duration::from_secs(9);

/// Holds a renewed lock while somebody does away with it, and returns a guard that has been told.
async fn robbed(server: &Server, rob: impl AsyncFnOnce()) -> MutexGuard {
    let mutex = process(std::slice::from_ref(server)).await.ttl(RENEWED).auto_renew(true);
    let guard = mutex.lock().await.unwrap();
    rob().await;
    let robbed = Instant::now();
    timeout(PATIENCE, guard.lost()).await.expect("it is told");
    let told = robbed.elapsed();
    println!("told {told:?} after the loss");
    assert!(told < 2 * RENEWED / 3, "{told:?}, and a renewal is due every third of {RENEWED:?}");
    assert!(matches!(guard.extend().await, Err(LockError::NotHeld)), "it did not just expire");
    guard
}

/// Whoever holds it now keeps it: the robbed one takes nothing away, whatever it does.
///
/// Fails if a renewal that is refused is taken for one whose outcome is unknown, or a release deletes what is another's.
#[tokio::test]
async fn a_lock_that_was_flushed_or_stolen_is_told_within_a_renewal() {
    let flushed = async {
        let server = Server::start();
        let guard = robbed(&server, async || server.run::<()>(&["FLUSHALL"]).await).await;
        let ended = guard.unlock().await.unwrap_err();
        assert!(matches!(ended, LockError::NotHeld), "{ended}");
        assert_eq!(server.run::<usize>(&["DBSIZE"]).await, 0, "what is lost stays lost");
    };
    let replaced = async {
        let server = Server::start();
        let lock = &places(APP, NAME)[0];
        let by_hand = async || {
            let _: usize = server.run(&["DEL", lock]).await;
            server.set(lock, "mine", None).await;
        };
        let guard = robbed(&server, by_hand).await;
        assert!(matches!(guard.unlock().await, Err(LockError::NotHeld)));
    };
    let taken = async {
        let server = Server::start();
        let thief = process(std::slice::from_ref(&server)).await;
        let mut stolen = None;
        let steal = async || {
            let _: usize = server.run(&["DEL", &places(APP, NAME)[0]]).await;
            stolen = Some(thief.try_lock().await.unwrap());
        };
        let guard = robbed(&server, steal).await;
        let stolen = stolen.unwrap();
        assert!(matches!(guard.extend_to(LEASE).await, Err(LockError::NotHeld)));
        assert!(matches!(guard.unlock().await, Err(LockError::NotHeld)));
        stolen.extend().await.unwrap();
        assert_eq!(holder(&server, NAME).await, Some(stolen.token().to_string()));
        stolen.unlock().await.unwrap();
    };
    tokio::join!(flushed, replaced, taken);
}

/// A lock that expired says so, not that it was taken, whoever holds it by now; and no other one is harmed.
///
/// Fails if the end of a lease is told by what the nodes say.
#[tokio::test]
async fn a_lock_that_expired_says_expired_whoever_holds_it() {
    let servers = servers::<1>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    for taken in [false, true] {
        let guard = mutex.clone().ttl(300 * MS).lock().await.unwrap();
        guard.lost().await;
        let next = if taken { Some(other.lock().await.unwrap()) } else { None };
        assert!(matches!(guard.extend().await, Err(LockError::Expired)));
        assert!(matches!(guard.extend_to(LEASE).await, Err(LockError::Expired)));
        assert!(matches!(guard.unlock().await, Err(LockError::Expired)));
        if let Some(next) = next {
            assert_eq!(holder(&servers[0], NAME).await, Some(next.token().to_string()));
            next.extend().await.unwrap();
            next.unlock().await.unwrap();
        }
        gone(&servers, NAME).await;
    }
}

/// The time of a lock is redis' own: it is there until its holder has ceased to believe in it, and another one has it
/// soon after.
///
/// Fails if a holder believes longer than its lease, a fraction of a millisecond is cut off, or waiting is not ended by the
/// end of the lease.
#[tokio::test]
async fn a_lease_is_kept_to_the_millisecond() {
    let servers = servers::<1>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    warm(&servers).await;
    for (micros, millis) in [(60_000, 60), (250_500, 251), (500_000, 500), (1_000_001, 1_001), (1_500_000, 1_500)] {
        let (asked, lease) = (Instant::now(), Duration::from_micros(micros));
        // On a busy machine the shortest lease may be over before it is told.
        let Ok(guard) = mutex.clone().ttl(lease).try_lock().await else {
            assert!(asked.elapsed() >= lease / 10, "{lease:?}");
            gone(&servers, NAME).await;
            continue;
        };
        let left: i64 = servers[0].run(&["PTTL", &places(APP, NAME)[0]]).await;
        assert!(left <= millis && (left > 0 || asked.elapsed() >= lease), "{left} of {lease:?}");
        let next = timeout(PATIENCE, other.lock()).await.expect("it is over").unwrap();
        let waited = asked.elapsed();
        println!("after a lease of {lease:?} the next one held it after {waited:?}");
        assert!(waited >= lease && guard.until() <= tokio::time::Instant::now(), "{lease:?}: {waited:?}");
        assert!(matches!(guard.unlock().await, Err(LockError::Expired)));
        next.unlock().await.unwrap();
    }
}

/// Fails if half a second is rounded to no second at all, which deletes.
#[tokio::test]
async fn an_extension_of_half_a_second_deletes_nothing() {
    let servers = servers::<1>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    let lock = &places(APP, NAME)[0];
    for lease in [LEASE, 50 * MS] {
        let guard = mutex.lock().await.unwrap();
        for extension in [500 * MS, Duration::from_micros(499_999), 500 * MS] {
            let asked = Instant::now();
            guard.extend_to(extension).await.unwrap();
            let left: i64 = servers[0].run(&["PTTL", lock]).await;
            assert!(left <= 500 && (left > 0 || asked.elapsed() >= extension), "{left}");
        }
        if lease == LEASE {
            guard.extend().await.unwrap();
            assert!(servers[0].run::<i64>(&["PTTL", lock]).await > 60_000);
            guard.unlock().await.unwrap();
        } else {
            let sent = guard.until();
            let next = timeout(PATIENCE, other.lock()).await.expect("half a second is over").unwrap();
            assert!(tokio::time::Instant::now() >= sent);
            next.unlock().await.unwrap();
        }
    }
}
