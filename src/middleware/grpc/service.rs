//! The way of one call.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Service};

use super::{
    Calls,
    deadline::{TIMEOUT, exceeded, timeout},
    frame::{Prefix, is_one},
};
use crate::middleware::{
    asked::Asked,
    body::ResponseBody,
    flight::fly,
    future::ResponseFuture,
    layer::Settings,
    mode::Grpc,
    outcome::Why,
    request_body::{Read, RequestBody},
    service::{Singleflight, alone},
};

/// How long the end of a call may take after its first message. It comes along with that, unless more messages follow:
/// nobody can tell, and those shall not wait.
const LINGER: Duration = Duration::from_millis(10);

impl<S, B, R> Service<Request<B>> for Singleflight<S, Grpc>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, RequestBody<B>, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (settings, calls, inner) = (&self.settings, &self.mode.0, self.inner.clone());
        if let Some(why) = calls.refuses(&request, &settings.overrides, &settings.identity) {
            let request = request.map(RequestBody::untouched);
            return ResponseFuture::bypass(inner, request, why, settings.cache_status.clone());
        }
        // From now on, rather than from the first poll: a server that keeps the same time around the layer began a moment
        // later, and says `CANCELLED` if it is first.
        let deadline = timeout(request.headers()).and_then(|time| Instant::now().checked_add(time));
        let call = call(Arc::clone(settings), Arc::clone(calls), inner, request);
        ResponseFuture::flight(async move {
            let Some(deadline) = deadline else { return call.await };
            timeout_at(deadline, call).await.unwrap_or_else(|_| Ok(exceeded()))
        })
    }
}

async fn call<S, B, R>(
    settings: Arc<Settings>,
    calls: Arc<Calls>,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    let (mut head, body) = request.into_parts();
    let allowance = |pieces: &VecDeque<Bytes>| {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        match Prefix::of(pieces.iter().map(|piece| &**piece)).length() {
            Some(message) if message > calls.most as u64 || length > message => None,
            Some(message) if length == message => Some(LINGER),
            _ => Some(settings.body_idle_timeout),
        }
    };
    let mut body = Read::of(body, allowance).await;
    let message = body.whole().filter(|message| is_one(message) && message.len() <= calls.most);
    let key = match message {
        Some(message) => settings.identity.partition(&head).and_then(|partition| {
            let key = calls.key(&head, message).ok_or(Why::NoKey)?;
            Ok(partition.map_or(key.clone(), |partition| key.variant(partition)))
        }),
        None => Err(Why::Content),
    };
    // The shared work takes the time it takes: the deadline is this caller's own.
    let asked = if key.is_ok() {
        Asked::take_only(&mut head, HeaderName::from_static(TIMEOUT))
    } else {
        Asked::nothing_but(false)
    };
    let request = Request::from_parts(head, body.into());
    match key {
        Ok(key) => fly(settings, key, asked, inner, request).await,
        Err(why) => alone(&settings, inner, request, why).await,
    }
}
