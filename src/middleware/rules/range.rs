//! A part of a stored response for a request that asks for one (RFC 9110 §14).

use std::{ops::Range, time::SystemTime};

use http::{
    HeaderMap, HeaderValue, Method,
    header::{IF_RANGE, LAST_MODIFIED, RANGE},
    request::Parts,
};

use super::validator::{EntityTag, modified_is_strong, only};

/// What answers a request from a complete 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::middleware) enum Selected {
    /// All of it, as a 200: no part is asked for, or nobody can tell which.
    Whole,
    /// These bytes, as a 206 with this `Content-Range`.
    Part(Range<u64>, HeaderValue),
    /// Nothing, as a 416 with this `Content-Range`.
    Nothing(HeaderValue),
    /// Several parts, which only the origin puts together.
    Several,
}

/// What `request` gets of a stored 200 with the head `stored` and a body of `length` bytes. Its other conditions come
/// first (§13.2.2): what they make a 304 has no parts.
pub(in crate::middleware) fn select(request: &Parts, stored: &HeaderMap, length: u64, now: SystemTime) -> Selected {
    // "A server MUST ignore a Range header field received with a request method that is unrecognized or for which range
    // handling is not defined" (§14.2).
    let asked = if request.method == Method::GET { only(&request.headers, &RANGE) } else { None };
    match asked.and_then(specs).as_deref() {
        Some(_) if !unchanged(&request.headers, stored, now) => Selected::Whole,
        Some([spec]) => spec.of(length),
        Some([_, _, ..]) => Selected::Several,
        _ => Selected::Whole,
    }
}

/// Whether `If-Range` lets the range count (§13.1.5): a part of one version must not be put to parts of another.
fn unchanged(request: &HeaderMap, stored: &HeaderMap, now: SystemTime) -> bool {
    if !request.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = only(request, &IF_RANGE) else { return false };
    match EntityTag::parse(condition) {
        Some(tag) => EntityTag::of(stored).is_some_and(|known| tag.strongly_equals(&known)),
        // A date counts only if it is the very one, and a strong validator.
        None => only(stored, &LAST_MODIFIED) == Some(condition) && modified_is_strong(stored, now),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// Both ends are part of it.
    Between(u64, u64),
    Last(u64),
}

/// The ranges that are asked for; `None` if the unit is unknown, or any of them is invalid: then none of it counts.
fn specs(range: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = range.split_at(range.iter().position(|&byte| byte == b'=')?);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let elements = set[1..].split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    elements.map(Spec::parse).collect()
}

impl Spec {
    fn parse(text: &[u8]) -> Option<Self> {
        let (first, last) = text.split_at(text.iter().position(|&byte| byte == b'-')?);
        match (first, &last[1..]) {
            (b"", last) => Some(Self::Last(number(last)?)),
            (first, b"") => Some(Self::Between(number(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// What it means in a body of `length` bytes (§14.1.2).
    fn of(self, length: u64) -> Selected {
        let part = match self {
            // No `Content-Range` can name a part of nothing, and a server may ignore any range.
            Self::Last(1..) if length == 0 => return Selected::Whole,
            Self::Last(count) => length.saturating_sub(count)..length,
            Self::Between(first, last) => first..last.saturating_add(1).min(length),
        };
        if part.is_empty() {
            return Selected::Nothing(value(&format!("bytes */{length}")));
        }
        let named = value(&format!("bytes {}-{}/{length}", part.start, part.end - 1));
        Selected::Part(part, named)
    }
}

/// Digits alone. What is too large to hold lies behind the end of any body.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let value = |so_far: u64, digit: &u8| so_far.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    digits.then(|| text.iter().fold(0, value))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and signs are a value")
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const MADE: &str = "Sun, 06 Nov 1994 09:00:00 GMT";

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn asked(method: Method, lines: Lines<'_>, stored: Lines<'_>, length: u64) -> Selected {
        let request = lines.iter().fold(Request::builder().method(method), |to, (name, line)| to.header(*name, *line));
        let stored = stored.iter().fold(Response::builder(), |to, (name, line)| to.header(*name, *line));
        let (request, stored) = (request.body(()).unwrap().into_parts().0, stored.body(()).unwrap().into_parts().0);
        select(&request, &stored.headers, length, SystemTime::UNIX_EPOCH)
    }

    fn part(range: Range<u64>, named: &str) -> Selected {
        Selected::Part(range, value(named))
    }

    /// The examples of §14.1.2 among them. Fails if an end is off by one, not cut to the body, or an invalid range counts.
    #[test]
    fn ranges_of_ten_thousand_bytes() {
        let nothing = Selected::Nothing(value("bytes */10000"));
        let table = [
            ("bytes=0-499", part(0..500, "bytes 0-499/10000")),
            ("bytes=500-999", part(500..1000, "bytes 500-999/10000")),
            ("bytes=-500", part(9500..10000, "bytes 9500-9999/10000")),
            ("bytes=9500-", part(9500..10000, "bytes 9500-9999/10000")),
            ("bytes=0-0", part(0..1, "bytes 0-0/10000")),
            ("bytes=0-", part(0..10000, "bytes 0-9999/10000")),
            ("bytes=9999-", part(9999..10000, "bytes 9999-9999/10000")),
            ("bytes=9999-10000", part(9999..10000, "bytes 9999-9999/10000")),
            ("bytes=0-18446744073709551615", part(0..10000, "bytes 0-9999/10000")),
            ("bytes=0-99999999999999999999999", part(0..10000, "bytes 0-9999/10000")),
            ("bytes=-10001", part(0..10000, "bytes 0-9999/10000")),
            ("BYTES=0-0", part(0..1, "bytes 0-0/10000")),
            ("bytes=,0-0 ,", part(0..1, "bytes 0-0/10000")),
            ("bytes=10000-", nothing.clone()),
            ("bytes=10000-10001", nothing.clone()),
            ("bytes=18446744073709551616-", nothing.clone()),
            ("bytes=-0", nothing),
            ("bytes=0-0,-1", Selected::Several),
            ("bytes=500-600, 601-999", Selected::Several),
            ("bytes=0-0,10000-", Selected::Several),
            ("bytes=1-0", Selected::Whole),
            ("bytes=0-0,1-0", Selected::Whole),
            ("bytes=", Selected::Whole),
            ("bytes=,", Selected::Whole),
            ("bytes=-", Selected::Whole),
            ("bytes=--1", Selected::Whole),
            ("bytes=+1-2", Selected::Whole),
            ("bytes=1-2-3", Selected::Whole),
            ("bytes=a-b", Selected::Whole),
            ("bytes=0x1-2", Selected::Whole),
            ("bytes=0 -1", Selected::Whole),
            ("bytes 0-1", Selected::Whole),
            ("bytes", Selected::Whole),
            ("0-1", Selected::Whole),
            ("", Selected::Whole),
            ("seconds=0-1", Selected::Whole),
        ];
        for (line, expected) in table {
            assert_eq!(asked(Method::GET, &[("range", line)], &[], 10_000), expected, "{line}");
        }
    }

    #[test]
    fn ranges_of_nothing() {
        assert_eq!(asked(Method::GET, &[("range", "bytes=0-")], &[], 0), Selected::Nothing(value("bytes */0")));
        assert_eq!(asked(Method::GET, &[("range", "bytes=-0")], &[], 0), Selected::Nothing(value("bytes */0")));
        assert_eq!(asked(Method::GET, &[("range", "bytes=-1")], &[], 0), Selected::Whole);
    }

    /// Fails if HEAD is answered with a part, or if two lines are read as one of them.
    #[test]
    fn ranges_that_do_not_count() {
        assert_eq!(asked(Method::GET, &[], &[], 9), Selected::Whole);
        assert_eq!(asked(Method::HEAD, &[("range", "bytes=0-0")], &[], 9), Selected::Whole);
        assert_eq!(asked(Method::GET, &[("range", "bytes=0-0"), ("range", "bytes=0-0")], &[], 9), Selected::Whole);
    }

    /// Fails with weak comparison, with dates that are only equal in time, and without the strength of dates (§13.1.5).
    #[test]
    fn parts_of_another_version_are_not_sent() {
        let tag = [("etag", "\"a\"")];
        let weak = [("etag", "W/\"a\"")];
        let dated = [("last-modified", MODIFIED), ("date", MADE)];
        let at_once = [("last-modified", MODIFIED), ("date", MODIFIED)];
        let table: [(&str, Lines<'_>, bool); 14] = [
            ("\"a\"", &tag, true),
            ("\"b\"", &tag, false),
            ("W/\"a\"", &tag, false),
            ("\"a\"", &weak, false),
            ("W/\"a\"", &weak, false),
            ("\"a\"", &[], false),
            ("\"a\", \"b\"", &tag, false),
            (MODIFIED, &dated, true),
            (MADE, &dated, false),
            ("Sunday, 06-Nov-94 08:49:37 GMT", &dated, false),
            (MODIFIED, &at_once, false),
            (MODIFIED, &dated[..1], false),
            (MODIFIED, &tag, false),
            ("", &[], false),
        ];
        for (condition, stored, expected) in table {
            let selected = asked(Method::GET, &[("range", "bytes=0-0"), ("if-range", condition)], stored, 9);
            assert_eq!(selected == part(0..1, "bytes 0-0/9"), expected, "{condition} {stored:?}");
            assert_eq!(selected == Selected::Whole, !expected, "{condition} {stored:?}");
        }
        let twice = [("range", "bytes=0-0"), ("if-range", "\"a\""), ("if-range", "\"a\"")];
        assert_eq!(asked(Method::GET, &twice, &tag, 9), Selected::Whole);
        let stale = [("range", "bytes=9-"), ("if-range", "\"b\"")];
        assert_eq!(asked(Method::GET, &stale, &tag, 9), Selected::Whole, "the condition comes before the range");
        assert_eq!(asked(Method::GET, &[("if-range", "\"b\"")], &tag, 9), Selected::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_within(line in "(bytes=)?[-0-9,]{0,30}", length in prop_oneof![0..20_u64, Just(u64::MAX)]) {
            if let Selected::Part(part, named) = asked(Method::GET, &[("range", &line)], &[], length) {
                prop_assert!(part.start < part.end && part.end <= length);
                prop_assert_eq!(named, format!("bytes {}-{}/{length}", part.start, part.end - 1));
            }
        }
    }
}
