//! A fleet of workers with an expensive upstream: `SingleflightLayer` around their HTTP clients, so that the upstream
//! is asked once for what many of them want at the same time.
//!
//! `cargo run --example client`. Needs nothing. See README.md beside this file.

mod fleet;
#[path = "../tonic/greeter.rs"]
#[allow(clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
mod greeter;
mod grpc;
#[path = "../tonic/service.rs"]
mod service;
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
    backend::{Backend, Memory, Redis},
    middleware::Grpc,
};

use self::{fleet::Fleet, worker::Calls};

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
    let (over_http, over_grpc): (Vec<_>, Vec<_>) = layers(&flags).await?.into_iter().unzip();
    let workers = over_http.into_iter().map(|layer| worker::new(layer, calls.clone())).collect();
    let fleet = Fleet { workers, requests: flags.requests.into(), calls };
    let work = Duration::from_millis(flags.work_ms);
    let uri = match &flags.upstream {
        Some(uri) => uri.clone(),
        None => upstream::start(work).await?,
    };
    println!("{} workers want {uri}, {} times each", flags.workers, flags.requests);

    let asked = fleet.burst("at the same time", &uri).await?;
    fleet.burst("and once more", &uri).await?;
    // What the caller says himself counts on the client's side, and `no-cache` means that he wants to know for sure.
    fleet.one("one that wants it fresh", &uri, CACHE_CONTROL, "no-cache").await?;
    fleet.one("one with a token of his own", &uri, AUTHORIZATION, "Bearer mine").await?;
    if flags.upstream.is_some() {
        return Ok(());
    }
    let called = grpc::run(over_grpc, fleet.requests, work).await?;
    if (asked, called) == (1, 1) { Ok(()) } else { Err("each upstream should have been asked once".into()) }
}

/// Two for each worker, over a handle of its own, as in processes of their own.
async fn layers(flags: &Flags) -> Result<Vec<(SingleflightLayer, SingleflightLayer<Grpc>)>, BoxError> {
    let memory = Memory::new();
    let mut layers = Vec::new();
    for _ in 0..flags.workers {
        layers.push(match &flags.redis {
            // A malformed URL is not repeated, since it may hold a password.
            Some(url) => both(Redis::connect(url, "client").await.map_err(|error| format!("--redis: {error}"))?),
            None => both(memory.replica()),
        });
    }
    Ok(layers)
}

fn both(backend: impl Backend + Clone) -> (SingleflightLayer, SingleflightLayer<Grpc>) {
    (SingleflightLayer::new(backend.clone()), SingleflightLayer::grpc(backend))
}
