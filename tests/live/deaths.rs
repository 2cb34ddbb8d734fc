//! Leaders that die without a word, with their runtime, their connections and all. Followers wait for what is left of
//! the lease, and one of them leads.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower_singleflight::{
    Group,
    group::{Alone, Source},
};

use crate::support::{
    Server,
    calls::LONG,
    fleet::{Job, MS, answers, assert_all, burst, call, callers, group_key, parked, replicas, strict},
};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A replica on a runtime of its own, with a caller that leads.
fn doomed(server: &Server, key: &str, lease: Duration, job: &Job, is_strict: bool) -> (Runtime, Group<String>) {
    let dies = runtime();
    let group = dies.block_on(async {
        let group = replicas(server, 1, |group| group.lock_ttl(lease)).await.remove(0);
        if is_strict {
            drop(strict(&group, key, job));
        } else {
            drop(call(&group, key, job));
        }
        job.started(1).await;
        group
    });
    (dies, group)
}

/// The test itself lives on a runtime of its own, too: none is to be shut down from within another one.
fn test<F: Future>(test: impl FnOnce() -> F) {
    let lives = runtime();
    lives.block_on(test());
}

#[test]
fn followers_take_over_when_the_lease_ends() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let first = Job::held();
    let (dies, gone) = doomed(&server, "key", lease, &first, false);
    test(async || {
        let groups = replicas(&server, 2, |group| group.lock_ttl(lease)).await;
        let next = Job::held();
        let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 10, "key", &next)).collect();
        parked(&server, &group_key("key"), 2).await;
        let start = Instant::now();
        dies.shutdown_background();
        next.started(1).await;
        let waited = start.elapsed();
        println!("a follower led {waited:?} after the leader's death, whose lease had been {lease:?}");
        // It may have renewed just before.
        assert!(waited < lease + Duration::from_secs(1), "{waited:?}");
        // The inboxes stay noted: two of those who live, of which one leads now.
        parked(&server, &group_key("key"), 2).await;
        next.release();
        let flown = answers(calls).await;
        assert_all(&flown, "run 1");
        assert_eq!(flown.iter().filter(|flown| flown.source == Source::Led).count(), 1);
        assert_eq!((first.runs(), next.runs()), (1, 1));
        burst(&server, &groups, "key").await;
        drop(gone);
    });
}

/// Only the lease of the dead counts, not that of those who wait.
#[test]
fn what_is_left_of_the_lease_is_what_followers_wait() {
    let server = Server::start();
    let lease = Duration::from_millis(300);
    let first = Job::held();
    let (dies, gone) = doomed(&server, "key", lease, &first, false);
    test(async || {
        let groups = replicas(&server, 1, |group| group.lock_ttl(LONG)).await;
        dies.shutdown_background();
        let start = Instant::now();
        assert_all(&answers(callers(&groups[0], 10, "key", &Job::quick())).await, "run 1");
        assert!(start.elapsed() < lease + Duration::from_secs(1), "{:?}", start.elapsed());
        drop(gone);
    });
}

/// After three of them the work itself is the likely killer: nobody queues for it any more.
#[test]
fn after_three_dead_leaders_a_key_is_poisoned() {
    let server = Server::start();
    let lease = 50 * MS;
    for _ in 0..3 {
        let (dies, gone) = doomed(&server, "key", lease, &Job::held(), false);
        dies.shutdown_background();
        drop(gone);
    }
    test(async || {
        let groups = replicas(&server, 2, |group| group.lock_ttl(lease)).await;
        let job = Job::held();
        let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 10, "key", &job)).collect();
        job.started(2).await;
        let refused = answers([strict(&groups[0], "other", &Job::quick()), strict(&groups[1], "key", &job)]).await;
        assert!(refused[0].is_ok() && refused[1].is_err(), "{refused:?}");
        job.release();
        assert_eq!(answers(calls).await.len(), 20);
        assert_eq!(job.runs(), 2, "one per replica");
        let refused = answers([strict(&groups[0], "key", &job)]).await.remove(0).unwrap_err();
        assert!(refused.to_string().contains(&Alone::Poisoned.to_string()), "{refused}");
        assert_eq!(job.runs(), 2);
    });
}

/// Strict callers wait for the end of a dead leader's lease like all others: executions follow each other and never
/// run side by side.
#[test]
fn strict_executions_never_overlap() {
    let server = Server::start();
    let lease = Duration::from_millis(400);
    let job = Job::held();
    let (dies, gone) = doomed(&server, "key", lease, &job, true);
    test(async || {
        let groups = replicas(&server, 2, |group| group.lock_ttl(lease)).await;
        let calls: Vec<_> = (0..10).map(|caller| strict(&groups[caller % 2], "key", &job)).collect();
        parked(&server, &group_key("key"), 2).await;
        dies.shutdown_background();
        job.started(2).await;
        // Beyond the lease of the new leader: it lives, and nobody else begins.
        let start = Instant::now();
        while start.elapsed() < 2 * lease {
            assert_eq!(job.runs(), 2);
            tokio::time::sleep(10 * MS).await;
        }
        job.release();
        for value in answers(calls).await {
            assert_eq!(value.unwrap(), "run 2");
        }
        assert_eq!((job.runs(), job.peak()), (2, 1), "one after the other");
        drop(gone);
    });
}
