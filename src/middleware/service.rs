use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::{
    asked::Asked,
    body::ResponseBody,
    flight::fly,
    future::ResponseFuture,
    invalidate::{Target, change, is_unsafe, key_of_reads},
    layer::{Settings, SingleflightLayer},
    outcome::Why,
    request::bypass,
};
use crate::backend::Backend;

/// Coalesces requests with the same key, on this replica and across replicas.
///
/// Made by [`SingleflightLayer`]; see the [module](super) for what is shared.
///
/// Always ready: the inner service is made ready when it is called, and only then. Dropping the future of a request takes
/// nothing from others: the flight it led goes on.
#[derive(Clone)]
pub struct Singleflight<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> Singleflight<S> {
    /// A layer with the usual settings.
    pub fn layer(backend: impl Backend) -> SingleflightLayer {
        SingleflightLayer::new(backend)
    }

    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for Singleflight<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B, R> {
        let settings = &self.settings;
        // A clone, since nobody made `self.inner` ready: the clone is made ready where it is called, if it is.
        let inner = self.inner.clone();
        if settings.invalidates && is_unsafe(request.method()) {
            let (mut head, body) = request.into_parts();
            let target = Target::of(settings, &mut head);
            return ResponseFuture::flight(change(
                Arc::clone(settings),
                target,
                inner,
                Request::from_parts(head, body),
            ));
        }
        if let Some(why) = bypass(&request) {
            return ResponseFuture::bypass(inner, request, why, settings.cache_status.clone());
        }
        let (mut head, body) = request.into_parts();
        let key = key_of_reads(settings, &mut head);
        let Some(key) = key else {
            let request = Request::from_parts(head, body);
            return ResponseFuture::bypass(inner, request, Why::NoKey, settings.cache_status.clone());
        };
        let asked = Asked::take(&mut head);
        ResponseFuture::flight(fly(Arc::clone(settings), key, asked, inner, Request::from_parts(head, body)))
    }
}

impl<S: fmt::Debug> fmt::Debug for Singleflight<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Singleflight").field("inner", &self.inner).field("settings", &self.settings).finish()
    }
}
