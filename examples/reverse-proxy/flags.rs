use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};
use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// Passes requests on to one upstream, and asks it once for what many want at the same time.
#[derive(Parser)]
pub struct Flags {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// The server that is asked, such as `http://127.0.0.1:8080`.
    #[arg(long, value_name = "URL", value_parser = authority)]
    pub upstream: Authority,
    /// Speaks HTTP/2 with the upstream, without asking first whether it does.
    #[arg(long)]
    pub upstream_http2: bool,
    /// How long the upstream may stay silent before its answer begins.
    #[arg(long, value_name = "N", default_value = "30000", value_parser = positive)]
    pub upstream_timeout_ms: Duration,
    /// The Redis that several proxies share; without it, requests are coalesced in this process alone.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// How long a request waits for Redis before this process coalesces by itself.
    #[arg(long, value_name = "N", default_value = "250", value_parser = positive)]
    pub redis_budget_ms: Duration,
    /// Who says how long a response is kept.
    #[arg(long, value_enum, default_value_t = Policy::Route)]
    pub policy: Policy,
    /// How long a response is kept under `--policy route`; 0 shares it only with those who are waiting for it.
    #[arg(long, value_name = "N", default_value = "0", value_parser = milliseconds)]
    pub ttl_ms: Duration,
    /// Sends a body that is still arriving to those who wait for it, too.
    #[arg(long)]
    pub stream_followers: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Policy {
    /// The response alone, by the rules of HTTP caching.
    Origin,
    /// `--ttl-ms`, unless the response says less.
    Route,
}

fn authority(url: &str) -> Result<Authority, String> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    match uri.authority() {
        Some(authority) if uri.scheme() == Some(&Scheme::HTTP) && !authority.as_str().contains('@') => match uri.path()
        {
            "/" if uri.query().is_none() => Ok(authority.clone()),
            _ => Err("it has a path: targets are passed on as they came".into()),
        },
        _ => Err("it must be `http://` with a host, and a port if that is not 80".into()),
    }
}

fn milliseconds(number: &str) -> Result<Duration, String> {
    number.parse().map(Duration::from_millis).map_err(|_| "it must be a number of milliseconds".into())
}

fn positive(number: &str) -> Result<Duration, String> {
    match milliseconds(number)? {
        Duration::ZERO => Err("it must be 1 at least".into()),
        duration => Ok(duration),
    }
}
