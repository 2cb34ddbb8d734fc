//! A fleet: several copies of the example `axum` on one Redis, under load, one of which is killed while it leads.
//!
//! `cargo run --example replicas`. See README.md beside this file.

mod fleet;
mod load;
mod redis;
mod rounds;

use std::time::Duration;

use axum::BoxError;
use clap::Parser;

use self::{fleet::Fleet, load::Load, redis::PrivateRedis};

/// After how long a replica that died is replaced.
const LOCK_TTL: Duration = Duration::from_secs(1);

/// Longer than it takes to send a round, so that requests which come too late to join are hits.
const RESULT_TTL: Duration = Duration::from_secs(10);

/// Shows how many executions concurrent requests cost a fleet, and what becomes of them when its leader dies.
#[derive(Parser)]
struct Flags {
    /// How many replicas to start.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=64))]
    replicas: u64,
    /// How many requests to send at once in each round, to all replicas in turn.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    requests: u64,
    /// How many rounds to run before the one in which a replica is killed.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u64,
    /// How long the work takes.
    #[arg(long, value_name = "N", default_value_t = 200)]
    work_ms: u64,
    /// The Redis to use instead of a private one.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    // Whichever way this ends, and on a panic too, what was started is dropped here, and killed by that.
    tokio::select! {
        outcome = run(&flags) => outcome,
        () = stopped() => Err("stopped before the end".into()),
    }
}

async fn run(flags: &Flags) -> Result<(), BoxError> {
    let private = match flags.redis {
        Some(_) => None,
        None => Some(PrivateRedis::start().await?),
    };
    let url = private.as_ref().map(PrivateRedis::url).or(flags.redis.as_deref()).unwrap_or_default();
    let mut fleet = Fleet::start(flags.replicas, url).await?;
    // The URL that was given may hold a password.
    let redis = private.as_ref().map_or("the given Redis", PrivateRedis::url);
    println!("{} replicas on {redis}: {}", flags.replicas, fleet.names().join(", "));

    let load = Load::new(flags.requests);
    rounds::coalesced(&fleet, &load, flags.rounds, Duration::from_millis(flags.work_ms)).await?;
    rounds::killed(&mut fleet, &load, Duration::from_millis(flags.work_ms.max(1000))).await
}

/// Ends on Ctrl-C, or when the process is told to terminate.
async fn stopped() {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
