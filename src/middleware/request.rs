//! Which requests may fly. Everything here looks at the request alone, before any key is made, and allocates nothing.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{CACHE_CONTROL, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE},
};
use http_body::Body;

use super::{
    fields::{line_names, names},
    identity::Identity,
    outcome::Why,
    overrides::Overrides,
};

/// Why `request` must not share anything, if so.
pub(super) fn bypass<B: Body>(request: &Request<B>, overrides: &Overrides, identity: &Identity) -> Option<Why> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Why::Method);
    }
    refused(request.headers(), overrides, identity, false)
        .or_else(|| has_content(request.body()).then_some(Why::Content))
}

/// Which field makes it so; with `content`, the request may have some.
pub(super) fn refused(headers: &HeaderMap, overrides: &Overrides, identity: &Identity, content: bool) -> Option<Why> {
    // One pass over the lines that are there, rather than a look-up for every field that matters: repeated lines are
    // seen for free.
    headers.iter().find_map(|(name, line)| {
        refuses(name, line)
            .filter(|why| !content || *why != Why::Content)
            .or_else(|| overrides.contains(name).then_some(Why::Override))
            .or_else(|| identity.names_caller(name, line).then_some(Why::Identity))
    })
}

fn refuses(name: &HeaderName, line: &HeaderValue) -> Option<Why> {
    let (why, refused) = match name.as_str() {
        "cache-control" => (Why::NoStore, line_names(line, "no-store")),
        "upgrade" => (Why::Upgrade, true),
        "connection" => (Why::Upgrade, line_names(line, "upgrade")),
        "accept" => (Why::EventStream, line_names(line, "text/event-stream")),
        "if-match" | "if-unmodified-since" => (Why::Conditional, true),
        "expect" => (Why::Expect, true),
        "transfer-encoding" => (Why::Content, true),
        "content-length" => (Why::Content, line.as_bytes() != b"0"),
        _ => return None,
    };
    refused.then_some(why)
}

/// Why `request` goes to the inner service as it came, though the layer could answer what it asks.
pub(super) fn passes(headers: &HeaderMap, conditions: bool, ranges: bool) -> Option<Why> {
    let has = |name| headers.contains_key(name);
    if !conditions && (has(IF_NONE_MATCH) || has(IF_MODIFIED_SINCE)) {
        return Some(Why::Conditional);
    }
    (!ranges && has(RANGE)).then_some(Why::Range)
}

/// Whether nobody may ask the inner service for it.
pub(super) fn only_if_cached<B>(request: &Request<B>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    reads && says_only_if_cached(request.headers())
}

pub(super) fn says_only_if_cached(headers: &HeaderMap) -> bool {
    names(headers, CACHE_CONTROL, "only-if-cached")
}

fn has_content(body: &impl Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn get(lines: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let request = Request::get("http://a.test/");
        lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(Empty::new()).unwrap()
    }

    fn bypass<B: Body>(request: &Request<B>) -> Option<Why> {
        super::bypass(request, &Overrides::default(), &Identity::new())
    }

    #[test]
    fn plain_reads_fly() {
        assert_eq!(bypass(&get(&[])), None);
        assert_eq!(bypass(&Request::head("/").body(Empty::<Bytes>::new()).unwrap()), None);
    }

    #[test]
    fn other_methods_do_not() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "get", "PURGE"] {
            let request = Request::builder().method(method).body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(bypass(&request), Some(Why::Method), "{method}");
        }
    }

    #[test]
    fn content_does_not() {
        let full = |content: &'static str| Request::get("/").body(Full::<Bytes>::from(content)).unwrap();
        assert_eq!(bypass(&full("{}")), Some(Why::Content));
        assert_eq!(bypass(&full("")), None);
    }

    #[test]
    fn one_field_is_enough() {
        let table = [
            ("Authorization", "Bearer x", Why::Identity),
            ("AUTHORIZATION", "", Why::Identity),
            ("Cookie", "a=b", Why::Identity),
            ("Proxy-Authorization", "Basic x", Why::Identity),
            ("X-Api-Key", "x", Why::Identity),
            ("X-Forwarded-Client-Cert", "Hash=1", Why::Identity),
            ("X-Forwarded-User", "alice", Why::Identity),
            ("X-Forwarded-Email", "alice@a.test", Why::Identity),
            ("Remote-User", "alice", Why::Identity),
            ("X-Auth-Request-User", "alice", Why::Identity),
            ("X-Amzn-Oidc-Identity", "alice", Why::Identity),
            ("X-Goog-Iap-Jwt-Assertion", "x", Why::Identity),
            ("Cf-Access-Jwt-Assertion", "x", Why::Identity),
            ("X-Ms-Client-Principal", "x", Why::Identity),
            ("Tailscale-User-Login", "alice", Why::Identity),
            ("Cache-Control", "no-store", Why::NoStore),
            ("cache-control", "max-age=0, No-Store", Why::NoStore),
            ("X-HTTP-Method-Override", "DELETE", Why::Override),
            ("X-HTTP-Method", "DELETE", Why::Override),
            ("X-Method-Override", "DELETE", Why::Override),
            ("X-Original-URL", "/admin", Why::Override),
            ("X-Original-URI", "/admin", Why::Override),
            ("X-Rewrite-URL", "/admin", Why::Override),
            ("Upgrade", "websocket", Why::Upgrade),
            ("Connection", "keep-alive, UPGRADE", Why::Upgrade),
            ("Accept", "text/event-stream", Why::EventStream),
            ("Accept", "text/html, Text/Event-Stream;q=0.5", Why::EventStream),
            ("If-Match", "*", Why::Conditional),
            ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", Why::Conditional),
            ("Expect", "100-continue", Why::Expect),
            ("Transfer-Encoding", "chunked", Why::Content),
            ("Content-Length", "1", Why::Content),
            ("Content-Length", "+0", Why::Content),
        ];
        for (name, line, why) in table {
            assert_eq!(bypass(&get(&[(name, line)])), Some(why), "{name}: {line}");
            assert_eq!(bypass(&get(&[("accept", "*/*"), (name, line)])), Some(why), "second, {name}: {line}");
        }
    }

    #[test]
    fn a_later_line_is_read_too() {
        assert_eq!(bypass(&get(&[("cache-control", "max-age=0"), ("cache-control", "no-store")])), Some(Why::NoStore));
        assert_eq!(bypass(&get(&[("connection", "close"), ("connection", "Upgrade")])), Some(Why::Upgrade));
        assert_eq!(bypass(&get(&[("accept", "*/*"), ("accept", "text/event-stream")])), Some(Why::EventStream));
    }

    /// Fails if a field that means something else already is not asked who asks, or only its first line is.
    #[test]
    fn any_line_of_any_field_may_say_who_asks() {
        let identity = Identity::new().field("accept").ignore_cookies(["_ga"]);
        let bypass = |lines: &[(&str, &str)]| super::bypass(&get(lines), &Overrides::default(), &identity);
        assert_eq!(bypass(&[("accept", "text/html")]), Some(Why::Identity));
        assert_eq!(bypass(&[("cookie", "_ga=1"), ("cookie", "_ga=2")]), None);
        assert_eq!(bypass(&[("cookie", "_ga=1"), ("cookie", "sid=2")]), Some(Why::Identity));
    }

    /// Fails if a field that means something already is not asked whether it replaces the target, or if what is set is not
    /// asked at all.
    #[test]
    fn any_field_may_be_set_to_replace_the_target() {
        let overrides = Overrides::Only(["x-action", "accept"].map(HeaderName::from_static).into());
        let bypass = |lines: &[(&str, &str)]| super::bypass(&get(lines), &overrides, &Identity::new());
        assert_eq!(bypass(&[("x-other", ""), ("x-action", "")]), Some(Why::Override));
        assert_eq!(bypass(&[("accept", "text/html")]), Some(Why::Override));
        assert_eq!(bypass(&[("x-original-url", "/admin")]), None);
    }

    #[test]
    fn what_cannot_force_anything_is_ignored() {
        let harmless = [
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("pragma", "no-cache"),
            ("connection", "keep-alive"),
            ("content-length", "0"),
            ("accept", "text/html"),
            ("user-agent", "curl"),
            ("x-forwarded-for", "1.2.3.4"),
        ];
        for line in harmless {
            assert_eq!(bypass(&get(&[line])), None, "{line:?}");
        }
    }
}
