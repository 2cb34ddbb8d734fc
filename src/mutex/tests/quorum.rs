//! Several nodes, some of which fail.

use super::{
    super::NodeOutcome,
    faulty::{Faulty, Mode, elsewhere},
    *,
};
use crate::backend::Memory;

#[tokio::test(start_paused = true)]
async fn a_minority_that_fails_is_not_missed() {
    for broken in [Mode::Hung, Mode::Failing, Mode::Mute, Mode::Late(Duration::from_secs(20))] {
        let nodes = Faulty::three();
        nodes[1].set(broken);
        let (mutex, other) = (Mutex::new(nodes.clone(), "job"), Mutex::new(elsewhere(&nodes), "job"));
        let (guard, took) = timed(mutex.lock()).await;
        let guard = guard.unwrap();
        assert_eq!(took, Duration::ZERO, "{broken:?} is not waited for");
        assert!(is_taken(other.try_lock().await));
        assert!(mutex.is_locked().await.unwrap());
        guard.extend().await.unwrap();
        guard.fence().await.unwrap();
        let (outcome, took) = timed(guard.unlock()).await;
        outcome.unwrap();
        assert_eq!(took, Duration::ZERO);
        other.try_lock().await.unwrap().unlock().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_the_error_says_what_each_node_did() {
    let nodes = Faulty::three();
    nodes[0].set(Mode::Hung);
    nodes[2].set(Mode::Failing);
    let mutex = Mutex::new(nodes.clone(), "job");
    let (outcome, took) = timed(mutex.try_lock()).await;
    let Err(LockError::Quorum(failed)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failed.needed, took), (2, Duration::from_secs(1)), "a tenth of the TTL");
    assert!(matches!(failed.nodes[..], [NodeOutcome::TimedOut, NodeOutcome::Done, NodeOutcome::Failed(_)]));
    let text = LockError::Quorum(failed).to_string();
    assert_eq!(
        text,
        "1 of 3 nodes did it, and 2 were needed: node 0 did not answer in time, node 1 did it, node 2 failed (the node is down: it was unplugged)"
    );
    let Err(failed) = Mutex::new(nodes[2].clone(), "job").try_lock().await else { panic!("it is down") };
    assert_eq!(failed.to_string(), "the node of the lock failed (the node is down: it was unplugged)");
}

/// Fails if the outcome waits for nodes that cannot change it.
#[tokio::test(start_paused = true)]
async fn half_of_an_even_number_that_fails_decides_at_once() {
    for (nodes, failing) in [(2, 1), (4, 2), (6, 3), (3, 2), (5, 3)] {
        let faulty: Vec<_> = (0..nodes).map(|_| Faulty::new()).collect();
        faulty[..failing].iter().for_each(|node| node.set(Mode::Failing));
        faulty[failing..].iter().for_each(|node| node.set(Mode::Hung));
        let (outcome, took) = timed(Mutex::new(faulty, "job").try_lock()).await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))), "{outcome:?}");
        assert_eq!(took, Duration::ZERO, "{failing} of {nodes}");
    }
}

#[tokio::test(start_paused = true)]
async fn locking_goes_on_trying_unless_it_is_to_fail_fast() {
    let nodes = Faulty::three();
    nodes[1..].iter().for_each(|node| node.set(Mode::Failing));
    let mutex = Mutex::new(nodes.clone(), "job");
    let (outcome, took) = timed(mutex.clone().fail_fast(true).lock()).await;
    assert!(matches!(outcome, Err(LockError::Quorum(_))) && took == Duration::ZERO);
    // Eight attempts, with pauses from 50 ms to a second in between, of which up to a half is taken off.
    let before = nodes[0].asked().acquire;
    let (outcome, took) = timed(mutex.lock()).await;
    assert!(matches!(outcome, Err(LockError::Quorum(_))));
    assert_eq!(nodes[0].asked().acquire - before, 8);
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    // And succeeds as soon as a majority is back.
    let waiter = tokio::spawn(async move { mutex.lock().await.map(|guard| (guard, Instant::now())) });
    tokio::time::sleep(500 * MS).await;
    nodes[1].set(Mode::Up);
    let back = Instant::now();
    let (_guard, held) = waiter.await.unwrap().unwrap();
    assert!(held - back <= Duration::from_secs(1));
}

/// Granted, and told when nothing is left of it. Fails if such an attempt counts as none, and is repeated without an end.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_granted_too_late_is_none() {
    let node = Faulty::new();
    node.set(Mode::Late(48 * MS));
    let mutex = Mutex::new(node.clone(), "job").ttl(50 * MS).timeout_factor(1.0);
    for (limited, attempts) in [(mutex.clone().fail_fast(true), 1), (mutex.clone().tries(3), 3), (mutex.clone(), 8)] {
        let before = node.asked().acquire;
        let outcome = limited.lock_timeout(Duration::from_secs(60)).await;
        assert!(matches!(outcome, Err(LockError::Quorum(_))), "{outcome:?}");
        assert_eq!(node.asked().acquire - before, attempts);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    node.set(Mode::Up);
    assert!(mutex.try_lock().await.is_ok());
}

/// A release reaches the nodes one after the other: what one of them grants is not yet worth an attempt, and a quorum of
/// such messages needs none.
#[tokio::test(start_paused = true)]
async fn a_grant_of_one_node_waits_for_the_others() {
    let nodes = Faulty::three();
    let (mutex, other) = (Mutex::new(nodes.clone(), "job"), Mutex::new(elsewhere(&nodes), "job"));
    let guard = mutex.lock().await.unwrap();
    let waiter = tokio::spawn(async move { other.lock().await.map(|guard| (guard, Instant::now())) });
    settle().await;
    let released = Instant::now();
    guard.unlock().await.unwrap();
    let (_guard, held) = waiter.await.unwrap().unwrap();
    assert_eq!(held - released, Duration::ZERO);
    let asked = nodes.each_ref().map(|node| node.asked().acquire);
    assert_eq!(asked, [2; 3], "each of them once");
}

/// Fails if who waits does not learn of all its places.
#[tokio::test(start_paused = true)]
async fn who_waits_has_a_place_on_every_node_however_late_it_answers() {
    for count in [2, 3, 4, 5] {
        let nodes: Vec<_> = (0..count).map(|_| Faulty::new()).collect();
        let replicas: Vec<_> = nodes.iter().map(Faulty::replica).collect();
        let (mutex, other) = (Mutex::new(nodes.clone(), "job"), Mutex::new(replicas, "job"));
        let guard = mutex.lock().await.unwrap();
        settle().await;
        (1..).zip(&nodes).for_each(|(late, node)| node.set(Mode::Late(late * 2 * MS)));
        let waiter = tokio::spawn(async move { other.lock().await.map(|guard| (guard, Instant::now())) });
        tokio::time::sleep(15 * MS).await;
        nodes.iter().for_each(|node| node.set(Mode::Up));
        let released = Instant::now();
        guard.unlock().await.unwrap();
        let (_guard, held) = waiter.await.unwrap().unwrap();
        assert_eq!(held - released, Duration::ZERO, "{count} nodes");
        assert!(nodes.iter().all(|node| node.asked().acquire == 2), "{count} nodes");
    }
}

/// Fails if what is still on its way when a round is decided is broken off.
#[tokio::test(start_paused = true)]
async fn a_node_that_asks_back_takes_part_again() {
    let nodes = Faulty::three();
    nodes[2].set(Mode::AsksBack(5 * MS));
    let (mutex, third) = (Mutex::new(nodes.clone(), "job"), Mutex::new(nodes[2].clone(), "job"));
    let guard = mutex.lock().await.unwrap();
    tokio::time::sleep(10 * MS).await;
    assert_eq!(third.info().await.unwrap().unwrap().left, TTL - 10 * MS);
    guard.extend().await.unwrap();
    tokio::time::sleep(5 * MS).await;
    assert_eq!(third.info().await.unwrap().unwrap().left, TTL - 5 * MS);
    guard.fence().await.unwrap();
    guard.unlock().await.unwrap();
    tokio::time::sleep(10 * MS).await;
    assert!(!third.is_locked().await.unwrap());
}

/// Two contenders that are each nearer to another node take one each, give it back, and are granted the other one's, in
/// step. Fails if nothing brings them out of step.
#[tokio::test(start_paused = true)]
async fn contenders_in_step_come_out_of_it() {
    for third in [false, true] {
        let (a, b) = (Memory::new(), Memory::new());
        let nodes = |lates: [u32; 2]| {
            let near = [&a, &b].into_iter().zip(lates).map(|(memory, late)| {
                let node = Faulty::on(memory.replica());
                node.set(Mode::Late(late * MS));
                node
            });
            let down = Faulty::new();
            down.set(Mode::Failing);
            near.chain(third.then_some(down)).collect::<Vec<_>>()
        };
        let tasks = [nodes([1, 3]), nodes([3, 1])].map(|nodes| {
            tokio::spawn(async move { Mutex::new(nodes, "job").lock().await.unwrap().unlock().await.unwrap() })
        });
        let both = async {
            for task in tasks {
                task.await.unwrap();
            }
        };
        let (done, took) = timed(tokio::time::timeout(Duration::from_secs(60), both)).await;
        assert!(done.is_ok() && took < Duration::from_secs(5), "{took:?}, with a third node: {third}");
    }
}

/// Three nodes that are up, and three contenders, each nearest to another one. Fails if they pass them round for ever.
#[tokio::test(start_paused = true)]
async fn three_contenders_with_distances_make_progress() {
    let stores = [Memory::new(), Memory::new(), Memory::new()];
    let mut tasks = Vec::new();
    for late in [[1, 3, 5], [3, 5, 1], [5, 1, 3]] {
        let nodes: Vec<_> = stores.iter().map(|memory| Faulty::on(memory.replica())).collect();
        nodes.iter().zip(late).for_each(|(node, late)| node.set(Mode::Late(late * MS)));
        let mutex = Mutex::new(nodes, "job");
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                let guard = mutex.lock().await.unwrap();
                tokio::time::sleep(MS).await;
                guard.unlock().await.unwrap();
            }
        }));
    }
    let all = async {
        for task in tasks {
            task.await.unwrap();
        }
    };
    let (done, took) = timed(tokio::time::timeout(Duration::from_secs(60), all)).await;
    assert!(done.is_ok(), "{took:?}");
}

/// One node of three hangs. Fails if two contenders then pass the others round for ever.
#[tokio::test(start_paused = true)]
async fn a_hung_node_does_not_keep_contenders_in_step() {
    let stores = [Memory::new(), Memory::new()];
    let tasks = [[1, 3], [3, 1]].map(|late| {
        let hung = Faulty::new();
        hung.set(Mode::Hung);
        let near = stores.each_ref().map(|memory| Faulty::on(memory.replica()));
        near.iter().zip(late).for_each(|(node, late)| node.set(Mode::Late(late * MS)));
        let [a, b] = near;
        tokio::spawn(async move { Mutex::new([a, b, hung], "job").lock_timeout(Duration::from_secs(60)).await.is_ok() })
    });
    for task in tasks {
        assert!(task.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn fences_on_a_quorum_grow_once_they_are_asked_for() {
    let nodes = Faulty::three();
    // The clock of the first node is ahead of the others by a second: its grants alone have the greatest numbers.
    let ahead = {
        tokio::time::advance(Duration::from_secs(1)).await;
        Faulty::new()
    };
    let nodes = [nodes[0].clone(), ahead.clone(), Faulty::new()];
    let mutex = Mutex::new(nodes.clone(), "job");
    nodes[2].set(Mode::Failing);
    let guard = mutex.lock().await.unwrap();
    let first = guard.fence().await.unwrap();
    guard.unlock().await.unwrap();
    // The next holder does not reach the node that is ahead.
    nodes[0].set(Mode::Failing);
    nodes[2].set(Mode::Up);
    let guard = mutex.lock().await.unwrap();
    let second = guard.fence().await.unwrap();
    assert!(second > first, "{first:?} then {second:?}");
    guard.unlock().await.unwrap();
}

/// Fails if what is put back counts for the extension that puts it back, or on a single node.
#[tokio::test(start_paused = true)]
async fn a_lock_is_put_back_only_where_the_others_hold_it() {
    let nodes = Faulty::three();
    let mutex = Mutex::new(nodes.clone(), "job").set_nx_on_extend(true);
    let guard = mutex.lock().await.unwrap();
    settle().await;
    let forget = async |node: &Faulty| {
        let single = Mutex::new(node.clone(), "job");
        single.from_token(guard.token().clone()).await.unwrap().unlock().await.unwrap();
    };
    let knows = async |node: &Faulty| Mutex::new(node.clone(), "job").is_locked().await.unwrap();

    forget(&nodes[0]).await;
    guard.extend().await.unwrap();
    settle().await;
    assert!(knows(&nodes[0]).await, "a majority held it: it is put back");

    forget(&nodes[0]).await;
    forget(&nodes[1]).await;
    assert!(matches!(guard.extend().await, Err(LockError::NotHeld)));
    settle().await;
    assert!(!knows(&nodes[0]).await && !knows(&nodes[1]).await, "a lost lock stays lost");
    drop(guard);
    settle().await;

    let single = Mutex::new(nodes[0].clone(), "alone").set_nx_on_extend(true);
    let guard = single.lock().await.unwrap();
    single.from_token(guard.token().clone()).await.unwrap().unlock().await.unwrap();
    assert!(matches!(guard.extend().await, Err(LockError::NotHeld)));
    assert!(!single.is_locked().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_holds_it_is_told_as_long_as_a_majority_answers() {
    let nodes = Faulty::three();
    let mutex = Mutex::new(nodes.clone(), "job");
    let guard = mutex.lock().await.unwrap();
    settle().await;
    assert_eq!(mutex.info().await.unwrap().unwrap().nodes, [0, 1], "two are enough to know");
    nodes[0].set(Mode::Failing);
    assert_eq!(mutex.info().await.unwrap().unwrap().nodes, [1, 2]);
    nodes[1].set(Mode::Failing);
    assert!(matches!(mutex.info().await, Err(LockError::Quorum(_))));
    nodes[0].set(Mode::Up);
    guard.unlock().await.unwrap();
    // The failing one might know a holder, but not a majority of them.
    assert!(!mutex.is_locked().await.unwrap());
}

/// Fails if a lock that is free is told to be unknown, because half of an even number need not be asked to know.
#[tokio::test(start_paused = true)]
async fn half_that_are_free_are_enough_to_know() {
    for count in 1..=7 {
        let nodes: Vec<_> = (0..count).map(|_| Faulty::new()).collect();
        let mutex = Mutex::new(nodes.clone(), "job");
        assert!(!mutex.is_locked().await.unwrap(), "{count}");
        // One fewer, and the others could be holding it.
        let quorum = count / 2 + 1;
        for down in 0..=count {
            nodes[..down].iter().for_each(|node| node.set(Mode::Failing));
            let known = matches!(mutex.info().await, Ok(None));
            assert_eq!(known, down < quorum, "{down} of {count}");
        }
    }
}
