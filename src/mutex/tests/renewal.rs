//! Keeping a lock, and noticing that it is lost.

use super::{
    super::Token,
    faulty::{Faulty, Mode},
    *,
};
use crate::backend::Memory;

/// A lock that somebody can take away.
async fn stolen_after(renew: bool, held: Duration) -> Duration {
    let memory = Memory::new();
    let token: Token = "known".parse().unwrap();
    let mutex = Mutex::new(memory.clone(), "job").token(token.clone()).auto_renew(renew);
    let guard = mutex.lock().await.unwrap();
    tokio::time::sleep(held).await;
    Mutex::new(memory.replica(), "job").from_token(token).await.unwrap().unlock().await.unwrap();
    let ((), took) = timed(guard.lost()).await;
    let outcome = guard.unlock().await;
    assert_eq!(matches!(outcome, Err(LockError::NotHeld)), renew, "{outcome:?}");
    took
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_taken_away_is_missed_within_a_cadence() {
    for held in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(30)] {
        let took = stolen_after(true, held).await;
        assert!(took <= SURE / 3 + MS, "after {held:?}: {took:?}");
    }
    let took = stolen_after(false, Duration::from_secs(3)).await;
    assert!(took >= Duration::from_secs(6), "without renewal nobody asks: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lock_is_held_for_as_long_as_it_takes() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job").auto_renew(true);
    let guard = mutex.lock().await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(guard.until() > Instant::now() + SURE / 2);
    // Every third of its time, or up to an eighth sooner, where it meets others.
    let renewed = node.asked().extend;
    assert!((180..=230).contains(&renewed), "{renewed}");
    guard.unlock().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.asked().extend, renewed, "nothing is renewed any more");
}

/// Fails if a renewal comes no sooner than is usual.
#[tokio::test(start_paused = true)]
async fn leases_of_milliseconds_are_renewed_too() {
    for ttl in [10, 20, 50, 100] {
        let mutex = Mutex::new(Memory::new(), "job").ttl(ttl * MS).auto_renew(true);
        let guard = mutex.lock().await.unwrap();
        let lost = tokio::time::timeout(Duration::from_secs(5), guard.lost()).await;
        assert!(lost.is_err(), "{ttl} ms");
    }
}

/// Locks that were taken at different times are renewed at the same ones. Fails if each has times of its own.
#[tokio::test(start_paused = true)]
async fn renewals_of_a_process_travel_together() {
    let node = Faulty::new();
    let mut guards = Vec::new();
    for number in 0..100 {
        tokio::time::sleep(17 * MS).await;
        let mutex = Mutex::new(node.clone(), format!("job {number}")).auto_renew(true);
        guards.push(mutex.lock().await.unwrap());
    }
    let (mut moments, mut last) = (0, node.asked().extend);
    for _ in 0..10_000 {
        tokio::time::sleep(MS).await;
        let now = node.asked().extend;
        moments += usize::from(now > last);
        last = now;
    }
    assert!(last >= 300 && moments <= 15, "{last} renewals at {moments} moments");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_times_out_is_unknown_and_one_that_mismatches_is_the_end() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    let until = guard.until();
    for mode in [Mode::Hung, Mode::Mute, Mode::Failing] {
        node.set(mode);
        let outcome = guard.extend().await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))), "{outcome:?}");
        assert_eq!(guard.until(), until, "it is what it was");
    }
    node.set(Mode::Up);
    guard.extend().await.unwrap();
    assert!(guard.until() > until);
    // One that shortens counts although nobody confirmed it: it may have been done.
    node.set(Mode::Mute);
    guard.extend_to(3 * Duration::from_secs(1)).await.unwrap_err();
    assert!(guard.until() < until);
    node.set(Mode::Up);
    guard.extend().await.unwrap();
    mutex.from_token(guard.token().clone()).await.unwrap().unlock().await.unwrap();
    assert!(matches!(guard.extend().await, Err(LockError::NotHeld)));
    assert!(guard.until() <= Instant::now());
    let ((), took) = timed(guard.lost()).await;
    assert_eq!(took, Duration::ZERO);
    assert!(matches!(guard.extend().await, Err(LockError::NotHeld)));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lock_survives_a_node_that_comes_back_in_time() {
    for (away, survives) in [(Duration::from_secs(5), true), (Duration::from_secs(12), false)] {
        let node = Faulty::new();
        let mutex = Mutex::new(node.clone(), "job").auto_renew(true);
        let guard = mutex.lock().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        node.set(Mode::Hung);
        tokio::time::sleep(away).await;
        node.set(Mode::Up);
        let lost = tokio::time::timeout(3 * TTL, guard.lost()).await.is_ok();
        assert_eq!(lost, !survives, "away for {away:?}");
        let asked = node.asked().extend;
        assert!(asked < 60, "{asked} attempts");
    }
}

/// An extension for less time that arrives after one for more must not shorten it. Fails if requests are not numbered.
#[tokio::test(start_paused = true)]
async fn an_extension_that_comes_late_does_not_shorten() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    node.set(Mode::Late(Duration::from_millis(1100)));
    guard.extend_to(Duration::from_secs(3)).await.unwrap_err();
    node.set(Mode::Up);
    guard.extend().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(is_taken(Mutex::new(node.replica(), "job").try_lock().await));
}

#[tokio::test(start_paused = true)]
async fn good_news_that_comes_too_late_revives_nothing() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job").timeout_factor(1.0);
    let guard = mutex.lock().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Done when the node still has it, and told when nobody can rely on that any more.
    node.set(Mode::Late(Duration::from_millis(4_950)));
    let (outcome, ()) = tokio::join!(guard.extend(), async {
        let ((), took) = timed(guard.lost()).await;
        assert!(took <= SURE - Duration::from_secs(5) + MS, "{took:?}");
    });
    assert!(matches!(outcome, Err(LockError::Expired)), "{outcome:?}");
    assert!(guard.until() <= Instant::now());
}

/// Fails if an extension waits for a node that cannot change whether it is reached.
#[tokio::test(start_paused = true)]
async fn an_extension_is_decided_at_once() {
    for put_back in [false, true] {
        let nodes = Faulty::three();
        let guard = Mutex::new(nodes.clone(), "job").set_nx_on_extend(put_back).lock().await.unwrap();
        settle().await;
        if !put_back {
            nodes[..2].iter().for_each(|node| node.set(Mode::Failing));
        }
        nodes[2].set(Mode::Hung);
        let (outcome, took) = timed(guard.extend()).await;
        assert_eq!((outcome.is_ok(), took), (put_back, Duration::ZERO), "put back: {put_back}");
    }
}
