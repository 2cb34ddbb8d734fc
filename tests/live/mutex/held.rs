//! One who holds a lock and others who look at it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::time::{Instant, timeout};
use tower_singleflight::{LockError, mutex::Token};

use super::*;
use crate::support::{calls::PATIENCE, fleet::MS};

/// They share everything but what they hold.
///
/// Fails if the token is the mutex' and not the guard's.
#[tokio::test]
async fn two_tasks_that_share_a_mutex_cannot_release_each_other() {
    let servers = servers::<3>();
    let mutex = process(&servers).await;
    let (short, long) = (mutex.clone().ttl(300 * MS), mutex.clone());
    let first = short.lock().await.unwrap();
    let waiting = tokio::spawn(async move { long.lock().await });
    let second = timeout(PATIENCE, waiting).await.expect("the first one's time is over").unwrap().unwrap();
    assert!(matches!(first.unlock().await, Err(LockError::Expired)));
    // Nor does one who waited, or tried, and left.
    assert!(matches!(mutex.lock_timeout(20 * MS).await, Err(LockError::TimedOut { .. })));
    assert!(is_taken(mutex.try_lock().await));
    assert!(matches!(mutex.from_token(Token::random()).await, Err(LockError::NotHeld)));
    for server in &servers {
        assert_eq!(holder(server, NAME).await, Some(second.token().to_string()));
    }
    second.unlock().await.unwrap();
    empty(&servers).await;
}

/// Fails if a mutex takes a lease that is longer than the longest for which redis is asked.
#[tokio::test]
async fn the_longest_lease_is_kept_for_as_long_as_its_holder_counts_on_it() {
    let servers = servers::<1>();
    let mutex = process(&servers).await.timeout_factor(1e-8);
    let years = |years: u64| Duration::from_secs(years * 366 * 24 * 3600);
    let longest = |ttl| catch_unwind(AssertUnwindSafe(|| mutex.clone().ttl(ttl)));
    assert!(longest(years(35)).is_err());
    let mutex = longest(years(30)).unwrap();
    let guard = mutex.lock().await.unwrap();
    let sure = guard.until() - Instant::now();
    assert!(mutex.info().await.unwrap().unwrap().left > sure);
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn a_lock_is_handed_over_with_its_token() {
    let servers = servers::<3>();
    let (mutex, other, third) = (process(&servers).await, process(&servers).await, process(&servers).await);
    let guard = mutex.clone().metadata("host a").lock().await.unwrap();
    let fence = guard.fence().await.unwrap();
    let text = guard.into_token().to_string();
    assert!(is_taken(third.try_lock().await), "it was not released");
    let guard = other.from_token(text.parse().unwrap()).await.unwrap();
    // It is that of the same hold, or the greater one of a node that was not heard before.
    assert!(guard.fence().await.unwrap() >= fence);
    assert_eq!(guard.token().as_str(), text);
    // Its own requests count from now on, in whichever process they are numbered lower.
    for _ in 0..3 {
        guard.extend().await.unwrap();
    }
    assert_eq!(third.info().await.unwrap().unwrap().metadata.as_deref(), Some("host a"));
    guard.unlock().await.unwrap();
    gone(&servers, NAME).await;
    assert!(matches!(mutex.from_token(text.parse().unwrap()).await, Err(LockError::NotHeld)));
    let next = third.try_lock().await.unwrap();
    assert!(next.fence().await.unwrap() > fence);
}

#[tokio::test]
async fn who_is_refused_is_told_by_whom_and_for_how_long() {
    let servers = servers::<3>();
    for nodes in [1, 3] {
        let servers = &servers[..nodes];
        warm(servers).await;
        let (mutex, other) = (process(servers).await, process(servers).await);
        let guard = mutex.clone().metadata("host a, since nine").lock().await.unwrap();
        let until = guard.until();
        for server in servers {
            crate::support::fleet::until(Some(guard.token().to_string()), async || holder(server, NAME).await).await;
        }
        let refused = other.try_lock().await.unwrap_err();
        let LockError::Taken(taken) = &refused else { panic!("{refused}") };
        assert_eq!(taken.holder.as_deref(), Some("host a, since nine"));
        assert!(taken.left.is_some_and(|left| left <= LEASE && left > LEASE / 2), "{taken:?}");
        assert!(taken.nodes.len() > nodes / 2, "{taken:?}");
        assert!(refused.to_string().contains("host a, since nine"), "{refused}");
        let waited = other.lock_timeout(300 * MS).await.unwrap_err();
        assert!(std::error::Error::source(&waited).is_some_and(|last| last.to_string().contains("host a")), "{waited}");
        let fence = guard.fence().await.unwrap();
        let info = other.info().await.unwrap().unwrap();
        assert!(info.fence >= fence, "a quorum knows it");
        assert_eq!(info.metadata.as_deref(), Some("host a, since nine"));
        assert!(info.left <= LEASE && info.left > LEASE / 2 && info.nodes.len() > nodes / 2, "{info:?}");
        assert!(until > Instant::now());
        guard.unlock().await.unwrap();
        assert_eq!(other.info().await.unwrap(), None);
    }
}

/// Redis may forget the scripts at any time.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let servers = servers::<1>();
    let (mutex, other) = (process(&servers).await, process(&servers).await);
    let forget = async || servers[0].run::<()>(&["SCRIPT", "FLUSH"]).await;
    for _ in 0..3 {
        forget().await;
        let guard = mutex.lock().await.unwrap();
        let waiter = tokio::spawn({
            let other = other.clone();
            async move { other.lock().await }
        });
        waiting(&servers[0], NAME, 1).await;
        forget().await;
        guard.extend().await.unwrap();
        forget().await;
        guard.unlock().await.unwrap();
        let next = timeout(PATIENCE, waiter).await.expect("it was released").unwrap().unwrap();
        forget().await;
        drop(next);
        gone(&servers, NAME).await;
    }
}
