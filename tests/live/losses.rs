//! Messages and connections are lost while callers wait: the outcome is the same, and one execution.

use std::time::{Duration, Instant};

use tower_singleflight::group::Source;

use crate::support::{
    Proxy, Server,
    calls::LONG,
    fleet::{
        APP, Job, MS, answers, assert_all, burst, callers, group_key, landed, parked, proxied, recovered, replicas,
        until,
    },
    forge,
};

/// Followers look again when the lease is over, and find what landed since by the fence they followed: the record is
/// fresh for nobody.
#[tokio::test]
async fn without_a_single_message_followers_end_with_the_lease() {
    let server = Server::start();
    let lease = Duration::from_millis(500);
    let (proxies, groups) = proxied(&server, 3, |group| group.lock_ttl(lease)).await;
    recovered(&groups).await;
    proxies.iter().for_each(|proxy| proxy.drop_messages(true));
    let before: Vec<_> = proxies.iter().map(Proxy::exchanges).collect();
    let (job, start) = (Job::held(), Instant::now());
    let leader = callers(&groups[0], 3, "key", &job);
    job.started(1).await;
    let mut followers = callers(&groups[1], 3, "key", &job);
    followers.extend(callers(&groups[2], 3, "key", &job));
    parked(&server, &group_key("key"), 2).await;
    job.release();
    assert_all(&answers(leader).await, "run 1");
    let flown = answers(followers).await;
    println!("without messages followers had their answer {:?} after the leader began", start.elapsed());
    assert_all(&flown, "run 1");
    assert!(flown.iter().all(|flown| flown.source == Source::JoinedElsewhere), "{flown:?}");
    assert_eq!(job.runs(), 1);
    for (proxy, before) in proxies.iter().zip(before).skip(1) {
        // Twice, unless this process was held up for a whole lease.
        assert!(proxy.exchanges() - before >= 2, "no message came, and it looked again");
    }
    proxies.iter().for_each(|proxy| proxy.drop_messages(false));
    burst(&server, &groups, "after").await;
}

/// Whoever is parked begins again under the inbox's new name. The lease is far too long to be what helps here.
#[tokio::test]
async fn killed_inboxes_are_noted_again() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.lock_ttl(LONG)).await;
    let job = Job::held();
    let mut calls = callers(&groups[0], 3, "key", &job);
    job.started(1).await;
    calls.extend(callers(&groups[1], 3, "key", &job));
    calls.extend(callers(&groups[2], 3, "key", &job));
    for round in 1..=3 {
        // The old names stay noted until the flight ends.
        parked(&server, &group_key("key"), 2 * round).await;
        until(3, async || server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()).await;
        let killed: usize = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(killed, 3);
    }
    parked(&server, &group_key("key"), 8).await;
    job.release();
    assert_all(&answers(calls).await, "run 1");
    assert_eq!(job.runs(), 1);
    // Connections that were lost again and again are made again with pauses: that of the leader, too.
    recovered(&groups).await;
    burst(&server, &groups, "after").await;
}

/// The message is published while a follower has no inbox: when it has one again, it looks.
#[tokio::test]
async fn what_landed_while_the_inbox_was_away_is_found() {
    let server = Server::start();
    let (proxies, groups) = proxied(&server, 2, |group| group.lock_ttl(LONG)).await;
    let job = Job::held();
    let leader = callers(&groups[0], 3, "key", &job);
    job.started(1).await;
    let followers = callers(&groups[1], 3, "key", &job);
    parked(&server, &group_key("key"), 1).await;
    proxies[1].refuse(true);
    let made = proxies[1].traffic().len();
    let _: usize = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    job.release();
    assert_all(&answers(leader).await, "run 1");
    landed(&server, &group_key("key")).await;
    assert!(followers.iter().all(|follower| !follower.is_finished()));
    assert_eq!(proxies[1].traffic().len(), made, "no new connection was let through");
    proxies[1].refuse(false);
    let flown = answers(followers).await;
    assert_all(&flown, "run 1");
    assert!(flown.iter().all(|flown| flown.source == Source::JoinedElsewhere), "{flown:?}");
    assert_eq!(job.runs(), 1);
    burst(&server, &groups, "after").await;
}

/// Neither those who lead nor those who wait need the connection for commands while the work runs, and `complete` is
/// sent again on the next one.
#[tokio::test]
async fn killed_command_connections_are_not_noticed() {
    let server = Server::start();
    for (key, lease) in [("without renewals", LONG), ("with renewals", Duration::from_millis(1500))] {
        let groups = replicas(&server, 3, |group| group.lock_ttl(lease)).await;
        let job = Job::held();
        let mut calls = callers(&groups[0], 3, key, &job);
        job.started(1).await;
        calls.extend(callers(&groups[1], 3, key, &job));
        calls.extend(callers(&groups[2], 3, key, &job));
        parked(&server, &group_key(key), 2).await;
        let killed: usize = server.run(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        assert!(killed >= 3, "{killed}");
        if lease < LONG {
            // A renewal finds the connection gone, and the next one in time finds another.
            renewed(&server, key).await;
            let _: usize = server.run(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        }
        job.release();
        let start = Instant::now();
        assert_all(&answers(calls).await, "run 1");
        println!("{key}: all answers {:?} after the work, although the connections were gone", start.elapsed());
        assert_eq!(job.runs(), 1);
        recovered(&groups).await;
        burst(&server, &groups, &format!("after {key}")).await;
    }
}

/// Waits until the lease of a key has been renewed.
async fn renewed(server: &Server, key: &str) {
    let mut connection = server.connection().await;
    let state = forge::name(APP, &group_key(key), "s");
    let mut deadline =
        async || -> Option<u64> { redis::cmd("HGET").arg(&state).arg("d").query_async(&mut connection).await.unwrap() };
    let first = deadline().await.expect("somebody leads");
    until(true, async || deadline().await.is_some_and(|deadline| deadline > first)).await;
}

/// Work that takes several leases: the lease is renewed, also after renewals were held up for half of it.
#[tokio::test]
async fn work_longer_than_the_lease_runs_once() {
    let server = Server::start();
    let lease = Duration::from_millis(900);
    let (proxies, groups) = proxied(&server, 3, |group| group.lock_ttl(lease)).await;
    for held_up in [false, true] {
        let (job, key, start) = (Job::held(), format!("held up: {held_up}"), Instant::now());
        let mut calls = callers(&groups[0], 3, &key, &job);
        job.started(1).await;
        calls.extend(callers(&groups[1], 3, &key, &job));
        calls.extend(callers(&groups[2], 3, &key, &job));
        parked(&server, &group_key(&key), 2).await;
        if held_up {
            renewed(&server, &key).await;
            proxies[0].hang(true);
            // How long the fault lasts: less than the two thirds of the lease that are left when a renewal is due.
            tokio::time::sleep(lease / 2).await;
            proxies[0].hang(false);
        }
        while start.elapsed() < 2 * lease {
            renewed(&server, &key).await;
        }
        job.release();
        assert_all(&answers(calls).await, "run 1");
        assert_eq!(job.runs(), 1, "{key}");
        assert!(start.elapsed() > 2 * lease - MS);
    }
    burst(&server, &groups, "after").await;
}
