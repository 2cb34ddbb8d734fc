//! Which responses may serve other requests, and how long.

use std::{fmt, time::Duration};

use http::{
    HeaderMap, StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPIRES, SET_COOKIE, TRANSFER_ENCODING},
    response::Parts,
};

use super::{
    fields::{digits, elements, names},
    rules::vary::Varies,
};

/// A missing page is not remembered longer than this, nor longer than a tenth of the result TTL.
const NEGATIVE: Duration = Duration::from_secs(5);

/// What a [`SharePolicy`] says of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Share {
    /// What the layer would do without a policy.
    #[default]
    Default,
    /// Share it with those who wait, and keep it this long, instead of the result TTL and of what the response says.
    For(Duration),
    /// Share it with those who wait, and keep nothing.
    WaitersOnly,
    /// Share it with nobody.
    No,
}

/// Decides about responses: [`SingleflightLayer::share`](super::SingleflightLayer::share).
///
/// A policy restricts, sets lifetimes, and admits statuses that have no rule of their own, such as 302. It is not asked
/// about responses that the guards hold back: a response with `Set-Cookie` is shared with nobody, whatever the policy.
/// See [`share_fn`] for closures.
pub trait SharePolicy: Send + Sync + 'static {
    /// What to do with a response.
    fn share(&self, head: &Parts) -> Share;
}

/// A [`SharePolicy`] from a closure.
///
/// ```
/// use std::time::Duration;
///
/// use http::StatusCode;
/// use tower_singleflight::{Share, share_fn};
///
/// let only_success = share_fn(|head| match head.status {
///     StatusCode::OK => Share::For(Duration::from_secs(5)),
///     _ => Share::No,
/// });
/// # let _: &dyn tower_singleflight::SharePolicy = &only_success;
/// ```
pub fn share_fn<F>(share: F) -> ShareFn<F>
where
    F: Fn(&Parts) -> Share + Send + Sync + 'static,
{
    ShareFn(share)
}

/// The policy that [`share_fn`] makes.
#[derive(Clone, Copy)]
pub struct ShareFn<F>(F);

impl<F> SharePolicy for ShareFn<F>
where
    F: Fn(&Parts) -> Share + Send + Sync + 'static,
{
    fn share(&self, head: &Parts) -> Share {
        (self.0)(head)
    }
}

impl<F> fmt::Debug for ShareFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareFn").finish_non_exhaustive()
    }
}

/// How long a response may be used by those who ask later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) fresh: Duration,
    pub(super) stale: Duration,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// For whom waits, and then for this long; `None` for nobody else.
    pub(super) shared: Option<Lifetimes>,
    /// It says nothing about a response that is stored.
    pub(super) passing: bool,
    /// It tells that the work failed.
    pub(super) failed: bool,
    /// It says nothing about the next response: if it is not shared, the next one may be.
    pub(super) once: bool,
}

/// The one gate: whether the response with this head may serve other requests, asked before its body is read.
pub(super) fn shareable(head: &Parts, usual: Lifetimes, policy: &dyn SharePolicy) -> Verdict {
    let class = Class::of(head.status);
    let asked = if guarded(head.status, &head.headers) { Share::No } else { policy.share(head) };
    Verdict {
        shared: lifetimes(head, class, usual, asked),
        passing: asked == Share::WaitersOnly || class == Class::Refusal,
        failed: class == Class::Failure,
        once: matches!(class, Class::Refusal | Class::Failure),
    }
}

/// What a status says about the life of its response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Speaks of the target.
    Usual,
    /// Speaks of what is not there, which may change any moment.
    Negative,
    /// Speaks of this request, or of who sent it: too large a field, too many requests. Shared only when a policy says so.
    Refusal,
    /// Speaks of a server in trouble.
    Failure,
    /// Shared only when a policy says so.
    Unruled,
}

impl Class {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200 | 203 | 204 | 300 | 301 | 308 => Self::Usual,
            404 | 405 | 410 | 414 | 501 => Self::Negative,
            400..=499 => Self::Refusal,
            500..=599 => Self::Failure,
            _ => Self::Unruled,
        }
    }
}

/// What nobody else may see, whatever a policy says. Asked again of what comes out of the store: a replica with other
/// rules, or nobody of ours, may have put it there.
pub(super) fn guarded(status: StatusCode, headers: &HeaderMap) -> bool {
    let personal = matches!(status.as_u16(), 100..=199 | 206 | 304 | 401 | 403 | 407)
        || headers.contains_key(SET_COOKIE)
        || ["no-store", "private", "no-cache"].iter().any(|name| names(headers, CACHE_CONTROL, name));
    let varies = Varies::of(headers) == Varies::OnEverything;
    // A body in a coding that belongs to the connection, whose name does not go into a copy.
    let coded = headers.get_all(TRANSFER_ENCODING).iter().any(|line| !line.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let endless = ["text/event-stream", "multipart/x-mixed-replace"];
    personal || varies || coded || endless.iter().any(|media_type| names(headers, CONTENT_TYPE, media_type))
}

fn lifetimes(head: &Parts, class: Class, usual: Lifetimes, asked: Share) -> Option<Lifetimes> {
    let declared = Declared::of(head);
    let fresh = match (class, asked) {
        (_, Share::No) | (Class::Unruled | Class::Refusal, Share::Default) => return None,
        (Class::Refusal | Class::Failure, _) | (_, Share::WaitersOnly) => Duration::ZERO,
        (_, Share::For(fresh)) => fresh,
        (Class::Negative, Share::Default) => NEGATIVE.min(usual.fresh / 10).min(declared.fresh),
        (Class::Usual, Share::Default) => usual.fresh.min(declared.fresh),
    };
    // What was fresh for nobody is stale for nobody.
    let never_stale = fresh.is_zero() || declared.revalidate || class == Class::Negative;
    Some(Lifetimes { fresh, stale: if never_stale { Duration::ZERO } else { usual.stale } })
}

/// What the response says about its own life.
struct Declared {
    fresh: Duration,
    revalidate: bool,
}

impl Declared {
    fn of(head: &Parts) -> Self {
        let (mut private, mut shared, mut revalidate) = (None, None, false);
        for (name, value) in head.headers.get_all(CACHE_CONTROL).iter().flat_map(elements) {
            match &*name.to_ascii_lowercase() {
                b"max-age" => private = shortest(private, value),
                b"s-maxage" => shared = shortest(shared, value),
                b"must-revalidate" | b"proxy-revalidate" => revalidate = true,
                _ => {}
            }
        }
        let fresh = match shared.or(private) {
            Some(life) => life.saturating_sub(Duration::from_secs(age(&head.headers))),
            // A date would have to be held against a clock: such a response is kept for nobody.
            None if head.headers.contains_key(EXPIRES) => Duration::ZERO,
            None => Duration::MAX,
        };
        Self { fresh, revalidate: revalidate || shared.is_some() }
    }
}

/// The shorter of what was said so far and of `seconds`; what cannot be read is over at once.
fn shortest(so_far: Option<Duration>, seconds: &[u8]) -> Option<Duration> {
    let seconds = digits(seconds).unwrap_or(0);
    Some(so_far.unwrap_or(Duration::MAX).min(Duration::from_secs(seconds)))
}

/// For how many seconds the response had been stored elsewhere before it came here.
pub(super) fn age(headers: &HeaderMap) -> u64 {
    headers.get(AGE).and_then(|age| digits(age.as_bytes())).unwrap_or(0)
}

/// The length of the body, if the head tells one; an error if it tells several.
pub(super) fn declared_length(head: &Parts) -> Result<Option<u64>, Inconsistent> {
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let length = digits(length.as_bytes());
    if lengths.next().is_some() || length.is_none() { Err(Inconsistent) } else { Ok(length) }
}

/// The head contradicts itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inconsistent;

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    const USUAL: Lifetimes = Lifetimes { fresh: secs(20), stale: secs(3) };

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn head(status: u16, lines: &[(&str, &str)]) -> Parts {
        let response = Response::builder().status(status);
        let response = lines.iter().fold(response, |response, (name, line)| response.header(*name, *line));
        response.body(()).unwrap().into_parts().0
    }

    fn shared(status: u16, lines: &[(&str, &str)], share: Share) -> Option<Lifetimes> {
        shareable(&head(status, lines), USUAL, &share_fn(move |_| share)).shared
    }

    fn kept(fresh: Duration, stale: Duration) -> Option<Lifetimes> {
        Some(Lifetimes { fresh, stale })
    }

    const WAITERS: Option<Lifetimes> = Some(Lifetimes { fresh: Duration::ZERO, stale: Duration::ZERO });

    #[test]
    fn statuses() {
        for status in 100..1000 {
            let expected = match status {
                200 | 203 | 204 | 300 | 301 | 308 => Some(USUAL),
                404 | 405 | 410 | 414 | 501 => kept(secs(2), Duration::ZERO),
                500..=599 => WAITERS,
                _ => None,
            };
            assert_eq!(shared(status, &[], Share::Default), expected, "{status}");
        }
    }

    #[test]
    fn failures_are_server_errors() {
        for status in 100..1000 {
            let failed = shareable(&head(status, &[]), USUAL, &share_fn(|_| Share::Default)).failed;
            assert_eq!(failed, (500..600).contains(&status) && status != 501, "{status}");
        }
        assert!(shareable(&head(500, &[("set-cookie", "a=b")]), USUAL, &share_fn(|_| Share::No)).failed);
    }

    #[test]
    fn what_is_missing_is_remembered_five_seconds_at_most() {
        let long = Lifetimes { fresh: secs(3600), stale: secs(3) };
        let verdict = shareable(&head(404, &[]), long, &share_fn(|_| Share::Default));
        assert_eq!(verdict.shared, kept(secs(5), Duration::ZERO));
    }

    #[test]
    fn guards_hold_whatever_the_policy() {
        let table = [
            ("Cache-Control", "no-store"),
            ("Cache-Control", "public, NO-STORE"),
            ("Cache-Control", "private"),
            ("Cache-Control", "Private=\"x\""),
            ("Cache-Control", "no-cache"),
            ("Cache-Control", "no-cache=\"set-cookie\", max-age=5"),
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
        for line in table {
            for share in [Share::Default, Share::For(secs(9)), Share::WaitersOnly, Share::No] {
                for status in [200, 302, 404, 400, 500] {
                    assert_eq!(shared(status, &[line], share), None, "{status} {line:?} {share:?}");
                }
            }
        }
        for status in [100, 101, 206, 304, 401, 403, 407] {
            assert_eq!(shared(status, &[], Share::For(secs(9))), None, "{status}");
        }
    }

    #[test]
    fn guards_read_every_line() {
        assert_eq!(shared(200, &[("cache-control", "public"), ("cache-control", "private")], Share::Default), None);
        assert_eq!(shared(200, &[("vary", ""), ("vary", "*")], Share::Default), None);
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
            assert_eq!(shared(200, &[line], Share::Default), Some(USUAL), "{line:?}");
        }
    }

    #[test]
    fn a_response_may_shorten_its_life() {
        let table = [
            ("max-age=5", kept(secs(5), secs(3))),
            ("max-age=\"5\"", kept(secs(5), secs(3))),
            ("max-age=3600", Some(USUAL)),
            ("max-age=0", WAITERS),
            ("max-age=soon", WAITERS),
            ("max-age=5, max-age=7", kept(secs(5), secs(3))),
            ("max-age=0, s-maxage=7", kept(secs(7), Duration::ZERO)),
            ("Must-Revalidate", kept(secs(20), Duration::ZERO)),
            ("proxy-revalidate", kept(secs(20), Duration::ZERO)),
            ("max-age=+5", WAITERS),
        ];
        for (line, expected) in table {
            assert_eq!(shared(200, &[("cache-control", line)], Share::Default), expected, "{line}");
        }
        let aged = [("cache-control", "max-age=15"), ("age", "10")];
        assert_eq!(shared(200, &aged, Share::Default), kept(secs(5), secs(3)));
        assert_eq!(shared(200, &[("expires", "0")], Share::Default), WAITERS);
        assert_eq!(
            shared(200, &[("expires", "0"), ("cache-control", "max-age=5")], Share::Default),
            kept(secs(5), secs(3))
        );
    }

    #[test]
    fn who_waits_for_what_speaks_of_one_request() {
        let verdict = |status, share| shareable(&head(status, &[]), USUAL, &share_fn(move |_| share));
        for status in [400, 406, 408, 413, 429, 431] {
            assert!(verdict(status, Share::Default).once, "{status}");
            let admitted = verdict(status, Share::WaitersOnly);
            assert!(admitted.shared == WAITERS && admitted.passing, "{status}");
        }
        assert!(!verdict(302, Share::Default).once && verdict(403, Share::Default).shared.is_none());
        assert!(!verdict(200, Share::Default).passing && verdict(200, Share::WaitersOnly).passing);
    }

    #[test]
    fn policies() {
        let asked = Share::For(secs(9));
        assert_eq!(shared(200, &[], asked), kept(secs(9), secs(3)));
        assert_eq!(shared(200, &[("cache-control", "max-age=1")], asked), kept(secs(9), secs(3)));
        assert_eq!(shared(302, &[], asked), kept(secs(9), secs(3)));
        assert_eq!(shared(404, &[], asked), kept(secs(9), Duration::ZERO));
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
}
