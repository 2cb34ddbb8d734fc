use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{Fence, Found};
use crate::key::{Digest, Key};

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
/// [`notify`](Self::notify) when a message comes in, or [`notify_variants`](Self::notify_variants) when it concerns all
/// variants of a key. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    armed: HashMap<Digest, Vec<(u64, mpsc::Sender<Notice>)>>,
    /// The variants among them, by their primary: a message to all of them need not look at every key.
    variants: HashMap<Digest, HashSet<Digest>>,
}

impl Watches {
    /// A watch that receives every message about `key` from now on.
    pub fn arm(&self, key: &Key) -> Watch {
        let primary = key.is_variant().then(|| key.primary_digest());
        let key = key.digest();
        let (tx, rx) = mpsc::channel(BACKLOG);
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        table.armed.entry(key).or_default().push((id, tx));
        if let Some(primary) = primary {
            table.variants.entry(primary).or_default().insert(key);
        }
        Watch { rx, key, primary, id, watches: self.clone() }
    }

    /// Passes a message on to the flights of `key`.
    pub fn notify(&self, key: Digest, notice: &Notice) {
        self.table().notify(key, notice);
    }

    /// Passes a message on to the flights of all variants of `primary`; its own flights do not hear of it.
    pub fn notify_variants(&self, primary: Digest, notice: &Notice) {
        let table = self.table();
        table.variants.get(&primary).into_iter().flatten().for_each(|key| table.notify(*key, notice));
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

impl Table {
    fn notify(&self, key: Digest, notice: &Notice) {
        for (_, tx) in self.armed.get(&key).into_iter().flatten() {
            let _ = tx.try_send(notice.clone());
        }
    }

    fn disarm(&mut self, key: Digest, primary: Option<Digest>, id: u64) {
        let Some(armed) = self.armed.get_mut(&key) else { return };
        armed.retain(|(other, _)| *other != id);
        if !armed.is_empty() {
            return;
        }
        self.armed.remove(&key);
        let Some(primary) = primary else { return };
        if let Some(variants) = self.variants.get_mut(&primary) {
            variants.remove(&key);
            if variants.is_empty() {
                self.variants.remove(&primary);
            }
        }
    }
}

/// Receives what a store tells about one key, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    rx: mpsc::Receiver<Notice>,
    key: Digest,
    primary: Option<Digest>,
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
        self.watches.table().disarm(self.key, self.primary, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_to_variants_reaches_them_and_nobody_else() {
        let watches = Watches::default();
        let (page, other) = (Key::builder("page").finish(), Key::builder("other").finish());
        let keys = [page.variant("a"), page.variant("a"), page.variant("b"), page.clone(), other.variant("a")];
        let mut armed = keys.each_ref().map(|key| watches.arm(key));
        watches.notify_variants(page.digest(), &Notice::Invalidated);
        watches.notify(page.variant("b").digest(), &Notice::Retry);
        for (watch, told) in armed.iter_mut().zip([1, 1, 2, 0, 0]) {
            assert_eq!(watch.rx.len(), told);
        }
        assert_eq!(armed[2].next().await, Notice::Invalidated);
        assert_eq!(armed[2].next().await, Notice::Retry);
        // One of two flights of a variant leaves: the other still hears.
        let [first, mut second, others @ ..] = armed;
        drop(first);
        assert_eq!(second.next().await, Notice::Invalidated);
        watches.notify_variants(page.digest(), &Notice::Invalidated);
        assert_eq!(second.next().await, Notice::Invalidated);
        drop((second, others));
        assert!(watches.table().armed.is_empty() && watches.table().variants.is_empty());
    }
}
