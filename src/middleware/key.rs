mod pattern;

use std::fmt;

use http::{HeaderName, HeaderValue, Uri, request::Parts};

use self::pattern::Matched;
pub(super) use self::pattern::captures;
use super::{
    authority::authority,
    nest::{mount, original, strips},
};
use crate::key::{Key, KeyBuilder};

/// The version of the layout of keys. A new layout shares nothing with an old one.
const DOMAIN: &str = "http request 2";

/// Decides which requests are the same: [`SingleflightLayer::key`](super::SingleflightLayer::key).
///
/// See [`key_fn`] for closures, and [`RequestKey`] for what a key should be made of.
pub trait KeyExtractor: Send + Sync + 'static {
    /// The key of a request; `None` makes it bypass.
    ///
    /// Two requests with equal keys get the same response. Whatever the handler reads from the request, its extensions
    /// included, must be covered.
    fn key(&self, head: &Parts) -> Option<Key>;
}

/// A [`KeyExtractor`] from a closure.
///
/// ```
/// use tower_singleflight::{RequestKey, key_fn};
///
/// let per_language = key_fn(|head| RequestKey::new(head)?.header("accept-language").finish());
/// # let _: &dyn tower_singleflight::KeyExtractor = &per_language;
/// ```
pub fn key_fn<F>(key: F) -> KeyFn<F>
where
    F: Fn(&Parts) -> Option<Key> + Send + Sync + 'static,
{
    KeyFn(key)
}

/// The extractor that [`key_fn`] makes.
#[derive(Clone, Copy)]
pub struct KeyFn<F>(F);

impl<F> KeyExtractor for KeyFn<F>
where
    F: Fn(&Parts) -> Option<Key> + Send + Sync + 'static,
{
    fn key(&self, head: &Parts) -> Option<Key> {
        (self.0)(head)
    }
}

impl<F> fmt::Debug for KeyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFn").finish_non_exhaustive()
    }
}

/// The usual extractor: the target and nothing else.
pub(super) struct Target;

impl KeyExtractor for Target {
    fn key(&self, head: &Parts) -> Option<Key> {
        RequestKey::new(head)?.finish()
    }
}

/// Builds the [`Key`] of a request.
///
/// It always covers the method, the scheme, the authority, the path and whatever a proxy tells in `Forwarded`,
/// `X-Forwarded-Host` and their kin; all of it raw, neither decoded nor folded nor sorted. Requests that differ in any of
/// that never share anything. What else the handler depends on is added part by part, and order matters.
#[derive(Clone, Debug)]
#[must_use]
pub struct RequestKey<'a> {
    head: &'a Parts,
    /// As the client sent it.
    uri: &'a Uri,
    /// As the handler sees it, if that is not the same.
    rewritten: Option<&'a Uri>,
    /// What takes the place of the path.
    matched: Option<Matched<'a>>,
    parts: KeyBuilder,
    broken: bool,
}

impl<'a> RequestKey<'a> {
    /// Covers the whole target, with its query.
    ///
    /// `None` without one clear authority, that is if the URI has none and `Host` is missing, repeated or invalid, or if
    /// the two disagree.
    pub fn new(head: &'a Parts) -> Option<Self> {
        Some(Self::without_query(head)?.whole_query())
    }

    /// Covers the whole target like [`new`](Self::new), with `service` in place of the authority.
    ///
    /// For fleets whose replicas are addressed one by one, by pod or by port: with the authority in the key such replicas
    /// never share anything. Only for handlers whose answer depends neither on `Host` nor on the authority of the URI:
    /// one request with a forged host is answered for all.
    pub fn of_service(head: &'a Parts, service: &str) -> Self {
        Self::target(head, "a service", service, &[], None).whole_query()
    }

    /// Covers the whole target like [`new`](Self::new), without what these fields say of it.
    ///
    /// For what a proxy sets on every request, in place of whatever the client sent: `X-Forwarded-Proto` where all requests
    /// come over TLS need not tell requests apart. A field that a client can set, and the handler reads, answers one request
    /// for all.
    ///
    /// `None` like [`new`](Self::new).
    pub fn trusting(head: &'a Parts, fields: &[&str]) -> Option<Self> {
        let scheme = original(head).scheme_str().unwrap_or_default();
        let authority = authority(head, original(head))?;
        Some(Self::target(head, scheme, &authority, fields, None).whole_query())
    }

    /// Covers the target up to its query: add the parameters that count with [`query`](Self::query).
    ///
    /// `None` like [`new`](Self::new).
    pub fn without_query(head: &'a Parts) -> Option<Self> {
        let uri = original(head);
        let scheme = uri.scheme_str().unwrap_or_default();
        Some(Self::target(head, scheme, &authority(head, uri)?, &[], None))
    }

    /// No scheme has a space in it, so a service and a host of one name differ; and no path begins without a slash, so a
    /// pattern and a path that looks like one do.
    fn target(head: &'a Parts, scheme: &str, authority: &str, trusted: &[&str], matched: Option<Matched<'a>>) -> Self {
        let (uri, pattern) = (original(head), matched.as_ref().map(|matched| matched.pattern));
        let parts = Key::builder(DOMAIN).part(head.method.as_str()).part(scheme).part(authority);
        let parts = match pattern {
            None => parts.part(uri.path()),
            Some(pattern) => parts.part("a pattern").part(pattern),
        };
        let mount = mount(head);
        // What is left of a target that routers alone have stripped says nothing more. What another middleware made of it
        // counts too: it may have put more into it than the client did.
        let plain = mount.map_or(head.uri == *uri, |mount| strips(mount, uri, &head.uri));
        let rewritten = (!plain && head.uri != *uri).then_some(&head.uri);
        let mut key = Self { head, uri, rewritten, matched, parts, broken: false };
        if let Some(mount) = mount.filter(|_| !plain || pattern.is_some()) {
            // Where a router is nested tells what it took out, save for parameters: nothing does, if it was not the client.
            key.broken = !plain && mount.contains('{');
            key = key.group("nested", "", std::iter::once(mount.as_bytes()));
        }
        let target = |uri: &'a Uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            [uri.scheme_str().unwrap_or_default(), authority, uri.path()].map(str::as_bytes)
        };
        let key = key.group("rewritten", "", rewritten.into_iter().flat_map(target));
        let counts = |name: &&str| forwards(name) && !trusted.iter().any(|trusted| trusted.eq_ignore_ascii_case(name));
        let mut forwarded: Vec<_> = head.headers.keys().map(HeaderName::as_str).filter(counts).collect();
        forwarded.sort_unstable();
        forwarded.into_iter().fold(key, Self::header)
    }

    fn uris(&self) -> impl Iterator<Item = &'a Uri> + use<'a> {
        [self.uri].into_iter().chain(self.rewritten)
    }

    fn whole_query(self) -> Self {
        let uris = self.uris();
        uris.fold(self, |key, uri| key.group("query", "", uri.query().map(str::as_bytes).into_iter()))
    }

    /// Adds all lines of a header field, as they came. A field that is absent differs from one that is empty.
    ///
    /// A name that no field can have makes no key.
    pub fn header(mut self, name: &str) -> Self {
        let Ok(name) = HeaderName::try_from(name) else {
            self.broken = true;
            return self;
        };
        let lines = self.head.headers.get_all(&name);
        self.group("header", name.as_str(), lines.iter().map(HeaderValue::as_bytes))
    }

    /// Adds all values of a query parameter, as they came. A parameter that is absent differs from one that is empty.
    ///
    /// The name is compared after decoding, as a handler does: `%70age=2` is a `page`.
    pub fn query(self, name: &str) -> Self {
        let uris = self.uris();
        uris.fold(self, |key, uri| {
            let pairs = uri.query().unwrap_or_default().split('&');
            let values = pairs.filter_map(|pair| {
                let (given, value) = pair.split_at(pair.find('=').unwrap_or(pair.len()));
                decoded(given.as_bytes()).eq(name.bytes()).then_some(value.as_bytes())
            });
            key.group("parameter", name, values)
        })
    }

    /// Adds anything, such as the application's name or what an earlier layer left in the extensions.
    pub fn part(self, part: impl AsRef<[u8]>) -> Self {
        self.group("part", "", std::iter::once(part.as_ref()))
    }

    /// The finished key; `None` if a part could not be built.
    pub fn finish(self) -> Option<Key> {
        (!self.broken).then(|| self.parts.finish())
    }

    /// A kind, a name, each value behind a mark, and a mark for the end: no group can be read as another, whatever its
    /// values are.
    fn group<'v>(mut self, kind: &str, name: &str, values: impl Iterator<Item = &'v [u8]>) -> Self {
        let start = self.parts.part(kind).part(name);
        self.parts = values.fold(start, |parts, value| parts.part([1]).part(value)).part([0]);
        self
    }
}

/// Whether a proxy tells in the field `name` what the client asked for. Handlers put that into links and redirects. Who
/// asked, and through which addresses, is another matter.
fn forwards(name: &str) -> bool {
    let named = matches!(
        name,
        "forwarded"
            | "front-end-https"
            | "x-envoy-original-path"
            | "x-host"
            | "x-http-host-override"
            | "x-original-host"
            | "x-original-method"
            | "x-replaced-path"
            | "x-scheme"
            | "x-url-scheme"
    );
    named || (name.starts_with("x-forwarded-") && name != "x-forwarded-for")
}

/// `application/x-www-form-urlencoded`, where bytes that are no escape stand for themselves.
fn decoded(mut bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    std::iter::from_fn(move || {
        let (&first, rest) = bytes.split_first()?;
        bytes = rest;
        match (first, rest) {
            (b'+', _) => Some(b' '),
            (b'%', &[high, low, ref rest @ ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    bytes = rest;
                    Some(high << 4 | low)
                }
                _ => Some(b'%'),
            },
            _ => Some(first),
        }
    })
}

#[cfg(test)]
mod tests;
