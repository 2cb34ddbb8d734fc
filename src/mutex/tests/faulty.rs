//! A node that can be made to fail, and that counts what it is asked.

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::super::{Node, Nodes};
use crate::{
    backend::{
        BackendError, ErrorKind, Fence, Locals, Memory, Watch,
        lock::{Acquire, Acquired, Call, Holding, LockKey, Locks, Reply, Token},
    },
    protocol::lock::{Extended, Release},
};

/// How a node treats what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Up,
    /// It says at once that it cannot.
    Failing,
    /// It does nothing and says nothing.
    Hung,
    /// It does everything and says nothing.
    Mute,
    /// It does everything, so much later.
    Late(Duration),
    /// It asks back after this long, and does everything if it is answered: as a server that has forgotten a script.
    AsksBack(Duration),
}

#[derive(Clone, Debug)]
pub struct Faulty {
    pub memory: Memory,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    asked: Asked,
    deaf: bool,
}

/// So often was it asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub acquire: usize,
    pub extend: usize,
    pub release: usize,
    pub raise: usize,
}

impl Faulty {
    pub fn new() -> Self {
        Self::on(Memory::new())
    }

    pub fn on(memory: Memory) -> Self {
        Self { memory, state: Arc::default() }
    }

    pub fn three() -> [Self; 3] {
        [Self::new(), Self::new(), Self::new()]
    }

    /// As another process sees it.
    pub fn replica(&self) -> Self {
        Self { memory: self.memory.replica(), state: Arc::clone(&self.state) }
    }

    pub fn set(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// Whether messages are lost.
    pub fn deafen(&self) {
        self.state().deaf = true;
    }

    pub fn asked(&self) -> Asked {
        self.state().asked
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn treat<'a, T: Send + 'static>(
        &'a self,
        count: impl FnOnce(&mut Asked),
        operate: impl FnOnce(&Memory) -> Reply<'_, T> + Send + 'static,
    ) -> Reply<'a, T> {
        let mode = {
            let mut state = self.state();
            count(&mut state.asked);
            state.mode
        };
        let memory = self.memory.clone();
        match mode {
            // A request is on its way when it is polled for the first time, not when it is made.
            Mode::Up => Box::pin(async move { operate(&memory).await }),
            Mode::Failing => {
                let error = BackendError::new(ErrorKind::Unavailable, "the node is down");
                Box::pin(ready(Err(error.with_source("it was unplugged"))))
            }
            Mode::Hung => Box::pin(pending()),
            Mode::Mute => Box::pin(async move {
                operate(&memory).await?;
                pending().await
            }),
            Mode::AsksBack(delay) => Box::pin(async move {
                sleep(delay).await;
                operate(&memory).await
            }),
            // It is carried out although nobody waits for it any more.
            Mode::Late(delay) => Box::pin(async move {
                let work = async move {
                    sleep(delay).await;
                    operate(&memory).await
                };
                tokio::spawn(work).await.expect("it does not panic")
            }),
        }
    }
}

impl Locks for Faulty {
    fn locals(&self) -> &Locals {
        Locks::locals(&self.memory)
    }

    fn calls(&self, key: &LockKey) -> Watch<Call> {
        match self.state().deaf {
            false => self.memory.calls(key),
            true => Memory::new().calls(key),
        }
    }

    fn acquire<'a>(&'a self, key: &'a LockKey, acquire: Acquire) -> Reply<'a, Acquired> {
        let key = key.clone();
        self.treat(|asked| asked.acquire += 1, move |memory| done(memory.acquire(&key, acquire)))
    }

    fn extend<'a>(&'a self, key: &'a LockKey, token: Token, seq: Option<u64>, ttl: Duration) -> Reply<'a, Extended> {
        let key = key.clone();
        self.treat(|asked| asked.extend += 1, move |memory| done(memory.extend(&key, token, seq, ttl)))
    }

    fn release<'a>(&'a self, key: &'a LockKey, release: Release<Token>) -> Reply<'a, bool> {
        let key = key.clone();
        self.treat(|asked| asked.release += 1, move |memory| done(memory.release(&key, release)))
    }

    fn raise<'a>(&'a self, key: &'a LockKey, token: Token, fence: Fence) -> Reply<'a, bool> {
        let key = key.clone();
        self.treat(|asked| asked.raise += 1, move |memory| done(memory.raise(&key, token, fence)))
    }

    fn inspect<'a>(&'a self, key: &'a LockKey) -> Reply<'a, Option<Holding>> {
        let key = key.clone();
        self.treat(|_| {}, move |memory| done(memory.inspect(&key)))
    }
}

/// Memory has done what it is asked when it returns; what is left is to say so.
fn done<'a, T: Send + 'static>(mut reply: Reply<'_, T>) -> Reply<'a, T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match reply.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(answer) => Box::pin(ready(answer)),
        std::task::Poll::Pending => unreachable!("memory does not wait"),
    }
}

impl From<Faulty> for Node {
    fn from(node: Faulty) -> Self {
        Self(Arc::new(node))
    }
}

/// The same nodes as another process sees them.
pub(super) fn elsewhere<const N: usize>(nodes: &[Faulty; N]) -> Nodes {
    nodes.each_ref().map(Faulty::replica).into()
}
