//! Requests that change what they are sent to: what is stored of it no longer holds (RFC 9111 §4.4).

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, Uri,
    header::{CONTENT_LOCATION, HOST, LOCATION},
    request::Parts,
};
use http_body::Body;
use tower::{Service, ServiceExt};

use super::{
    body::ResponseBody,
    future::signed,
    layer::Settings,
    outcome::{Outcome, Why},
};
use crate::key::Key;

/// Whether a request with this method may change something. One that is unknown may.
pub(super) fn is_unsafe(method: &Method) -> bool {
    let safe = method.is_safe() || *method == Method::CONNECT;
    !safe && !matches!(method.as_str(), "QUERY" | "SEARCH" | "PROPFIND" | "REPORT")
}

/// The key under which reads of this target fly.
pub(super) fn key_of_reads(settings: &Settings, head: &mut Parts) -> Option<Key> {
    let method = mem::replace(&mut head.method, Method::GET);
    let key = settings.key.key(head);
    head.method = method;
    key
}

/// Where a request went, as far as keys are made of it.
pub(super) struct Target {
    key: Option<Key>,
    uri: Uri,
    headers: HeaderMap,
}

impl Target {
    pub(super) fn of(settings: &Settings, head: &mut Parts) -> Self {
        Self { key: key_of_reads(settings, head), uri: head.uri.clone(), headers: head.headers.clone() }
    }

    /// The keys of what the request changed: the target, and what the response names of the same authority.
    fn changed(self, settings: &Settings, response: &HeaderMap) -> impl Iterator<Item = Key> {
        let named = [LOCATION, CONTENT_LOCATION].map(|field| self.named(settings, response, &field));
        self.key.into_iter().chain(named.into_iter().flatten())
    }

    /// "A cache MUST NOT do this for another origin", lest one site empties the store of another.
    fn named(&self, settings: &Settings, response: &HeaderMap, field: &HeaderName) -> Option<Key> {
        let uri: Uri = response.get(field)?.to_str().ok()?.parse().ok()?;
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = self.uri.authority().map(http::uri::Authority::as_str).or(host);
        if uri.authority().is_some_and(|authority| Some(authority.as_str()) != own) {
            return None;
        }
        let (mut head, ()) = Request::new(()).into_parts();
        let mut parts = mem::take(&mut head.uri).into_parts();
        parts.scheme = self.uri.scheme().cloned();
        parts.authority = self.uri.authority().cloned();
        parts.path_and_query = uri.path_and_query().cloned();
        head.uri = Uri::from_parts(parts).ok()?;
        head.headers = self.headers.clone();
        key_of_reads(settings, &mut head)
    }
}

/// The response to a request that may change its target. Before it goes out, what was stored is gone: whoever has seen it
/// and asks again gets nothing older.
pub(super) async fn change<S, B, R>(
    settings: Arc<Settings>,
    target: Target,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    let response = inner.oneshot(request).await?.map(ResponseBody::untouched);
    let response = signed(response, Outcome::Bypassed(Why::Method), Duration::ZERO, settings.cache_status.as_ref());
    if response.status().is_success() || response.status().is_redirection() {
        for key in target.changed(&settings, response.headers()) {
            settings.engine.forget_within(&key).await;
        }
    }
    Ok(response)
}
