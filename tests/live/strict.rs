//! Strict callers rather get an error than risk a second execution.

use std::time::{Duration, Instant};

use tower_singleflight::{
    backend::Redis,
    group::{Alone, Error},
};

use crate::support::{
    Server,
    calls::LONG,
    fleet::{APP, Job, answers, burst, group, group_key, parked, recovered, replicas, strict},
};

type Outcome<E> = Result<String, Error<E>>;

/// All of them were refused for this reason.
fn assert_refused<E: std::fmt::Debug>(outcomes: &[Outcome<E>], why: Alone) {
    assert!(!outcomes.is_empty());
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Err(Error::Refused(told)) if *told == why)),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn refused_when_redis_is_away() {
    let mut server = Server::start();
    let mut groups = replicas(&server, 2, |group| group).await;
    server.kill();
    groups.push(group(Redis::connect_lazy(&server.url(), APP).unwrap()));
    let job = Job::quick();
    for round in 0..5 {
        let start = Instant::now();
        let calls = groups.iter().flat_map(|group| (0..5).map(|_| strict(group, format!("{round}"), &job)));
        assert_refused(&answers(calls.collect::<Vec<_>>()).await, Alone::Unavailable);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    assert_eq!(job.runs(), 0, "refused before the work");
    server.restart().await;
    recovered(&groups).await;
    burst(&server, &groups, "after").await;
}

/// What reached redis all the same, when it goes on, is taken back: nobody waits for a lease of which nobody knows.
#[tokio::test]
async fn refused_when_redis_hangs() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.lock_ttl(LONG)).await;
    let job = Job::quick();
    server.pause();
    let start = Instant::now();
    let calls: Vec<_> = groups.iter().flat_map(|group| (0..5).map(|_| strict(group, "key", &job))).collect();
    assert_refused(&answers(calls).await, Alone::Unavailable);
    let took = start.elapsed();
    println!("strict callers of a hung redis were refused after {took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert_eq!(job.runs(), 0, "refused before the work");
    server.resume();
    recovered(&groups).await;
    burst(&server, &groups, "key").await;
}

/// A value that could not be stored under its lease is not returned: somebody else may have led meanwhile.
#[tokio::test]
async fn refused_when_the_lease_is_flushed() {
    let server = Server::start();
    let groups = replicas(&server, 2, |group| group.result_ttl(LONG)).await;
    let job = Job::held();
    let calls: Vec<_> = (0..5).map(|_| strict(&groups[0], "key", &job)).collect();
    job.started(1).await;
    let () = server.run(&["FLUSHALL"]).await;
    job.release();
    assert_refused(&answers(calls).await, Alone::Superseded);
    assert_eq!(job.runs(), 1);
    assert_eq!(groups[1].peek("key").await.unwrap(), None);
    burst(&server, &groups, "key").await;
}

/// The store goes away while the work runs and is not back by the end of the lease: refused, however late.
#[tokio::test]
async fn refused_when_the_result_cannot_be_stored() {
    let mut server = Server::start();
    let groups = replicas(&server, 2, |group| group.lock_ttl(Duration::from_millis(400))).await;
    let job = Job::held();
    let leader = strict(&groups[0], "key", &job);
    job.started(1).await;
    let follower = strict(&groups[1], "key", &job);
    parked(&server, &group_key("key"), 1).await;
    server.kill();
    job.release();
    assert_refused(&answers([leader, follower]).await, Alone::Unavailable);
    assert_eq!(job.runs(), 1, "the follower did not run it again");
}

/// Strict callers of one flight: all have its value, which has landed by then.
#[tokio::test]
async fn one_execution_for_all() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.result_ttl(LONG)).await;
    let job = Job::held();
    let calls: Vec<_> = groups.iter().flat_map(|group| (0..10).map(|_| strict(group, "key", &job))).collect();
    job.started(1).await;
    parked(&server, &group_key("key"), 2).await;
    job.release();
    for value in answers(calls).await {
        assert_eq!(value.unwrap(), "run 1");
        assert_eq!(groups[0].peek("key").await.unwrap().unwrap().value, "run 1");
    }
    assert_eq!(job.runs(), 1);
}
