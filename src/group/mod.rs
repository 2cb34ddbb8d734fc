//! [`Group<T>`](Group): distributed singleflight for anything that is not a request.
//!
//! ```
//! # #[cfg(feature = "json")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::{convert::Infallible, time::Duration};
//! use tower_singleflight::{Group, backend::Memory, group::Source};
//!
//! let users: Group<String> = Group::new(Memory::new(), "users").result_ttl(Duration::from_secs(30));
//! let load = || async { Ok::<_, Infallible>("Ada".to_owned()) };
//!
//! let first = users.fly("user:7", load).await.unwrap();
//! let second = users.fly("user:7", load).await.unwrap();
//! assert_eq!((first.value.as_str(), first.source), ("Ada", Source::Led));
//! assert!(matches!(second.source, Source::Hit { .. }));
//! # }
//! # #[cfg(not(feature = "json"))] fn main() {}
//! ```

mod answer;
#[expect(clippy::disallowed_methods, reason = "owner tokens are random, and ages become points on the local clock")]
mod calls;
mod caps;
mod config;
#[expect(clippy::disallowed_methods, reason = "the driver measures what the work costs")]
mod driver;
mod engine;
mod error;
#[expect(clippy::disallowed_methods, reason = "a flight's clock begins with its first caller")]
mod table;
mod tally;
#[cfg(all(test, feature = "json"))]
#[expect(clippy::disallowed_methods, reason = "they measure on a paused clock")]
mod tests;

use std::{fmt, future::Future, panic::resume_unwind, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use self::config::Config;
pub use self::{
    answer::{Alone, Source},
    config::Keep,
    error::Error,
};
pub(crate) use self::{
    answer::{Announce, Announcement, Answer, Copy, Done, Start, Work},
    engine::{Engine, Options},
    table::Seat,
    tally::{Held, Tally},
};
use crate::{
    backend::{Backend, BackendError, Lifetimes, Record},
    codec::Codec,
    key::Key,
};

/// Runs work once per key, however many callers on however many replicas ask for it at the same time.
///
/// All callers that ask for one key while its work runs get the one result. With a [result TTL](Self::result_ttl) the
/// result is also kept for later callers. Errors are not shared: a caller whose work fails gets its own error, and one
/// of those who wait takes over. To share and keep failures too, make `T` a `Result` and say with
/// [`keep`](Self::keep) for how long.
///
/// Cloning is cheap, and clones share everything. Groups made from clones of one backend handle share the table of
/// flights in the air; a group's name, prefix and schema separate its keys from others'.
///
/// Everything here must be called within a tokio runtime.
#[doc(alias = "singleflight")]
#[doc(alias = "coalesce")]
#[doc(alias = "dedup")]
#[doc(alias = "stampede")]
pub struct Group<T> {
    engine: Engine<T>,
    config: Arc<Config<T>>,
}

/// A result and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flown<T> {
    /// The result.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Clone for Group<T> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), config: Arc::clone(&self.config) }
    }
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(feature = "json")]
impl<T> Group<T>
where
    T: Clone + Send + Sync + serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    /// A group whose results are stored as JSON. `name` separates its keys from those of other groups on the backend.
    pub fn new(backend: impl Backend, name: impl AsRef<[u8]>) -> Self {
        Self::with_codec(backend, name, crate::codec::Json)
    }
}

impl<T: Clone + Send + Sync + 'static> Group<T> {
    /// A group whose results are stored as `codec` says.
    pub fn with_codec(backend: impl Backend, name: impl AsRef<[u8]>, codec: impl Codec<T>) -> Self {
        let engine = Engine::new(Arc::new(backend), Arc::new(codec));
        Self { engine, config: Arc::new(Config::new(name.as_ref())) }
    }

    fn set(mut self, set: impl FnOnce(&mut Config<T>)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    /// How long a result is a hit for later callers. Default: zero, shared only with those who already wait.
    #[must_use]
    pub fn result_ttl(self, result_ttl: Duration) -> Self {
        self.set(|config| config.result_ttl = result_ttl)
    }

    /// How long after its TTL a result is still served, while one caller in the fleet refreshes it. Default: zero.
    #[must_use]
    pub fn warmup_window(self, warmup_window: Duration) -> Self {
        self.set(|config| config.warmup_window = warmup_window)
    }

    /// How long a leader that stopped renewing holds the others up. Default: 5 s. Work may take longer: a living leader
    /// renews its lease.
    ///
    /// # Panics
    ///
    /// If it is shorter than 10 ms.
    #[must_use]
    pub fn lock_ttl(self, lock_ttl: Duration) -> Self {
        self.set(|config| config.options.set_lock_ttl(lock_ttl))
    }

    /// How long a caller waits for somebody else's work before it runs its own. Default: 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn wait_timeout(self, wait_timeout: Duration) -> Self {
        self.set(|config| config.options.set_wait_timeout(wait_timeout))
    }

    /// Separates keys further, for example by tenant. Default: empty.
    #[must_use]
    pub fn prefix(self, prefix: impl AsRef<[u8]>) -> Self {
        self.set(|config| config.prefix = prefix.as_ref().to_vec())
    }

    /// The version of `T`'s encoding: values stored under another one are not seen. Default: 1.
    #[must_use]
    pub fn schema(self, schema: u32) -> Self {
        self.set(|config| config.schema = schema)
    }

    /// Decides from the value whether and how long it is kept.
    ///
    /// With a `Result` as value this is negative caching with a TTL of its own:
    ///
    /// ```
    /// # #[cfg(feature = "json")] {
    /// # use std::time::Duration;
    /// # use tower_singleflight::{Group, backend::Memory, group::Keep};
    /// let users: Group<Result<String, String>> = Group::new(Memory::new(), "users")
    ///     .result_ttl(Duration::from_secs(60))
    ///     .keep(|user| match user {
    ///         Ok(_) => Keep::Default,
    ///         Err(_) => Keep::For(Duration::from_secs(1)),
    ///     });
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let nobody = users.work("0", || async { Ok::<_, ()>(Err("no such user".to_owned())) }).await.unwrap();
    /// assert_eq!(nobody, Err("no such user".to_owned()));
    /// # });
    /// # }
    /// ```
    #[must_use]
    pub fn keep(self, keep: impl Fn(&T) -> Keep + Send + Sync + 'static) -> Self {
        self.set(|config| config.keep = Arc::new(keep))
    }

    /// The result for `key`: from whoever runs the work now, from the store, or from `work`.
    ///
    /// Falls open: if the store is away, slow, [too many](Self::max_waiters) wait, or this caller has waited for
    /// [`wait_timeout`](Self::wait_timeout), the work runs without coordination. Work that asks for its own key waits for
    /// itself, until that timeout.
    ///
    /// # Errors
    ///
    /// Only the error of this caller's own `work`.
    ///
    /// # Panics
    ///
    /// If this caller's own `work` panics, with its panic; without a tokio runtime, and if the one on which the work runs
    /// is shut down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a caller that is dropped takes nothing from the others. Work of a flight that has started goes on for
    /// those who wait; with nobody left, for the store, for up to 60 s and while no more than
    /// [`max_detached`](Self::max_detached) do so. Work that a caller runs by itself ends with it.
    #[doc(alias = "Do")]
    pub async fn work<F, Fut, E>(&self, key: impl AsRef<[u8]>, work: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
    {
        self.fly(key, work).await.map(|flown| flown.value)
    }

    /// Like [`work`](Self::work), and tells where the result came from.
    ///
    /// # Errors
    ///
    /// Only the error of this caller's own `work`.
    ///
    /// # Panics
    ///
    /// If this caller's own `work` panics, with its panic; without a tokio runtime, and if the one on which the work runs
    /// is shut down.
    ///
    /// # Cancel safety
    ///
    /// As [`work`](Self::work).
    pub async fn fly<F, Fut, E>(&self, key: impl AsRef<[u8]>, work: F) -> Result<Flown<T>, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
    {
        match self.call(key.as_ref(), work, false).await {
            Ok(flown) => Ok(flown),
            Err(Error::Work(error)) => Err(error),
            Err(Error::Refused(why)) => unreachable!("only strict callers are refused: {why}"),
        }
    }

    /// Like [`work`](Self::work), but rather fails than risks a second execution, and returns only when the result has
    /// landed in the store.
    ///
    /// # Errors
    ///
    /// [`Error::Work`] with the error of this caller's own `work`; [`Error::Refused`] if the store cannot be asked, this
    /// caller has waited for too long, [too many](Self::max_waiters) wait already, the outcome cannot be shared, too many
    /// leaders died or failed in a row, or the lease was lost while the work ran (which is also what is said of a value
    /// that cannot be encoded).
    ///
    /// # Panics
    ///
    /// If this caller's own `work` panics, with its panic; without a tokio runtime, and if the one on which the work runs
    /// is shut down.
    ///
    /// # Cancel safety
    ///
    /// As [`work`](Self::work).
    pub async fn try_work<F, Fut, E>(&self, key: impl AsRef<[u8]>, work: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
    {
        self.call(key.as_ref(), work, true).await.map(|flown| flown.value)
    }

    async fn call<F, Fut, E>(&self, key: &[u8], work: F, strict: bool) -> Result<Flown<T>, Error<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Send + 'static,
    {
        // What is nobody else's business, an error or an unshareable value, goes past the flight to its caller.
        let (own, mut mine) = oneshot::channel();
        let config = Arc::clone(&self.config);
        let work: Work<T> = Box::new(move |_| {
            Box::pin(async move {
                match work().await {
                    Ok(value) => config.done(value, |value| drop(own.send(Ok(value)))),
                    Err(error) => {
                        let _ = own.send(Err(error));
                        Done::Failed(None)
                    }
                }
            })
        });
        let options = Options { strict, ..self.config.options.clone() };
        let alone = match self.engine.fly(self.key(key), work, &options).await.0 {
            Answer::Value(value, source) => return Ok(Flown { value, source }),
            Answer::Panicked(panic) => resume_unwind(panic),
            Answer::Refused(why) => return Err(Error::Refused(why)),
            Answer::Ran => Alone::Unshareable,
            Answer::Runs(_) | Answer::Announced(_) => unreachable!("the work of a group announces nothing"),
            Answer::Alone(work, why) => match work(Start::alone()).await {
                Done::Value { value, .. } | Done::Passing(value) => {
                    return Ok(Flown { value, source: Source::Alone(why) });
                }
                Done::Failed(_) | Done::Unshareable(_) | Done::Withdrawn(_) | Done::Declined => why,
            },
        };
        let outcome = mine.try_recv().expect("work that ran unshared has left its outcome");
        outcome.map(|value| Flown { value, source: Source::Alone(alone) }).map_err(Error::Work)
    }

    /// Forgets the result for `key`, fleet-wide: a flight in the air neither stores nor answers later callers.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked; the result may then still be there.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, whether the result was forgotten is unknown.
    pub async fn forget(&self, key: impl AsRef<[u8]>) -> Result<(), BackendError> {
        self.engine.forget(&self.key(key.as_ref())).await
    }

    /// Stores a result for `key`, fleet-wide: a flight in the air neither stores nor answers later callers.
    ///
    /// How long it is kept is up to [`keep`](Self::keep) and [`result_ttl`](Self::result_ttl); with a TTL of zero
    /// nothing is left to see, as after [`forget`](Self::forget).
    ///
    /// # Errors
    ///
    /// If the store cannot be asked, or the value cannot be encoded.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, whether the result was stored is unknown.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), BackendError> {
        let key = self.key(key.as_ref());
        let Some((fresh, stale)) = self.config.kept(value) else { return self.engine.forget(&key).await };
        let payload = self.engine.encode(value)?;
        let lifetimes = Lifetimes { fresh, stale, keep: Duration::ZERO };
        self.engine.put(&key, Record { lifetimes, cost: Duration::ZERO, payload }).await
    }

    /// The stored result for `key`, fresh or within its warm-up window, without running anything.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Flown<T>>, BackendError> {
        self.engine.peek(&self.key(key.as_ref())).await
    }

    fn key(&self, key: &[u8]) -> Key {
        let Config { name, prefix, schema, .. } = &*self.config;
        Key::builder("group").part(name).part(prefix).part(schema.to_be_bytes()).part(key).finish()
    }
}
