use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json,
    extract::{Request, State},
    http::HeaderValue,
    middleware::Next,
    response::Response,
};
use serde::Serialize;
use tower_singleflight::Outcome;

use crate::replica::Replica;

/// How many requests were what.
#[derive(Default)]
pub struct Counters {
    led: AtomicU64,
    joined: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
    bypassed: AtomicU64,
}

/// Counts what the layer did with a request. It stands in the extensions of the response.
pub async fn count(State(replica): State<Arc<Replica>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let counters = &replica.counters;
    let counter = match response.extensions().get() {
        Some(Outcome::Led) => &counters.led,
        Some(Outcome::Joined { .. }) => &counters.joined,
        Some(Outcome::Hit { .. }) => &counters.hits,
        Some(Outcome::Stale { .. }) => &counters.stale,
        Some(Outcome::Bypassed(_)) => &counters.bypassed,
        // An outcome that a later version of the layer adds.
        _ => return response,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    response
}

/// Shows it to the client as well.
pub async fn show_outcome(mut response: Response) -> Response {
    let outcome = response.extensions().get().map(Outcome::to_string);
    if let Some(Ok(outcome)) = outcome.map(HeaderValue::try_from) {
        response.headers_mut().insert("x-outcome", outcome);
    }
    response
}

#[derive(Serialize)]
pub struct Stats {
    executions: u64,
    led: u64,
    joined: u64,
    hits: u64,
    stale: u64,
    bypassed: u64,
}

pub async fn stats(State(replica): State<Arc<Replica>>) -> Json<Stats> {
    let Counters { led, joined, hits, stale, bypassed } = &replica.counters;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Json(Stats {
        executions: replica.executions(),
        led: read(led),
        joined: read(joined),
        hits: read(hits),
        stale: read(stale),
        bypassed: read(bypassed),
    })
}
