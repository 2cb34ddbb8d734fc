//! Redis is there and says nothing: what that costs, and how it ends.

use std::time::{Duration, Instant};

use tower_singleflight::Group;

use crate::support::{
    Server,
    calls::LONG,
    fleet::{Job, MS, answers, assert_all, burst, call, callers, group_key, parked, recovered, replicas},
};

/// What a caller waits for the store at most.
const BUDGET: Duration = Duration::from_millis(250);

/// What a caller on a busy machine waits at most where the design says [`BUDGET`].
const GENEROUS: Duration = Duration::from_millis(900);

/// How long one caller takes whose work takes no time.
async fn alone(group: &Group<String>, key: &str) -> Duration {
    let start = Instant::now();
    assert_all(&answers([call(group, key, &Job::quick())]).await, "run 1");
    start.elapsed()
}

/// The first callers pay their budget, until three operations in a row have timed out; from then on only one trial a
/// second does, and when redis goes on, so do all.
#[tokio::test]
async fn a_server_that_hangs_before_the_work() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group).await;
    burst(&server, &groups, "before").await;
    server.pause();
    let (job, start) = (Job::held(), Instant::now());
    let calls: Vec<_> = groups.iter().map(|group| callers(group, 10, "key", &job)).collect();
    job.started(3).await;
    let waited = start.elapsed();
    println!("a caller of a hung redis waited {waited:?} for its own process' result");
    assert!(waited >= BUDGET - MS && waited < GENEROUS, "{waited:?}");
    job.release();
    for calls in calls {
        let flown = answers(calls).await;
        assert_all(&flown, &flown[0].value);
    }
    assert_eq!(job.runs(), 3, "one per replica");

    // An operation times out after a second. From the first caller who paid nothing, because three had, only trials pay:
    // also while the inbox is found silent, which takes a heartbeat or two, and is made again, in vain.
    let (mut before, mut trials) = (0, Vec::new());
    let mut is_open = false;
    while start.elapsed() < Duration::from_secs(7) {
        let from = start.elapsed();
        match alone(&groups[0], &format!("caller at {from:?}")).await >= BUDGET / 2 {
            true if is_open => trials.push(from),
            true => before += 1,
            false => {
                is_open = true;
                tokio::time::sleep(5 * MS).await;
            }
        }
    }
    println!("{before} more callers had paid when the breaker opened, and then those that began after {trials:?}");
    assert!(is_open && before >= 2, "nothing could time out before a second was over: {before} paid");
    assert!(trials.len() <= 5, "a trial takes a second to fail, and then there is a rest of one: {trials:?}");

    server.resume();
    println!("redis is used {:?} after it went on", recovered(&groups).await);
    burst(&server, &groups, "after").await;
}

/// The leader's callers have the result at once. The others have it as soon as redis goes on, within the lease.
#[tokio::test]
async fn a_server_that_hangs_when_the_work_ends() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.lock_ttl(LONG)).await;
    let job = Job::held();
    let leader = callers(&groups[0], 10, "key", &job);
    job.started(1).await;
    let mut followers = callers(&groups[1], 10, "key", &job);
    followers.extend(callers(&groups[2], 10, "key", &job));
    parked(&server, &group_key("key"), 2).await;
    server.pause();
    job.release();
    let start = Instant::now();
    assert_all(&answers(leader).await, "run 1");
    println!("with redis hung, the leader's callers had their answer {:?} after the work", start.elapsed());
    assert!(start.elapsed() < GENEROUS);
    assert!(followers.iter().all(|follower| !follower.is_finished()));
    server.resume();
    assert_all(&answers(followers).await, "run 1");
    println!("the others had it {:?} after the work", start.elapsed());
    assert_eq!(job.runs(), 1);
    recovered(&groups).await;
    burst(&server, &groups, "after").await;
}

/// It hangs for longer than the lease: the others look again, get no answer within their budget, and go by themselves.
#[tokio::test]
async fn a_server_that_hangs_during_the_work() {
    let server = Server::start();
    let lease = Duration::from_millis(600);
    let groups = replicas(&server, 3, |group| group.lock_ttl(lease)).await;
    let (job, start) = (Job::held(), Instant::now());
    let leader = callers(&groups[0], 10, "key", &job);
    job.started(1).await;
    let followers = [callers(&groups[1], 10, "key", &job), callers(&groups[2], 10, "key", &job)];
    parked(&server, &group_key("key"), 2).await;
    let parked_after = start.elapsed();
    server.pause();
    job.started(3).await;
    let waited = start.elapsed();
    println!("followers ran by themselves {waited:?} after a lease of {lease:?} began");
    // The budget began with their first begin, of which a moment was spent.
    assert!(waited >= lease + BUDGET - 50 * MS && waited < parked_after + lease + GENEROUS, "{waited:?}");
    job.release();
    assert_all(&answers(leader).await, "run 1");
    for follower in followers {
        let flown = answers(follower).await;
        assert_all(&flown, &flown[0].value);
    }
    assert_eq!(job.runs(), 3, "one per replica");
    server.resume();
    recovered(&groups).await;
    burst(&server, &groups, "after").await;
    burst(&server, &groups, "key").await;
}

/// A moment of silence is nothing: shorter than the budget before the work, shorter than the lease during it.
#[tokio::test]
async fn a_server_that_hangs_for_a_moment() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group).await;
    let job = Job::held();
    server.pause();
    let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 10, "key", &job)).collect();
    // How long the fault lasts.
    tokio::time::sleep(BUDGET / 5).await;
    server.resume();
    job.started(1).await;
    parked(&server, &group_key("key"), 2).await;
    server.pause();
    tokio::time::sleep(BUDGET / 5).await;
    server.resume();
    job.release();
    assert_all(&answers(calls).await, "run 1");
    assert_eq!(job.runs(), 1);
}
