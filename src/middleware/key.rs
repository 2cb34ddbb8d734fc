use std::fmt;

use http::{HeaderName, HeaderValue, Uri, request::Parts};

use super::authority::authority;
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
        Self::target(head, "a service", service).whole_query()
    }

    /// Covers the target up to its query: add the parameters that count with [`query`](Self::query).
    ///
    /// `None` like [`new`](Self::new).
    pub fn without_query(head: &'a Parts) -> Option<Self> {
        let uri = original(head);
        let scheme = uri.scheme_str().unwrap_or_default();
        Some(Self::target(head, scheme, &authority(head, uri)?))
    }

    /// No scheme has a space in it, so a service and a host of one name differ.
    fn target(head: &'a Parts, scheme: &str, authority: &str) -> Self {
        let uri = original(head);
        let parts = Key::builder(DOMAIN).part(head.method.as_str()).part(scheme).part(authority).part(uri.path());
        // What another middleware made of the target counts too: it may have put more into it than the client did.
        let rewritten = (head.uri != *uri).then_some(&head.uri);
        let key = Self { head, uri, rewritten, parts, broken: false };
        let target = |uri: &'a Uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            [uri.scheme_str().unwrap_or_default(), authority, uri.path()].map(str::as_bytes)
        };
        let key = key.group("rewritten", "", rewritten.into_iter().flat_map(target));
        let mut forwarded: Vec<_> = head.headers.keys().map(HeaderName::as_str).filter(|name| forwards(name)).collect();
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

/// The URI as the client sent it: routers strip prefixes from the one in the head.
#[cfg(feature = "axum")]
fn original(head: &Parts) -> &Uri {
    head.extensions.get::<axum::extract::OriginalUri>().map_or(&head.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
fn original(head: &Parts) -> &Uri {
    &head.uri
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
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_service_is_one_whatever_its_hosts_are_called() {
        let of = |uri: &str| {
            let head = Request::get(uri).body(()).unwrap().into_parts().0;
            (RequestKey::of_service(&head, "shop").finish().unwrap(), RequestKey::new(&head).unwrap().finish().unwrap())
        };
        let (a, b) = (of("http://a.test/x?y=1"), of("http://b.test/x?y=1"));
        assert_eq!(a.0, b.0);
        assert_ne!(a.1, b.1);
        assert_ne!(a.0, of("http://a.test/x?y=2").0);
        assert_ne!(a.0, of("http://shop/x?y=1").1);
    }

    fn head(uri: &str, lines: &[(&str, &str)]) -> Parts {
        let request = lines.iter().fold(Request::get(uri), |request, (name, line)| request.header(*name, *line));
        request.body(()).unwrap().into_parts().0
    }

    fn key(uri: &str, lines: &[(&str, &str)]) -> Key {
        Target.key(&head(uri, lines)).unwrap()
    }

    #[test]
    fn what_looks_alike_is_not_the_same() {
        let different = [
            ("http://a.test/a%2Fb", "http://a.test/a/b"),
            ("http://a.test/A", "http://a.test/a"),
            ("http://a.test/a", "http://a.test/a/"),
            ("http://a.test//a", "http://a.test/a"),
            ("http://a.test/?x=1&y=2", "http://a.test/?y=2&x=1"),
            ("http://a.test/?a=%1E", "http://a.test/?a=%1e"),
            ("http://a.test/", "http://a.test/?"),
            ("http://a.test/", "http://b.test/"),
            ("http://a.test/", "https://a.test/"),
            ("http://a.test/", "http://a.test:8080/"),
            ("http://ab/c", "http://a/b/c"),
            ("http://a.test/ab?c", "http://a.test/a?bc"),
        ];
        for (one, other) in different {
            assert_ne!(key(one, &[]), key(other, &[]), "{one} {other}");
        }
    }

    #[test]
    fn the_same_target_is_the_same_however_it_is_addressed() {
        assert_eq!(key("http://a.test/x", &[]), key("http://A.TEST:80/x", &[("host", "a.test")]));
        assert_eq!(key("/x", &[("host", "a.test")]), key("/x", &[("Host", "A.test")]));
    }

    #[test]
    fn the_method_is_part_of_it() {
        let mut request = head("http://a.test/", &[]);
        let get = Target.key(&request);
        request.method = http::Method::HEAD;
        assert_ne!(Target.key(&request), get);
    }

    #[test]
    fn no_authority_no_key() {
        assert_eq!(Target.key(&head("/", &[])), None);
        assert_eq!(Target.key(&head("http://a.test/", &[("host", "b.test")])), None);
    }

    #[test]
    fn forwarded_fields_are_part_of_it() {
        let plain = key("http://a.test/", &[]);
        let names = [
            "Forwarded",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-Proto",
            "X-Forwarded-Scheme",
            "X-Forwarded-Server",
            "X-Forwarded-Ssl",
            "X-Forwarded-Uri",
            "Front-End-Https",
            "X-Envoy-Original-Path",
            "X-Host",
            "X-HTTP-Host-Override",
            "X-Original-Host",
            "X-Scheme",
            "X-Url-Scheme",
        ];
        for name in names {
            assert_ne!(key("http://a.test/", &[(name, "evil.test")]), plain, "{name}");
            assert_ne!(key("http://a.test/", &[(name, "")]), plain, "{name}");
        }
        let both = [("x-forwarded-host", "a"), ("x-forwarded-proto", "https")];
        assert_eq!(key("http://a.test/", &both), key("http://a.test/", &[both[1], both[0]]), "in any order");
        assert_eq!(key("http://a.test/", &[("x-forwarded-for", "1.2.3.4")]), plain);
        let twice = [("x-forwarded-host", "a"), ("x-forwarded-host", "b")];
        assert_ne!(key("http://a.test/", &twice), key("http://a.test/", &[("x-forwarded-host", "a, b")]));
        assert_ne!(
            key("http://a.test/", &[("x-forwarded-host", "a")]),
            key("http://a.test/", &[("x-forwarded-port", "a")])
        );
    }

    #[test]
    fn other_fields_are_not() {
        assert_eq!(key("http://a.test/", &[("accept-language", "de")]), key("http://a.test/", &[]));
    }

    #[test]
    fn a_header_that_is_asked_for_is() {
        let by_language = key_fn(|head| RequestKey::new(head)?.header("Accept-Language").finish());
        let key = |lines: &[_]| by_language.key(&head("http://a.test/", lines)).unwrap();
        let keys = [
            key(&[]),
            key(&[("accept-language", "")]),
            key(&[("accept-language", "de")]),
            key(&[("accept-language", "de"), ("accept-language", "en")]),
            key(&[("accept-language", "deen")]),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[at + 1..].contains(one), "{at}");
        }
        assert_eq!(keys[2], key(&[("ACCEPT-LANGUAGE", "de")]));
    }

    #[test]
    fn an_impossible_header_makes_no_key() {
        let impossible = key_fn(|head| RequestKey::new(head)?.header("accept language").finish());
        assert_eq!(impossible.key(&head("http://a.test/", &[])), None);
    }

    #[test]
    fn parameters_that_are_asked_for_are() {
        let by_page = key_fn(|head| RequestKey::without_query(head)?.query("page").finish());
        let key = |query: &str| by_page.key(&head(&format!("http://a.test/{query}"), &[])).unwrap();
        assert_eq!(key("?page=2&utm=x"), key("?utm=y&page=2"));
        assert_eq!(key("?%70a%67e=2"), key("?page=2"));
        assert_eq!(key("?%zzpage=2&pag%65x=1"), key(""));
        assert_ne!(key("?page=2"), key("?page=3"));
        assert_ne!(key("?page=2"), key("?page=2&page=3"));
        assert_ne!(key("?page=2&page=3"), key("?page=3&page=2"));
        assert_ne!(key(""), key("?page"));
        assert_ne!(key("?page"), key("?page="));
    }

    #[test]
    fn parts_do_not_run_together() {
        let of = |parts: &[&str]| {
            let head = head("http://a.test/", &[]);
            parts.iter().fold(RequestKey::new(&head).unwrap(), RequestKey::part).finish().unwrap()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
