//! The way of a request whose content is read first.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::Content;
use crate::middleware::{
    asked::{Asked, not_stored},
    body::ResponseBody,
    flight::fly,
    future::ResponseFuture,
    invalidate::{change, is_unsafe},
    layer::Settings,
    mode::Bodies,
    outcome::Why,
    request::{passes, refused, says_only_if_cached},
    request_body::{Read, RequestBody, Seen},
    service::{Singleflight, alone, dispatch, place},
};

impl<S, B, R> Service<Request<B>> for Singleflight<S, Bodies>
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
        let inner = self.inner.clone();
        if !self.mode.0.may_tell(&request) {
            // A read of which no key will be made.
            if request.method().as_str() == "QUERY" && says_only_if_cached(request.headers()) {
                return ResponseFuture::flight(async { Ok(not_stored()) });
            }
            return dispatch(&self.settings, inner, request.map(RequestBody::untouched));
        }
        ResponseFuture::flight(read(Arc::clone(&self.settings), self.mode.0.clone(), inner, request))
    }
}

async fn read<S, B, R>(
    settings: Arc<Settings>,
    content: Content,
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
    let fits = |seen: &Seen| (seen.length() <= content.most as u64).then_some(settings.body_idle_timeout);
    let mut body = Read::of(body, fits).await;
    // Whoever asks and what else the request says comes second: whether it is a read decides whether it changes something.
    let key = body.whole().filter(|whole| whole.len() <= content.most).and_then(|whole| content.key(&head, whole));
    let refusal = refused(&head.headers, &settings.overrides, &settings.identity, true);
    // With another method in a field it is what that says.
    let Some(key) = key.filter(|_| refusal != Some(Why::Override)) else {
        if settings.invalidates && is_unsafe(&head.method) {
            let target = head.clone();
            return change(settings, target, inner, Request::from_parts(head, body.into())).await;
        }
        if says_only_if_cached(&head.headers) && !is_unsafe(&head.method) {
            return Ok(not_stored());
        }
        let why = refusal.unwrap_or(Why::Content);
        return alone(&settings, inner, Request::from_parts(head, body.into()), why).await;
    };
    let stays = says_only_if_cached(&head.headers);
    // Conditions and ranges mean other things where the method is not GET.
    let placed = match refusal.or_else(|| passes(&head.headers, false, false)) {
        Some(why) => Err(why),
        None => place(&settings, &mut head),
    };
    let request = Request::from_parts(head, body.into());
    match placed {
        Ok(target) => fly(settings, target.variant(key.canonical()), Asked::nothing_but(stays), inner, request).await,
        Err(_) if stays => Ok(not_stored()),
        Err(why) => alone(&settings, inner, request, why).await,
    }
}
