//! The way of a request whose content is read first.

use std::{
    collections::VecDeque,
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
    request_body::{Read, RequestBody},
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
    let fits = |pieces: &VecDeque<Bytes>| pieces.iter().map(Bytes::len).sum::<usize>() <= content.most;
    let mut body = Read::of(body, |pieces| fits(pieces).then_some(settings.body_idle_timeout)).await;
    // Whoever asks and what else the request says comes second: whether it is a read decides whether it changes something.
    let key = body.whole().filter(|whole| whole.len() <= content.most).and_then(|whole| content.key(&head, whole));
    let Some(key) = key else {
        if settings.invalidates && is_unsafe(&head.method) {
            let target = head.clone();
            return change(settings, target, inner, Request::from_parts(head, body.into())).await;
        }
        return alone(&settings, inner, Request::from_parts(head, body.into()), Why::Content).await;
    };
    let stays = says_only_if_cached(&head.headers);
    // Conditions and ranges mean other things where the method is not GET.
    let placed = match refused(&head.headers, &settings.overrides, &settings.identity, true)
        .or_else(|| passes(&head.headers, false, false))
    {
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
