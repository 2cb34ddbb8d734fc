use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tower::{BoxError, Service, ServiceExt};

use super::{
    asked::{Asked, not_stored},
    body::ResponseBody,
    flight::fly,
    future::{ResponseFuture, signed},
    invalidate::{change, is_unsafe, key_of_reads},
    layer::{Settings, SingleflightLayer},
    mode::Http,
    outcome::{Outcome, Why},
    request::{bypass, only_if_cached, passes},
};
use crate::{backend::Backend, key::Key};

/// Coalesces requests with the same key, on this replica and across replicas.
///
/// Made by [`SingleflightLayer`]; see the [module](super) for what is shared.
///
/// Always ready: the inner service is made ready when it is called, and only then. Dropping the future of a request takes
/// nothing from others: the flight it led goes on.
#[derive(Clone)]
pub struct Singleflight<S, M = Http> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
    pub(super) mode: M,
}

impl<S> Singleflight<S> {
    /// A layer with the usual settings.
    pub fn layer(backend: impl Backend) -> SingleflightLayer {
        SingleflightLayer::new(backend)
    }
}

impl<S, M> Singleflight<S, M> {
    pub(super) fn new(inner: S, settings: Arc<Settings>, mode: M) -> Self {
        Self { inner, settings, mode }
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
        // A clone, since nobody made `self.inner` ready: the clone is made ready where it is called, if it is.
        dispatch(&self.settings, self.inner.clone(), request)
    }
}

/// The way of a request whose content tells nothing.
pub(super) fn dispatch<S, B, R>(settings: &Arc<Settings>, inner: S, request: Request<B>) -> ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    if settings.invalidates && is_unsafe(request.method()) {
        let (head, body) = request.into_parts();
        let target = head.clone();
        let request = Request::from_parts(head, body);
        return ResponseFuture::flight(change(Arc::clone(settings), target, inner, request));
    }
    // What is to be answered only from what is stored never reaches the inner service.
    let stays = only_if_cached(&request);
    let alone = |inner, request, why| match stays {
        true => ResponseFuture::flight(async { Ok(not_stored()) }),
        false => ResponseFuture::bypass(inner, request, why, settings.cache_status.clone()),
    };
    let passes = || passes(request.headers(), settings.conditions, settings.ranges);
    if let Some(why) = bypass(&request, &settings.overrides, &settings.identity).or_else(passes) {
        return alone(inner, request, why);
    }
    let (mut head, body) = request.into_parts();
    let key = match place(settings, &mut head) {
        Ok(key) => key,
        Err(why) => return alone(inner, Request::from_parts(head, body), why),
    };
    let asked = Asked::take(&mut head, stays);
    ResponseFuture::flight(fly(Arc::clone(settings), key, asked, inner, Request::from_parts(head, body)))
}

/// The way of a request that goes to the inner service by itself.
pub(super) async fn alone<S, B, R>(
    settings: &Settings,
    inner: S,
    request: Request<B>,
    why: Why,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    let response = inner.oneshot(request).await?.map(ResponseBody::untouched);
    Ok(signed(response, Outcome::Bypassed(why), Duration::ZERO, settings.cache_status.as_ref()))
}

/// Where a read flies: under the key of its target, or the variant of it that is the partition's. The first of all variants,
/// so that what is known of `HEAD` and of `Vary` is known for one partition alone.
pub(super) fn place(settings: &Settings, head: &mut Parts) -> Result<Key, Why> {
    // Asked before a key is made: what bypasses costs no memory.
    let partition = settings.identity.partition(head)?;
    let key = key_of_reads(settings, head).ok_or(Why::NoKey)?;
    Ok(match partition {
        Some(partition) => key.variant(partition),
        None => key,
    })
}

impl<S: fmt::Debug, M> fmt::Debug for Singleflight<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Singleflight").field("inner", &self.inner).field("settings", &self.settings).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::{
        backend::Memory,
        middleware::{Caller, Identity, identity_fn, key_fn},
    };

    fn layer() -> SingleflightLayer {
        let by_user = identity_fn(|head| match head.headers.get("x-user").map(HeaderValue::as_bytes) {
            None => Caller::Anybody,
            Some(b"mallory") => Caller::Bypass,
            Some(user) => Caller::Partition(user.into()),
        });
        SingleflightLayer::new(Memory::new()).identity(Identity::new().by("hush-hush", by_user))
    }

    fn head(user: &str) -> Parts {
        Request::get("http://a.test/me").header("x-user", user).body(()).unwrap().into_parts().0
    }

    /// Fails if the name of a partition is made of more than its hash, or goes without a domain of its own.
    #[test]
    fn a_partition_is_a_variant_that_does_not_tell_whose() {
        let settings = layer().settings();
        let (ada, bob) = (place(&settings, &mut head("ada-lovelace")), place(&settings, &mut head("bob")));
        let (ada, primary) = (ada.unwrap(), key_of_reads(&settings, &mut head("")).unwrap());
        assert!(ada.primary() == &primary && bob.unwrap() != ada);
        for secret in ["ada-lovelace", "hush-hush"] {
            assert!(!ada.canonical().windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{secret}");
        }
        let value = &ada.canonical()[primary.canonical().len() + 4..];
        assert_eq!(value[..14], *b"\0\0\0\x2apartition ");

        let mut nobody = Request::get("http://a.test/me").body(()).unwrap().into_parts().0;
        assert_eq!(place(&settings, &mut nobody), Ok(primary));
    }

    /// Fails if the key is made first.
    #[test]
    fn no_key_is_made_for_what_bypasses() {
        let settings = layer().key(key_fn(|_| unreachable!("it bypasses"))).settings();
        assert_eq!(place(&settings, &mut head("mallory")), Err(Why::Identity));
    }
}
