//! Many requests at once, to many processes, round after round: each round costs one execution.

use std::time::{Duration, Instant};

use super::{Fleet, ask, count, replies, within};
use crate::support::replica::{Client, Reply};

const ROUNDS: usize = 50;
const REQUESTS: usize = 200;

// Work takes several times as long as all requests take to arrive. That they did arrive in time shows in the outcomes, each
// of which is exact.

/// One client led, those of its process joined it there, all others joined from elsewhere: everybody had asked before the
/// result was there. And all have the same bytes.
fn assert_one_flight(replies: &[Reply], processes: usize, round: usize) {
    let counts = ["led", "joined here", "joined elsewhere"].map(|outcome| count(replies, outcome));
    let per_process = REQUESTS / processes;
    assert_eq!(counts, [1, per_process - 1, REQUESTS - per_process], "in round {round}");
    assert!(replies.iter().all(|reply| reply.body == replies[0].body), "answers differ in round {round}");
}

async fn fleet(processes: usize, work: u64, ttl: &str) -> (Fleet, Vec<Client>) {
    let fleet = Fleet::start(processes, &["--work-ms", &work.to_string(), "--result-ttl-ms", ttl]).await;
    let mut clients = Vec::new();
    // Alternating, as a load balancer would.
    for request in 0..REQUESTS {
        clients.push(fleet.replicas[request % processes].client().await);
    }
    (fleet, clients)
}

/// Always the same key: whatever a round leaves behind, the next one must not use.
async fn coalesce_only(processes: usize, work: u64) {
    let (fleet, mut clients) = fleet(processes, work, "0").await;
    let (before, start) = (fleet.executions().await, Instant::now());
    let mut last = None;
    for round in 0..ROUNDS {
        let replies = replies(ask(&mut clients, "/report/1").await).await;
        assert_one_flight(&replies, processes, round);
        let report = Some(replies[0].report());
        assert_ne!(report, last, "round {round} was given the report of the round before");
        last = report;
    }
    assert_eq!(fleet.executions().await - before, ROUNDS as u64);
    println!("{processes} processes, not kept: {ROUNDS} rounds of {work} ms in {:?}", start.elapsed());
}

/// Each key twice: the second time, everybody finds the stored result.
async fn with_a_ttl(processes: usize, work: u64) {
    let (fleet, mut clients) = fleet(processes, work, "600000").await;
    let (before, start) = (fleet.executions().await, Instant::now());
    let mut hits = Duration::ZERO;
    for round in 0..ROUNDS {
        let target = format!("/report/{round}");
        let first = replies(ask(&mut clients, &target).await).await;
        assert_one_flight(&first, processes, round);
        let again = Instant::now();
        let second = replies(ask(&mut clients, &target).await).await;
        hits += again.elapsed();
        assert_eq!(count(&second, "hit"), REQUESTS, "in round {round}");
        assert!(second.iter().all(|reply| reply.body == first[0].body), "hits differ in round {round}");
    }
    assert_eq!(fleet.executions().await - before, ROUNDS as u64);
    println!(
        "{processes} processes, kept: {ROUNDS} rounds of {work} ms in {:?}, {hits:?} of it for {REQUESTS} hits each",
        start.elapsed()
    );
}

#[tokio::test]
async fn two_processes_run_each_round_once() {
    within(90, coalesce_only(2, 250)).await;
}

#[tokio::test]
async fn eight_processes_run_each_round_once() {
    within(90, coalesce_only(8, 300)).await;
}

#[tokio::test]
async fn two_processes_run_each_key_once_within_its_ttl() {
    within(90, with_a_ttl(2, 250)).await;
}

#[tokio::test]
async fn eight_processes_run_each_key_once_within_its_ttl() {
    within(90, with_a_ttl(8, 300)).await;
}
