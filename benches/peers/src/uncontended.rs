//! What a lock costs that nobody else wants.

use std::time::{Duration, Instant};

use crate::{
    figures::{Table, Times, line},
    locks::{Kind, Lock},
    ping::Ping,
};

const ROUNDS: usize = 150;

/// Operations in a row. What one leaves to the background is paid for by the next one of its own kind.
const BLOCK: usize = 20;

pub async fn run(nodes: &[&str], table: &mut Table) {
    let what = format!("lock and unlock, uncontended, {} node(s)", nodes.len());
    println!("{what}, one after the other");
    let mut locks = Vec::new();
    for kind in Kind::ALL {
        locks.push(kind.open(nodes).await);
    }
    let mut ping = Ping::connect(nodes).await;
    let (mut times, mut pings) = (Kind::ALL.map(|_| Vec::new()), Vec::new());
    for _ in 0..ROUNDS {
        for (lock, times) in locks.iter().zip(&mut times) {
            for _ in 0..BLOCK {
                times.push(once(lock).await);
            }
        }
        for _ in 0..BLOCK {
            pings.push(ping.once().await);
        }
    }
    let (times, pings) = (times.map(Times::new), Times::new(pings));
    for kind in Kind::ALL {
        line(kind.name(), &times[kind as usize], &pings);
    }
    line("PING of every node at once", &pings, &pings);
    table.push(format!("{what}: p50, µs"), |kind| times[kind as usize].median(), Some(pings.median()));
}

async fn once(lock: &Lock) -> Duration {
    let started = Instant::now();
    lock.lock().await.unlock().await;
    started.elapsed()
}
