//! A gRPC service of tonic whose slow unary method runs once for all who ask for the same at the same time, on all servers.
//!
//! `cargo run --example tonic` starts two servers and calls them. See README.md beside this file.

mod demo;
// Made by tonic-prost-build, formatted by rustfmt.
#[allow(clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
mod greeter;
mod service;

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tower::BoxError;

use tower_singleflight::{
    SingleflightLayer,
    backend::{Backend, Memory, Redis},
    middleware::Grpc,
};

use self::{greeter::greeter_server::GreeterServer, service::Slow};

/// Serves greetings that take a while, or shows what many calls for the same greeting cost.
#[derive(Parser)]
struct Flags {
    /// Serve here until stopped, instead of calling two servers of its own; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The Redis that several servers share; without it, they share what this process holds in memory.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How long a call waits for Redis before its server coalesces by itself.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..))]
    redis_budget_ms: u64,
    /// How long a greeting takes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    work_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let work = Duration::from_millis(flags.work_ms);
    let Some(listen) = flags.listen else { return demo::run(layers(&flags)?, work).await };
    let [layer, _] = layers(&flags)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, layer, Slow::new(work), stopped()).await
}

/// Those of two servers, each with a backend handle of its own, as in processes of their own.
fn layers(flags: &Flags) -> Result<[SingleflightLayer<Grpc>; 2], BoxError> {
    let Some(url) = &flags.redis else {
        let memory = Memory::new();
        return Ok([sharing(memory.replica()), sharing(memory)]);
    };
    // Lazily: it shall start, and serve, without Redis too. A malformed URL is an error even so; it is not repeated,
    // since it may hold a password.
    let redis = || {
        let redis = Redis::builder("greeter").budget(Duration::from_millis(flags.redis_budget_ms));
        redis.connect_lazy(url).map(sharing).map_err(|error| format!("--redis: {error}"))
    };
    Ok([redis()?, redis()?])
}

/// What is shared: calls of the one method that is unary. Streams pass through, and are not named.
fn sharing(backend: impl Backend) -> SingleflightLayer<Grpc> {
    // Every server has a port of its own, which stands in the authority: the key has the name of the service in its place.
    SingleflightLayer::grpc(backend).methods(["/greeter.Greeter/SayHello"]).service("greeter")
}

/// Serves until `stopped`, and then answers what is in the air.
async fn serve(
    listener: TcpListener,
    layer: SingleflightLayer<Grpc>,
    slow: Slow,
    stopped: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // Around all services: what is shared is named by its path.
    let server = Server::builder().layer(layer).add_service(GreeterServer::new(slow));
    Ok(server.serve_with_incoming_shutdown(incoming, stopped).await?)
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
