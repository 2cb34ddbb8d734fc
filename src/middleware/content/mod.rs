//! Reads that are told apart by their content: searches by `POST`, queries.

#[cfg(feature = "graphql")]
pub(super) mod graphql;
#[cfg(feature = "json")]
pub(super) mod json;
mod service;

use std::{fmt, sync::Arc};

use bytes::Bytes;
#[cfg(feature = "graphql")]
use http::header::ACCEPT;
use http::{
    HeaderName, HeaderValue, Method, Request,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body::Body;
use sha2::{Digest as _, Sha256};

use super::{
    fields::digits,
    layer::SingleflightLayer,
    mode::{Bodies, Http},
};
use crate::key::Key;
#[cfg(feature = "graphql")]
use crate::key::KeyBuilder;

/// The version of the layout of keys of contents.
const DOMAIN: &str = "http content 1";

/// What says how content is to be read, hence is part of every key.
const DESCRIPTIONS: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// Decides which requests with content are reads, and which of them are the same:
/// [`SingleflightLayer::body_key`].
///
/// See [`BodyKey`] for the usual ones, and [`body_key_fn`] for closures.
pub trait BodyKeyExtractor: Send + Sync + 'static {
    /// What of the content tells this request from others with the same target; `None` if it may change something, or
    /// cannot be told apart.
    ///
    /// The target, the method, `Content-Type`, `Content-Encoding` and `Content-Language` are in the key already, and so is
    /// what the layer's [key extractor](super::KeyExtractor) takes of the head. The content is as it came, in whatever
    /// coding. Whatever the handler reads of it must be covered: two requests with equal keys get the same response.
    fn key(&self, head: &Parts, content: &[u8]) -> Option<Key>;
}

/// A [`BodyKeyExtractor`] from a closure.
///
/// ```
/// use tower_singleflight::{Key, body_key_fn};
///
/// // Searches differ in their first line; what follows is for the statistics.
/// let by_first_line = body_key_fn(|_, content| {
///     let line = content.split(|&byte| byte == b'\n').next()?;
///     Some(Key::builder("first line").part(line).finish())
/// });
/// # let _: &dyn tower_singleflight::BodyKeyExtractor = &by_first_line;
/// ```
pub fn body_key_fn<F>(key: F) -> BodyKeyFn<F>
where
    F: Fn(&Parts, &[u8]) -> Option<Key> + Send + Sync + 'static,
{
    BodyKeyFn(key)
}

/// The extractor that [`body_key_fn`] makes.
#[derive(Clone, Copy)]
pub struct BodyKeyFn<F>(F);

impl<F> BodyKeyExtractor for BodyKeyFn<F>
where
    F: Fn(&Parts, &[u8]) -> Option<Key> + Send + Sync + 'static,
{
    fn key(&self, head: &Parts, content: &[u8]) -> Option<Key> {
        (self.0)(head, content)
    }
}

impl<F> fmt::Debug for BodyKeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyKeyFn").finish_non_exhaustive()
    }
}

/// The usual [`BodyKeyExtractor`]s.
#[derive(Clone, Debug)]
pub struct BodyKey(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Digest,
    #[cfg(feature = "json")]
    Json(Vec<(String, json::Pointer)>),
    #[cfg(feature = "graphql")]
    GraphQl,
}

impl BodyKey {
    /// All of the content, byte by byte: every request is a read, and those with equal content are the same.
    pub fn digest() -> Self {
        Self(Kind::Digest)
    }

    /// What lies at these places of content in JSON, given by their pointers ([RFC 6901]); the rest may differ. Every
    /// request whose content is JSON is a read.
    ///
    /// Blanks and the order of members do not count, and what is missing differs from `null`. Scalars are compared as
    /// the text that they are: `1` is not `1.0`. No key is made of content with a `Content-Encoding`, of what is nested
    /// deeper than 64 levels, nor of an object on the way that names a member twice.
    ///
    /// ```
    /// # use tower_singleflight::{BodyKey, BodyKeyExtractor};
    /// let key = BodyKey::json(["/words", "/page"]);
    /// let (head, ()) = http::Request::new(()).into_parts();
    /// let of = |content: &str| key.key(&head, content.as_bytes()).unwrap();
    /// assert_eq!(of(r#"{"words": "red shoes", "session": 7}"#), of(r#"{"session": 8, "words": "red shoes"}"#));
    /// assert_ne!(of(r#"{"words": "red shoes"}"#), of(r#"{"words": "red shoes", "page": 2}"#));
    /// ```
    ///
    /// # Panics
    ///
    /// If one of them is no pointer: it is empty or begins with `/`, and `~` stands before `0` and `1` alone.
    ///
    /// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
    #[cfg(feature = "json")]
    pub fn json<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Self {
        let pointer = |text: &str| match json::Pointer::new(text) {
            Some(pointer) => (text.to_owned(), pointer),
            None => panic!("`BodyKey::json` takes JSON pointers such as \"/page\", and {text:?} is none"),
        };
        Self(Kind::Json(pointers.into_iter().map(pointer).collect()))
    }

    /// A request in [GraphQL]: its document, its variables and whatever else it holds, and its `Accept`. It is a read
    /// if all operations of the document are queries.
    ///
    /// Of mutations, subscriptions, batches, documents that cannot be parsed, and requests without a document
    /// (persisted queries) no key is made; nor of what [`json`](Self::json) makes none of. By `POST` these invalidate
    /// their target, so that a mutation forgets all queries to it;
    /// [`invalidate_on_change`](SingleflightLayer::invalidate_on_change) is how not to, and is better so where clients
    /// send persisted queries by their hashes alone.
    ///
    /// A server that reports errors in a 200 has them kept for the [result TTL](SingleflightLayer::result_ttl), like
    /// any 200.
    ///
    /// [GraphQL]: https://graphql.github.io/graphql-over-http/draft/
    #[cfg(feature = "graphql")]
    pub fn graphql() -> Self {
        Self(Kind::GraphQl)
    }
}

impl BodyKeyExtractor for BodyKey {
    fn key(&self, head: &Parts, content: &[u8]) -> Option<Key> {
        #[cfg(not(feature = "json"))]
        let _ = head;
        #[cfg(feature = "json")]
        let text = || str::from_utf8(content).ok().filter(|_| !head.headers.contains_key(CONTENT_ENCODING));
        match &self.0 {
            Kind::Digest => Some(Key::builder("digest").part(Sha256::digest(content)).finish()),
            #[cfg(feature = "json")]
            Kind::Json(pointers) => {
                let text = text()?;
                let mut key = Key::builder("json");
                for (pointer, place) in pointers {
                    let found = place.find(text)?;
                    key =
                        found.iter().fold(key.part(pointer), |key, value| key.part([1]).part(digest(value))).part([0]);
                }
                Some(key.finish())
            }
            #[cfg(feature = "graphql")]
            Kind::GraphQl => {
                let key = Key::builder("graphql").part(digest(&graphql::query(text()?)?));
                // It decides whether errors come as a 200, and few servers say that they vary on it.
                let accepts = head.headers.get_all(ACCEPT).iter();
                Some(accepts.fold(key, KeyBuilder::part).finish())
            }
        }
    }
}

/// Keys lie in the store and in memory: short whatever they are made of.
#[cfg(feature = "json")]
fn digest(text: &str) -> impl AsRef<[u8]> + use<> {
    Sha256::digest(text.as_bytes())
}

/// How content is read, and told apart.
#[derive(Clone)]
pub(super) struct Content {
    extractor: Arc<dyn BodyKeyExtractor>,
    pub(super) most: usize,
}

impl Content {
    /// Whether this request may be a read that is told apart by its content, and all of that may be read.
    pub(super) fn may_tell<B: Body>(&self, request: &Request<B>) -> bool {
        let reads = *request.method() == Method::POST || request.method().as_str() == "QUERY";
        // Its client holds the content back until the inner service asks for it, or refuses.
        reads && !request.headers().contains_key(EXPECT) && self.fits(request)
    }

    fn fits<B: Body>(&self, request: &Request<B>) -> bool {
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|line| digits(line.as_bytes()));
        declared.unwrap_or_default().max(request.body().size_hint().lower()) <= self.most as u64
    }

    /// What tells a request with this content from others, below the key of its target.
    pub(super) fn key(&self, head: &Parts, content: &Bytes) -> Option<Key> {
        let key = self.extractor.key(head, content)?;
        let method = Key::builder(DOMAIN).part(head.method.as_str());
        let descriptions = DESCRIPTIONS.iter().fold(method, |key, name| {
            let lines = head.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            lines.fold(key.part(name), |key, line| key.part([1]).part(line)).part([0])
        });
        Some(descriptions.part(key.canonical()).finish())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("most", &self.most).finish_non_exhaustive()
    }
}

impl SingleflightLayer<Http> {
    /// Lets requests by `POST` and `QUERY` fly that are reads: those of which `extractor` makes a key.
    ///
    /// Only for routes where that is so: a `POST` that flies reaches the inner service once for all who send the same. What
    /// the extractor makes no key of goes to the inner service as without this, and a `POST` then
    /// [invalidates](Self::invalidate_on_change) its target. So does a `POST` whose content is longer than
    /// [`max_request_body`](SingleflightLayer::max_request_body), breaks off, pauses for longer than
    /// [`body_idle_timeout`](Self::body_idle_timeout), or has trailers.
    ///
    /// Whoever sends such a `POST` that succeeds empties the store of its target, and so do clients that send `Expect` with
    /// everything: where nothing is changed by `POST`, turn [`invalidate_on_change`](Self::invalidate_on_change) off.
    ///
    /// Their keys are [variants](Key::variant) of the key of a `GET` of the same target: what invalidates that takes their
    /// responses along. Conditions and ranges are not answered for them, and nothing stored is confirmed.
    ///
    /// The inner service takes [`RequestBody<B>`](super::RequestBody) in place of `B`. Routers of axum and tonic do, and so
    /// does anything generic; before a service that insists on one type of body, map it:
    /// `.map_request(|request: Request<RequestBody<_>>| request.map(axum::body::Body::new))`.
    ///
    /// ```
    /// use axum::{Router, body::Body, http::Request, routing::post};
    /// use tower::ServiceExt;
    /// use tower_singleflight::{BodyKey, Outcome, SingleflightLayer, backend::Memory};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = SingleflightLayer::new(Memory::new()).result_ttl(std::time::Duration::from_secs(5));
    /// let search = async |words: String| format!("found {words}");
    /// let app = Router::new().route("/search", post(search).layer(layer.body_key(BodyKey::digest())));
    ///
    /// let mut outcomes = Vec::new();
    /// for words in ["red shoes", "blue shoes", "red shoes"] {
    ///     let request = Request::post("http://a.test/search").body(Body::from(words)).unwrap();
    ///     let response = app.clone().oneshot(request).await.unwrap();
    ///     outcomes.push(*response.extensions().get::<Outcome>().unwrap());
    /// }
    /// assert_eq!(outcomes[..2], [Outcome::Led, Outcome::Led]);
    /// assert!(matches!(outcomes[2], Outcome::Hit { .. }));
    /// # }
    /// ```
    pub fn body_key(self, extractor: impl BodyKeyExtractor) -> SingleflightLayer<Bodies> {
        self.into_mode(Bodies(Content { extractor: Arc::new(extractor), most: 64 << 10 }))
    }
}

impl SingleflightLayer<Bodies> {
    /// How many bytes of content are read to tell a request from others. 64 KiB by default.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_request_body` must be more than zero");
        self.mode_mut().0.most = bytes;
        self
    }
}
