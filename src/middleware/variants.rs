//! What a target's responses vary on, and where the response for a request therefore is.
//!
//! A response that varies says so only once it is there. Hence the first flight of a target is that of its primary key,
//! whichever variant leads it, and its record says what it was selected by. Whoever gets that record and does not match
//! goes on to the key of his own variant. A replica remembers what it has seen, and next time goes there at once: a record
//! costs one exchange, variants or not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use super::rules::vary::selector;
use crate::key::{Digest, Key};

/// How many variants of one target a replica takes part in at a time.
const MOST: usize = 32;

/// How many targets with variants are remembered.
const CAPACITY: usize = 4096;

/// What selected a response: which fields of the request, and what they said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) names: Arc<[HeaderName]>,
    /// The digest of what they said: it may be nobody else's business.
    pub(super) said: Digest,
}

impl Selection {
    /// What `names` say in the request with these fields.
    pub(super) fn of(names: Arc<[HeaderName]>, request: &HeaderMap) -> Self {
        let said = Digest::of(&selector(&names, request));
        Self { names, said }
    }

    /// Whether the response may serve a request with these fields, as far as they go.
    pub(super) fn matches(&self, request: &HeaderMap) -> bool {
        Digest::of(&selector(&self.names, request)) == self.said
    }
}

/// What one replica knows of the targets whose responses vary.
///
/// Bounded: two generations, of which the older is forgotten when the younger is full.
#[derive(Debug, Default)]
pub(super) struct Variants {
    /// So that nobody pays for what no response does.
    any: AtomicBool,
    seen: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Target>,
    old: HashMap<Key, Target>,
}

/// What is known of one target.
#[derive(Debug)]
struct Target {
    names: Arc<[HeaderName]>,
    /// What selected the record under the base key.
    first: Digest,
    /// The variants beside it, and until when each of them counts.
    others: HashMap<Digest, Instant>,
}

impl Variants {
    /// The key under which the response for a request with these fields is to be found: `base`, which covers all but what
    /// responses vary on, or a variant of it. `None` if there are too many variants already; each counts for as long as
    /// `life`.
    pub(super) fn locate(&self, base: &Key, request: &HeaderMap, now: Instant, life: Duration) -> Option<Key> {
        if !self.any.load(Ordering::Relaxed) {
            return Some(base.clone());
        }
        let mut seen = self.seen();
        let Some(target) = seen.target(base) else { return Some(base.clone()) };
        let said = Digest::of(&selector(&target.names, request));
        if said == target.first {
            return Some(base.clone());
        }
        target.others.retain(|_, until| *until > now);
        if target.others.len() >= MOST - 1 && !target.others.contains_key(&said) {
            return None;
        }
        target.others.insert(said, now + life);
        Some(base.variant(said.0))
    }

    /// Takes note of what selected the record that was found under `key`, which is `base` or one of its variants and counts
    /// `until` then.
    pub(super) fn learn(&self, base: &Key, key: &Key, selection: &Selection, until: Instant) {
        self.any.store(true, Ordering::Relaxed);
        let mut seen = self.seen();
        match seen.target(base) {
            Some(target) if target.names == selection.names => {
                if key == base {
                    target.first = selection.said;
                } else if let Some(known) = target.others.get_mut(&selection.said) {
                    *known = until.max(*known);
                }
            }
            // What was selected by other fields is found under other keys.
            _ => {
                let names = Arc::clone(&selection.names);
                seen.insert(base.clone(), Target { names, first: selection.said, others: HashMap::new() });
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Generations> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn target(&mut self, base: &Key) -> Option<&mut Target> {
        if let Some((base, target)) = self.old.remove_entry(base) {
            self.insert(base, target);
        }
        self.young.get_mut(base)
    }

    fn insert(&mut self, base: Key, target: Target) {
        if self.young.len() >= CAPACITY / 2 && !self.young.contains_key(&base) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(base, target);
    }
}
