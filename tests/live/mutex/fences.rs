//! Fences: what a later holder writes can be told from what an earlier one does.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::timeout;
use tower_singleflight::backend::Fence;

use super::*;
use crate::support::calls::PATIENCE;

/// However a lock ends: released, granted to one who waits, dropped, expired, deleted, flushed with its floor.
///
/// Fails if a fence begins anew where nothing is known of earlier ones.
#[tokio::test]
async fn they_grow_with_every_acquisition_on_one_node() {
    let servers = servers::<1>();
    let mutexes = [process(&servers).await, process(&servers).await];
    let lock = &places(APP, NAME)[0];
    let (mut random, mut last, mut ends) = (StdRng::seed_from_u64(3), Fence::NONE, [0; 6]);
    let mut grows = async |guard: &MutexGuard| {
        let fence = guard.fence().await.unwrap();
        assert!(fence > last, "{fence:?} after {last:?}");
        last = fence;
    };
    for _ in 0..200 {
        let [mutex, other] = if random.random() { mutexes.each_ref() } else { [&mutexes[1], &mutexes[0]] };
        let guard = mutex.lock().await.unwrap();
        grows(&guard).await;
        let end = random.random_range(0..ends.len());
        ends[end] += 1;
        match end {
            0 => guard.unlock().await.unwrap(),
            1 => {
                let waiter = tokio::spawn({
                    let other = other.clone();
                    async move { other.lock().await }
                });
                waiting(&servers[0], NAME, 1).await;
                guard.unlock().await.unwrap();
                let next = timeout(PATIENCE, waiter).await.expect("it was released").unwrap().unwrap();
                grows(&next).await;
                next.unlock().await.unwrap();
            }
            2 => drop(guard),
            3 => {
                let _: usize = servers[0].run(&["PEXPIRE", lock, "1"]).await;
                gone(&servers, NAME).await;
            }
            4 => servers[0].run::<()>(&["DEL", lock]).await,
            _ => servers[0].run::<()>(&["FLUSHDB"]).await,
        }
    }
    println!(
        "released {}, passed on {}, dropped {}, expired {}, deleted {}, flushed {}",
        ends[0], ends[1], ends[2], ends[3], ends[4], ends[5]
    );
    assert!(ends.iter().all(|&times| times > 10));
}

/// On several nodes they grow where each holder asks for its own, whichever node is away, and though the clock of one is far
/// ahead of the others'.
///
/// Fails if asking for it does not raise the floor on a quorum.
#[tokio::test]
async fn they_grow_on_a_quorum_when_they_are_asked_for() {
    let servers = servers::<3>();
    let mutex = process(&servers).await;
    warm(&servers).await;
    let floor = &places(APP, NAME)[1];
    let mut last = Fence::NONE;
    for round in 0..30 {
        let away = &servers[round % 3];
        away.pause();
        let guard = mutex.lock().await.unwrap();
        let fence = guard.fence().await.unwrap();
        assert!(fence > last, "round {round}: {fence:?} after {last:?}");
        last = Fence(fence.0 + 3_600_000_000);
        guard.unlock().await.unwrap();
        away.resume();
        gone(&servers, NAME).await;
        // Of two nodes one is ahead by an hour. The next holder has the other one of them, and not this one.
        let ahead = &servers[(round + 1) % 3];
        assert!(floor_of(ahead, floor).await.is_some_and(|floor| floor >= fence));
        ahead.set(floor, last.0.to_be_bytes().to_vec(), Some(600_000)).await;
        let other = &servers[(round + 2) % 3];
        other.pause();
        let guard = mutex.lock().await.unwrap();
        let fence = guard.fence().await.unwrap();
        assert!(fence > last, "round {round}: {fence:?} after {last:?}");
        last = fence;
        guard.unlock().await.unwrap();
        other.resume();
        gone(&servers, NAME).await;
    }
}
