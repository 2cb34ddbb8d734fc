//! A replica: an axum server whose slow route is coalesced with those of all other replicas on the same Redis.
//!
//! `cargo run --example axum -- --redis redis://127.0.0.1/`. See README.md beside this file.

mod replica;
mod stats;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    BoxError, Router,
    http::request::Parts,
    middleware::{from_fn_with_state, map_response},
    routing::get,
};
use clap::Parser;
use tokio::net::TcpListener;
use tower_singleflight::{
    Key, RequestKey, SingleflightLayer,
    backend::{Memory, Redis},
    key_fn,
};

use self::replica::Replica;

/// Serves slow reports, and runs each of them once in the whole fleet.
#[derive(Parser)]
struct Flags {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The Redis that the replicas share; without it, requests are coalesced in this process alone.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How long a report takes.
    #[arg(long, value_name = "N", default_value_t = 200)]
    work_ms: u64,
    /// How long a report is kept; 0 shares it only with those who are waiting for it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    result_ttl_ms: u64,
    /// After how long a replica that died while it worked is replaced.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..))]
    lock_ttl_ms: u64,
    /// How long a request waits for Redis before this replica coalesces by itself.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
    redis_budget_ms: u64,
    /// What this replica calls itself; its process id by default.
    #[arg(long, value_name = "NAME", default_value_t = std::process::id().to_string())]
    replica: String,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let singleflight = match &flags.redis {
        // Lazily: this replica shall start, and serve, without Redis too. A malformed URL is an error even so; it is
        // not repeated, since it may hold a password.
        Some(url) => {
            let redis = Redis::builder("shop").budget(Duration::from_millis(flags.redis_budget_ms));
            redis.connect_lazy(url).map(SingleflightLayer::new).map_err(|e| format!("--redis: {e}"))?
        }
        None => SingleflightLayer::new(Memory::new()),
    };
    let singleflight = singleflight
        .result_ttl(Duration::from_millis(flags.result_ttl_ms))
        .lock_ttl(Duration::from_millis(flags.lock_ttl_ms))
        .key(key_fn(key));
    let replica = Arc::new(Replica::new(flags.replica, Duration::from_millis(flags.work_ms)));

    let listener =
        TcpListener::bind(flags.listen).await.map_err(|error| format!("--listen {}: {error}", flags.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(singleflight, replica)).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

fn app(singleflight: SingleflightLayer, replica: Arc<Replica>) -> Router {
    Router::new()
        .route("/report/{id}", get(replica::report))
        .route_layer(singleflight)
        // What comes later is further out: these see the response of every request, whoever made it.
        .route_layer(map_response(stats::show_outcome))
        .route_layer(from_fn_with_state(Arc::clone(&replica), stats::count))
        // No layer that was added before a route applies to it.
        .route("/stats", get(stats::stats))
        .with_state(replica)
}

/// The target without the authority.
///
/// The usual key covers the authority too: behind a load balancer, all replicas see the same `Host`. Here every replica
/// has a port of its own, which stands in `Host`, and the handler does not read it.
fn key(head: &Parts) -> Option<Key> {
    RequestKey::of_service(head, "report").finish()
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
