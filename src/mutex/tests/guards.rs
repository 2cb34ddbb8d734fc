//! Acquiring, extending and releasing, by those who may and those who may not.

use std::time::Duration;

use super::{
    super::Token,
    faulty::{Faulty, Mode},
    *,
};
use crate::backend::Memory;

#[tokio::test(start_paused = true)]
async fn one_holds_it_and_the_others_are_told_who() {
    let memory = Memory::new();
    let mutex = Mutex::new(memory.clone(), "job").metadata("worker 7");
    let guard = mutex.lock().await.unwrap();
    tokio::time::advance(4 * MS).await;
    // In its own process nobody need be asked.
    let Err(LockError::Taken(taken)) = mutex.try_lock().await else { panic!("it is taken") };
    assert_eq!((taken.holder.as_deref(), taken.left, taken.nodes), (Some("worker 7"), Some(SURE - 4 * MS), vec![]));
    let mutex = Mutex::new(memory.replica(), "job");
    let Err(LockError::Taken(taken)) = mutex.try_lock().await else { panic!("it is taken") };
    assert_eq!((taken.holder.as_deref(), taken.left, taken.nodes), (Some("worker 7"), Some(TTL - 4 * MS), vec![0]));
    let info = mutex.info().await.unwrap().unwrap();
    assert_eq!((info.metadata.as_deref(), info.left, info.nodes), (Some("worker 7"), TTL - 4 * MS, vec![0]));
    assert_eq!(info.fence, guard.fence().await.unwrap());
    assert_eq!((guard.name(), mutex.is_locked().await.unwrap()), ("job", true));
    guard.unlock().await.unwrap();
    assert!(!mutex.is_locked().await.unwrap() && mutex.info().await.unwrap().is_none());
    mutex.try_lock().await.unwrap().unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_a_guard_releases_without_blocking() {
    let mutex = Mutex::new(Memory::new(), "job");
    drop(mutex.lock().await.unwrap());
    settle().await;
    assert!(mutex.try_lock().await.is_ok());
}

#[test]
fn a_guard_may_be_dropped_anywhere() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job");
    let guard = first.block_on(mutex.lock()).unwrap();
    // On a thread that is no runtime's.
    std::thread::spawn(move || drop(guard)).join().unwrap();
    let guard = first.block_on(mutex.lock()).unwrap();
    // Where nothing answers and no timer runs any more.
    node.set(Mode::Hung);
    drop(first);
    drop(guard);
    node.set(Mode::Up);
    let second = runtime();
    assert!(second.block_on(mutex.is_locked()).is_ok());
}

/// Fails if the token of a release is not compared.
#[tokio::test(start_paused = true)]
async fn tasks_that_share_a_mutex_cannot_release_each_other() {
    let mutex = Mutex::new(Memory::new(), "job");
    let first = mutex.lock().await.unwrap();
    tokio::time::advance(TTL).await;
    let second = mutex.try_lock().await.unwrap();
    assert!(matches!(first.unlock().await, Err(LockError::Expired)));
    assert!(mutex.is_locked().await.unwrap());
    second.extend().await.unwrap();

    let again = mutex.clone();
    drop(mutex.from_token(Token::random()).await.unwrap_err());
    assert!(is_taken(again.try_lock().await));
    second.unlock().await.unwrap();
}

/// Fails if two tasks that share a mutex, whose token is fixed, hold it both.
#[tokio::test(start_paused = true)]
async fn tasks_that_share_a_token_exclude_each_other_in_their_process() {
    let mutex = Mutex::new(Memory::new(), "job").token("same".parse().unwrap());
    let _guard = mutex.lock().await.unwrap();
    assert!(mutex.lock_timeout(MS).await.is_err(), "the line of the process excludes");
    assert!(is_taken(mutex.try_lock().await), "so it should here");
    assert!(is_taken(mutex.clone().tries(1).lock().await), "and here");
}

/// The next one with the same token begins while the release of the one before is still to be sent. Fails if that release
/// is numbered when it is sent.
#[tokio::test(start_paused = true)]
async fn a_guard_that_was_dropped_takes_nothing_from_the_next_one_with_its_token() {
    let mutex = Mutex::new(Memory::new(), "job").token("same".parse().unwrap());
    drop(mutex.lock().await.unwrap());
    let guard = mutex.lock().await.unwrap();
    settle().await;
    assert!(mutex.is_locked().await.unwrap());
    guard.extend().await.unwrap();
}

/// Fails if what is asked for behind a guard that was dropped is sent before its release: then it is refused, or the same
/// token holds the lock for ever while another process waits.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_behind_a_dropped_guard_comes_behind_its_release() {
    let memory = Memory::new();
    let random = Mutex::new(memory.clone(), "job");
    let fixed = random.clone().token("same".parse().unwrap());
    for mutex in [&random, &fixed] {
        drop(mutex.lock().await.unwrap());
        let guard = mutex.try_lock().await.unwrap();
        let other = Mutex::new(memory.replica(), "job");
        let waiting = tokio::spawn(async move { other.lock().await.unwrap() });
        settle().await;
        drop(guard);
        assert!(is_taken(mutex.try_lock().await), "it was passed on");
        waiting.await.unwrap().unlock().await.unwrap();
    }
}

/// Fails if a guard whose time is over gives back what the next one with the same token holds.
#[tokio::test(start_paused = true)]
async fn a_guard_that_has_expired_takes_nothing_from_the_next_one_with_its_token() {
    for (over, unlocks) in [(SURE, true), (SURE, false), (TTL, true), (TTL, false)] {
        let mutex = Mutex::new(Memory::new(), "job").token("same".parse().unwrap());
        let expired = mutex.lock().await.unwrap();
        tokio::time::advance(over).await;
        let guard = mutex.lock().await.unwrap();
        if unlocks {
            assert!(matches!(expired.unlock().await, Err(LockError::Expired)));
        } else {
            drop(expired);
        }
        settle().await;
        assert!(mutex.is_locked().await.unwrap());
        guard.extend().await.unwrap();
        guard.unlock().await.unwrap();
        assert!(!mutex.is_locked().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lock_says_expired_whoever_holds_it_now() {
    let mutex = Mutex::new(Memory::new(), "job");
    for taken_over in [false, true] {
        let guard = mutex.lock().await.unwrap();
        tokio::time::advance(SURE).await;
        // The node still has it for as long as clocks may differ; nobody can rely on that.
        assert!(matches!(guard.extend().await, Err(LockError::Expired)));
        tokio::time::advance(TTL - SURE).await;
        let next = if taken_over { Some(mutex.try_lock().await.unwrap()) } else { None };
        assert!(matches!(guard.extend().await, Err(LockError::Expired)));
        assert!(matches!(guard.extend_to(500 * MS).await, Err(LockError::Expired)));
        assert!(matches!(guard.unlock().await, Err(LockError::Expired)));
        assert_eq!(mutex.is_locked().await.unwrap(), taken_over);
        drop(next);
        settle().await;
    }
}

/// Fails if a time below a second is rounded to nothing, which deletes.
#[tokio::test(start_paused = true)]
async fn an_extension_of_half_a_second_is_one_of_half_a_second() {
    let memory = Memory::new();
    let mutex = Mutex::new(memory.replica(), "job");
    let guard = Mutex::new(memory, "job").lock().await.unwrap();
    guard.extend_to(500 * MS).await.unwrap();
    assert_eq!(guard.until() - Instant::now(), 493 * MS);
    tokio::time::advance(492 * MS).await;
    assert!(is_taken(mutex.try_lock().await));
    guard.extend_to(Duration::from_micros(2_500)).await.unwrap();
    assert!(is_taken(mutex.try_lock().await));
    tokio::time::advance(3 * MS).await;
    guard.extend_to(600 * MS).await.unwrap_err();
    assert!(mutex.try_lock().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn extensions_count_from_before_they_are_sent() {
    let mutex = Mutex::new(Memory::new(), "job");
    let guard = mutex.lock().await.unwrap();
    let start = Instant::now();
    assert_eq!(guard.until() - start, SURE);
    tokio::time::advance(Duration::from_secs(5)).await;
    guard.extend().await.unwrap();
    assert_eq!(guard.until() - start, Duration::from_secs(5) + SURE);
    let ((), took) = timed(guard.lost()).await;
    assert!(took >= SURE && took <= SURE + MS, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn fences_grow_with_every_holder() {
    let memory = Memory::new();
    let mutex = Mutex::new(memory.clone(), "job");
    let mut last = None;
    for round in 0..20 {
        let guard = Mutex::new(memory.clone(), "job").lock().await.unwrap();
        let fence = guard.fence().await.unwrap();
        assert!(last < Some(fence), "{last:?} then {fence:?}");
        assert_eq!(guard.fence().await.unwrap(), fence);
        last = Some(fence);
        if round % 2 == 0 {
            guard.unlock().await.unwrap();
        } else {
            std::mem::forget(guard);
            tokio::time::advance(TTL).await;
        }
    }
    assert!(!mutex.is_locked().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn with_lock_runs_inline_and_returns_the_value() {
    let memory = Memory::new();
    let mutex = Mutex::new(memory.clone(), "job");
    let mut counted = 0;
    let value = mutex
        .with_lock(async || {
            // Longer than the lease: it is renewed.
            tokio::time::sleep(5 * TTL).await;
            counted += 1;
            assert!(Mutex::new(memory.replica(), "job").is_locked().await.unwrap());
            "done".to_owned()
        })
        .await
        .unwrap();
    assert_eq!((value.as_str(), counted), ("done", 1));
    assert!(!mutex.is_locked().await.unwrap(), "it is released when the value is there");
}

#[tokio::test(start_paused = true)]
async fn with_lock_stops_work_whose_lock_is_lost() {
    let memory = Memory::new();
    let token: Token = "known".parse().unwrap();
    let mutex = Mutex::new(memory.clone(), "job").token(token.clone());
    let work = async {
        let outcome = mutex.with_lock(async || std::future::pending::<()>().await).await;
        assert!(matches!(outcome, Err(LockError::NotHeld)), "{outcome:?}");
    };
    let thief = async {
        let other = Mutex::new(memory.replica(), "job");
        tokio::time::sleep(TTL).await;
        other.from_token(token.clone()).await.unwrap().unlock().await.unwrap();
    };
    let (_, took) = timed(async { tokio::join!(work, thief) }).await;
    assert!(took <= TTL + SURE / 3 + MS, "{took:?}");

    // Without renewal it ends with its lease.
    let bare = Mutex::new(memory, "other").auto_renew(false);
    let (outcome, took) = timed(bare.with_lock(async || std::future::pending::<()>().await)).await;
    assert!(matches!(outcome, Err(LockError::Expired)) && took <= SURE + MS, "{outcome:?} after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn work_that_ran_past_its_lease_without_a_pause_is_told_so() {
    let mutex = Mutex::new(Memory::new(), "job").auto_renew(false);
    // The clock moves while the work has the thread.
    let outcome = mutex.with_lock(async || tokio::time::advance(TTL).await).await;
    assert!(matches!(outcome, Err(LockError::Expired)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_releases() {
    let mutex = Mutex::new(Memory::new(), "job");
    let task = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.with_lock(async || panic!("it happens")).await }
    });
    assert!(task.await.unwrap_err().is_panic());
    settle().await;
    assert!(!mutex.is_locked().await.unwrap());
}
