//! Requests that change what they are sent to: what is stored of it no longer holds (RFC 9111 §4.4).

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_LOCATION, HOST, LOCATION},
    request::Parts,
    uri::{Authority, Scheme},
};
use http_body::Body;
use tokio::{runtime::Handle, task::JoinSet};
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

/// The keys under which reads of this target fly, each once: requests over HTTP/1 do not name their scheme, those over
/// HTTP/2 do.
pub(super) fn keys_of_reads(settings: &Settings, head: &Parts) -> Vec<Key> {
    let host = head.headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut keys = Vec::new();
    let mut add = |mut head: Parts| {
        let key = key_of_reads(settings, &mut head).filter(|key| !keys.contains(key));
        keys.extend(key);
    };
    add(head.clone());
    if let Some(authority) = head.uri.authority().cloned().or(host) {
        for scheme in [None, Some(Scheme::HTTP), Some(Scheme::HTTPS)] {
            respelled(head, scheme, &authority).into_iter().for_each(&mut add);
        }
    }
    keys
}

/// The same target with this scheme in its URI, or without any and its authority in `Host`.
fn respelled(head: &Parts, scheme: Option<Scheme>, authority: &Authority) -> Option<Parts> {
    let mut head = head.clone();
    if scheme.is_none() {
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    }
    let spelled = |uri: &Uri| {
        let mut parts = uri.clone().into_parts();
        parts.authority = scheme.is_some().then(|| authority.clone());
        parts.scheme = scheme.clone();
        Uri::from_parts(parts).ok()
    };
    head.uri = spelled(&head.uri)?;
    #[cfg(feature = "axum")]
    if let Some(original) = head.extensions.get_mut::<axum::extract::OriginalUri>() {
        original.0 = spelled(&original.0)?;
    }
    Some(head)
}

/// Where a request went that may change its target, until it is known whether it did.
///
/// A client that leaves takes the request with it, and what the inner service has done by then stays done: dropped, it
/// counts as a change.
struct Change {
    settings: Arc<Settings>,
    head: Parts,
    settled: bool,
}

impl Change {
    /// The keys of what the request changed: the target, and what the response names of the same authority.
    fn keys(&self, response: &HeaderMap) -> Vec<Key> {
        let named = [LOCATION, CONTENT_LOCATION].map(|field| self.named(response, &field));
        let heads = [Some(&self.head)].into_iter().chain(named.iter().map(Option::as_ref)).flatten();
        heads.flat_map(|head| keys_of_reads(&self.settings, head)).collect()
    }

    /// "A cache MUST NOT do this for another origin", lest one site empties the store of another.
    fn named(&self, response: &HeaderMap, field: &HeaderName) -> Option<Parts> {
        let uri: Uri = response.get(field)?.to_str().ok()?.parse().ok()?;
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = self.head.uri.authority().map(Authority::as_str).or(host);
        if uri.authority().is_some_and(|authority| Some(authority.as_str()) != own) {
            return None;
        }
        let (mut head, ()) = Request::new(()).into_parts();
        let mut parts = self.head.uri.clone().into_parts();
        parts.path_and_query = uri.path_and_query().cloned();
        head.uri = Uri::from_parts(parts).ok()?;
        head.headers = self.head.headers.clone();
        Some(head)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.settled
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(forget(Arc::clone(&self.settings), self.keys(&HeaderMap::new())));
        }
    }
}

/// Forgets all of them at the same time.
async fn forget(settings: Arc<Settings>, keys: Vec<Key>) {
    let mut forgetting = JoinSet::new();
    for key in keys {
        let settings = Arc::clone(&settings);
        forgetting.spawn(async move { settings.engine.forget_within(&key).await });
    }
    forgetting.join_all().await;
}

/// The response to a request that may change its target. Before it goes out, what was stored is gone: whoever has seen it
/// and asks again gets nothing older.
pub(super) async fn change<S, B, R>(
    settings: Arc<Settings>,
    head: Parts,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    let mut change = Change { settings, head, settled: false };
    let response = inner.oneshot(request).await?.map(ResponseBody::untouched);
    change.settled = true;
    let settings = &change.settings;
    if response.status().is_success() || response.status().is_redirection() {
        // A task of its own, which a client that leaves does not stop.
        let forgetting = tokio::spawn(forget(Arc::clone(settings), change.keys(response.headers())));
        let _ = forgetting.await;
    }
    Ok(signed(response, Outcome::Bypassed(Why::Method), Duration::ZERO, settings.cache_status.as_ref()))
}
