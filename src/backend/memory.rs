mod locks;

use std::{
    collections::{HashMap, HashSet, hash_map},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Backend, BackendError, Begin, Begun, Completed, Fence, Found, Lifetimes, Locals, Notice, Owner, Reason, Record,
    Renewed, Watches, lock::Call,
};
use crate::{
    key::Key,
    protocol::{
        lease::Inbox,
        store::{self, Seen, Slot, Told},
        time,
    },
};

/// How many keys are remembered unless [`Memory::with_capacity`] says otherwise.
const CAPACITY: usize = 65_536;

/// So many entries are not worth a look.
const FEW: usize = 64;

/// How long the state of a key outlives its lease and its record.
const LINGER: Duration = Duration::from_secs(60);

/// A backend inside one process: the embedded default of every example and test.
///
/// It speaks the whole protocol on tokio's clock. One handle and its clones are one replica;
/// [`replica`](Self::replica) makes another one on the same store, which is how a fleet is tested without a network.
///
/// Bounded: it remembers 65 536 keys unless told otherwise, and forgets what expires first when there is no more room.
/// What is forgotten is computed again. [Locks](crate::Mutex) are never forgotten before they expire.
#[derive(Clone)]
pub struct Memory {
    store: Arc<Mutex<Store>>,
    inbox: Inbox,
    watches: Watches,
    calls: Watches<Call>,
    locals: Locals,
}

/// Where a replica hears.
struct Replica {
    watches: Watches,
    calls: Watches<Call>,
}

struct Store {
    origin: tokio::time::Instant,
    capacity: usize,
    entries: HashMap<Key, Entry>,
    /// How many new keys may come before what has expired is looked for.
    unswept: usize,
    /// The variants among the entries, by their primary.
    families: HashMap<Key, HashSet<Key>>,
    locks: locks::Table,
    replicas: HashMap<Inbox, Replica>,
    next_inbox: u32,
}

#[derive(Default)]
struct Entry {
    slot: Slot,
    payload: Bytes,
    cost: Duration,
}

impl Memory {
    /// An empty store with room for 65 536 keys.
    pub fn new() -> Self {
        Self::with_capacity(const { NonZeroUsize::new(CAPACITY).unwrap() })
    }

    /// An empty store with room for `capacity` keys.
    #[expect(clippy::disallowed_methods, reason = "a store has a clock; this one is the runtime's, which tests pause")]
    pub fn with_capacity(capacity: NonZeroUsize) -> Self {
        let store = Store {
            origin: tokio::time::Instant::now(),
            capacity: capacity.get(),
            entries: HashMap::new(),
            unswept: FEW,
            families: HashMap::new(),
            locks: locks::Table::default(),
            replicas: HashMap::new(),
            next_inbox: 0,
        };
        Self::on(Arc::new(Mutex::new(store)))
    }

    /// Another replica on the same store: it shares records and flights, but neither the table of local flights nor the
    /// inbox.
    #[must_use]
    pub fn replica(&self) -> Self {
        Self::on(Arc::clone(&self.store))
    }

    /// How many keys are remembered; of locks, those that are held, waited for, or were held within the last minute.
    pub fn len(&self) -> usize {
        let mut store = self.store();
        store.expire();
        let now = store.now();
        store.entries.len() + store.locks.len(now)
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn on(store: Arc<Mutex<Store>>) -> Self {
        let (watches, calls) = (Watches::default(), Watches::default());
        let inbox = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let mut inbox = [0; 12];
            inbox[8..].copy_from_slice(&store.next_inbox.to_be_bytes());
            store.next_inbox += 1;
            store.replicas.retain(|_, replica| replica.watches.is_held());
            store.replicas.insert(Inbox(inbox), Replica { watches: watches.clone(), calls: calls.clone() });
            Inbox(inbox)
        };
        Self { store, inbox, watches, calls, locals: Locals::default() }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Store {
    #[expect(clippy::disallowed_methods, reason = "a store has a clock; this one is the runtime's, which tests pause")]
    fn now(&self) -> time::Instant<time::Store> {
        // Fences are times, and zero is no fence.
        time::Instant::from_micros(1).after(self.origin.elapsed())
    }

    fn entry(&mut self, key: &Key) -> &mut Entry {
        let full = self.entries.len() >= self.capacity;
        if (full || self.unswept == 0) && !self.entries.contains_key(key) {
            // A look at every entry is paid for by as many inserts as are left of them: what has expired never outweighs
            // what has not.
            if full { self.make_room() } else { self.expire() }
        }
        match self.entries.entry(key.clone()) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(room) => {
                self.unswept = self.unswept.saturating_sub(1);
                if key.is_variant() {
                    self.families.entry(key.primary().clone()).or_default().insert(key.clone());
                }
                room.insert(Entry::default())
            }
        }
    }

    /// Forgets what has expired, and if that is not enough, the eighth that expires first: looking at every entry is
    /// paid for by the many inserts that find room afterwards.
    fn make_room(&mut self) {
        self.expire();
        let room = (self.capacity / 8).max(1);
        let excess = (self.entries.len() + room).saturating_sub(self.capacity);
        if excess == 0 {
            return;
        }
        let mut order: Vec<_> = self.entries.iter().map(|(key, entry)| (entry.slot.expires(), key.clone())).collect();
        order.select_nth_unstable_by_key(excess - 1, |(expires, _)| *expires);
        for (_, key) in &order[..excess] {
            self.entries.remove(key);
        }
        self.forget_families();
    }

    fn expire(&mut self) {
        let now = self.now();
        self.entries.retain(|_, entry| {
            entry.slot.expire(now);
            !entry.slot.is_empty()
        });
        self.unswept = self.entries.len().max(FEW);
        self.forget_families();
    }

    fn forget_families(&mut self) {
        let entries = &self.entries;
        self.families.retain(|_, variants| {
            variants.retain(|key| entries.contains_key(key));
            !variants.is_empty()
        });
    }

    fn invalidate(&mut self, key: &Key) {
        let now = self.now();
        if let Some(entry) = self.entries.get_mut(key) {
            let told = entry.slot.invalidate(now, LINGER);
            entry.payload = Bytes::new();
            self.tell(key, told, None);
        }
    }

    /// What was stored or begun before the primary went goes with it. In the order of their keys: who is told first, and
    /// hence whatever a simulation makes of a seed, is the same in every run.
    fn invalidate_variants(&mut self, primary: &Key) {
        let mut variants: Vec<_> = self.families.get(primary).into_iter().flatten().cloned().collect();
        variants.sort_unstable_by(|one, other| one.canonical().cmp(other.canonical()));
        variants.iter().for_each(|variant| self.invalidate(variant));
    }

    fn tell(&self, key: &Key, told: Told, record: Option<&Found>) {
        for (inbox, notice) in told {
            let notice = match notice {
                store::Notice::Landed(fence) => Notice::Landed(fence, record.cloned()),
                store::Notice::Retry => Notice::Retry,
                store::Notice::Scatter(time) => Notice::Scatter(time),
                store::Notice::Invalidated => Notice::Invalidated,
            };
            if let Some(replica) = self.replicas.get(&inbox) {
                replica.watches.notify(key.digest(), &notice);
            }
        }
    }
}

impl Entry {
    fn found(&self, seen: Seen) -> Found {
        let Seen { fence, age, lifetimes } = seen;
        Found { fence, age, lifetimes, cost: self.cost, payload: self.payload.clone() }
    }

    /// Keeps what the slot does not.
    fn hold(&mut self, record: Record) {
        self.payload = record.payload;
        self.cost = record.cost;
    }
}

/// The lifetimes under which a record is kept: `keep` is the whole time.
fn kept(lifetimes: Lifetimes) -> Lifetimes {
    Lifetimes { keep: lifetimes.total(), ..lifetimes }
}

impl Backend for Memory {
    fn locals(&self) -> &Locals {
        &self.locals
    }

    async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
        let watch = self.watches.arm(key);
        let Begin { owner, lease, followed } = begin;
        let begin = store::Begin { owner, inbox: self.inbox, lease, followed };
        let mut store = self.store();
        let now = store.now();
        let entry = store.entry(key);
        Ok(match entry.slot.begin(now, begin, LINGER) {
            store::Begun::Hit(seen) => Begun::Hit(entry.found(seen)),
            store::Begun::Lead { fence, failures, previous } => {
                Begun::Lead { fence, failures, previous: previous.map(|seen| entry.found(seen)), watch }
            }
            store::Begun::Follow { fence, left } => Begun::Follow { fence, left, watch },
            store::Begun::Stale(seen) => Begun::Stale(entry.found(seen)),
            store::Begun::Scatter(time) => Begun::Scatter(time),
            store::Begun::Poisoned => Begun::Poisoned,
        })
    }

    async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
        let mut store = self.store();
        let now = store.now();
        let entry = store.entries.get_mut(key);
        Ok(entry.map_or(Renewed::Lost, |entry| entry.slot.renew(now, owner, lease, LINGER)))
    }

    async fn complete(&self, key: &Key, owner: Owner, fence: Fence, record: Record) -> Result<Completed, BackendError> {
        let mut store = self.store();
        let now = store.now();
        let Some(entry) = store.entries.get_mut(key) else {
            return Ok(Completed::Superseded);
        };
        let lifetimes = kept(record.lifetimes);
        let before = entry.slot.get(now);
        let (completed, told) = entry.slot.complete(now, owner, fence, lifetimes);
        // A retry is `Stored` as well, but must not touch what has been stored since: only a new record has a payload.
        if entry.slot.get(now) != before {
            entry.hold(record);
            let found = entry.found(Seen { fence, age: Duration::ZERO, lifetimes });
            store.tell(key, told, Some(&found));
        }
        Ok(completed)
    }

    async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
        let mut store = self.store();
        let now = store.now();
        if let Some(entry) = store.entries.get_mut(key) {
            let told = entry.slot.abort(now, owner, reason, LINGER);
            store.tell(key, told, None);
        }
        Ok(())
    }

    async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        let mut store = self.store();
        store.invalidate(key);
        store.invalidate_variants(key);
        Ok(())
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        let mut store = self.store();
        let now = store.now();
        let entry = store.entry(key);
        let (_, told) = entry.slot.put(now, kept(record.lifetimes), LINGER);
        entry.hold(record);
        store.tell(key, told, None);
        store.invalidate_variants(key);
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
        let mut store = self.store();
        let now = store.now();
        Ok(store.entries.get_mut(key).and_then(|entry| entry.slot.get(now).map(|seen| entry.found(seen))))
    }
}
