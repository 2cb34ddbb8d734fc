//! The locks that are compared, behind one face.

use std::time::Duration;

use rslock::{LockGuard, LockManager};

use crate::{ours, ping};

/// Longer than any part of this program holds or waits.
pub const TTL: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    /// `rslock` with its defaults: between attempts it sleeps for a random time below 200 ms.
    Rslock,
    /// `rslock` with the shortest delay that it takes, 1 ms: it draws whole milliseconds below it, so it does not sleep.
    Eager,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ours, Self::Rslock, Self::Eager];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "Mutex",
            Self::Rslock => "rslock",
            Self::Eager => "rslock, 1 ms",
        }
    }

    /// What a process is told by another.
    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).expect("only names of locks are sent")
    }

    /// A handle with connections of its own, all of them in use once.
    pub async fn open(self, nodes: &[&str]) -> Lock {
        let lock = match self {
            Self::Ours => Lock::Ours(ours::open(nodes).await),
            Self::Rslock => Lock::Rslock(self, manager(nodes)),
            Self::Eager => {
                let mut manager = manager(nodes);
                manager.set_retry(3, Duration::from_millis(1));
                Lock::Rslock(self, manager)
            }
        };
        lock.lock().await.unlock().await;
        lock
    }
}

/// The other crate with the same options of TCP as ours.
fn manager(nodes: &[&str]) -> LockManager {
    LockManager::from_clients(nodes.iter().map(|node| ping::client(node)).collect())
}

/// A handle on one lock. Clones of it share connections.
#[derive(Clone)]
pub enum Lock {
    Ours(ours::Mutex),
    Rslock(Kind, LockManager),
}

impl Lock {
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    pub async fn lock(&self) -> Held {
        match self {
            Self::Ours(mutex) => Held::Ours(mutex.lock().await.unwrap()),
            // Each kind has a lock of its own.
            Self::Rslock(kind, manager) => Held::Rslock(manager.acquire(kind.name(), TTL).await.unwrap()),
        }
    }
}

pub enum Held {
    Ours(ours::MutexGuard),
    Rslock(LockGuard),
}

impl Held {
    pub async fn unlock(self) {
        match self {
            Self::Ours(guard) => guard.unlock().await.unwrap(),
            Self::Rslock(guard) => guard.release().await,
        }
    }
}
