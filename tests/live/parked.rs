//! Ten thousand callers wait: on the connections that were there before, and on nothing else.

use std::time::Instant;

use crate::support::{
    Server,
    fleet::{Job, answers, assert_all, call, callers, group_key, parked, replicas, until},
};

/// Waits until there are as many connections to the server as a fleet needs that does not wait for anything: one for
/// commands and one inbox per replica, and the one that asks. A look of the test itself may take a moment to go.
async fn as_few_as_ever(server: &Server, replicas: usize) {
    let list = async || server.run::<String>(&["CLIENT", "LIST"]).await.lines().count();
    until(2 * replicas + 1, list).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_of_one_key_need_no_further_connection() {
    let server = Server::start();
    let groups = replicas(&server, 2, |group| group).await;
    let job = Job::held();
    as_few_as_ever(&server, 2).await;
    let mut calls = callers(&groups[0], 5000, "key", &job);
    job.started(1).await;
    calls.extend(callers(&groups[1], 5000, "key", &job));
    parked(&server, &group_key("key"), 1).await;
    as_few_as_ever(&server, 2).await;
    let start = Instant::now();
    job.release();
    assert_all(&answers(calls).await, "run 1");
    println!("10000 callers of one key were answered within {:?}", start.elapsed());
    assert_eq!(job.runs(), 1);
    as_few_as_ever(&server, 2).await;
}

/// A thousand keys, ten callers each: five on the leading replica, five on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_of_a_thousand_keys_need_no_further_connection() {
    let server = Server::start();
    let groups = replicas(&server, 2, |group| group).await;
    let jobs: Vec<Job> = (0..1000).map(|_| Job::held()).collect();
    let name = |key: usize| format!("key {key}");
    let mut calls: Vec<_> = jobs.iter().map(|_| Vec::new()).collect();
    // In waves: a caller who has waited 250 ms for the store, for whatever reason, goes by himself.
    for wave in (0..jobs.len()).collect::<Vec<_>>().chunks(50) {
        for &key in wave {
            calls[key].push(call(&groups[key % 2], name(key), &jobs[key]));
        }
        for &key in wave {
            jobs[key].started(1).await;
            calls[key].extend(callers(&groups[key % 2], 4, name(key), &jobs[key]));
            calls[key].extend(callers(&groups[(key + 1) % 2], 5, name(key), &jobs[key]));
        }
        for &key in wave {
            parked(&server, &group_key(name(key)), 1).await;
        }
    }
    as_few_as_ever(&server, 2).await;
    let start = Instant::now();
    jobs.iter().for_each(Job::release);
    for calls in calls {
        let flown = answers(calls).await;
        assert_eq!(flown.len(), 10);
        assert_all(&flown, "run 1");
    }
    println!("10000 callers of 1000 keys were answered within {:?}", start.elapsed());
    assert!(jobs.iter().all(|job| job.runs() == 1));
    as_few_as_ever(&server, 2).await;
}
