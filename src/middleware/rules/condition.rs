//! Whether a client already has what is stored (RFC 9110 §13, RFC 9111 §4.3.2).

use std::time::SystemTime;

use http::{
    HeaderMap, Method, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY,
    },
    request::Parts,
};

use super::validator::{EntityTag, date_in, only};

/// Whether `request` is answered by a 304 where it would otherwise get the stored response.
///
/// `If-Match` and `If-Unmodified-Since` are for the origin alone; requests that carry them do not come here.
pub(in crate::middleware) fn not_modified(
    request: &Parts,
    status: StatusCode,
    stored: &HeaderMap,
    now: SystemTime,
) -> bool {
    // "A server MUST ignore all received preconditions if its response to the same request without those conditions [..]
    // would have been a status code other than a 2xx (Successful) or 412" (§13.2.1). Other methods have no 304 (§13.1.2).
    if !status.is_success() || !matches!(request.method, Method::GET | Method::HEAD) {
        return false;
    }
    if request.headers.contains_key(IF_NONE_MATCH) {
        matches_tag(&request.headers, stored)
    } else {
        not_modified_since(&request.headers, stored, now)
    }
}

/// `If-None-Match` (§13.1.2), compared weakly. What cannot be read matches nothing: at worst a body is sent in vain.
fn matches_tag(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if only(request, &IF_NONE_MATCH) == Some(b"*") {
        return true;
    }
    let lines = request.get_all(IF_NONE_MATCH).iter().map(|line| EntityTag::list(line.as_bytes()));
    let Some(tags) = lines.collect::<Option<Vec<_>>>() else { return false };
    EntityTag::of(stored).is_some_and(|known| tags.iter().flatten().any(|tag| tag.weakly_equals(&known)))
}

/// `If-Modified-Since` (§13.1.3); a date that is invalid, or one of several, does not count. A response that does not
/// know when it was modified was not modified after it was made (RFC 9111 §4.3.2).
fn not_modified_since(request: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> bool {
    let since = date_in(request, &IF_MODIFIED_SINCE, now);
    let modified = date_in(stored, &LAST_MODIFIED, now).or_else(|| date_in(stored, &DATE, now));
    since.zip(modified).is_some_and(|(since, modified)| modified <= since)
}

/// The head of the 304 that stands for the stored response (§15.4.5): what it MUST carry of it, and as its only
/// validator `Last-Modified`. Nothing else: least of all `Set-Cookie`, and nothing that describes a body.
pub(in crate::middleware) fn head_of_304(stored: &HeaderMap) -> HeaderMap {
    let carried = [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];
    let validator = (!stored.contains_key(ETAG)).then_some(LAST_MODIFIED);
    let mut head = HeaderMap::new();
    for name in carried.into_iter().chain(validator) {
        head.extend(stored.get_all(&name).iter().map(|line| (name.clone(), line.clone())));
    }
    head
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn headers(lines: Lines<'_>) -> HeaderMap {
        let response = lines.iter().fold(Response::builder(), |to, (name, line)| to.header(*name, *line));
        response.body(()).unwrap().into_parts().0.headers
    }

    fn asked(method: Method, lines: Lines<'_>, status: u16, stored: Lines<'_>) -> bool {
        let request = lines.iter().fold(Request::builder().method(method), |to, (name, line)| to.header(*name, *line));
        let request = request.body(()).unwrap().into_parts().0;
        not_modified(&request, StatusCode::from_u16(status).unwrap(), &headers(stored), SystemTime::UNIX_EPOCH)
    }

    fn get(lines: Lines<'_>, stored: Lines<'_>) -> bool {
        asked(Method::GET, lines, 200, stored)
    }

    /// Fails with strong comparison, with a split at commas in quotes, and if only the first line or tag is read.
    #[test]
    fn tags_that_the_client_has() {
        let table: [(Lines<'_>, &str, bool); 16] = [
            (&[("if-none-match", "\"a\"")], "\"a\"", true),
            (&[("if-none-match", "W/\"a\"")], "\"a\"", true),
            (&[("if-none-match", "\"a\"")], "W/\"a\"", true),
            (&[("if-none-match", "W/\"a\"")], "W/\"a\"", true),
            (&[("if-none-match", "\"b\"")], "\"a\"", false),
            (&[("if-none-match", "\"b\", \"a\"")], "\"a\"", true),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], "\"a\"", true),
            (&[("if-none-match", "\"a,b\"")], "\"a,b\"", true),
            (&[("if-none-match", "\"a,b\"")], "\"a\"", false),
            (&[("if-none-match", "\"A\"")], "\"a\"", false),
            (&[("if-none-match", "*")], "\"a\"", true),
            (&[("if-none-match", "*, \"a\"")], "\"a\"", false),
            (&[("if-none-match", "a")], "\"a\"", false),
            (&[("if-none-match", "a, \"a\"")], "\"a\"", false),
            (&[("if-none-match", "a"), ("if-none-match", "\"a\"")], "\"a\"", false),
            (&[("if-none-match", "\"a\"")], "a", false),
        ];
        for (lines, tag, expected) in table {
            assert_eq!(get(lines, &[("etag", tag)]), expected, "{lines:?} {tag}");
        }
        assert!(get(&[("if-none-match", "*")], &[]), "anything that is stored exists");
        assert!(!get(&[("if-none-match", "\"a\"")], &[]));
        assert!(!get(&[("if-none-match", "\"a\"")], &[("etag", "\"a\""), ("etag", "\"a\"")]), "which of them?");
    }

    /// Fails if equal dates count as modified, if `Date` is asked first or never, or an invalid date counts.
    #[test]
    fn dates_that_the_client_has() {
        let table: [(&str, Lines<'_>, bool); 10] = [
            (EARLIER, &[("last-modified", MODIFIED)], false),
            (MODIFIED, &[("last-modified", MODIFIED)], true),
            (LATER, &[("last-modified", MODIFIED)], true),
            ("Sunday, 06-Nov-94 08:49:37 GMT", &[("last-modified", MODIFIED)], true),
            (MODIFIED, &[("last-modified", MODIFIED), ("date", LATER)], true),
            (MODIFIED, &[("date", LATER)], false),
            (LATER, &[("date", LATER)], true),
            (LATER, &[], false),
            ("tomorrow", &[("last-modified", MODIFIED)], false),
            ("Sun, 06 Nov 1994 08:49:38 UTC", &[("last-modified", MODIFIED)], false),
        ];
        for (since, stored, expected) in table {
            assert_eq!(get(&[("if-modified-since", since)], stored), expected, "{since} {stored:?}");
        }
        let twice = [("if-modified-since", LATER), ("if-modified-since", LATER)];
        assert!(!get(&twice, &[("last-modified", MODIFIED)]), "it has one member");
    }

    /// "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match header field" (§13.1.3).
    #[test]
    fn tags_come_before_dates() {
        let stored = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        assert!(!get(&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], &stored));
        assert!(!get(&[("if-none-match", "b"), ("if-modified-since", LATER)], &stored));
        assert!(get(&[("if-none-match", "\"a\""), ("if-modified-since", EARLIER)], &stored));
    }

    /// Fails without either condition on when conditions count (§13.2.1).
    #[test]
    fn other_statuses_and_methods() {
        let asks = [("if-none-match", "*")];
        for (method, status, expected) in [
            (Method::GET, 200, true),
            (Method::HEAD, 200, true),
            (Method::GET, 204, true),
            (Method::POST, 200, false),
            (Method::GET, 301, false),
            (Method::GET, 404, false),
            (Method::GET, 500, false),
        ] {
            assert_eq!(asked(method.clone(), &asks, status, &[]), expected, "{method} {status}");
        }
        assert!(!get(&[], &[("etag", "\"a\""), ("last-modified", MODIFIED)]));
    }

    /// Fails if one of those that MUST be there is missing, a second line is lost, or anything else is carried.
    #[test]
    fn what_a_304_carries() {
        let must = [
            ("cache-control", "max-age=5"),
            ("cache-control", "public"),
            ("content-location", "/a"),
            ("date", LATER),
            ("etag", "\"a\""),
            ("expires", LATER),
            ("vary", "accept"),
        ];
        let rest = [
            ("set-cookie", "a=b"),
            ("content-length", "5"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("last-modified", MODIFIED),
        ];
        assert_eq!(head_of_304(&headers(&[&must[..], &rest].concat())), headers(&must));
        assert_eq!(head_of_304(&headers(&rest)), headers(&rest[4..]));
    }
}
