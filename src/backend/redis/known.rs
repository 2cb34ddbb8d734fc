//! What this process knows of records in the store.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::Fence;
use crate::key::Digest;

/// How many keys are remembered.
const CAPACITY: usize = 16_384;

/// What is known of the record of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The flight that wrote it.
    pub(super) fence: Fence,
    /// When it landed, at the latest possible reading of the local clock before the store said so: an age measured
    /// from here is never too small.
    pub(super) landed: Instant,
    /// Fresh before this instant, unless it is replaced or deleted, which the read itself will show.
    pub(super) fresh_until: Instant,
    /// Bytes of the whole record.
    pub(super) size: usize,
}

/// A bounded memory: two generations, of which the older is forgotten when the younger is full.
///
/// To forget costs an exchange nothing but the detour through the script, so the cheapest policy wins.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Known>,
    old: HashMap<Digest, Known>,
}

impl Memory {
    /// What is known of the record of `key`.
    pub(super) fn get(&self, key: Digest) -> Option<Known> {
        let mut memory = self.lock();
        if let Some(known) = memory.young.get(&key) {
            return Some(*known);
        }
        let known = memory.old.remove(&key)?;
        memory.insert(key, known);
        Some(known)
    }

    /// Remembers a record, unless a younger one is known.
    pub(super) fn insert(&self, key: Digest, known: Known) {
        let mut memory = self.lock();
        let other = memory.young.get(&key).or_else(|| memory.old.get(&key));
        if other.is_none_or(|other| other.fence <= known.fence) {
            memory.old.remove(&key);
            memory.insert(key, known);
        }
    }

    /// Forgets the record of `key`.
    pub(super) fn forget(&self, key: Digest) {
        let mut memory = self.lock();
        memory.young.remove(&key);
        memory.old.remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, key: Digest, known: Known) {
        if self.young.len() >= CAPACITY / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Digest(bytes)
    }

    fn known(fence: u64) -> Known {
        let now = Instant::now();
        Known { fence: Fence(fence), landed: now, fresh_until: now, size: 0 }
    }

    #[test]
    fn an_older_record_does_not_displace_a_younger_one() {
        let memory = Memory::default();
        let young = known(2);
        memory.insert(digest(1), young);
        memory.insert(digest(1), known(1));
        assert_eq!(memory.get(digest(1)), Some(young));
        memory.forget(digest(1));
        assert_eq!(memory.get(digest(1)), None);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let memory = Memory::default();
        memory.insert(digest(0), known(1));
        for number in 1..100_000 {
            memory.insert(digest(number), known(1));
            assert!(memory.get(digest(0)).is_some());
        }
        let generations = memory.lock();
        assert!(generations.young.len() + generations.old.len() <= CAPACITY);
    }
}
