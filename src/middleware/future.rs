use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project::pin_project;
use tower::{Service, util::Oneshot};

use super::{
    body::ResponseBody,
    cache_status::CacheStatus,
    outcome::{Outcome, Why},
};

/// The response of [`Singleflight`](super::Singleflight) to one request.
#[pin_project]
pub struct ResponseFuture<S, B, R>(#[pin] Kind<S, B, R>)
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body;

type Flight<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

#[pin_project(project = KindProjection)]
#[expect(clippy::large_enum_variant, reason = "what bypasses stays in place: it costs no allocation")]
enum Kind<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    Bypass {
        #[pin]
        inner: Oneshot<S, Request<B>>,
        why: Why,
        cache_status: Option<CacheStatus>,
    },
    Flight(Flight<R, S::Error>),
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    pub(super) fn bypass(inner: S, request: Request<B>, why: Why, cache_status: Option<CacheStatus>) -> Self {
        Self(Kind::Bypass { inner: Oneshot::new(inner, request), why, cache_status })
    }

    pub(super) fn flight(
        flight: impl Future<Output = Result<Response<ResponseBody<R>>, S::Error>> + Send + 'static,
    ) -> Self {
        Self(Kind::Flight(Box::pin(flight)))
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            KindProjection::Bypass { inner, why, cache_status } => {
                let response = ready!(inner.poll(cx))?.map(ResponseBody::untouched);
                Poll::Ready(Ok(signed(response, Outcome::Bypassed(*why), Duration::ZERO, cache_status.as_ref())))
            }
            KindProjection::Flight(flight) => flight.as_mut().poll(cx),
        }
    }
}

/// The response with what happened to it.
pub(super) fn signed<B>(
    mut response: Response<B>,
    outcome: Outcome,
    fresh: Duration,
    cache_status: Option<&CacheStatus>,
) -> Response<B> {
    response.extensions_mut().insert(outcome);
    if let Some(cache_status) = cache_status {
        cache_status.append(response.headers_mut(), outcome, fresh);
    }
    response
}

impl<S, B, R> fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
