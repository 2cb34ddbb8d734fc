//! A service that gathers numbers, which only one copy of it may do at a time: a lock holds the others off.
//!
//! `cargo run --example gather-stats -- --redis redis://127.0.0.1/`. See README.md beside this file.

mod service;
mod stats;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{BoxError, Router, routing::get};
use clap::Parser;
use tokio::net::TcpListener;
use tower_singleflight::{Mutex, backend::Redis};

use self::{service::Service, stats::Store};

/// Gathers numbers, one copy of this service at a time.
#[derive(Parser)]
struct Flags {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// The Redis that keeps the lock; several of them, each with a flag of its own, decide by majority. The first one keeps
    /// the numbers too.
    #[arg(long, value_name = "URL", required = true)]
    redis: Vec<String>,
    /// What this replica calls itself; its process id by default.
    #[arg(long, value_name = "NAME", default_value_t = std::process::id().to_string())]
    replica: String,
    /// How long it takes to gather.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    work_ms: u64,
    /// How long a request waits for the lock.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    wait_ms: u64,
    /// After how long the lock of a replica that died is free.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..))]
    lock_ttl_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    // Lazily: it shall start, and say that it is healthy, without Redis too. The URL is not repeated: it may hold a
    // password.
    let nodes = flags.redis.iter().map(|url| Redis::connect_lazy(url, "gather-stats"));
    let nodes = nodes.collect::<Result<Vec<_>, _>>().map_err(|error| format!("--redis: {error}"))?;
    let mutex = Mutex::new(nodes, "stats:gather")
        .ttl(Duration::from_millis(flags.lock_ttl_ms))
        // Work may take longer than the lease, which then is no longer than the others shall wait for a dead holder.
        .auto_renew(true)
        .metadata(&flags.replica);
    let service = Service {
        mutex,
        store: Store::new(&flags.redis[0]).map_err(|error| format!("--redis: {error}"))?,
        replica: flags.replica,
        work: Duration::from_millis(flags.work_ms),
        wait: Duration::from_millis(flags.wait_ms),
    };

    let listener =
        TcpListener::bind(flags.listen).await.map_err(|error| format!("--listen {}: {error}", flags.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(Arc::new(service))).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

fn app(service: Arc<Service>) -> Router {
    Router::new()
        .route("/gather_stats", get(service::gather_stats))
        .route("/who", get(service::who))
        .route("/healthz", get(async || "ok\n"))
        .with_state(service)
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
