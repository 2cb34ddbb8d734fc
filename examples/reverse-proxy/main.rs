//! A reverse proxy: passes requests on to one upstream, through `SingleflightLayer`.
//!
//! `cargo run --example reverse-proxy -- --upstream http://127.0.0.1:8080`. See README.md beside this file.

mod failure;
mod flags;
mod front;
mod hop;
mod server;
mod upstream;

use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tower::{BoxError, Layer};
use tower_singleflight::{
    Policy, SingleflightLayer,
    backend::{Memory, Redis},
};

use self::{flags::Flags, upstream::Upstream};

/// What this proxy calls itself in `Via`, `Cache-Status` and `Proxy-Status`, and in the names of keys in Redis.
const NAME: &str = "reverse-proxy";

/// How much longer than the upstream may be silent requests wait for the response of another. As long as the layer lets them
/// wait by default, so that a short time for the upstream makes nobody less patient.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let layer = match &flags.redis {
        // Lazily: it shall start, and serve, without Redis too. A malformed URL is an error even so; it is not repeated,
        // since it may hold a password.
        Some(url) => {
            let redis = Redis::builder(NAME).budget(flags.redis_budget_ms);
            redis.connect_lazy(url).map(SingleflightLayer::new).map_err(|e| format!("--redis: {e}"))?
        }
        None => SingleflightLayer::new(Memory::new()),
    };
    let proxy = sharing(layer, &flags).layer(Upstream::new(&flags));

    let listener =
        TcpListener::bind(flags.listen).await.map_err(|error| format!("--listen {}: {error}", flags.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    server::serve(listener, proxy, stopped()).await;
    Ok(())
}

/// What is shared, and how long.
fn sharing(layer: SingleflightLayer, flags: &Flags) -> SingleflightLayer {
    let policy = match flags.policy {
        flags::Policy::Origin => Policy::Origin,
        flags::Policy::Route => Policy::Route,
    };
    // Those who wait outlast two silences in a row, the second of which is shared. If their patience ended with or before
    // the upstream's time, they would all ask at once.
    let wait = flags.upstream_timeout_ms * 2 + SLACK;
    let layer = layer.policy(policy).result_ttl(flags.ttl_ms).wait_timeout(wait);
    layer.stream_followers(flags.stream_followers).cache_status(NAME)
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
