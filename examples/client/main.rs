//! A fleet of workers with an expensive upstream: `SingleflightLayer` around their HTTP clients, so that the upstream is asked
//! once for what many of them want at the same time.
//!
//! `cargo run --example client`. Needs nothing. See README.md beside this file.

mod fleet;
mod upstream;
mod worker;

use std::time::Duration;

use clap::Parser;
use http::{
    Uri,
    header::{AUTHORIZATION, CACHE_CONTROL},
};
use tower::BoxError;
use tower_singleflight::{
    SingleflightLayer,
    backend::{Memory, Redis},
};

use self::{
    fleet::Fleet,
    worker::{Calls, Worker},
};

/// Starts workers that all want the same of an upstream, and tells how often it was asked.
#[derive(Parser)]
struct Flags {
    /// What the workers ask for; without it, a quote of a slow upstream that is started for them.
    #[arg(long, value_name = "URL")]
    upstream: Option<Uri>,
    /// The Redis that the workers share; without it, they share what this process holds in memory.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How many workers there are, each with an HTTP client and a backend handle of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
    /// How many requests a worker sends at once.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=1000))]
    requests: u16,
    /// How long the upstream that is started for them takes for a quote.
    #[arg(long, value_name = "N", default_value_t = 500)]
    work_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let calls = Calls::default();
    let fleet = Fleet { workers: workers(&flags, &calls).await?, requests: flags.requests.into(), calls };
    let uri = match &flags.upstream {
        Some(uri) => uri.clone(),
        None => upstream::start(Duration::from_millis(flags.work_ms)).await?,
    };
    println!("{} workers want {uri}, {} times each", flags.workers, flags.requests);

    let asked = fleet.burst("at the same time", &uri).await?;
    fleet.burst("and once more", &uri).await?;
    // What the caller says himself counts on the client's side, and `no-cache` means that he wants to know for sure.
    fleet.one("one that wants it fresh", &uri, CACHE_CONTROL, "no-cache").await?;
    fleet.one("one with a token of his own", &uri, AUTHORIZATION, "Bearer mine").await?;
    if flags.upstream.is_none() && asked != 1 {
        return Err("the upstream should have been asked once".into());
    }
    Ok(())
}

/// Each with a handle of its own, as in processes of their own.
async fn workers(flags: &Flags, calls: &Calls) -> Result<Vec<Worker>, BoxError> {
    let memory = Memory::new();
    let mut workers = Vec::new();
    for _ in 0..flags.workers {
        let layer = match &flags.redis {
            // A malformed URL is not repeated, since it may hold a password.
            Some(url) => {
                SingleflightLayer::new(Redis::connect(url, "client").await.map_err(|e| format!("--redis: {e}"))?)
            }
            None => SingleflightLayer::new(memory.replica()),
        };
        workers.push(worker::new(layer, calls.clone()));
    }
    Ok(workers)
}
