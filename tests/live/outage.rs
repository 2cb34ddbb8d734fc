//! Redis is away: at the start, before the work, during it, and when it ends. It comes back empty.

use std::time::{Duration, Instant};

use tower_singleflight::{
    Group,
    backend::{ErrorKind, Redis},
    group::{Alone, Flown, Source},
};

use crate::support::{
    Server,
    calls::LONG,
    fleet::{APP, Job, answers, assert_all, burst, callers, group, group_key, parked, recovered, replicas},
};

/// One execution on each replica, whose callers all get it; the store had no part in it.
async fn each_by_itself(groups: &[Group<String>], key: &str) -> Duration {
    let (job, start) = (Job::held(), Instant::now());
    let calls: Vec<_> = groups.iter().map(|group| callers(group, 10, key, &job)).collect();
    job.started(groups.len()).await;
    let waited = start.elapsed();
    job.release();
    let mut values = Vec::new();
    for calls in calls {
        let flown = answers(calls).await;
        assert_all(&flown, &flown[0].value);
        values.push(flown[0].value.clone());
    }
    values.sort();
    let expected: Vec<_> = (1..=groups.len()).map(|run| job.value(run)).collect();
    assert_eq!((values, job.runs()), (expected, groups.len()), "{key}");
    waited
}

#[tokio::test]
async fn a_server_that_is_missing_at_the_start() {
    let mut server = Server::start();
    server.kill();
    let groups: Vec<_> = (0..3).map(|_| group(Redis::connect_lazy(&server.url(), APP).unwrap())).collect();
    let asked = [
        groups[0].peek("key").await.map(drop),
        groups[0].put("key", &String::new()).await,
        groups[0].forget("key").await,
    ];
    for error in asked.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains(&server.port().to_string()) && text.contains("start the server"), "{text}");
    }
    for round in 0..3 {
        let waited = each_by_itself(&groups, &format!("round {round}")).await;
        assert!(waited < Duration::from_secs(2), "an error comes at once: {waited:?}");
    }
    server.restart().await;
    println!("the server that was missing is used {:?} after its start", recovered(&groups).await);
    burst(&server, &groups, "after").await;
}

/// Wrong settings of a handle that was made lazily cost coordination, not answers, and are told to those who ask.
#[tokio::test]
async fn a_server_that_refuses_the_password() {
    let server = Server::start_with(&["--requirepass", "right"]);
    let url = server.url().replace("redis://", "redis://:secret@");
    let groups: Vec<_> = (0..2).map(|_| group(Redis::connect_lazy(&url, APP).unwrap())).collect();
    each_by_itself(&groups, "key").await;
    let error = groups[0].peek("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(text.contains("password") && text.contains("address") && !text.contains("secret"), "{text}");
}

/// Nobody waits for a server that is not there, in the first round or later.
#[tokio::test]
async fn a_server_that_is_killed_before_the_work() {
    let mut server = Server::start();
    let groups = replicas(&server, 3, |group| group).await;
    burst(&server, &groups, "before").await;
    server.kill();
    for round in 0..10 {
        let waited = each_by_itself(&groups, &format!("round {round}")).await;
        assert!(waited < Duration::from_secs(2), "an error comes at once: {waited:?}");
    }
    server.restart().await;
    println!("after the kill the server is used {:?} after its start", recovered(&groups).await);
    burst(&server, &groups, "after").await;
}

/// The leader and its callers notice nothing. The others wait for the end of the lease, then find no store.
#[tokio::test]
async fn a_server_that_is_killed_during_the_work() {
    let mut server = Server::start();
    let lease = Duration::from_millis(700);
    let groups = replicas(&server, 3, |group| group.lock_ttl(lease)).await;
    let (job, start) = (Job::held(), Instant::now());
    let leader = callers(&groups[0], 10, "key", &job);
    job.started(1).await;
    let followers = [callers(&groups[1], 10, "key", &job), callers(&groups[2], 10, "key", &job)];
    parked(&server, &group_key("key"), 2).await;
    server.kill();
    job.started(3).await;
    println!("followers ran by themselves {:?} after a lease of {lease:?} began", start.elapsed());
    assert!(start.elapsed() > lease - Duration::from_millis(50), "while the lease runs they wait");
    job.release();
    assert_all(&answers(leader).await, "run 1");
    for follower in followers {
        let flown = answers(follower).await;
        assert!(flown[0].value == "run 2" || flown[0].value == "run 3");
        assert_all(&flown, &flown[0].value);
    }
    assert_eq!(job.runs(), 3, "one per replica");
    server.restart().await;
    recovered(&groups).await;
    burst(&server, &groups, "after").await;
}

/// Nobody waits for a result that could not be stored: the leader's callers have it, and the others begin anew as soon
/// as their inbox is back, which is long before the lease would end.
#[tokio::test]
async fn a_server_that_is_killed_when_the_work_ends_and_started_again() {
    let mut server = Server::start();
    let groups = replicas(&server, 3, |group| group.lock_ttl(LONG)).await;
    let job = Job::held();
    let leader = callers(&groups[0], 10, "key", &job);
    job.started(1).await;
    let next = Job::held();
    let followers = [callers(&groups[1], 10, "key", &next), callers(&groups[2], 10, "key", &next)];
    parked(&server, &group_key("key"), 2).await;
    server.kill();
    job.release();
    let start = Instant::now();
    assert_all(&answers(leader).await, "run 1");
    println!("the leader's callers had their answer {:?} after the work", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(next.runs(), 0, "the others wait");
    server.restart().await;
    next.started(1).await;
    next.release();
    for follower in followers {
        let flown = answers(follower).await;
        assert_all(&flown, &flown[0].value);
    }
    // One in all if both followers have their connections back by the time they begin; else one of them finds no store
    // and goes by itself.
    assert!((1..=2).contains(&next.runs()), "{}", next.runs());
    assert_eq!(job.runs(), 1);
    recovered(&groups).await;
    burst(&server, &groups, "key").await;
}

/// A flushed lease is gone: its leader stores nothing, and at the end of the lease one follower leads anew.
#[tokio::test]
async fn a_server_that_is_flushed_during_the_work() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let groups = replicas(&server, 3, |group| group.lock_ttl(lease).result_ttl(LONG)).await;
    for renewed in [false, true] {
        let key = format!("renewed: {renewed}");
        let (job, next) = (Job::held(), Job::held());
        let leader = callers(&groups[0], 3, &key, &job);
        job.started(1).await;
        let mut followers = callers(&groups[1], 3, &key, &next);
        followers.extend(callers(&groups[2], 3, &key, &next));
        parked(&server, &group_key(&key), 2).await;
        let () = server.run(&["FLUSHALL"]).await;
        if !renewed {
            // `complete` tells the leader that it was superseded; else the renewal does, while the work goes on.
            job.release();
        }
        next.started(1).await;
        parked(&server, &group_key(&key), 1).await;
        job.release();
        assert_all(&answers(leader).await, "run 1");
        assert_eq!(groups[0].peek(&key).await.unwrap(), None, "nothing was stored");
        next.release();
        let flown = answers(followers).await;
        assert_all(&flown, "run 1");
        assert_eq!(flown.iter().filter(|flown| flown.source == Source::Led).count(), 1);
        assert_eq!((job.runs(), next.runs()), (1, 1));
        let late: Vec<Flown<String>> = answers(groups.iter().flat_map(|group| callers(group, 3, &key, &next))).await;
        assert!(late.iter().all(|flown| matches!(flown.source, Source::Hit { .. })), "{late:?}");
        burst(&server, &groups, &format!("after {key}")).await;
    }
}

/// What a caller sees of it: an answer from its own work, and why.
#[tokio::test]
async fn a_caller_is_told_that_it_was_by_itself() {
    let mut server = Server::start();
    let groups = replicas(&server, 1, |group| group).await;
    server.kill();
    let job = Job::quick();
    let flown = answers(callers(&groups[0], 2, "key", &job)).await;
    assert_eq!((flown[0].source, flown[1].source), (Source::Alone(Alone::Unavailable), Source::JoinedHere));
    let refused = groups[0].try_work("key", || job.run()).await.unwrap_err();
    assert!(refused.to_string().contains(&Alone::Unavailable.to_string()), "{refused}");
}
