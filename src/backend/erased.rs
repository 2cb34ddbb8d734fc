//! The private, object-safe mirror of [`Backend`], so that no user type carries the backend as a parameter.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{Backend, BackendError, Begin, Begun, Completed, Fence, Found, Locals, Owner, Reason, Record, Renewed};
use crate::key::Key;

/// A backend of any type.
pub(crate) type Shared = Arc<dyn DynBackend>;

type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send + 'a>>;

pub(crate) trait DynBackend: Send + Sync {
    fn locals(&self) -> &Locals;
    fn budget(&self) -> Duration;
    fn recall<'a>(&'a self, key: &'a Key) -> Option<Reply<'a, Option<Found>>>;
    fn begin<'a>(&'a self, key: &'a Key, begin: Begin) -> Reply<'a, Begun>;
    fn renew<'a>(&'a self, key: &'a Key, owner: Owner, lease: Duration) -> Reply<'a, Renewed>;
    fn complete<'a>(&'a self, key: &'a Key, owner: Owner, fence: Fence, record: Record) -> Reply<'a, Completed>;
    fn abort<'a>(&'a self, key: &'a Key, owner: Owner, reason: Reason) -> Reply<'a, ()>;
    fn invalidate<'a>(&'a self, key: &'a Key) -> Reply<'a, ()>;
    fn put<'a>(&'a self, key: &'a Key, record: Record) -> Reply<'a, ()>;
    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<Found>>;
}

impl<B: Backend> DynBackend for B {
    fn locals(&self) -> &Locals {
        Backend::locals(self)
    }

    fn budget(&self) -> Duration {
        Backend::budget(self)
    }

    fn recall<'a>(&'a self, key: &'a Key) -> Option<Reply<'a, Option<Found>>> {
        Backend::recall(self, key).map(|read| Box::pin(read) as Reply<'a, Option<Found>>)
    }

    fn begin<'a>(&'a self, key: &'a Key, begin: Begin) -> Reply<'a, Begun> {
        Box::pin(Backend::begin(self, key, begin))
    }

    fn renew<'a>(&'a self, key: &'a Key, owner: Owner, lease: Duration) -> Reply<'a, Renewed> {
        Box::pin(Backend::renew(self, key, owner, lease))
    }

    fn complete<'a>(&'a self, key: &'a Key, owner: Owner, fence: Fence, record: Record) -> Reply<'a, Completed> {
        Box::pin(Backend::complete(self, key, owner, fence, record))
    }

    fn abort<'a>(&'a self, key: &'a Key, owner: Owner, reason: Reason) -> Reply<'a, ()> {
        Box::pin(Backend::abort(self, key, owner, reason))
    }

    fn invalidate<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        Box::pin(Backend::invalidate(self, key))
    }

    fn put<'a>(&'a self, key: &'a Key, record: Record) -> Reply<'a, ()> {
        Box::pin(Backend::put(self, key, record))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<Found>> {
        Box::pin(Backend::get(self, key))
    }
}
