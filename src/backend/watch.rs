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

/// The flights of one replica that wait for a message, by digest of their key; `N` is what they are told.
///
/// For implementors of [`Backend`](super::Backend): [`arm`](Self::arm) before the store is asked,
/// [`notify`](Self::notify) when a message comes in, [`landed`](Self::landed) if it brings a record, or
/// [`notify_variants`](Self::notify_variants) if it concerns all variants of a key. Cloning is cheap.
#[derive(Debug)]
pub struct Watches<N = Notice>(Arc<Mutex<Table<N>>>);

#[derive(Debug)]
struct Table<N> {
    next: u64,
    armed: HashMap<Digest, Vec<Armed<N>>>,
    /// The variants among them, by their primary: a message to all of them need not look at every key.
    variants: HashMap<Digest, HashSet<Digest>>,
}

#[derive(Debug)]
struct Armed<N> {
    id: u64,
    key: Key,
    tx: mpsc::Sender<N>,
}

impl<N> Clone for Watches<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N> Default for Watches<N> {
    fn default() -> Self {
        let table = Table { next: 0, armed: HashMap::new(), variants: HashMap::new() };
        Self(Arc::new(Mutex::new(table)))
    }
}

impl<N> Watches<N> {
    /// A watch that receives every message about `key` from now on.
    pub fn arm(&self, key: &Key) -> Watch<N> {
        let (tx, rx) = mpsc::channel(BACKLOG);
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        table.armed.entry(key.digest()).or_default().push(Armed { id, key: key.clone(), tx });
        if key.is_variant() {
            table.variants.entry(key.primary_digest()).or_default().insert(key.digest());
        }
        Watch { rx, key: key.clone(), id, watches: self.clone() }
    }

    /// Passes a message on to the flights of `key`.
    pub fn notify(&self, key: Digest, notice: &N)
    where
        N: Clone,
    {
        self.table().notify(key, notice);
    }

    /// The keys that somebody watches.
    pub fn keys(&self) -> Vec<Digest> {
        self.table().armed.keys().copied().collect()
    }

    /// Whether anybody but the caller holds a handle.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn table(&self) -> MutexGuard<'_, Table<N>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watches {
    /// Passes a message on to the flights of all variants of `primary`; its own flights do not hear of it.
    pub fn notify_variants(&self, primary: Digest, notice: &Notice) {
        let table = self.table();
        table.variants.get(&primary).into_iter().flatten().for_each(|key| table.notify(*key, notice));
    }

    /// Tells the flights of a key that a record has landed, which names its key in its canonical form. A flight of another
    /// key with the same digest hears of it without the record: equal digests are not taken for equal keys.
    pub fn landed(&self, canonical: &[u8], found: &Found) {
        if let Some(armed) = self.table().armed.get(&Digest::of(canonical)) {
            for Armed { key, tx, .. } in armed {
                let own = (key.canonical() == canonical).then(|| found.clone());
                let _ = tx.try_send(Notice::Landed(found.fence, own));
            }
        }
    }
}

impl<N> Table<N> {
    fn notify(&self, key: Digest, notice: &N)
    where
        N: Clone,
    {
        for Armed { tx, .. } in self.armed.get(&key).into_iter().flatten() {
            let _ = tx.try_send(notice.clone());
        }
    }

    fn disarm(&mut self, key: &Key, id: u64) {
        let Some(armed) = self.armed.get_mut(&key.digest()) else { return };
        armed.retain(|armed| armed.id != id);
        if !armed.is_empty() {
            return;
        }
        self.armed.remove(&key.digest());
        let primary = key.primary_digest();
        if let Some(variants) = self.variants.get_mut(&primary).filter(|_| key.is_variant()) {
            variants.remove(&key.digest());
            if variants.is_empty() {
                self.variants.remove(&primary);
            }
        }
    }
}

/// Receives what a store tells about one key, until it is dropped.
#[derive(Debug)]
pub struct Watch<N = Notice> {
    rx: mpsc::Receiver<N>,
    key: Key,
    id: u64,
    watches: Watches<N>,
}

impl<N> Watch<N> {
    /// The next message.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> N {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message, as a poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<N> {
        match ready!(self.rx.poll_recv(cx)) {
            Some(notice) => Poll::Ready(notice),
            // The sender lives in the table until this watch is dropped.
            None => Poll::Pending,
        }
    }
}

impl<N> Drop for Watch<N> {
    fn drop(&mut self) {
        self.watches.table().disarm(&self.key, self.id);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::Lifetimes, *};

    #[tokio::test]
    async fn a_record_reaches_only_the_flights_of_the_key_that_it_names() {
        let watches = Watches::default();
        let [mine, other] = ["mine", "other"].map(|part| Key::builder("test").part(part).finish());
        let found = Found {
            fence: Fence(7),
            age: Duration::ZERO,
            lifetimes: Lifetimes::default(),
            cost: Duration::ZERO,
            payload: Bytes::from_static(b"body"),
        };
        let (mut own, mut foreign) = (watches.arm(&mine), watches.arm(&other));
        // As if both keys had the same digest, which no test can find.
        let moved = watches.table().armed.remove(&other.digest()).expect("it is armed");
        watches.table().armed.entry(mine.digest()).or_default().extend(moved);
        watches.landed(mine.canonical(), &found);
        assert_eq!(own.next().await, Notice::Landed(Fence(7), Some(found)));
        assert_eq!(foreign.next().await, Notice::Landed(Fence(7), None));
    }
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
