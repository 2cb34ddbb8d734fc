//! What a flight asks of the store, each exchange as a future of its own, with values instead of bytes.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{answer::Copy, engine::Engine};
use crate::{
    backend::{Begin, Begun, Completed, Fence, Found, Lifetimes, Owner, Reason, Record, Renewed, Shared, Watch},
    codec::Codec,
    key::Key,
    protocol::flight::{Attempt, Reply},
};

/// How long a key scatters whose results cannot be encoded.
const UNENCODABLE: Duration = Duration::from_secs(1);

pub(super) type Call<T> = Pin<Box<dyn Future<Output = Asked<T>> + Send>>;

/// The store's side of one flight.
pub(super) struct Calls<T> {
    backend: Shared,
    codec: Arc<dyn Codec<T>>,
    key: Key,
    lease: Duration,
    /// Random; the owner token of an attempt is its sum with the attempt's number.
    owners: u128,
}

/// What the store answered.
pub(super) enum Asked<T> {
    Begun { attempt: Attempt, reply: Reply, copy: Option<Copy<T>>, watch: Option<Watch> },
    Renewed(Attempt, Option<Renewed>),
    Completed(Attempt, Option<Completed>),
    Aborted(Attempt, bool),
}

impl<T: Clone + Send + Sync + 'static> Calls<T> {
    pub(super) fn new(engine: &Engine<T>, key: &Key, lease: Duration) -> Self {
        let (backend, codec) = (Arc::clone(&engine.backend), Arc::clone(&engine.codec));
        Self { backend, codec, key: key.clone(), lease, owners: rand::random() }
    }

    fn owner(&self, attempt: Attempt) -> Owner {
        Owner(self.owners.wrapping_add(attempt.into()))
    }

    /// A value as it was stored; `None` if these are not the bytes of one.
    pub(super) fn decode(codec: &dyn Codec<T>, found: &Found) -> Option<Copy<T>> {
        let value = codec.decode(found.payload.clone()).ok()?;
        let now = Instant::now();
        let landed = now.checked_sub(found.age).unwrap_or(now);
        Some(Copy { value, landed, for_waiters: found.lifetimes.usable().is_zero() })
    }

    pub(super) fn copy(&self, found: &Found) -> Option<Copy<T>> {
        Self::decode(&*self.codec, found)
    }

    /// Finds a record, leads or follows. `asking` is set as soon as that takes more than a plain read.
    pub(super) fn begin(&self, attempt: Attempt, followed: Fence, asking: Arc<AtomicBool>) -> Call<T> {
        let (backend, codec, key) = (Arc::clone(&self.backend), Arc::clone(&self.codec), self.key.clone());
        let begin = Begin { owner: self.owner(attempt), lease: self.lease, followed };
        Box::pin(async move {
            if let Some(read) = backend.recall(&key)
                && let Ok(Some(found)) = read.await
                && found.is_fresh()
                && let Some(copy) = Self::decode(&*codec, &found)
            {
                let reply = Reply::Hit { fence: found.fence, age: found.age, fresh: true };
                return Asked::Begun { attempt, reply, copy: Some(copy), watch: None };
            }
            asking.store(true, Ordering::Relaxed);
            let mut cleared = false;
            let (reply, copy, watch) = loop {
                let begun = match backend.begin(&key, begin).await {
                    Ok(begun) => begun,
                    Err(error) => break (Reply::Failed { may_have_run: error.may_have_run() }, None, None),
                };
                let (found, stale) = match begun {
                    Begun::Lead { fence, failures, previous, watch } => {
                        let usable = previous.as_ref().map(Found::usable_for);
                        let copy = previous.and_then(|found| Self::decode(&*codec, &found));
                        let stale = usable.filter(|usable| copy.is_some() && !usable.is_zero());
                        break (Reply::Lead { fence, failures, stale }, copy, Some(watch));
                    }
                    Begun::Follow { fence, left, watch } => break (Reply::Follow { fence, left }, None, Some(watch)),
                    Begun::Scatter(_) => break (Reply::Scatter, None, None),
                    Begun::Poisoned => break (Reply::Poisoned, None, None),
                    Begun::Hit(found) => (found, false),
                    Begun::Stale(found) => (found, true),
                };
                if let Some(copy) = Self::decode(&*codec, &found) {
                    let Found { fence, age, .. } = found;
                    let fresh = found.is_fresh();
                    let reply = if stale { Reply::Stale } else { Reply::Hit { fence, age, fresh } };
                    break (reply, Some(copy), None);
                }
                // Not a value of ours: out of the way with it, once; else it would be in everybody's way until it expires.
                if cleared || backend.invalidate(&key).await.is_err() {
                    break (Reply::Failed { may_have_run: false }, None, None);
                }
                cleared = true;
            };
            Asked::Begun { attempt, reply, copy, watch }
        })
    }

    pub(super) fn renew(&self, attempt: Attempt) -> Call<T> {
        let (backend, key) = (Arc::clone(&self.backend), self.key.clone());
        let (owner, lease) = (self.owner(attempt), self.lease);
        Box::pin(async move { Asked::Renewed(attempt, backend.renew(&key, owner, lease).await.ok()) })
    }

    /// Gives the lease back, and then forgets what is stored, if that is withdrawn. Not the other way round: without its
    /// lease nobody can say that the key scatters, and an invalidation lets it go on to do so.
    pub(super) fn abort(&self, attempt: Attempt, reason: Reason, withdrawn: bool) -> Call<T> {
        let (backend, key, owner) = (Arc::clone(&self.backend), self.key.clone(), self.owner(attempt));
        Box::pin(async move {
            let aborted = backend.abort(&key, owner, reason).await.is_ok();
            // A store that is away is told nothing: then the record lives until its end, as after any outage.
            if withdrawn && aborted {
                let _ = backend.invalidate(&key).await;
            }
            Asked::Aborted(attempt, aborted)
        })
    }

    /// A value that cannot be encoded has reached the callers of this replica; the others must compute their own.
    pub(super) fn complete(
        &self,
        attempt: Attempt,
        fence: Fence,
        value: &T,
        lifetimes: Lifetimes,
        cost: Duration,
    ) -> Call<T> {
        let (backend, key, owner) = (Arc::clone(&self.backend), self.key.clone(), self.owner(attempt));
        let payload = self.codec.encode(value);
        Box::pin(async move {
            let completed = match payload {
                Ok(payload) => backend.complete(&key, owner, fence, Record { lifetimes, cost, payload }).await.ok(),
                Err(_) => {
                    let aborted = backend.abort(&key, owner, Reason::Scatter(UNENCODABLE)).await;
                    aborted.ok().map(|()| Completed::Superseded)
                }
            };
            Asked::Completed(attempt, completed)
        })
    }
}
