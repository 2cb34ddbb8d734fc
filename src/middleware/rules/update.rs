//! A stored response that the origin has confirmed with a 304 (RFC 9111 §3.2, §4.3.4).

use std::time::SystemTime;

use http::{
    HeaderMap, HeaderName,
    header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, SET_COOKIE},
};

use super::validator::{EntityTag, modified_is_strong, only};

/// Whether the 304 with the head `new` is about the stored response (§4.3.4). If not, it must not be used for it, and the
/// request has to be made again without conditions.
///
/// The text speaks of a set of stored responses; here it is the one whose validators were sent. It lets any validator
/// identify the response; here a tag that differs refutes an equal date, and a strong tag needs no date.
pub(in crate::middleware) fn confirms(new: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> bool {
    let (tag, known) = (EntityTag::of(new), EntityTag::of(stored));
    let date = only(new, &LAST_MODIFIED);
    let as_strong = || modified_is_strong(stored, now) || !modified_is_strong(new, now);
    let same_date = || date == only(stored, &LAST_MODIFIED) && as_strong();
    match tag {
        // "If the new response contains one or more strong validators [..]"
        Some(tag) if tag.is_strong() => known.is_some_and(|known| tag.strongly_equals(&known)),
        // "If the new response contains no strong validators but does contain one or more weak validators [..]". A date of
        // the 304 that is strong must be so in what is stored: else "the cache MUST NOT use the new response".
        Some(tag) => known.is_some_and(|known| tag.weakly_equals(&known)) && (date.is_none() || same_date()),
        None if date.is_some() => same_date(),
        // "If the new response does not include any form of validator [..]". The text wants the stored one to lack them
        // too; but origins leave `Last-Modified` out of a 304 (RFC 9110 §15.4.5), and it is the answer to a question
        // about this one.
        None => !has_validator(new),
    }
}

/// Whether a message carries a validator, be it one that cannot be read.
pub(in crate::middleware) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// The stored head with the fields of the 304 in place of those of the same name (§3.2).
///
/// What is never stored (§3.1) must already be gone from `new`, as it is from `stored`.
pub(in crate::middleware) fn updated(stored: &HeaderMap, new: &HeaderMap) -> HeaderMap {
    let replaced = |name: &HeaderName| new.contains_key(name) && !is_kept(name);
    // How old the response was when it came says nothing any more: its age begins anew.
    let stays = stored.iter().filter(|(name, _)| !replaced(name) && *name != AGE);
    let comes = new.iter().filter(|(name, _)| !is_kept(name));
    stays.chain(comes).map(|(name, line)| (name.clone(), line.clone())).collect()
}

/// Fields of a 304 that do not replace stored ones: what frames the body that is there, and a cookie that was made for
/// the one who asked. `Content-Encoding` and `Content-Type` are replaced like others: that a field begins with `Content-`
/// "is not a signal", and the body is stored as it came, so nothing was derived from them.
fn is_kept(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, CONTENT_RANGE, SET_COOKIE].contains(name)
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    const CHANGED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:36 GMT");
    const MADE: (&str, &str) = ("date", "Sun, 06 Nov 1994 09:00:00 GMT");
    const AT_ONCE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    const STRONG: (&str, &str) = ("etag", "\"a\"");
    const OTHER: (&str, &str) = ("etag", "\"b\"");
    const WEAK: (&str, &str) = ("etag", "W/\"a\"");
    const OTHER_WEAK: (&str, &str) = ("etag", "W/\"b\"");

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let response = lines.iter().fold(Response::builder(), |to, (name, line)| to.header(*name, *line));
        response.body(()).unwrap().into_parts().0.headers
    }

    /// The rules of §4.3.4 in order. Fails with weak comparison in the first block, strong comparison in the third, and
    /// if a bare 304 confirms what has a validator.
    #[test]
    fn which_response_a_304_is_about() {
        type Lines<'a> = &'a [(&'a str, &'a str)];
        let table: [(Lines<'_>, Lines<'_>, bool); 31] = [
            (&[STRONG], &[STRONG], true),
            (&[STRONG], &[OTHER], false),
            (&[STRONG], &[WEAK], false),
            (&[STRONG], &[], false),
            (&[STRONG, MODIFIED, MADE], &[OTHER, MODIFIED, MADE], false),
            (&[STRONG, CHANGED, MADE], &[STRONG, MODIFIED, MADE], true),
            (&[STRONG, CHANGED, MADE], &[STRONG], true),
            // A strong date.
            (&[MODIFIED, MADE], &[MODIFIED, MADE], true),
            (&[MODIFIED, MADE], &[CHANGED, MADE], false),
            (&[MODIFIED, MADE], &[MODIFIED, AT_ONCE], false),
            (&[MODIFIED, MADE], &[STRONG], false),
            (&[MODIFIED, MADE], &[STRONG, MODIFIED, MADE], true),
            (&[WEAK, MODIFIED, MADE], &[WEAK, MODIFIED, MADE], true),
            (&[WEAK, MODIFIED, MADE], &[WEAK, CHANGED, MADE], false),
            (&[WEAK, MODIFIED, MADE], &[WEAK, MODIFIED, AT_ONCE], false),
            (&[WEAK, MODIFIED, MADE], &[OTHER_WEAK, MODIFIED, MADE], false),
            // Weak validators.
            (&[WEAK], &[WEAK], true),
            (&[WEAK], &[STRONG], true),
            (&[WEAK], &[OTHER_WEAK], false),
            (&[WEAK], &[], false),
            (&[WEAK, MODIFIED], &[WEAK, MODIFIED], true),
            (&[WEAK, MODIFIED], &[WEAK, CHANGED], false),
            (&[MODIFIED], &[MODIFIED], true),
            (&[MODIFIED, AT_ONCE], &[CHANGED], false),
            // None.
            (&[], &[], true),
            (&[MADE], &[MADE], true),
            (&[], &[STRONG], true),
            (&[MADE], &[MODIFIED], true),
            (&[], &[MODIFIED], true),
            (&[("etag", "a")], &[], false),
            (&[("etag", "a")], &[STRONG], false),
        ];
        for (new, stored, expected) in table {
            let confirmed = confirms(&headers(new), &headers(stored), SystemTime::UNIX_EPOCH);
            assert_eq!(confirmed, expected, "{new:?} for {stored:?}");
        }
    }

    /// "The cache MUST add each header field in the provided response to the stored response, replacing field values that
    /// are already present". Fails if lines are added to those there are, if a second line is lost, or if an exception is.
    #[test]
    fn fields_of_a_304_replace_stored_ones() {
        let stored = [
            ("date", "old"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("age", "50"),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("set-cookie", "kept=1"),
        ];
        let new = [
            ("date", "new"),
            ("x-a", "3"),
            ("x-c", "1"),
            ("x-c", "2"),
            ("content-length", "0"),
            ("content-range", "bytes 0-0/5"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("set-cookie", "b=1"),
        ];
        let expected = [
            ("x-b", "1"),
            ("content-length", "5"),
            ("set-cookie", "kept=1"),
            ("date", "new"),
            ("x-a", "3"),
            ("x-c", "1"),
            ("x-c", "2"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
        ];
        assert_eq!(updated(&headers(&stored), &headers(&new)), headers(&expected));
    }

    /// Fails if the age of the stored response outlives its validation, or the 304's own is lost.
    #[test]
    fn the_age_is_that_of_the_304() {
        let stored = headers(&[("age", "50")]);
        assert_eq!(updated(&stored, &headers(&[])), headers(&[]));
        assert_eq!(updated(&stored, &headers(&[("age", "7")])), headers(&[("age", "7")]));
    }
}
