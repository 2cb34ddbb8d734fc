//! Nothing stays on a node for a caller that does not know of it.

use tokio::time::{sleep, timeout};

use super::{
    super::Retry,
    faulty::{Faulty, Mode},
    *,
};

/// What lies on each node.
fn left<const N: usize>(nodes: &[Faulty; N]) -> [usize; N] {
    nodes.each_ref().map(|node| node.memory.len())
}

/// Fails if a dropped attempt is not undone, or is undone before what it sent has arrived.
#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_leaves_nothing() {
    for mode in [Mode::Up, Mode::Mute, Mode::AsksBack(100 * MS), Mode::Late(100 * MS), Mode::Late(400 * MS)] {
        for nodes in [1, 3] {
            let faulty: Vec<_> = (0..nodes).map(|_| Faulty::new()).collect();
            faulty.iter().for_each(|node| node.set(mode));
            let mutex = Mutex::new(faulty.clone(), "job");
            let cancelled = timeout(50 * MS, mutex.lock()).await;
            assert_eq!(cancelled.is_err(), mode != Mode::Up);
            let held = cancelled.is_ok();
            drop(cancelled);
            // What is muted goes on to be so until its time is over.
            faulty.iter().for_each(|node| node.set(Mode::Up));
            sleep(Duration::from_secs(1)).await;
            let left: Vec<_> = faulty.iter().map(|node| node.memory.len()).collect();
            // A lock that was held leaves its fence.
            let fence = usize::from(held && nodes == 1);
            assert_eq!(left, vec![fence; nodes], "{mode:?}");
            assert!(!mutex.is_locked().await.unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaves_nothing() {
    let nodes = Faulty::three();
    let mutex = Mutex::new(nodes.clone(), "job");
    let other = Mutex::new(nodes.each_ref().map(Faulty::replica), "job");
    let guard = mutex.lock().await.unwrap();
    assert!(other.lock_timeout(Duration::from_secs(1)).await.is_err());
    guard.unlock().await.unwrap();
    sleep(MS).await;
    assert_eq!(left(&nodes), [0; 3], "neither a lock nor a place");
}

/// A minority that granted the lock gives it back within a second, while the others hang or fail.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_leaves_nothing() {
    for broken in [Mode::Hung, Mode::Failing, Mode::Mute, Mode::AsksBack(300 * MS), Mode::Late(300 * MS)] {
        let nodes = Faulty::three();
        nodes[1..].iter().for_each(|node| node.set(broken));
        let mutex = Mutex::new(nodes.clone(), "job").ttl(Duration::from_secs(2));
        let outcome = mutex.try_lock().await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))), "{outcome:?}");
        nodes[1..].iter().for_each(|node| node.set(Mode::Up));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(left(&nodes), [0; 3], "{broken:?}");
    }
}

/// Fails if who goes on trying keeps what an attempt was granted in vain.
#[tokio::test(start_paused = true)]
async fn who_tries_again_gives_back_what_it_was_granted() {
    let nodes = Faulty::three();
    nodes[1..].iter().for_each(|node| node.set(Mode::Failing));
    let mutex = Mutex::new(nodes.clone(), "job").retry(Retry::fixed(Duration::from_secs(3600)));
    let waiter = tokio::spawn(async move { mutex.lock().await });
    sleep(100 * MS).await;
    assert_eq!((nodes[0].asked().acquire, left(&nodes)), (1, [0; 3]));
    waiter.abort();
}

/// Fails if the outcome of a request that timed out counts as "not granted".
#[tokio::test(start_paused = true)]
async fn a_grant_whose_reply_was_lost_is_recognised_as_ones_own() {
    let node = Faulty::new();
    node.set(Mode::Mute);
    let mutex = Mutex::new(node.clone(), "job");
    let waiter = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.lock().await }
    });
    // The attempt times out after a tenth of the TTL.
    sleep(Duration::from_millis(1001)).await;
    node.set(Mode::Up);
    let (guard, took) = timed(waiter).await;
    assert!(took <= 60 * MS, "the lease that nobody heard of is not waited for: {took:?}");
    guard.unwrap().unwrap().unlock().await.unwrap();
    assert!(!mutex.is_locked().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_until_it_is_done() {
    for broken in [Mode::Hung, Mode::Failing, Mode::Mute, Mode::Late(700 * MS)] {
        let nodes = Faulty::three();
        let mutex = Mutex::new(nodes.clone(), "job");
        let guard = mutex.lock().await.unwrap();
        settle().await;
        nodes.iter().for_each(|node| node.set(broken));
        let (outcome, took) = timed(guard.unlock()).await;
        if matches!(broken, Mode::Late(_)) {
            outcome.unwrap();
        } else {
            assert!(matches!(outcome, Err(LockError::Quorum(_))), "{outcome:?}");
        }
        assert!(took <= Duration::from_secs(1), "{took:?}");
        nodes.iter().for_each(|node| node.set(Mode::Up));
        sleep(Duration::from_secs(2)).await;
        assert!(!mutex.is_locked().await.unwrap(), "{broken:?}");
        let seen = nodes.each_ref().map(|node| node.asked().release);
        assert!(seen.iter().all(|asked| (1..8).contains(asked)), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn cleaning_up_ends_with_the_lease() {
    let node = Faulty::new();
    let mutex = Mutex::new(node.clone(), "job").ttl(Duration::from_secs(2));
    let guard = mutex.lock().await.unwrap();
    node.set(Mode::Failing);
    drop(guard);
    sleep(Duration::from_secs(3)).await;
    let asked = node.asked().release;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(node.asked().release, asked);
}

/// Fails if a request that was never sent is taken back.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_is_left_alone() {
    let nodes = Faulty::three();
    nodes[2].set(Mode::Failing);
    let mutex = Mutex::new(nodes.clone(), "job");
    for _ in 0..100 {
        mutex.lock().await.unwrap().unlock().await.unwrap();
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(nodes[2].asked().release, 100, "with each lock, and not again");
}

/// Fails if a new attempt may be undone by what an earlier one of the same caller sent.
#[tokio::test(start_paused = true)]
async fn undoing_an_attempt_does_not_undo_the_next_one() {
    let node = Faulty::new();
    node.set(Mode::Late(Duration::from_millis(1200)));
    let mutex = Mutex::new(node.clone(), "job").tries(2);
    let waiter = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.lock().await }
    });
    // Given up, and its undoing is as late as itself.
    sleep(Duration::from_millis(1010)).await;
    node.set(Mode::Up);
    let guard = waiter.await.unwrap().unwrap();
    sleep(Duration::from_secs(3)).await;
    assert!(mutex.is_locked().await.unwrap());
    guard.extend().await.unwrap();
    guard.unlock().await.unwrap();
}
