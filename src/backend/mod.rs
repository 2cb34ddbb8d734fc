//! Where replicas meet: the [`Backend`] trait, [`Memory`] for one process, and [`Redis`] for many.
//!
//! A backend keeps, per key, at most one *record* (a stored result) and the *state* of the flight in the air. Its
//! operations are few and atomic, and each is idempotent when retried. They cover the classic operations of a
//! distributed singleflight store:
//!
//! | classic | here |
//! |---|---|
//! | get result with its TTL | [`Backend::get`], or [`Backend::begin`] answering [`Begun::Hit`] |
//! | set result | [`Backend::put`] |
//! | try-lock | [`Backend::begin`] answering [`Begun::Lead`] |
//! | extend lock | [`Backend::renew`] |
//! | unlock | [`Backend::abort`] |
//! | unlock-and-set | [`Backend::complete`] |
//! | delete | [`Backend::invalidate`] |

#[cfg(any(test, feature = "contract"))]
#[allow(clippy::unwrap_used, reason = "these are tests")]
pub mod contract;
mod erased;
mod error;
mod locals;
pub(crate) mod lock;
mod memory;
#[cfg(feature = "redis")]
pub mod redis;
mod watch;

use std::{
    future::{Future, Ready},
    time::Duration,
};

use bytes::Bytes;

pub(crate) use self::erased::Shared;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use self::{
    error::{BackendError, ErrorKind},
    locals::Locals,
    memory::Memory,
    watch::{Notice, Watch, Watches},
};
use crate::key::Key;
pub use crate::protocol::lease::{Completed, Fence, Lifetimes, Owner, Reason, Renewed};

/// Longer than a store needs, shorter than a person waits.
const BUDGET: Duration = Duration::from_millis(250);

/// A store that several replicas share.
///
/// An implementation is a handle: cloning it is cheap, and all clones share one [`Locals`] (hence one table of
/// flights in the air) and one inbox. Every operation is atomic and may be retried with the same arguments.
///
/// Dropping a returned future must leave the handle usable; whether the operation took place is then unknown. Every future
/// must end by itself, with an error if the store does not answer: only what a caller spends before its work is limited
/// from outside, by [`budget`](Self::budget).
///
/// # Variants
///
/// A key may be a [variant](Key::variant) of another one, its primary. To all operations it is a key of its own, with its
/// own record and flights, but for one thing: [`invalidate`](Self::invalidate) and [`put`](Self::put) of the primary
/// invalidate all its variants in the same step, whether this handle has ever heard of them or not. Their records are
/// gone, [`recall`](Self::recall) included; their flights can neither renew nor complete nor abort any more, and whoever
/// leads or follows one is told [`Notice::Invalidated`]. The primary and the other variants do not notice what happens
/// to a variant.
///
/// That may be done to each of them at once, as [`Memory`] does, or by a number that all variants share and that each of
/// their operations compares fences with, as the Redis backend does: [the protocol](crate::docs::protocol) says why
/// nobody can tell. A store that forgets which variants there are must forget what they hold.
pub trait Backend: Send + Sync + 'static {
    /// What the callers of this process share: the same value for every clone of the handle.
    fn locals(&self) -> &Locals;

    /// How long a caller waits for this backend before its work, all exchanges together; then its process coalesces by
    /// itself. 250 ms by default.
    fn budget(&self) -> Duration {
        BUDGET
    }

    /// Reads the record of `key`, if this handle knows that there is a fresh one: without a change to the store, and with
    /// nothing to undo when the future is dropped. A record that is gone or another one by now is `None`, and is asked
    /// for with [`begin`](Self::begin).
    ///
    /// Knowing is optional; by default a handle knows of none.
    fn recall(&self, key: &Key) -> Option<impl Future<Output = Result<Option<Found>, BackendError>> + Send> {
        let _ = key;
        None::<Ready<_>>
    }

    /// Finds a usable record, leads a flight, or joins the one in the air.
    ///
    /// The watch that comes with [`Begun::Lead`] and [`Begun::Follow`] is armed before the store is asked, so that no
    /// message can fall between the answer and the wait.
    fn begin(&self, key: &Key, begin: Begin) -> impl Future<Output = Result<Begun, BackendError>> + Send;

    /// Lets a lease run for its whole length again.
    fn renew(
        &self,
        key: &Key,
        owner: Owner,
        lease: Duration,
    ) -> impl Future<Output = Result<Renewed, BackendError>> + Send;

    /// Stores the result of a flight, ends it, and tells everybody who waits.
    fn complete(
        &self,
        key: &Key,
        owner: Owner,
        fence: Fence,
        record: Record,
    ) -> impl Future<Output = Result<Completed, BackendError>> + Send;

    /// Ends a flight without a result. Does nothing unless `owner` leads.
    fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Deletes the record; a flight in the air neither stores nor answers anyone who arrives later. The same happens to all
    /// variants of the key.
    fn invalidate(&self, key: &Key) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Invalidates, variants of the key included, and stores in one step.
    fn put(&self, key: &Key, record: Record) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The stored record, if there is one, whatever its age.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Found>, BackendError>> + Send;
}

/// What a caller asks for when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The attempt: new for every begin, the same for its retries.
    pub owner: Owner,
    /// How long the caller may lead without renewing.
    pub lease: Duration,
    /// The greatest fence followed so far, or [`Fence::NONE`]: a record at or above it is a hit, whatever its age.
    pub followed: Fence,
}

/// What the store answers to a [`Begin`].
#[derive(Debug)]
pub enum Begun {
    /// Use this record.
    Hit(Found),
    /// Run the work under this fence.
    Lead {
        /// The fence of the new flight.
        fence: Fence,
        /// Failures in a row before it.
        failures: u32,
        /// The record that is still kept. It may be served while the work runs if it is [usable](Found::is_usable); else
        /// the work may start from it.
        previous: Option<Found>,
        /// Tells of an invalidation while the work runs.
        watch: Watch,
    },
    /// Somebody else leads. The lease ends after `left` unless it is renewed.
    Follow {
        /// The fence of the flight in the air.
        fence: Fence,
        /// What is left of its lease.
        left: Duration,
        /// Tells how the flight ends.
        watch: Watch,
    },
    /// Somebody else refreshes this record; use it meanwhile.
    Stale(Found),
    /// The outcome cannot be shared for this long: everyone for himself.
    Scatter(Duration),
    /// Too many leaders died or failed in a row: run uncoordinated, at most one per replica.
    Poisoned,
}

/// A result on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How long it may be used.
    pub lifetimes: Lifetimes,
    /// How long the work took.
    pub cost: Duration,
    /// The encoded result.
    pub payload: Bytes,
}

/// A result as it was found in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The flight that wrote it.
    pub fence: Fence,
    /// How long ago it landed.
    pub age: Duration,
    /// How long it may be used, counted from when it landed; `keep` is the whole time the store keeps it.
    pub lifetimes: Lifetimes,
    /// How long the work took.
    pub cost: Duration,
    /// The encoded result.
    pub payload: Bytes,
}

impl Found {
    /// Whether it is a hit for everybody.
    pub fn is_fresh(&self) -> bool {
        self.age < self.lifetimes.fresh
    }

    /// Whether it is fresh, or may be served while somebody refreshes it.
    pub fn is_usable(&self) -> bool {
        !self.usable_for().is_zero()
    }

    /// How much longer it may be used, fresh or stale.
    pub fn usable_for(&self) -> Duration {
        self.lifetimes.usable().saturating_sub(self.age)
    }
}
