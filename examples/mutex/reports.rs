//! Where reports are written: it refuses who has lost the lock and does not know it yet.

use std::fmt;

use tokio::sync::watch;
use tower_singleflight::backend::Fence;

/// A report of several parts, which are written one after another.
#[derive(Default)]
pub struct Reports(watch::Sender<Report>);

#[derive(Clone, Copy, Default)]
struct Report {
    /// The greatest fence that was shown; a database keeps it in a column, and compares and writes in one statement.
    newest: Fence,
    parts: u32,
}

/// A younger holder of the lock has been here.
#[derive(Debug)]
pub struct Outdated {
    fence: Fence,
    newest: Fence,
}

impl Reports {
    /// The next part to write, for the holder with this fence.
    pub fn next(&self, fence: Fence) -> Result<u32, Outdated> {
        self.admit(fence, |report| report.parts + 1)
    }

    pub fn write(&self, fence: Fence, part: u32) -> Result<(), Outdated> {
        self.admit(fence, |report| report.parts = part)
    }

    /// Ends when so many parts are written.
    pub async fn written(&self, parts: u32) {
        // It lives as long as this borrows it.
        let _ = self.0.subscribe().wait_for(|report| report.parts >= parts).await;
    }

    fn admit<T>(&self, fence: Fence, access: impl FnOnce(&mut Report) -> T) -> Result<T, Outdated> {
        let mut accessed = Err(Outdated { fence, newest: self.0.borrow().newest });
        self.0.send_modify(|report| {
            if fence >= report.newest {
                report.newest = fence;
                accessed = Ok(access(report));
            }
        });
        accessed
    }
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fence {} is older than {}", self.fence.0, self.newest.0)
    }
}

impl std::error::Error for Outdated {}
