//! Locks of [`Memory`]: the pure model, its clock and its messages.

use std::{collections::HashMap, future::ready, sync::Arc, time::Duration};

use super::{FEW, LINGER, Memory, Store};
use crate::{
    backend::{
        BackendError, ErrorKind, Fence, Locals, Watch,
        lock::{Acquire, Acquired, Call, Holding, LockKey, Locks, Reply, Token},
    },
    key::Key,
    protocol::{
        lock::{self, Extended, Lock, Place, Release},
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

type Entry = Lock<Holder>;

/// Told apart by its token alone.
#[derive(Clone, Debug)]
struct Holder {
    token: Token,
    metadata: Option<Arc<str>>,
}

impl Holder {
    fn known_by(token: Token) -> Self {
        Self { token, metadata: None }
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl Eq for Holder {}

impl Table {
    pub(super) fn len(&mut self, now: time::Instant<time::Store>) -> usize {
        self.locks.retain(|_, entry| {
            entry.expire(now);
            !entry.is_empty()
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

    fn calls(&self, key: &LockKey) -> Watch<Call> {
        self.calls.arm(&key.key)
    }

    fn acquire<'a>(&'a self, key: &'a LockKey, acquire: Acquire) -> Reply<'a, Acquired> {
        let Acquire { token, seq, ttl, ticket, sole, metadata } = acquire;
        let place = ticket.map(|ticket| Place { ticket, inbox: self.inbox });
        self.lock(key, |store, now| {
            let lock = store.locks.entry(now, &key.key);
            let holder = Holder { token, metadata };
            match lock.acquire(now, lock::Acquire { token: holder, seq, ttl, place, sole, linger: LINGER }) {
                lock::Acquired::Granted(fence) => Acquired::Granted(fence),
                lock::Acquired::Taken(left) => {
                    let metadata = lock.inspect(now).and_then(|seen| seen.token.metadata);
                    Acquired::Taken { left, metadata }
                }
            }
        })
    }

    fn extend<'a>(&'a self, key: &'a LockKey, token: Token, seq: Option<u64>, ttl: Duration) -> Reply<'a, Extended> {
        self.lock(key, |store, now| {
            store.locks.entry(now, &key.key).extend(now, &Holder::known_by(token), seq, ttl, LINGER)
        })
    }

    fn release<'a>(&'a self, key: &'a LockKey, release: Release<Token>) -> Reply<'a, bool> {
        let Release { token, seq, undo, ticket } = release;
        self.lock(key, |store, now| {
            let release = Release { token: Holder::known_by(token), seq, undo, ticket };
            let Store { locks, replicas, .. } = store;
            let hears = |inbox| replicas.get(&inbox).is_some_and(|replica| replica.watches.is_held());
            let (released, told) = locks.entry(now, &key.key).release(now, &release, hears);
            if let Some((inbox, grant)) = told
                && let Some(replica) = replicas.get(&inbox)
            {
                replica.calls.notify(key.key.digest(), &Call::Granted(grant));
            }
            released
        })
    }

    fn raise<'a>(&'a self, key: &'a LockKey, token: Token, fence: Fence) -> Reply<'a, bool> {
        self.lock(key, |store, now| {
            store.locks.entry(now, &key.key).raise(now, &Holder::known_by(token), fence, LINGER)
        })
    }

    fn inspect<'a>(&'a self, key: &'a LockKey) -> Reply<'a, Option<Holding>> {
        self.lock(key, |store, now| {
            let lock::Seen { token: Holder { token, metadata }, fence, left } =
                store.locks.entry(now, &key.key).inspect(now)?;
            Some(Holding { token, fence, left, metadata })
        })
    }
}
