//! Requests that change what they are sent to: what is stored of it no longer holds (RFC 9111 §4.4).

use std::{
    collections::HashSet,
    iter, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

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
    layer::{Settings, SingleflightLayer},
    mode::Web,
    nest::retargeted,
    outcome::{Outcome, Why},
};
use crate::key::Key;

/// What else a request changes, as the application has it.
pub(super) type Also = dyn Fn(&Parts) -> Vec<Uri> + Send + Sync;

impl<M: Web> SingleflightLayer<M> {
    /// Further targets that a request changes: `PUT /items/7` changes the list `/items` as well.
    ///
    /// When a request [invalidates](Self::invalidate_on_change) its own target, `targets` is asked about its head, and
    /// what it names is forgotten in the same round, with all variants. The last closure that is set counts; where
    /// `invalidate_on_change` is off, none does.
    ///
    /// A URI without an authority, like `/items?sort=name`, is of the request's own; one with an authority, like
    /// `https://www.a.test/items`, may be of any other, and its scheme does not matter. The path is the one that
    /// clients ask for. Inside of axum's `nest`, where the URI in the head has lost its prefix, that is `/api/items`,
    /// not `/items`: take it from `OriginalUri` in the extensions. Without a slash in front a word is a host: `items`
    /// is none of its paths.
    ///
    /// What else a [key](Self::key) is made of is taken from this request. The extractor is asked about targets that
    /// its route does not match: where it makes no key of them, as one of a [pattern](super::RequestKey::of_pattern)
    /// does, nothing is forgotten. Those are for the [handle](Self::handle).
    ///
    /// If `targets` or the extractor panics, the request's own target is forgotten and its response goes out as if
    /// there were no closure.
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::get};
    /// use http::{Request, Uri};
    /// use tower::ServiceExt;
    /// use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = SingleflightLayer::new(Memory::new())
    ///     .result_ttl(std::time::Duration::from_secs(60))
    ///     // What lies in a collection changes the collection.
    ///     .also_invalidate(|head| head.uri.path().rsplit_once('/').and_then(|(parent, _)| parent.parse::<Uri>().ok()));
    /// let app = Router::new()
    ///     .route("/items", get(async || "all items"))
    ///     .route("/items/{id}", get(async || "an item").put(async || "changed"))
    ///     .layer(layer);
    ///
    /// let send = async |method: &str, uri: &str| {
    ///     let request = Request::builder().method(method).uri(uri).header("host", "a.test").body(Body::empty()).unwrap();
    ///     *app.clone().oneshot(request).await.unwrap().extensions().get::<Outcome>().unwrap()
    /// };
    /// assert_eq!(send("GET", "/items").await, Outcome::Led);
    /// send("PUT", "/items/7").await;
    /// assert_eq!(send("GET", "/items").await, Outcome::Led); // no hit any more
    /// # }
    /// ```
    pub fn also_invalidate<F, T>(self, targets: F) -> Self
    where
        F: Fn(&Parts) -> T + Send + Sync + 'static,
        T: IntoIterator<Item = Uri>,
    {
        self.set(|settings| settings.also = Some(Arc::new(move |head| targets(head).into_iter().collect())))
    }
}

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
    /// The keys of what the request changed, each once: the target, what the response names of the same authority, and what
    /// the application names.
    fn keys(&self, response: &HeaderMap) -> Vec<Key> {
        let named = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|field| self.named(response, &field));
        let others = named.chain(self.also()).flat_map(|uri| self.reads_of(uri));
        let heads = iter::once(self.head.clone()).chain(others);
        let mut seen = HashSet::new();
        // An extractor may never have seen such a target, and panic. What became of the others stands.
        let keys = |head| catch_unwind(AssertUnwindSafe(|| keys_of_reads(&self.settings, &head))).unwrap_or_default();
        heads.flat_map(keys).filter(|key| seen.insert(key.clone())).collect()
    }

    /// "A cache MUST NOT do this for another origin", lest one site empties the store of another.
    fn named(&self, response: &HeaderMap, field: &HeaderName) -> Option<Uri> {
        let uri: Uri = response.get(field)?.to_str().ok()?.parse().ok()?;
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = self.head.uri.authority().map(Authority::as_str).or(host);
        uri.authority().is_none_or(|authority| Some(authority.as_str()) == own).then_some(uri)
    }

    /// A panic ends here. The request has done what it was sent for, and this may be the drop of one that panicked
    /// itself, out of which another panic would end the process. The hook for panics has told about it.
    fn also(&self) -> Vec<Uri> {
        let ask = |also: &Arc<Also>| catch_unwind(AssertUnwindSafe(|| also(&self.head))).ok();
        self.settings.also.as_ref().and_then(ask).unwrap_or_default()
    }

    /// Heads like this request's, for `uri`.
    fn reads_of(&self, uri: Uri) -> Vec<Parts> {
        let mut head = self.head.clone();
        let mut parts = uri.into_parts();
        if parts.authority.is_some() {
            head.headers.remove(HOST);
        } else {
            let own = head.uri.clone().into_parts();
            (parts.scheme, parts.authority) = (own.scheme, own.authority);
        }
        Uri::from_parts(parts).map_or(Vec::new(), |uri| retargeted(head, uri))
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
