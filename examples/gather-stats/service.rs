//! The endpoints.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use redis::RedisError;
use serde::Serialize;
use tokio::time::Instant;
use tower_singleflight::{LockError, Mutex, mutex::LockInfo};

use crate::stats::{Stats, Store};

pub struct Service {
    pub mutex: Mutex,
    pub store: Store,
    pub replica: String,
    pub work: Duration,
    pub wait: Duration,
}

#[derive(Serialize)]
pub struct Gathered {
    /// Who gathered.
    by: String,
    /// How long it waited for the lock.
    waited_ms: u128,
    fence: u64,
    #[serde(flatten)]
    stats: Stats,
}

/// Who holds the lock.
#[derive(Serialize)]
pub struct Who {
    holder: Option<String>,
    /// How long it keeps the lock if it dies now.
    left_ms: u128,
    fence: u64,
}

/// Why nothing was gathered.
pub enum Refusal {
    /// Others gather, one after another, and it was not our turn in time.
    Busy(Option<Who>),
    /// The lock, or the numbers, cannot be reached.
    Away(String),
    /// The lock was lost while it gathered: what it has may be outdated, and was not written.
    Lost,
}

/// The client may go away at any time: then the guard is dropped with this future, and the lock is released.
pub async fn gather_stats(State(service): State<Arc<Service>>) -> Result<Json<Gathered>, Refusal> {
    let Service { mutex, store, replica, work, wait } = &*service;
    let asked = Instant::now();
    let guard = match mutex.lock_timeout(*wait).await {
        Err(LockError::TimedOut { .. }) => return Err(Refusal::Busy(mutex.info().await?.map(Who::from))),
        guard => guard?,
    };
    let waited_ms = asked.elapsed().as_millis();
    let fence = guard.fence().await?;
    let stats = tokio::select! {
        stats = store.gather(replica, fence, *work) => stats?.ok_or(Refusal::Lost)?,
        () = guard.lost() => return Err(Refusal::Lost),
    };
    // What is written is written, whatever becomes of the lock now. A release that fails goes on in the background.
    let _ = guard.unlock().await;
    Ok(Json(Gathered { by: replica.clone(), waited_ms, fence: fence.0, stats }))
}

pub async fn who(State(service): State<Arc<Service>>) -> Result<Json<Option<Who>>, Refusal> {
    Ok(Json(service.mutex.info().await?.map(Who::from)))
}

impl From<LockInfo> for Who {
    fn from(info: LockInfo) -> Self {
        Self { holder: info.metadata, left_ms: info.left.as_millis(), fence: info.fence.0 }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Expired | LockError::NotHeld => Self::Lost,
            other => Self::Away(other.to_string()),
        }
    }
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Self {
        Self::Away(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (wait_ms, why) = match self {
            Self::Busy(None) => (0, "busy: others are in line\n".to_owned()),
            Self::Busy(Some(Who { holder, left_ms, .. })) => {
                (left_ms, format!("busy: {} gathers\n", holder.as_deref().unwrap_or("somebody")))
            }
            Self::Away(why) => (1000, format!("away: {why}\n")),
            Self::Lost => (0, "the lock was lost while it gathered; nothing was written\n".to_owned()),
        };
        let seconds = wait_ms.div_ceil(1000).max(1).to_string();
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds)], why).into_response()
    }
}
