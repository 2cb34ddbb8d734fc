//! The way of one call.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Service};

use super::{
    Calls,
    deadline::{exceeded, timeout},
    frame::is_one,
};
use crate::middleware::{
    asked::Asked,
    body::ResponseBody,
    flight::fly,
    future::ResponseFuture,
    layer::Settings,
    mode::Grpc,
    outcome::Why,
    request_body::{Read, RequestBody, Seen},
    service::{Singleflight, alone},
};

/// How long the end of a call may take after its message. It comes along with that, unless more messages follow: nobody can
/// tell, and those shall not wait for long.
const LINGER: Duration = Duration::from_millis(100);

/// How long it may take to begin: clients send it apart from the head, and busy ones a while after it.
const BEGINNING: Duration = Duration::from_millis(500);

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
        let call = call(Arc::clone(settings), Arc::clone(calls), deadline, inner, request);
        ResponseFuture::flight(async move {
            let Some(deadline) = deadline else { return call.await };
            let response = timeout_at(deadline, call).await.unwrap_or_else(|_| Ok(exceeded()))?;
            Ok(response.map(|body| body.until(deadline)))
        })
    }
}

async fn call<S, B, R>(
    settings: Arc<Settings>,
    calls: Arc<Calls>,
    deadline: Option<Instant>,
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
    let allowance = |seen: &Seen| match seen.message() {
        Some(message) if message > calls.most as u64 || seen.length() > message => None,
        Some(message) if seen.length() < message => Some(settings.body_idle_timeout),
        None if seen.length() > 0 => Some(settings.body_idle_timeout),
        // Its caller may wait for the first word of the server.
        None => Some(BEGINNING),
        Some(_) => Some(LINGER),
    };
    let mut body = Read::of(body, allowance).await;
    let message = body.whole().filter(|message| is_one(message) && message.len() <= calls.most);
    let key = match message {
        Some(message) => settings.identity.partition(&head).and_then(|partition| {
            let unary = settings.unary.unwrap_or_default();
            let key = calls.key(unary, &head, message).ok_or(Why::NoKey)?;
            Ok(partition.map_or(key.clone(), |partition| key.variant(partition)))
        }),
        None => Err(Why::Content),
    };
    // The shared work takes the time it takes: the deadline is this caller's own.
    let asked = if key.is_ok() { Asked::take_timeout(&mut head, deadline) } else { Asked::nothing_but(false) };
    let request = Request::from_parts(head, body.into());
    match key {
        Ok(key) => fly(settings, key, asked, inner, request).await,
        Err(why) => alone(&settings, inner, request, why).await,
    }
}
