use http::HeaderValue;
use proptest::{collection::vec, prelude::*};

use super::*;

const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

fn secs(secs: u64) -> Option<Duration> {
    Some(Duration::from_secs(secs))
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line))).collect()
}

fn said(lines: &[&'static str]) -> ResponseDirectives {
    let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
    ResponseDirectives::of(&headers(&lines), &[])
}

fn asked(lines: &[&'static str]) -> RequestDirectives {
    let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
    RequestDirectives::of(&headers(&lines))
}

fn fields(names: &[&'static str]) -> Scope {
    Scope::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
}

/// Fails for each directive that is not read, in any case, on any line, or beside names that are unknown (§5.2.3).
#[test]
fn each_directive_of_a_response() {
    type Set = fn(&mut ResponseDirectives);
    let table: [(&str, Set); 12] = [
        ("no-store", |said| said.no_store = true),
        ("No-Cache", |said| said.no_cache = Scope::Everything),
        ("PRIVATE", |said| said.private = Scope::Everything),
        ("public", |said| (said.public, said.authorized) = (true, true)),
        ("max-age=5", |said| said.max_age = secs(5)),
        ("max-age=\"5\"", |said| said.max_age = secs(5)),
        ("s-maxage=5", |said| (said.s_maxage, said.authorized) = (secs(5), true)),
        ("must-revalidate", |said| (said.must_revalidate, said.authorized) = (true, true)),
        ("proxy-revalidate", |said| said.proxy_revalidate = true),
        ("must-understand", |said| said.must_understand = true),
        ("stale-while-revalidate=5", |said| said.stale_while_revalidate = secs(5)),
        ("stale-if-error=5", |said| said.stale_if_error = secs(5)),
    ];
    for (line, set) in table {
        let mut expected = ResponseDirectives::default();
        set(&mut expected);
        assert_eq!(said(&[line]), expected, "{line}");
        assert_eq!(said(&["community=\"UCI\", x", line, ""]), expected, "{line} on a second line");
    }
}

/// Fails if a list is read as the whole (§5.2.2.4, §5.2.2.7), or a list that names nothing as nothing.
#[test]
fn lists_of_fields() {
    let table: [(&[&str], Scope); 9] = [
        (&["private=\"X-A, x-b\""], fields(&["x-a", "x-b"])),
        (&["private=x-a"], fields(&["x-a"])),
        (&["private=\"x-a\", private=\"x-b\""], fields(&["x-a", "x-b"])),
        (&["private=\"x-a\"", "private=\"x-b\""], fields(&["x-a", "x-b"])),
        (&["private=\"x-a\", private"], Scope::Everything),
        (&["private, private=\"x-a\""], Scope::Everything),
        (&["private=\"\""], Scope::Everything),
        (&["private=\"x a\""], Scope::Everything),
        (&["private=\"x-a"], Scope::Everything),
    ];
    for (lines, expected) in table {
        assert_eq!(said(lines).private, expected, "{lines:?}");
    }
    assert_eq!(said(&["no-cache=\"set-cookie\""]).no_cache, fields(&["set-cookie"]));
    assert_eq!(said(&["no-cache=\"set-cookie\""]).private, Scope::Nothing);
}

/// Fails if a longer one wins, or what is no number is ignored (§4.2.1).
#[test]
fn lifetimes_that_contradict_or_make_no_sense_are_over() {
    let table: [(&[&str], Option<Duration>); 10] = [
        (&["max-age=5, max-age=5"], secs(5)),
        (&["max-age=5, max-age=7"], secs(0)),
        (&["max-age=7", "max-age=5"], secs(0)),
        (&["max-age=5, max-age=7, max-age=5"], secs(0)),
        (&["max-age=soon"], secs(0)),
        (&["max-age=-5"], secs(0)),
        (&["max-age=5.5"], secs(0)),
        (&["max-age"], secs(0)),
        (&["max-age=99999999999999999999"], secs(1 << 31)),
        (&["x"], None),
    ];
    for (lines, expected) in table {
        assert_eq!(said(lines).max_age, expected, "{lines:?}");
    }
}

/// Fails if a broken line is dropped, or believed.
#[test]
fn a_broken_line_restricts_and_does_not_loosen() {
    let every = "no-store private no-cache max-age=5 s-maxage=5 must-revalidate proxy-revalidate public must-understand \
                 stale-while-revalidate=5 stale-if-error=5";
    let expected = ResponseDirectives {
        no_store: true,
        no_cache: Scope::Everything,
        private: Scope::Everything,
        max_age: secs(0),
        s_maxage: secs(0),
        must_revalidate: true,
        proxy_revalidate: true,
        stale_while_revalidate: secs(0),
        stale_if_error: secs(0),
        ..ResponseDirectives::default()
    };
    assert_eq!(said(&[every]), expected);
    for line in ["x=\"a, no-store", "x=\"a\"b, no-store", "max-age = 5, no-store", "max-age=5; no-store"] {
        assert!(said(&[line]).no_store, "{line}");
    }
    assert_eq!(said(&["public, x=\""]), ResponseDirectives::default());
    assert_eq!(said(&["max-age=60", "max-age = 60"]).max_age, secs(0));
    // What stands in quotes of a sound line is somebody else's argument.
    assert_eq!(said(&["x=\"no-store\""]), ResponseDirectives::default());
}

/// Fails if an argument that is not allowed is overlooked where the directive loosens (§5.2).
#[test]
fn arguments_that_are_not_allowed() {
    assert!(!said(&["public=x"]).public);
    assert!(!said(&["public=x"]).authorized);
    assert!(!said(&["s-maxage=x"]).authorized);
    assert!(!said(&["must-revalidate=x"]).authorized);
    assert!(said(&["must-revalidate=x"]).must_revalidate);
    assert!(said(&["no-store=x"]).no_store);
    assert!(said(&["must-understand=x"]).no_store);
}

/// Fails if the field is not preferred, is preferred when it says nothing, or read like `Cache-Control` (RFC 9213 §2).
#[test]
fn targeted_fields() {
    let of = |line: &'static str| {
        ResponseDirectives::of(&headers(&[("cache-control", "no-store"), ("cdn-cache-control", line)]), &[CDN])
    };
    let table: [(&str, ResponseDirectives); 9] = [
        ("max-age=5", ResponseDirectives { max_age: secs(5), ..Default::default() }),
        ("max-age=5;x=1", ResponseDirectives { max_age: secs(5), ..Default::default() }),
        ("max-age=5, max-age=7", ResponseDirectives { max_age: secs(7), ..Default::default() }),
        ("max-age=\"5\"", ResponseDirectives { max_age: secs(0), ..Default::default() }),
        ("max-age=5.5", ResponseDirectives { max_age: secs(0), ..Default::default() }),
        ("public=?0", ResponseDirectives::default()),
        ("no-store=?0", ResponseDirectives { no_store: true, ..Default::default() }),
        ("private=\"x-a, x-b\"", ResponseDirectives { private: fields(&["x-a", "x-b"]), ..Default::default() }),
        ("private=(\"x-a\")", ResponseDirectives { private: Scope::Everything, ..Default::default() }),
    ];
    for (line, expected) in table {
        assert_eq!(of(line), ResponseDirectives { targeted: true, ..expected }, "{line}");
    }
    for line in ["", "max-age=5,", "Max-Age=5", "max-age=5, &", "max-age=5, x=\"", "max-age=5 public", "x=@5"] {
        let expected = ResponseDirectives { no_store: true, ..Default::default() };
        assert_eq!(of(line), expected, "{line} is no dictionary");
    }
}

/// Fails if only the first target or the first line is read, or fields are read that are meant for other caches.
#[test]
fn targets_in_order() {
    let other = HeaderName::from_static("shop-cache-control");
    let both = headers(&[("cdn-cache-control", "max-age=5"), ("shop-cache-control", "max-age=7")]);
    assert_eq!(ResponseDirectives::of(&both, &[other.clone(), CDN]).max_age, secs(7));
    assert_eq!(ResponseDirectives::of(&both, &[CDN, other.clone()]).max_age, secs(5));
    assert_eq!(ResponseDirectives::of(&both, &[]).max_age, None);
    let invalid = headers(&[("cdn-cache-control", "max-age=5"), ("shop-cache-control", "&")]);
    assert_eq!(ResponseDirectives::of(&invalid, &[other, CDN]).max_age, secs(5));
    let lines = headers(&[("cdn-cache-control", "max-age=5"), ("cdn-cache-control", "must-revalidate")]);
    let said = ResponseDirectives::of(&lines, &[CDN]);
    assert!(said.max_age == secs(5) && said.must_revalidate);
}

/// Fails for each directive that is not read, and for a contradiction that is resolved the lenient way (§5.2.1).
#[test]
fn directives_of_a_request() {
    type Set = fn(&mut RequestDirectives);
    let table: [(&[&str], Set); 21] = [
        (&["No-Store"], |asked| asked.no_store = true),
        (&["no-cache"], |asked| asked.no_cache = true),
        (&["max-age=5"], |asked| asked.max_age = secs(5)),
        (&["max-age=x"], |asked| asked.max_age = secs(0)),
        (&["max-age=5", "max-age=7"], |asked| asked.max_age = secs(0)),
        (&["max-stale"], |asked| asked.max_stale = Some(Duration::MAX)),
        (&["max-stale=\"5\""], |asked| asked.max_stale = secs(5)),
        (&["max-stale=x"], |asked| asked.max_stale = secs(0)),
        (&["max-stale, max-stale=5"], |asked| asked.max_stale = secs(0)),
        (&["min-fresh=5"], |asked| asked.min_fresh = secs(5)),
        (&["min-fresh=5, min-fresh=7"], |asked| asked.min_fresh = secs(7)),
        (&["min-fresh=7, min-fresh=5"], |asked| asked.min_fresh = secs(7)),
        (&["min-fresh=x"], |asked| asked.min_fresh = Some(Duration::MAX)),
        (&["only-if-cached"], |asked| asked.only_if_cached = true),
        (&["stale-if-error=5"], |asked| asked.stale_if_error = secs(5)),
        (&["private, public, x"], |_| {}),
        (&["x=\"no-store"], |asked| asked.no_store = true),
        (&["max-age = 5"], |asked| asked.max_age = secs(0)),
        (&["max-stale = 5"], |asked| asked.max_stale = secs(0)),
        (&["min-fresh = 5"], |asked| asked.min_fresh = Some(Duration::MAX)),
        (&["only-if-cached x"], |_| {}),
    ];
    for (lines, set) in table {
        let mut expected = RequestDirectives::default();
        set(&mut expected);
        assert_eq!(asked(lines), expected, "{lines:?}");
    }
}

/// Fails if `Pragma` counts beside `Cache-Control`, or not at all (§5.4).
#[test]
fn pragma_counts_alone() {
    let no_cache = |lines: &[_]| RequestDirectives::of(&headers(lines)).no_cache;
    assert!(no_cache(&[("pragma", "No-Cache")]));
    assert!(no_cache(&[("pragma", "x=\"y\""), ("pragma", "x, no-cache")]));
    assert!(!no_cache(&[("pragma", "x")]));
    assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]));
    assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "")]));
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'"'), Just(b'\\'), Just(b','), Just(b'='), Just(b'\t'), 32..127_u8, 128..=255_u8];
    vec(byte, 0..16)
}

proptest! {
    /// Whatever surrounds it, before or after, on its own line or on another: it is found, unless a quote holds it.
    #[test]
    fn no_store_is_found_beside_anything(before in any_line(), after in any_line(), other in any_line()) {
        for line in [[&b"no-store,"[..], &after].concat(), [&before, &b",no-store"[..]].concat()] {
            let mut headers = HeaderMap::new();
            for line in [&line, &other] {
                headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap());
            }
            prop_assert!(ResponseDirectives::of(&headers, &[]).no_store);
            prop_assert!(RequestDirectives::of(&headers).no_store);
        }
    }

    #[test]
    fn targeted_bytes_of_any_kind_never_panic(line in any_line()) {
        let headers = HeaderMap::from_iter([(CDN, HeaderValue::from_bytes(&line).unwrap())]);
        let _ = ResponseDirectives::of(&headers, &[CDN]);
    }
}
