//! Who waits is woken, in order, and asks no more often than it must.

use std::{mem::forget, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    faulty::{Faulty, Mode, elsewhere},
    *,
};
use crate::backend::{
    Memory,
    lock::{Acquire, Acquired, Locks},
};

#[tokio::test(start_paused = true)]
async fn a_release_hands_over_at_once_and_without_polling() {
    let node = Faulty::new();
    let (here, there) = (Mutex::new(node.clone(), "job"), Mutex::new(node.replica(), "job"));
    let guard = here.lock().await.unwrap();
    let waiter = tokio::spawn(async move { there.lock().await.map(|guard| (guard, Instant::now())) });
    // Renewed: the lease that the waiter was told of goes on and on.
    tokio::time::sleep(TTL / 2).await;
    let released = Instant::now();
    guard.unlock().await.unwrap();
    let (guard, held) = waiter.await.unwrap().unwrap();
    assert_eq!(held - released, Duration::ZERO);
    // It waited for longer than an eighth of its lease, so that it asked once more for all of it.
    assert_eq!((node.asked().acquire, guard.until() - held), (3, SURE));
    // Who waits for a moment does not: the message is the grant, and the lease counts from when it asked.
    let asked = Instant::now();
    let waiter = tokio::spawn({
        let here = here.clone();
        async move { here.lock().await.map(|guard| (guard, Instant::now())) }
    });
    tokio::time::sleep(100 * MS).await;
    guard.unlock().await.unwrap();
    let (guard, held) = waiter.await.unwrap().unwrap();
    assert_eq!((held - asked, guard.until() - asked, node.asked().acquire), (100 * MS, SURE, 4));
    assert!(guard.fence().await.is_ok());
    guard.unlock().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_delays_for_the_rest_of_its_lease() {
    let node = Faulty::new();
    let (here, there) = (Mutex::new(node.clone(), "job"), Mutex::new(node.replica(), "job"));
    forget(here.lock().await.unwrap());
    tokio::time::sleep(TTL / 4).await;
    let (guard, took) = timed(there.lock()).await;
    assert!(guard.is_ok() && took >= TTL * 3 / 4 && took <= TTL * 3 / 4 + 52 * MS, "{took:?}");
    assert_eq!(node.asked().acquire, 3);
}

#[tokio::test(start_paused = true)]
async fn lost_messages_cost_time_and_nothing_else() {
    let node = Faulty::new();
    let (here, there) = (Mutex::new(node.clone(), "job"), Mutex::new(node.replica(), "job"));
    let guard = here.lock().await.unwrap();
    node.deafen();
    let waiter = tokio::spawn(async move { there.lock().await.map(|guard| (guard, Instant::now())) });
    settle().await;
    let released = Instant::now();
    guard.unlock().await.unwrap();
    let (_guard, held) = waiter.await.unwrap().unwrap();
    assert!(held - released >= TTL && held - released <= TTL + 52 * MS, "{:?}", held - released);
}

/// Whoever releases and asks again comes after those who wait. Fails if a release only deletes.
#[tokio::test(start_paused = true)]
async fn processes_take_turns() {
    let memory = Memory::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut contenders = JoinSet::new();
    for number in 0..4 {
        let (mutex, tell) = (Mutex::new(memory.replica(), "job"), tell.clone());
        contenders.spawn(async move {
            for _ in 0..25 {
                let guard = mutex.lock().await.unwrap();
                tell.send(number).unwrap();
                tokio::time::sleep(MS).await;
                guard.unlock().await.unwrap();
            }
        });
    }
    drop(tell);
    let (_, took) = timed(contenders.join_all()).await;
    let mut order = Vec::new();
    while let Some(number) = told.recv().await {
        order.push(number);
    }
    assert_eq!(order.len(), 100);
    for (round, turns) in order.chunks(4).enumerate() {
        let mut sorted = turns.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3], "round {round}: {turns:?}");
    }
    assert!(took <= 102 * MS, "no time passes between two holders: {took:?}");
}

/// Fails if a caller does not stand in line before it asks.
#[tokio::test(start_paused = true)]
async fn callers_of_one_process_ask_one_at_a_time() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    let mut waiters = JoinSet::new();
    for _ in 0..100 {
        let mutex = mutex.clone();
        waiters.spawn(async move { mutex.lock().await.unwrap().unlock().await });
    }
    settle().await;
    assert_eq!(node.asked().acquire, 1, "who waits for one of its own process need not ask");
    let Err(LockError::Taken(taken)) = mutex.try_lock().await else { panic!("somebody is in line") };
    assert_eq!((taken.left, node.asked().acquire), (None, 1), "nobody was asked for it");
    guard.unlock().await.unwrap();
    waiters.join_all().await;
    assert_eq!(node.asked().acquire, 101, "each of them once, behind the release of the one before");
}

/// A guard that is forgotten is over when its lease is, for its own process too.
#[tokio::test(start_paused = true)]
async fn a_holder_of_the_same_process_is_not_waited_for_beyond_its_lease() {
    let mutex = Mutex::new(Memory::new(), "job");
    forget(mutex.lock().await.unwrap());
    let (guard, took) = timed(mutex.lock()).await;
    assert!(guard.is_ok() && took >= TTL && took <= TTL + 52 * MS, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_gives_back_what_it_was_granted() {
    let node = Faulty::new();
    let [first, second, third] = [0, 1, 2].map(|_| Mutex::new(node.replica(), "job"));
    let guard = first.lock().await.unwrap();
    let leaver = tokio::spawn(async move { second.lock().await });
    settle().await;
    let stayer = tokio::spawn(async move { third.lock().await.map(|guard| (guard, Instant::now())) });
    settle().await;
    // At the same moment: it may be granted to the one that leaves.
    let released = Instant::now();
    let unlock = guard.unlock();
    leaver.abort();
    unlock.await.unwrap();
    let (_guard, held) = stayer.await.unwrap().unwrap();
    assert_eq!(held - released, Duration::ZERO);
}

/// Fails if the lock is granted to somebody who cannot hear of it.
#[tokio::test(start_paused = true)]
async fn a_dead_waiter_is_passed_over() {
    let node = Faulty::new();
    let holder = Mutex::new(node.replica(), "job");
    let guard = holder.lock().await.unwrap();
    // A process that asked, and is no more.
    let ask = Acquire { token: "dead".into(), seq: 1, ttl: TTL, ticket: Some(1), sole: true, metadata: None };
    let answer = node.memory.replica().acquire(&holder.config.key, ask).await.unwrap();
    assert!(matches!(answer, Acquired::Taken { .. }));
    let third = Mutex::new(node.replica(), "job");
    let waiter = tokio::spawn(async move { third.lock().await.map(|guard| (guard, Instant::now())) });
    settle().await;
    let released = Instant::now();
    guard.unlock().await.unwrap();
    let (_guard, held) = waiter.await.unwrap().unwrap();
    assert_eq!(held - released, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn limits_to_waiting_are_kept_and_told() {
    let mutex = Arc::new(Mutex::new(Memory::new(), "job").metadata("somebody"));
    let _guard = mutex.lock().await.unwrap();
    let (outcome, took) = timed(mutex.lock_timeout(300 * MS)).await;
    let Err(LockError::TimedOut { waited, last: Some(last) }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((waited, took), (300 * MS, 300 * MS));
    assert!(matches!(*last, LockError::Taken(taken) if taken.holder.as_deref() == Some("somebody")));

    let limited = Mutex::clone(&mutex).wait_timeout(200 * MS);
    let (outcome, took) = timed(limited.lock()).await;
    assert!(matches!(outcome, Err(LockError::TimedOut { .. })) && took == 200 * MS);
    let outcome = Mutex::clone(&mutex).tries(1).lock().await;
    assert!(is_taken(outcome));
}

/// Fails if who could not ask is told that somebody holds it.
#[tokio::test(start_paused = true)]
async fn a_limit_that_is_over_before_a_node_answers_does_not_tell_of_a_holder() {
    let node = Faulty::new();
    node.set(Mode::Hung);
    let outcome = Mutex::new(node, "job").lock_timeout(500 * MS).await;
    let Err(LockError::TimedOut { last, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(!matches!(last.as_deref(), Some(LockError::Taken(_))), "{last:?}");
}

/// Two mutexes of one process that name their nodes in another order do not share a line. Fails if what one of them is
/// granted costs the other one its attempts.
#[tokio::test(start_paused = true)]
async fn what_others_are_granted_costs_no_attempt() {
    let nodes = Faulty::three();
    let elsewhere = Mutex::new(elsewhere(&nodes), "job");
    let [a, b, c] = nodes.clone();
    let (one, other) = (Mutex::new([a.clone(), b.clone(), c.clone()], "job"), Mutex::new([b, a, c], "job").tries(3));
    let guard = elsewhere.lock().await.unwrap();
    let first = tokio::spawn(async move {
        let guard = one.lock().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        guard.unlock().await.unwrap();
    });
    settle().await;
    let second = tokio::spawn(async move { other.lock().await });
    settle().await;
    guard.unlock().await.unwrap();
    first.await.unwrap();
    let outcome = second.await.unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
}
