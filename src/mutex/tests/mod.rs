//! Behaviour on nodes in memory that can be made to fail, on a paused clock: all figures are exact.

mod chaos;
mod cleanup;
mod faulty;
mod guards;
mod handover;
mod options;
mod quorum;
mod renewal;
mod waiting;

use std::time::Duration;

use tokio::time::Instant;

use super::{LockError, Mutex, MutexGuard};

const TTL: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

/// What a holder is sure of: 1 % and 2 ms less.
const SURE: Duration = Duration::from_millis(9_898);

/// Until everything that is ready has happened.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits for something, and tells how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = work.await;
    (value, start.elapsed())
}

fn is_taken<T>(outcome: Result<T, LockError>) -> bool {
    matches!(outcome, Err(LockError::Taken(_)))
}
