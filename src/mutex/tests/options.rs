//! What can be set, and what is refused.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    super::{Retry, Token},
    faulty::{Faulty, Mode},
    *,
};
use crate::backend::Memory;

#[tokio::test(start_paused = true)]
async fn tokens_are_those_that_were_given() {
    let made = Arc::new(AtomicU32::new(0));
    let token = {
        let made = Arc::clone(&made);
        move || format!("token {}", made.fetch_add(1, Ordering::Relaxed)).parse().unwrap()
    };
    let mutex = Mutex::new(Memory::new(), "job").token_fn(token);
    for number in 0..3 {
        let guard = mutex.lock().await.unwrap();
        assert_eq!(guard.token().as_str(), format!("token {number}"));
        guard.unlock().await.unwrap();
    }
    // Equal tokens are one holder.
    let memory = Memory::new();
    let same = || Mutex::new(memory.replica(), "job").token("same".parse().unwrap());
    let (first, second) = (same().lock().await.unwrap(), same().lock().await.unwrap());
    assert_eq!(first.token(), second.token());
    let random = Mutex::new(Memory::new(), "job");
    let first: Token = random.lock().await.unwrap().into_token();
    tokio::time::advance(TTL).await;
    assert_ne!(first, random.lock().await.unwrap().into_token());
}

#[tokio::test(start_paused = true)]
async fn prefixes_and_names_separate_locks() {
    let memory = Memory::new();
    let mutex = |prefix: &str, name: &str| Mutex::new(memory.clone(), name).prefix(prefix);
    let _held = mutex("a:", "b").lock().await.unwrap();
    assert!(mutex("a:b", "b").try_lock().await.is_ok());
    assert!(mutex("a:", "c").try_lock().await.is_ok());
    assert!(mutex("a:", "b}").try_lock().await.is_ok());
    assert!(is_taken(mutex("a:", "b").try_lock().await));
    assert!(Mutex::new(memory.clone(), "b").try_lock().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spaced_as_the_policy_says() {
    let policies = [
        (Retry::fixed(100 * MS), 300),
        (Retry::linear(100 * MS, 250 * MS), 550),
        (Retry::exponential(100 * MS, Duration::from_secs(1)), 700),
        (Retry::custom(|failures| Some(failures * failures * 10 * MS)), 140),
    ];
    for (retry, whole) in policies {
        let node = Faulty::new();
        node.set(Mode::Failing);
        let mutex = Mutex::new(node.clone(), "job").tries(4);
        let (outcome, took) = timed(mutex.clone().retry(retry.clone()).lock()).await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))));
        assert_eq!((took, node.asked().acquire), (whole * MS, 4), "{retry:?}");
        let (_, took) = timed(mutex.retry(retry.clone().jittered(0.5)).lock()).await;
        assert!(took >= whole * MS / 2 && took <= (whole + 3) * MS, "{retry:?}: {took:?}");
    }
    let node = Faulty::new();
    node.set(Mode::Failing);
    let mutex = Mutex::new(node.clone(), "job").retry(Retry::custom(|failures| (failures < 3).then_some(MS)));
    assert!(matches!(mutex.lock().await, Err(LockError::Cancelled)));
    assert_eq!(node.asked().acquire, 3);
}

#[tokio::test(start_paused = true)]
async fn a_delay_without_an_end_is_one() {
    let node = Faulty::new();
    node.set(Mode::Failing);
    let mutex = Mutex::new(node, "job").retry(Retry::fixed(Duration::MAX));
    let outcome = mutex.lock_timeout(Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(LockError::TimedOut { .. })));
}

/// Fails if a deadline is not kept while attempts end at once and no pause is set between them.
#[tokio::test]
async fn a_limit_is_kept_where_nothing_is_waited_for() {
    let node = Faulty::new();
    node.set(Mode::Failing);
    let mutex = Mutex::new(node.clone(), "job").retry(Retry::fixed(Duration::ZERO)).tries(100_000);
    let outcome = mutex.lock_timeout(5 * MS).await;
    assert!(matches!(outcome, Err(LockError::TimedOut { .. })), "after {} attempts", node.asked().acquire);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_milliseconds_is_one() {
    let mutex = Mutex::new(Memory::new(), "job").ttl(5 * MS);
    let guard = mutex.lock().await.unwrap();
    assert_eq!(guard.until() - Instant::now(), Duration::from_micros(2_950));
    tokio::time::advance(4 * MS).await;
    assert!(is_taken(mutex.try_lock().await));
    tokio::time::advance(MS).await;
    assert!(mutex.try_lock().await.is_ok());
}

#[tokio::test]
async fn memory_has_no_replicas_to_wait_for() {
    let outcome = Mutex::new(Memory::new(), "job").min_replicas(1).try_lock().await;
    assert!(outcome.unwrap_err().to_string().contains("min_replicas"));
}

/// Fails if settings that cannot work are tried again and again.
#[tokio::test(start_paused = true)]
async fn wrong_settings_are_told_at_once() {
    let (outcome, took) = timed(Mutex::new(Memory::new(), "job").min_replicas(1).lock()).await;
    assert!(outcome.is_err());
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn what_cannot_work_is_refused_where_it_is_set() {
    let mutex = || Mutex::new(Memory::new(), "job");
    let refused: [(&str, &dyn Fn()); 15] = [
        ("at least one", &|| drop(Mutex::new(Vec::<Memory>::new(), "job"))),
        ("nodes 0 and 2 of a mutex are the same handle", &|| {
            let memory = Memory::new();
            drop(Mutex::new([memory.clone(), Memory::new(), memory], "job"));
        }),
        ("name of a mutex is empty", &|| drop(Mutex::new(Memory::new(), ""))),
        ("ttl is zero", &|| drop(mutex().ttl(Duration::ZERO))),
        ("30 years", &|| drop(mutex().timeout_factor(1.0).ttl(Duration::MAX))),
        ("longer ttl", &|| drop(mutex().ttl(2 * MS))),
        ("tries is zero", &|| drop(mutex().tries(0))),
        ("drift_factor is 1", &|| drop(mutex().drift_factor(1.0))),
        ("drift_factor is NaN", &|| drop(mutex().drift_factor(f64::NAN))),
        ("drift_factor leaves", &|| drop(mutex().ttl(4 * MS).drift_factor(0.9))),
        ("timeout_factor is 0", &|| drop(mutex().timeout_factor(0.0))),
        ("timeout_factor is 1.5", &|| drop(mutex().timeout_factor(1.5))),
        ("prefix is empty", &|| drop(mutex().prefix(""))),
        ("brace", &|| drop(mutex().prefix("a{b"))),
        ("jittered is 2", &|| drop(Retry::fixed(MS).jittered(2.0))),
    ];
    for (says, set) in refused {
        let panic = catch_unwind(AssertUnwindSafe(set)).expect_err(says);
        let message = panic.downcast::<String>().map(|message| *message);
        let message = message.unwrap_or_else(|other| other.downcast::<&str>().expect("it is text").to_string());
        assert!(message.contains(says), "{says}: {message}");
    }
}

#[test]
fn clones_made_before_a_setting_keep_theirs() {
    let mutex = Mutex::new(Memory::new(), "job");
    let changed = mutex.clone().ttl(Duration::from_secs(3)).auto_renew(true);
    assert!(format!("{mutex:?}").contains("ttl: 10s") && format!("{changed:?}").contains("ttl: 3s"));
}
