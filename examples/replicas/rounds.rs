use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::BoxError;
use tokio::time::sleep;

use crate::{
    fleet::Fleet,
    load::{Load, Stats},
};

/// Rounds in which nothing goes wrong: each must cost one execution.
pub async fn coalesced(fleet: &Fleet, load: &Load, rounds: u64, work: Duration) -> Result<(), BoxError> {
    println!();
    row(["round", "requests", "executions", "led", "joined", "hits", "stale", "bypassed", "time"]);
    let mut executed = 0;
    for round in 1..=rounds {
        let (before, started) = (load.total(fleet.replicas()).await?, Instant::now());
        for answer in load.start(fleet.replicas(), round, work).join_all().await {
            answer.report?;
        }
        let took = started.elapsed();
        let Stats { executions, led, joined, hits, stale, bypassed } = load.total(fleet.replicas()).await? - before;
        let counts = [round, load.requests, executions, led, joined, hits, stale, bypassed].map(|n| n.to_string());
        let time = format!("{} ms", took.as_millis());
        row(std::array::from_fn(|at| counts.get(at).unwrap_or(&time).as_str()));
        executed += executions;
    }
    if executed != rounds {
        return Err(format!("{executed} executions in {rounds} rounds: do all replicas reach Redis?").into());
    }
    Ok(())
}

/// A round in which the replica that leads is killed: one of the others must take over, for all that are left.
pub async fn killed(fleet: &mut Fleet, load: &Load, work: Duration) -> Result<(), BoxError> {
    let before = executions(fleet, load).await?;
    let started = Instant::now();
    // Reports are numbered like rounds, which start with 1.
    let round = load.start(fleet.replicas(), 0, work);
    let leader = leader(fleet, load, &before).await?;
    println!("\n{} requests for work that takes {} ms; {leader} leads", load.requests, work.as_millis());

    fleet.kill(&leader).await?;
    let died = Instant::now();
    println!("{:>5} ms  {leader} is killed", (died - started).as_millis());

    let (mut reports, mut answered, mut lost) = (BTreeSet::new(), 0, 0);
    for answer in round.join_all().await {
        match answer.report {
            Ok(report) => {
                answered += 1;
                reports.insert(report);
            }
            // Whoever was connected to it. A load balancer would send them to the others.
            Err(_) if answer.from == leader => lost += 1,
            Err(error) => return Err(format!("a request to {}: {error}", answer.from).into()),
        }
    }
    let makers: Vec<_> = reports.iter().map(|report| report.replica.as_str()).collect();
    let makers = makers.join(", ");
    println!(
        "{:>5} ms  {answered} requests have the report of {makers}, which took over",
        started.elapsed().as_millis()
    );
    println!("{lost} requests to {leader} were lost with it; the others took {} ms more", died.elapsed().as_millis());
    match reports.len() {
        1 => Ok(()),
        executions => Err(format!("the take-over took {executions} executions").into()),
    }
}

async fn executions(fleet: &Fleet, load: &Load) -> Result<Vec<u64>, BoxError> {
    let mut executions = Vec::new();
    for replica in fleet.replicas() {
        executions.push(load.stats(replica).await?.executions);
    }
    Ok(executions)
}

/// The replica that has begun to work.
async fn leader(fleet: &Fleet, load: &Load, before: &[u64]) -> Result<String, BoxError> {
    loop {
        let now = executions(fleet, load).await?;
        if let Some(leader) = now.iter().zip(before).position(|(now, before)| now > before) {
            return Ok(fleet.names()[leader].to_owned());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

fn row(cells: [&str; 9]) {
    let [round, requests, executions, led, joined, hits, stale, bypassed, time] = cells;
    println!(
        "{round:<5} {requests:>8} {executions:>10} {led:>5} {joined:>6} {hits:>5} {stale:>5} {bypassed:>8} {time:>9}"
    );
}
