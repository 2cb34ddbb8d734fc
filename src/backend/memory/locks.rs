//! Locks of [`Memory`]: the pure model, its clock and its messages.

use std::{collections::HashMap, future::ready, sync::Arc, time::Duration};

use super::{FEW, LINGER, Memory, Store};
use crate::{
    backend::{
        BackendError, ErrorKind, Fence, Locals, Watch,
        lock::{Acquire, Acquired, Holding, LockKey, Locks, Reply, Token},
    },
    key::Key,
    protocol::{
        lock::{self, Extended, Lock, Place, Release, Told, Turn},
        time,
    },
};

/// All locks of a store. Unlike results they are never forgotten to make room.
#[derive(Debug, Default)]
pub(super) struct Table {
    locks: HashMap<Key, Entry>,
    /// So many are not worth a look for those that are over.
    few: usize,
}

#[derive(Debug, Default)]
struct Entry {
    lock: Lock<Token>,
    metadata: Option<Arc<str>>,
}

impl Table {
    pub(super) fn len(&mut self, now: time::Instant<time::Store>) -> usize {
        self.locks.retain(|_, entry| {
            entry.lock.expire(now);
            !entry.lock.is_empty()
        });
        self.few = self.locks.len().max(FEW) * 2;
        self.locks.len()
    }

    fn entry(&mut self, now: time::Instant<time::Store>, key: &Key) -> &mut Entry {
        if self.locks.len() >= self.few {
            self.len(now);
        }
        self.locks.entry(key.clone()).or_default()
    }
}

impl Store {
    fn tell_turns(&self, key: &Key, told: Told) {
        for (inbox, turn) in told {
            if let Some(replica) = self.replicas.get(&inbox) {
                replica.turns.notify(key.digest(), &turn);
            }
        }
    }
}

impl Memory {
    fn lock<'a, T: Send + 'a>(
        &self,
        key: &LockKey,
        operate: impl FnOnce(&mut Store, time::Instant<time::Store>) -> T,
    ) -> Reply<'a, T> {
        if key.replicas > 0 {
            let why = "memory has no replicas that could acknowledge a lock; set min_replicas to zero";
            return Box::pin(ready(Err(BackendError::new(ErrorKind::Config, why))));
        }
        let mut store = self.store();
        let now = store.now();
        Box::pin(ready(Ok(operate(&mut store, now))))
    }
}

/// Each is done when it is asked for: there is nothing to wait for.
impl Locks for Memory {
    fn locals(&self) -> &Locals {
        &self.locals
    }

    fn turns(&self, key: &LockKey) -> Watch<Turn> {
        self.turns.arm(&key.key)
    }

    fn acquire<'a>(&'a self, key: &'a LockKey, acquire: Acquire) -> Reply<'a, Acquired> {
        let Acquire { token, seq, ttl, ticket, sole, metadata } = acquire;
        let place = ticket.map(|ticket| Place { ticket, inbox: self.inbox });
        self.lock(key, |store, now| {
            let entry = store.locks.entry(now, &key.key);
            let ask = lock::Acquire { token, seq, ttl, place, sole, linger: LINGER };
            match entry.lock.acquire(now, ask) {
                lock::Acquired::Granted(fence) => {
                    entry.metadata = metadata;
                    Acquired::Granted(fence)
                }
                lock::Acquired::Taken(left) => Acquired::Taken { left, metadata: entry.metadata.clone() },
                lock::Acquired::Spoken(left) => Acquired::Spoken(left),
            }
        })
    }

    fn extend<'a>(&'a self, key: &'a LockKey, token: Token, seq: Option<u64>, ttl: Duration) -> Reply<'a, Extended> {
        self.lock(key, |store, now| {
            let entry = store.locks.entry(now, &key.key);
            entry.lock.extend(now, &token, seq, ttl, LINGER)
        })
    }

    fn release<'a>(&'a self, key: &'a LockKey, release: Release<Token>) -> Reply<'a, bool> {
        self.lock(key, |store, now| {
            let (released, told) = store.locks.entry(now, &key.key).lock.release(now, &release);
            store.tell_turns(&key.key, told);
            released
        })
    }

    fn raise<'a>(&'a self, key: &'a LockKey, token: Token, fence: Fence) -> Reply<'a, bool> {
        self.lock(key, |store, now| store.locks.entry(now, &key.key).lock.raise(now, &token, fence, LINGER))
    }

    fn inspect<'a>(&'a self, key: &'a LockKey) -> Reply<'a, Option<Holding>> {
        self.lock(key, |store, now| {
            let entry = store.locks.entry(now, &key.key);
            let lock::Seen { token, fence, left } = entry.lock.inspect(now)?;
            Some(Holding { token, fence, left, metadata: entry.metadata.clone() })
        })
    }
}
