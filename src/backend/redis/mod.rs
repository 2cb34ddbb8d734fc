//! [`Redis`]: the store that replicas share.
//!
//! # Connections
//!
//! A handle keeps two or three connections: one for commands, one for bodies above 64 KiB (made when the first such
//! body travels, so that small operations never wait behind large ones; locks that wait for replicas use it as well),
//! and one on which this replica hears what becomes of flights, and which locks are granted to those who wait here.
//! Each is replaced by itself when it is lost, when redis hangs, or when redis turns out to be a replica that takes no
//! writes. While there is none, operations fail at once. After 5 errors or 3 timeouts in a row they do so for 1 s
//! although there is one, and then one of them tries again.
//!
//! # What it asks of the server
//!
//! Redis 6.2 or later, and not a cluster; `volatile-*` as eviction policy is recommended. What is evicted costs a
//! duplicate execution, never a wrong answer; but a lock that is evicted is lost while somebody holds it, so a server that
//! keeps locks needs room for them. All times are those of the server.
//!
//! A user with these rights suffices (for the prefix `shop`):
//!
//! ```text
//! ACL SETUSER shop on >password ~sf1:shop:* &sf1:shop:inbox:* -@all
//!     +ping +subscribe +publish +evalsha +eval +time +get +mget +set +getrange +setrange +exists +rename +unlink
//!     +pttl +pexpire +hget +hmget +hset +hdel +wait
//! ```
//!
//! (And `+select` if the address names a database other than 0.)
//!
//! # Names
//!
//! | name | what |
//! |---|---|
//! | `sf1:<prefix>:{<digest>}:r` | the record of a key: a header, the key, the payload |
//! | `sf1:<prefix>:{<digest>}:s` | the state of the flight in the air, a hash; also what variants of the key share |
//! | `sf1:<prefix>:{<digest>}:t:<owner>` | a large record on its way, kept for 30 s at most |
//! | `sf1:<prefix>:lock:{<name>}` | a lock: who holds it, and who waits for what, a string that ends with the lease |
//! | `sf1:<prefix>:lock:{<name>}:f` | a fence below all fences to come of that lock |
//! | `sf1:<prefix>:inbox:<random>` | the channel of one replica |
//!
//! The names of a variant begin with those digits of its primary, and have its own ones behind the brace.

#[cfg_attr(test, expect(clippy::disallowed_methods, reason = "its tests tell it the time"))]
mod breaker;
mod builder;
mod connect;
mod error;
#[expect(clippy::disallowed_methods, reason = "the name of an inbox is random")]
mod inbox;
mod keys;
#[cfg_attr(test, expect(clippy::disallowed_methods, reason = "its tests tell it the time"))]
mod known;
#[expect(clippy::disallowed_methods, reason = "the breaker is told the time")]
mod lane;
mod locks;
mod message;
#[expect(
    clippy::disallowed_methods,
    reason = "what is known to be fresh is so on the local clock; a put has an owner of its own"
)]
mod operations;
#[expect(clippy::disallowed_methods, reason = "pauses between attempts are jittered, and depend on what was before")]
mod reconnect;
mod record;
mod script;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;

pub use self::builder::RedisBuilder;
use self::{builder::Settings, error::Failure, keys::Names, lane::Lane};
use super::{
    Backend, BackendError, Begin, Begun, Completed, ErrorKind, Fence, Found, Lifetimes, Locals, Notice, Owner, Reason,
    Record, Renewed, Watches, lock::LockKey,
};
use crate::{backend::lock, key::Key};

/// A backend on Redis, shared by all replicas that use the same server and prefix.
///
/// A handle is cheap to clone, and all clones are one replica: make one per process and clone it. It lives on the tokio
/// runtime on which it was made, and its connections are closed when the last clone is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_singleflight::backend::Redis;
///
/// let redis = Redis::connect("redis://127.0.0.1/", "shop").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    names: Arc<Names>,
    settings: Settings,
    locals: Locals,
    watches: Watches,
    calls: Watches<lock::Call>,
    known: known::Memory,
    inbox: inbox::Inbox,
    commands: Lane,
    bodies: Lane,
}

impl Redis {
    /// Connects to the redis at `url`, such as `redis://user:password@host:6379/0`.
    ///
    /// `prefix` names the application: two applications on one redis must never share answers.
    ///
    /// # Errors
    ///
    /// Fails at once, saying what to do, if the address is malformed, nobody answers there, the password is wrong, the
    /// prefix is empty or holds white space or one of `:{}*?[]\`, or if it is not called inside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: when the future is dropped, its connections are closed.
    pub async fn connect(url: &str, prefix: impl Into<String>) -> Result<Self, BackendError> {
        Self::builder(prefix).connect(url).await
    }

    /// Returns a backend that connects in the background, for services that must start while redis is away.
    ///
    /// Until redis is there, operations fail with [`ErrorKind::Unavailable`], which callers bridge by coalescing
    /// locally.
    ///
    /// # Errors
    ///
    /// Fails if the address is malformed, the prefix cannot work, or if it is not called inside a tokio runtime.
    pub fn connect_lazy(url: &str, prefix: impl Into<String>) -> Result<Self, BackendError> {
        Self::builder(prefix).connect_lazy(url)
    }

    /// Starts from the defaults, for an application that is named `prefix`.
    pub fn builder(prefix: impl Into<String>) -> RedisBuilder {
        RedisBuilder::new(prefix.into())
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("names", &self.0.names)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Backend for Redis {
    fn locals(&self) -> &Locals {
        &self.0.locals
    }

    fn budget(&self) -> Duration {
        self.0.settings.budget
    }

    fn recall(&self, key: &Key) -> Option<impl Future<Output = Result<Option<Found>, BackendError>> + Send> {
        self.0.recall(key).map(|read| async { Ok(read.await?) })
    }

    async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
        Ok(self.0.begin(key, begin).await?)
    }

    async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
        Ok(self.0.renew(key, owner, lease).await?)
    }

    async fn complete(&self, key: &Key, owner: Owner, fence: Fence, record: Record) -> Result<Completed, BackendError> {
        Ok(self.0.complete(key, owner, fence, record).await?)
    }

    async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
        Ok(self.0.abort(key, owner, reason).await?)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        Ok(self.0.invalidate(key).await?)
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        Ok(self.0.put(key, record).await?)
    }

    async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
        Ok(self.0.get(key).await?)
    }
}

/// The number at this place of an answer.
fn number(answer: &Value, index: usize) -> Result<u64, Failure> {
    let value = match answer {
        Value::Array(values) => values.get(index).unwrap_or(answer),
        value => value,
    };
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Failure::odd(answer)),
        _ => Err(Failure::odd(answer)),
    }
}

/// The body in an answer, if there is one.
fn body(answer: Value) -> Option<Bytes> {
    match answer {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}
