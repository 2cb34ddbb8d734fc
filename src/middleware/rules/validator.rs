//! Entity tags and modification dates (RFC 9110 §8.8).

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName,
    header::{DATE, ETAG, LAST_MODIFIED},
};

use super::date;

/// An entity tag (§8.8.3). It has no escapes: a backslash is a character like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        Self::take(text).filter(|(_, rest)| rest.is_empty()).map(|(tag, _)| tag)
    }

    /// The tag of a message; `None` if it has none, or several.
    pub(super) fn of(headers: &'a HeaderMap) -> Option<Self> {
        Self::parse(only(headers, &ETAG)?)
    }

    /// All tags of one line of a list; `None` if there is anything else in it.
    pub(super) fn list(mut rest: &'a [u8]) -> Option<Vec<Self>> {
        let mut tags = Vec::new();
        loop {
            while let [b' ' | b'\t' | b',', after @ ..] = rest {
                rest = after;
            }
            if rest.is_empty() {
                return Some(tags);
            }
            let (tag, after) = Self::take(rest)?;
            tags.push(tag);
            rest = after.trim_ascii_start();
            if !matches!(rest, [] | [b',', ..]) {
                return None;
            }
        }
    }

    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = text.strip_prefix(b"W/").map_or((false, text), |text| (true, text));
        let text = text.strip_prefix(b"\"")?;
        let end = text.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..))?;
        let (opaque, rest) = text.split_at(end);
        Some((Self { weak, opaque }, rest.strip_prefix(b"\"")?))
    }

    pub(super) fn is_strong(&self) -> bool {
        !self.weak
    }

    /// Strong comparison (§8.8.3.2): byte for byte the same representation.
    pub(super) fn strongly_equals(&self, other: &Self) -> bool {
        !self.weak && self == other
    }

    /// Weak comparison (§8.8.3.2): the same for most purposes.
    pub(super) fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The value of a field that stands on one line. Several lines are nobody's value.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?.as_bytes().trim_ascii();
    lines.next().is_none().then_some(line)
}

/// The date in a field; `None` if there is none, or several.
pub(super) fn date_in(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<SystemTime> {
    date::parse(only(headers, name)?, now)
}

/// Whether the modification date of a message is a strong validator (§8.8.2.2). It is when the message was made a second
/// later or more: within the same second the representation could have changed twice.
pub(super) fn modified_is_strong(headers: &HeaderMap, now: SystemTime) -> bool {
    let dates = date_in(headers, &LAST_MODIFIED, now).zip(date_in(headers, &DATE, now));
    let between = dates.and_then(|(modified, made)| made.duration_since(modified).ok());
    between.is_some_and(|between| between >= Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tags() {
        let tag = |weak, opaque| Some(EntityTag { weak, opaque });
        let table: [(&[u8], Option<EntityTag<'_>>); 14] = [
            (b"\"xyzzy\"", tag(false, b"xyzzy")),
            (b"W/\"xyzzy\"", tag(true, b"xyzzy")),
            (b"\"\"", tag(false, b"")),
            (b"\"a,b\"", tag(false, b"a,b")),
            (b"\"a\\\"", tag(false, b"a\\")),
            (b"\"\xff\"", tag(false, b"\xff")),
            (b"", None),
            (b"*", None),
            (b"xyzzy", None),
            (b"w/\"xyzzy\"", None),
            (b"W\"xyzzy\"", None),
            (b"\"xyzzy", None),
            (b"\"a b\"", None),
            (b"\"a\"b", None),
        ];
        for (text, expected) in table {
            assert_eq!(EntityTag::parse(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lists_of_tags() {
        let opaque = |text: &'static str| {
            EntityTag::list(text.as_bytes()).map(|tags| tags.iter().map(|tag| tag.opaque).collect::<Vec<_>>())
        };
        assert_eq!(opaque(""), Some(vec![]));
        assert_eq!(opaque("\"a,b\" ,\t,W/\"c\","), Some(vec![&b"a,b"[..], b"c"]));
        assert_eq!(opaque("\"a\" \"b\""), None);
        assert_eq!(opaque("\"a\", b"), None);
        assert_eq!(opaque("*"), None);
    }

    /// The table of §8.8.3.2.
    #[test]
    fn comparisons() {
        let tag = |text: &'static str| EntityTag::parse(text.as_bytes()).unwrap();
        let table = [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "W/\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ];
        for (a, b, strong, weak) in table {
            assert_eq!(tag(a).strongly_equals(&tag(b)), strong, "{a} {b}");
            assert_eq!(tag(a).weakly_equals(&tag(b)), weak, "{a} {b}");
        }
    }

    #[test]
    fn several_lines_are_no_value() {
        let headers = |lines: &[&'static str]| -> HeaderMap {
            lines.iter().map(|line| (ETAG, HeaderValue::from_static(line))).collect()
        };
        assert_eq!(only(&headers(&[]), &ETAG), None);
        assert_eq!(only(&headers(&["\"a\""]), &ETAG), Some(&b"\"a\""[..]));
        assert_eq!(only(&headers(&["\"a\"", "\"a\""]), &ETAG), None);
    }

    /// Fails if a date of the same second, or one without `Date` beside it, is taken for strong.
    #[test]
    fn strong_dates() {
        let strong = |modified: &'static str, made: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(LAST_MODIFIED, HeaderValue::from_static(modified))]);
            headers.extend(made.map(|made| (DATE, HeaderValue::from_static(made))));
            modified_is_strong(&headers, SystemTime::UNIX_EPOCH)
        };
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert!(strong(modified, Some("Sun, 06 Nov 1994 08:49:38 GMT")));
        assert!(!strong(modified, Some("Sun, 06 Nov 1994 08:49:37 GMT")));
        assert!(!strong(modified, Some("Sun, 06 Nov 1994 08:49:36 GMT")));
        assert!(!strong(modified, Some("now")));
        assert!(!strong(modified, None));
        assert!(!strong("yesterday", Some("Sun, 06 Nov 1994 08:49:38 GMT")));
    }
}
