//! Many requests at once, to many processes, round after round: each round costs one execution.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Fleet, ask, count, replies, within};
use crate::support::replica::{Client, Reply};

const ROUNDS: usize = 50;
const REQUESTS: usize = 200;

/// In milliseconds: several times as long as it takes until all have asked. That they have shows in the outcomes.
const WORK: &str = "400";

/// One client of each process asks first, and the others once Redis knows all processes: a process that does not hear from
/// Redis within 250 ms, as on a machine with too much to do, would work by itself, and rightly so.
async fn burst(fleet: &Fleet, clients: &mut [Vec<Client>], target: &str) -> Vec<Reply> {
    let mut pending = Vec::new();
    for clients in &mut *clients {
        pending.push(clients[0].ask(target).await);
    }
    fleet.flight(target).await.is_followed_by(clients.len() - 1).await;
    for clients in clients {
        pending.extend(ask(&mut clients[1..], target).await);
    }
    replies(pending).await
}

/// One client led, those of its process joined it there, all others joined from elsewhere: everybody had asked before the
/// result was there. And all have the same bytes.
fn assert_one_flight(replies: &[Reply], processes: usize, round: usize) {
    let counts = ["led", "joined here", "joined elsewhere"].map(|outcome| count(replies, outcome));
    let per_process = REQUESTS / processes;
    let expected = [1, per_process - 1, REQUESTS - per_process];
    assert!(counts == expected, "round {round} was not one flight: {}", seen(replies));
    assert!(replies.iter().all(|reply| reply.body == replies[0].body), "answers differ in round {round}");
}

/// Which answers came how often, to tell what went wrong.
fn seen(replies: &[Reply]) -> String {
    let mut seen = BTreeMap::new();
    for reply in replies {
        *seen.entry((&reply.outcome, String::from_utf8_lossy(&reply.body))).or_insert(0) += 1;
    }
    format!("{seen:?}")
}

async fn fleet(processes: usize, ttl: &str) -> (Fleet, Vec<Vec<Client>>) {
    // With a budget no starved core exceeds: this is about counts, and a process that is not heard works by itself.
    let flags = ["--work-ms", WORK, "--result-ttl-ms", ttl, "--redis-budget-ms", "10000"];
    let fleet = Fleet::start(processes, &flags).await;
    let mut clients = Vec::new();
    for replica in &fleet.replicas {
        clients.push(replica.clients(REQUESTS / processes).await);
    }
    (fleet, clients)
}

/// Always the same key: whatever a round leaves behind, the next one must not use.
async fn coalesce_only(processes: usize) {
    let (fleet, mut clients) = fleet(processes, "0").await;
    let (before, start) = (fleet.executions().await, Instant::now());
    let mut last = None;
    for round in 0..ROUNDS {
        let replies = burst(&fleet, &mut clients, "/report/1").await;
        assert_one_flight(&replies, processes, round);
        let report = Some(replies[0].report());
        assert_ne!(report, last, "round {round} was given the report of the round before");
        last = report;
    }
    assert_eq!(fleet.executions().await - before, ROUNDS as u64);
    println!("{processes} processes, not kept: {ROUNDS} rounds of {WORK} ms in {:?}", start.elapsed());
}

/// Each key twice: the second time, everybody finds the stored result.
async fn with_a_ttl(processes: usize) {
    let (fleet, mut clients) = fleet(processes, "600000").await;
    let (before, start) = (fleet.executions().await, Instant::now());
    let mut hits = Duration::ZERO;
    for round in 0..ROUNDS {
        let target = format!("/report/{round}");
        let first = burst(&fleet, &mut clients, &target).await;
        assert_one_flight(&first, processes, round);
        let again = Instant::now();
        let mut second = Vec::new();
        for clients in &mut clients {
            second.extend(replies(ask(clients, &target).await).await);
        }
        hits += again.elapsed();
        assert_eq!(count(&second, "hit"), REQUESTS, "in round {round}: {}", seen(&second));
        assert!(second.iter().all(|reply| reply.body == first[0].body), "hits differ in round {round}");
    }
    assert_eq!(fleet.executions().await - before, ROUNDS as u64);
    println!(
        "{processes} processes, kept: {ROUNDS} rounds of {WORK} ms in {:?}, {hits:?} of it for {REQUESTS} hits each",
        start.elapsed()
    );
}

#[tokio::test]
async fn two_processes_run_each_round_once() {
    within(90, coalesce_only(2)).await;
}

#[tokio::test]
async fn eight_processes_run_each_round_once() {
    within(90, coalesce_only(8)).await;
}

#[tokio::test]
async fn two_processes_run_each_key_once_within_its_ttl() {
    within(90, with_a_ttl(2)).await;
}

#[tokio::test]
async fn eight_processes_run_each_key_once_within_its_ttl() {
    within(90, with_a_ttl(8)).await;
}
