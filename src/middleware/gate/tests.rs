use std::time::SystemTime;

use http::{Method, Response};

use super::*;
use crate::middleware::share_fn;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn usual() -> Terms {
    Terms { result_ttl: secs(20), warmup_window: secs(3), ..Terms::default() }
}

fn head(status: u16, lines: &[(&str, &str)]) -> Parts {
    let response = Response::builder().status(status);
    let response = lines.iter().fold(response, |response, (name, line)| response.header(*name, *line));
    response.body(()).unwrap().into_parts().0
}

fn verdict(terms: &Terms, credentials: bool, status: u16, lines: &[(&str, &str)], share: Share) -> Verdict {
    let (method, headers) = (&Method::GET, &HeaderMap::new());
    let asker = Asker { method, headers, credentials };
    let landed = Landed { now: SystemTime::UNIX_EPOCH, delay: Duration::ZERO };
    shareable(terms, asker, &head(status, lines), landed, &share_fn(move |_| share))
}

fn shared(status: u16, lines: &[(&str, &str)], share: Share) -> Option<(Duration, Duration)> {
    windows(verdict(&usual(), false, status, lines, share))
}

/// How long it is fresh, and then stale.
fn windows(verdict: Verdict) -> Option<(Duration, Duration)> {
    verdict.shared.map(|plan| (plan.fresh(), plan.stale()))
}

const USUAL: Option<(Duration, Duration)> = kept(20, 3);
const WAITERS: Option<(Duration, Duration)> = kept(0, 0);

const fn kept(fresh: u64, stale: u64) -> Option<(Duration, Duration)> {
    Some((secs(fresh), secs(stale)))
}

#[test]
fn statuses() {
    for status in 100..1000 {
        let expected = match status {
            200 | 203 | 204 | 300 | 301 | 308 => USUAL,
            404 | 405 | 410 | 414 | 501 => kept(2, 0),
            500..=599 => WAITERS,
            _ => None,
        };
        assert_eq!(shared(status, &[], Share::Default), expected, "{status}");
    }
}

#[test]
fn failures_are_server_errors() {
    for status in 100..1000 {
        let failed = verdict(&usual(), false, status, &[], Share::Default).failed;
        assert_eq!(failed, (500..600).contains(&status) && status != 501, "{status}");
    }
    assert!(verdict(&usual(), false, 500, &[("set-cookie", "a=b")], Share::No).failed);
}

#[test]
fn what_is_missing_is_remembered_five_seconds_at_most() {
    let of = |terms: &Terms| windows(verdict(terms, false, 404, &[], Share::Default));
    let long = Terms { result_ttl: secs(3600), ..usual() };
    assert_eq!(of(&long), kept(5, 0));
    assert_eq!(of(&Terms { negative_ttl: Some(secs(9)), ..long }), kept(9, 0));
}

#[test]
fn a_ttl_for_one_status() {
    let terms = Terms { statuses: vec![(StatusCode::FOUND, secs(7)), (StatusCode::GONE, secs(60))], ..usual() };
    let of = |status, line| windows(verdict(&terms, false, status, line, Share::Default));
    assert_eq!(of(302, &[]), kept(7, 3));
    assert_eq!(of(410, &[]), kept(60, 0));
    assert_eq!(of(302, &[("cache-control", "max-age=2")]), kept(2, 3));
    assert_eq!(of(302, &[("cache-control", "private")]), None);
    assert_eq!((of(200, &[]), of(307, &[])), (USUAL, None));
}

#[test]
fn guards_hold_whatever_the_policy() {
    let table = [
        ("Cache-Control", "no-store"),
        ("Cache-Control", "public, NO-STORE"),
        ("Cache-Control", "private"),
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "private=\"\""),
        ("Cache-Control", "no-cache=1;2, max-age=5"),
        ("Set-Cookie", "a=b"),
        ("SET-COOKIE", ""),
        ("Vary", "*"),
        ("Vary", "accept, *"),
        ("Vary", "no name"),
        ("Transfer-Encoding", "gzip, chunked"),
        ("Content-Type", "text/event-stream"),
        ("Content-Type", "Text/Event-Stream; charset=utf-8"),
        ("Content-Type", "multipart/x-mixed-replace; boundary=x"),
    ];
    for policy in [Policy::Route, Policy::Origin] {
        let terms = Terms { policy, ..usual() };
        let of = |status, lines: &[_], share| verdict(&terms, false, status, lines, share).shared;
        for line in table {
            for share in [Share::Default, Share::For(secs(9)), Share::WaitersOnly, Share::No] {
                for status in [200, 302, 404, 400, 500] {
                    assert_eq!(of(status, &[line], share), None, "{status} {line:?} {share:?}");
                }
            }
        }
        for status in [100, 101, 206, 304, 401, 403, 407] {
            assert_eq!(of(status, &[("cache-control", "max-age=9")], Share::For(secs(9))), None, "{status}");
        }
    }
}

#[test]
fn guards_read_every_line() {
    assert_eq!(shared(200, &[("cache-control", "public"), ("cache-control", "private")], Share::Default), None);
    assert_eq!(shared(200, &[("vary", ""), ("vary", "*")], Share::Default), None);
}

/// Fails if a list of fields holds the whole response back, or if what it names stays in the copy.
#[test]
fn fields_that_are_one_users_are_taken_out() {
    let lines = [("cache-control", "private=\"x-user\", no-cache=\"set-cookie\""), ("set-cookie", "a=b")];
    let plan = verdict(&usual(), false, 200, &lines, Share::Default).shared.unwrap();
    assert_eq!(plan.stripped, ["x-user", "set-cookie"]);
    assert_eq!(shared(200, &[("cache-control", "private=\"x-user\""), ("set-cookie", "a=b")], Share::Default), None);
}

/// RFC 9111 §3.5. Fails if the rule is left out, in either policy.
#[test]
fn what_a_request_with_credentials_gets_is_its_own_unless_it_says_otherwise() {
    for policy in [Policy::Route, Policy::Origin] {
        let terms = Terms { policy, ..usual() };
        let of = |line| verdict(&terms, true, 200, &[("cache-control", line)], Share::Default).shared.is_some();
        for line in ["max-age=9", "max-age=9, proxy-revalidate"] {
            assert!(!of(line), "{policy:?} {line}");
        }
        for line in ["max-age=9, public", "s-maxage=9", "max-age=9, must-revalidate"] {
            assert!(of(line), "{policy:?} {line}");
        }
    }
}

#[test]
fn harmless_fields_do_not_hold_back() {
    let harmless = [
        ("Vary", "accept"),
        ("Content-Encoding", "gzip"),
        ("Access-Control-Allow-Origin", "https://a.test"),
        ("Cache-Control", "public"),
        ("Content-Type", "text/html"),
        ("ETag", "\"a\""),
    ];
    for line in harmless {
        assert_eq!(shared(200, &[line], Share::Default), USUAL, "{line:?}");
    }
}

#[test]
fn a_response_may_shorten_its_life() {
    let table = [
        ("max-age=5", kept(5, 3)),
        ("max-age=\"5\"", kept(5, 3)),
        ("max-age=3600", USUAL),
        ("max-age=0", WAITERS),
        ("max-age=soon", WAITERS),
        // "Either the first occurrence should be used or the response should be considered stale" (RFC 9111 §4.2.1).
        ("max-age=5, max-age=7", WAITERS),
        ("max-age=0, s-maxage=7", kept(7, 0)),
        ("Must-Revalidate", kept(20, 0)),
        ("proxy-revalidate", kept(20, 0)),
        ("max-age=+5", WAITERS),
        ("stale-while-revalidate=9", kept(20, 9)),
        ("stale-while-revalidate=0", kept(20, 0)),
    ];
    for (line, expected) in table {
        assert_eq!(shared(200, &[("cache-control", line)], Share::Default), expected, "{line}");
    }
    let aged = [("cache-control", "max-age=15"), ("age", "10")];
    assert_eq!(shared(200, &aged, Share::Default), kept(5, 3));
    assert_eq!(shared(200, &[("expires", "0")], Share::Default), WAITERS);
    assert_eq!(shared(200, &[("expires", "0"), ("cache-control", "max-age=5")], Share::Default), kept(5, 3));
    // Nine seconds past the epoch, where the clock of these tests stands.
    assert_eq!(shared(200, &[("expires", "Thu, 01 Jan 1970 00:00:09 GMT")], Share::Default), kept(9, 3));
}

/// Fails if the route's TTL or window reaches a response that an origin has sent.
#[test]
fn an_origin_speaks_for_itself() {
    let terms = Terms { policy: Policy::Origin, ..usual() };
    let of = |status, lines: &[_]| windows(verdict(&terms, false, status, lines, Share::Default));
    let control = |line| [("cache-control", line)];
    assert_eq!(of(200, &[]), WAITERS);
    assert_eq!(of(200, &control("max-age=60")), kept(60, 0));
    assert_eq!(of(200, &control("max-age=60, stale-while-revalidate=5")), kept(60, 5));
    assert_eq!(of(404, &control("max-age=60")), kept(60, 0));
    assert_eq!((of(302, &[]), of(302, &control("max-age=60"))), (None, kept(60, 0)));
    assert_eq!(of(200, &control("max-age=0")), None);
    assert_eq!((of(500, &control("max-age=60")), of(429, &control("max-age=60"))), (WAITERS, None));
    let capped = Terms { max_ttl: secs(30), ..terms.clone() };
    let lines = control("max-age=60");
    assert_eq!(windows(verdict(&capped, false, 200, &lines, Share::Default)), kept(30, 0));
    assert_eq!(windows(verdict(&terms, false, 200, &lines, Share::For(secs(9)))), kept(9, 3));
}

#[test]
fn who_waits_for_what_speaks_of_one_request() {
    let verdict = |status, share| verdict(&usual(), false, status, &[], share);
    for status in [400, 406, 408, 413, 429, 431] {
        assert!(verdict(status, Share::Default).once, "{status}");
        let admitted = verdict(status, Share::WaitersOnly);
        assert!(admitted.passing && windows(admitted) == WAITERS, "{status}");
    }
    assert!(!verdict(302, Share::Default).once && verdict(403, Share::Default).shared.is_none());
    assert!(!verdict(200, Share::Default).passing && verdict(200, Share::WaitersOnly).passing);
}

#[test]
fn policies() {
    let asked = Share::For(secs(9));
    assert_eq!(shared(200, &[], asked), kept(9, 3));
    assert_eq!(shared(200, &[("cache-control", "max-age=1")], asked), kept(9, 3));
    assert_eq!(shared(302, &[], asked), kept(9, 3));
    assert_eq!(shared(404, &[], asked), kept(9, 0));
    assert_eq!(shared(400, &[], asked), WAITERS);
    assert_eq!(shared(500, &[], asked), WAITERS);
    assert_eq!(shared(200, &[], Share::WaitersOnly), WAITERS);
    assert_eq!(shared(302, &[], Share::WaitersOnly), WAITERS);
    assert_eq!(shared(200, &[], Share::No), None);
    assert_eq!(shared(500, &[], Share::No), None);
}

#[test]
fn lengths() {
    assert_eq!(declared_length(&head(200, &[])), Ok(None));
    assert_eq!(declared_length(&head(200, &[("content-length", "12")])), Ok(Some(12)));
    assert_eq!(declared_length(&head(200, &[("content-length", "-1")])), Err(Inconsistent));
    assert_eq!(declared_length(&head(200, &[("content-length", "1"), ("content-length", "1")])), Err(Inconsistent));
}
