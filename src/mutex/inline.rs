//! Work that its caller does as long as it waits for it, and a task does when the caller has gone.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::sync::oneshot;

use super::parties::Parties;

/// A task of its own would cost every caller the way to another thread and back.
pub(super) struct Inline<T> {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    told: oneshot::Receiver<T>,
    parties: Parties,
}

impl<T> Inline<T> {
    /// Begins at once: what `work` sends before it first waits is sent when this returns. It may tell its outcome before its
    /// end.
    pub(super) fn begin(
        parties: &Parties,
        work: impl Future<Output = ()> + Send + 'static,
        told: oneshot::Receiver<T>,
    ) -> Self {
        let mut inline = Self { work: Some(Box::pin(work)), told, parties: parties.clone() };
        inline.go_on(&mut Context::from_waker(Waker::noop()));
        inline
    }

    fn go_on(&mut self, cx: &mut Context<'_>) {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            self.work = None;
        }
    }
}

/// What was told, or nothing if the runtime ended before.
impl<T> Future for Inline<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.go_on(cx);
        Pin::new(&mut self.told).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Inline<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.parties.detach(work);
        }
    }
}
