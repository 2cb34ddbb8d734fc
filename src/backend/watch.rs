use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{Fence, Found};
use crate::key::Digest;

/// How many messages may wait for one flight. More are dropped: losing a message costs latency.
const BACKLOG: usize = 16;

/// What a store tells those who take part in a flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The flight with this fence has landed; small records come with the message.
    Landed(Fence, Option<Found>),
    /// Begin again: the flight is over without a result, or messages may have been lost.
    Retry,
    /// The outcome cannot be shared for this long: go alone.
    Scatter(Duration),
    /// The key was invalidated: the flight must not answer later arrivals.
    Invalidated,
}

/// The flights of one replica that wait for a message, by digest of their key.
///
/// For implementors of [`Backend`](super::Backend): [`arm`](Self::arm) before the store is asked,
/// [`notify`](Self::notify) when a message comes in. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    armed: HashMap<Digest, Vec<(u64, mpsc::Sender<Notice>)>>,
}

impl Watches {
    /// A watch that receives every message about `key` from now on.
    pub fn arm(&self, key: Digest) -> Watch {
        let (tx, rx) = mpsc::channel(BACKLOG);
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        table.armed.entry(key).or_default().push((id, tx));
        Watch { rx, key, id, watches: self.clone() }
    }

    /// Passes a message on to the flights of `key`.
    pub fn notify(&self, key: Digest, notice: &Notice) {
        if let Some(armed) = self.table().armed.get(&key) {
            for (_, tx) in armed {
                let _ = tx.try_send(notice.clone());
            }
        }
    }

    /// The keys that somebody watches.
    pub fn keys(&self) -> Vec<Digest> {
        self.table().armed.keys().copied().collect()
    }

    /// Whether anybody but the caller holds a handle.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives what a store tells about one key, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    rx: mpsc::Receiver<Notice>,
    key: Digest,
    id: u64,
    watches: Watches,
}

impl Watch {
    /// The next message.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> Notice {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message, as a poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Notice> {
        match ready!(self.rx.poll_recv(cx)) {
            Some(notice) => Poll::Ready(notice),
            // The sender lives in the table until this watch is dropped.
            None => Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.watches.table();
        if let Some(armed) = table.armed.get_mut(&self.key) {
            armed.retain(|(id, _)| *id != self.id);
            if armed.is_empty() {
                table.armed.remove(&self.key);
            }
        }
    }
}
