use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::stats::Counters;

/// What all requests to this process share.
pub struct Replica {
    name: String,
    work: Duration,
    executions: AtomicU64,
    pub counters: Counters,
}

impl Replica {
    pub fn new(name: String, work: Duration) -> Self {
        Self { name, work, executions: AtomicU64::new(0), counters: Counters::default() }
    }

    pub fn executions(&self) -> u64 {
        self.executions.load(Ordering::Relaxed)
    }
}

/// What a request may ask for. The query is part of the key: only requests that ask for the same are coalesced.
#[derive(Deserialize)]
pub struct Wishes {
    work_ms: Option<u64>,
    mode: Option<Mode>,
}

/// To see what becomes of the others when the work fails, or what comes of it is for one client alone.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fail,
    Panic,
    Private,
}

#[derive(Serialize)]
struct Report<'a> {
    report: u64,
    replica: &'a str,
    execution: u64,
}

/// A report that takes a while, and names who made it.
pub async fn report(
    State(replica): State<Arc<Replica>>,
    Path(report): Path<u64>,
    Query(wishes): Query<Wishes>,
) -> Response {
    let execution = replica.executions.fetch_add(1, Ordering::Relaxed) + 1;
    sleep(wishes.work_ms.map_or(replica.work, Duration::from_millis)).await;
    let body = Json(Report { report, replica: &replica.name, execution });
    match wishes.mode {
        None => body.into_response(),
        Some(Mode::Fail) => (StatusCode::INTERNAL_SERVER_ERROR, body).into_response(),
        Some(Mode::Private) => ([(CACHE_CONTROL, "private")], body).into_response(),
        Some(Mode::Panic) => panic!("asked for by `mode=panic`"),
    }
}
