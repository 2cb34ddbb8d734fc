//! One token and the nodes it deals with.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{Token, config::Config, local::Local};

/// Cheap to clone: a round that must go on without its caller has its own.
#[derive(Clone)]
pub(super) struct Parties {
    pub(super) config: Arc<Config>,
    pub(super) local: Arc<Local>,
    pub(super) token: Token,
    runtime: Handle,
}

impl Parties {
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(super) fn new(config: Arc<Config>, token: Token) -> Self {
        let local = config.nodes.node(0).0.locals().get();
        Self { config, local, token, runtime: Handle::current() }
    }

    /// Runs `work` as a task of its own: it goes on when its caller is gone. On the runtime on which the caller is, or else
    /// where the lock was asked for.
    pub(super) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let here = Handle::try_current();
        here.as_ref().unwrap_or(&self.runtime).spawn(work).abort_handle()
    }
}
