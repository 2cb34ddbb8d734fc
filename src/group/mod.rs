//! [`Group<T>`](Group): distributed singleflight for anything.
mod answer;

use std::{marker::PhantomData, sync::Arc, time::Duration};

pub use self::answer::{Alone, Source};
pub(crate) use self::answer::{Answer, Done, Work};
use crate::{backend::Shared, codec::Codec, key::Key};

/// What one call asks of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) lock_ttl: Duration,
    pub(crate) wait_timeout: Duration,
    /// Rather refuse than run a second execution.
    pub(crate) strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_ttl: Duration::from_secs(5), wait_timeout: Duration::from_secs(10), strict: false }
    }
}

/// Coalesces work by key, on this replica and across replicas. Clones share everything.
pub(crate) struct Engine<T> {
    backend: Shared,
    codec: Arc<dyn Codec<T>>,
    value: PhantomData<fn() -> T>,
}

impl<T: Clone + Send + Sync + 'static> Engine<T> {
    pub(crate) fn new(backend: Shared, codec: Arc<dyn Codec<T>>) -> Self {
        Self { backend, codec, value: PhantomData }
    }

    /// The way of one call. Cancel safe: a caller that leaves takes nothing from the others.
    pub(crate) async fn fly(&self, key: Key, work: Work<T>, options: &Options) -> Answer<T> {
        let _ = (key, options);
        Answer::Alone(work, Alone::Unavailable)
    }
}

/// Distributed singleflight for values of type `T`.
pub struct Group<T>(Engine<T>);
impl<T> Group<T> {
    /// Schema.
    pub fn schema(self, _: u32) -> Self {
        self
    }
}
