//! A gRPC service of tonic with one method of each kind.
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

use self::{greeter::greeter_server::GreeterServer, service::Slow};

/// Serves greetings that take a while, or shows what many calls for the same greeting cost.
#[derive(Parser)]
struct Flags {
    /// Serve here until stopped, instead of calling two servers of its own; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How long a greeting takes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    work_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let work = Duration::from_millis(flags.work_ms);
    let Some(listen) = flags.listen else { return demo::run(work).await };
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("--listen {listen}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, Slow::new(work), stopped()).await
}

/// Serves until `stopped`, and then answers what is in the air.
async fn serve(listener: TcpListener, slow: Slow, stopped: impl Future<Output = ()>) -> Result<(), BoxError> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        // The layer goes here.
        .add_service(GreeterServer::new(slow));
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
