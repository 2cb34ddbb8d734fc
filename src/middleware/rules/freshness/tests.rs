use http::{Request, Response};
use proptest::{option, prelude::*};

use super::*;

type Lines<'a> = &'a [(&'a str, &'a str)];

const DATED: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
const IN_A_MINUTE: (&str, &str) = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
const ETAG: (&str, &str) = ("etag", "\"a\"");

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The second of `DATED`, and a half.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500)
}

struct Case<'a> {
    method: &'a str,
    asked: Lines<'a>,
    status: u16,
    delay: Duration,
    now: SystemTime,
    terms: Terms<'a>,
}

const TERMS: Terms<'_> = Terms { targets: &[], max_fresh: secs(1_000_000), max_stale: secs(1_000_000) };

fn case() -> Case<'static> {
    Case { method: "GET", asked: &[], status: 200, delay: Duration::ZERO, now: now(), terms: TERMS }
}

impl Case<'_> {
    fn plan(&self, lines: Lines<'_>) -> Result<Plan, NotShared> {
        let request =
            self.asked.iter().fold(Request::builder().method(self.method), |to, (name, line)| to.header(*name, *line));
        let response =
            lines.iter().fold(Response::builder().status(self.status), |to, (name, line)| to.header(*name, *line));
        let credentials = self.asked.iter().any(|(name, _)| *name == "authorization");
        let (request, response) = (request.body(()).unwrap().into_parts().0, response.body(()).unwrap().into_parts().0);
        let asker = Asker { method: &request.method, headers: &request.headers, credentials };
        plan(asker, &response, &self.terms, Landed { now: self.now, delay: self.delay })
    }
}

fn control(line: &str) -> [(&str, &str); 1] {
    [("cache-control", line)]
}

/// §3, "A cache MUST NOT store a response to a request unless": each condition, failing alone and holding.
#[test]
fn what_is_shared_at_all() {
    let of =
        |method, status, asked: Lines<'_>, line| Case { method, status, asked, ..case() }.plan(&control(line)).err();
    let credentials: Lines<'_> = &[("authorization", "Basic x")];
    let keep_none: Lines<'_> = &[("cache-control", "no-store")];
    let table: [(&str, u16, Lines<'_>, &str, Option<NotShared>); 41] = [
        // "the request method is understood by the cache"
        ("GET", 200, &[], "max-age=5", None),
        ("HEAD", 200, &[], "max-age=5", None),
        ("POST", 200, &[], "max-age=5", Some(NotShared::Method)),
        ("QUERY", 200, &[], "max-age=5", Some(NotShared::Method)),
        // "the response status code is final"
        ("GET", 103, &[], "max-age=5", Some(NotShared::Status)),
        // "if the response status code is 206 or 304, or the must-understand cache directive is present: the cache
        // understands the response status code"
        ("GET", 206, &[], "max-age=5", Some(NotShared::Status)),
        ("GET", 304, &[], "max-age=5", Some(NotShared::Status)),
        ("GET", 302, &[], "max-age=5, must-understand", Some(NotShared::Status)),
        ("GET", 200, &[], "max-age=5, must-understand", None),
        // "the no-store cache directive is not present in the response"
        ("GET", 200, &[], "max-age=5, no-store", Some(NotShared::NoStore)),
        ("GET", 200, &[], "max-age=5, no-store, must-understand", None),
        ("GET", 302, &[], "max-age=5, no-store, must-understand", Some(NotShared::Status)),
        ("GET", 200, &[], "max-age=5 no-store must-understand", Some(NotShared::NoStore)),
        // "MUST NOT store any part of either this request or any response to it" (§5.2.1.5)
        ("GET", 200, keep_none, "max-age=5", Some(NotShared::NoStore)),
        ("GET", 200, keep_none, "max-age=5, must-understand", Some(NotShared::NoStore)),
        // "the private response directive is either not present or allows a shared cache to store a modified response"
        ("GET", 200, &[], "max-age=5, private", Some(NotShared::Private)),
        ("GET", 200, &[], "max-age=5, private=\"x\"", None),
        ("GET", 200, &[], "max-age=5, public, private", Some(NotShared::Private)),
        // "the Authorization header field is not present in the request or a response directive is present that explicitly
        // allows shared caching" (§3.5)
        ("GET", 200, credentials, "max-age=5", Some(NotShared::Authorization)),
        ("GET", 200, credentials, "max-age=5, proxy-revalidate", Some(NotShared::Authorization)),
        ("GET", 200, credentials, "max-age=5, public", None),
        ("GET", 200, credentials, "s-maxage=5", None),
        ("GET", 200, credentials, "max-age=5, must-revalidate", None),
        ("GET", 200, credentials, "s-maxage = 5", Some(NotShared::Authorization)),
        ("GET", 200, credentials, "max-age=5 must-revalidate", Some(NotShared::Authorization)),
        // "the response contains at least one of the following"
        ("GET", 302, &[], "", Some(NotShared::Silent)),
        ("GET", 302, &[], "public", None),
        ("GET", 302, &[], "max-age=5", None),
        ("GET", 302, &[], "s-maxage=5", None),
        ("GET", 302, &[], "must-revalidate", Some(NotShared::Silent)),
        ("GET", 500, &[], "", Some(NotShared::Silent)),
        ("GET", 500, &[], "max-age=5", None),
        ("GET", 200, &[], "", None),
        ("GET", 203, &[], "", None),
        ("GET", 204, &[], "", None),
        ("GET", 301, &[], "", None),
        ("GET", 404, &[], "", None),
        ("GET", 501, &[], "", None),
        // "MUST NOT be used to satisfy any other request without forwarding it for validation" (§5.2.2.4)
        ("GET", 200, &[], "max-age=5, no-cache", Some(NotShared::NoCache)),
        ("GET", 200, &[], "max-age=5, no-cache=\"x\"", None),
        ("GET", 200, &[], "max-age=5, no-cache=\"", Some(NotShared::NoCache)),
    ];
    for (method, status, asked, line, expected) in table {
        assert_eq!(of(method, status, asked, line), expected, "{method} {status} {asked:?} {line}");
    }
    let expires = Case { status: 302, ..case() }.plan(&[("expires", "0")]);
    assert!(expires.is_ok(), "an `Expires` field, whatever it says");
}

/// §4.2.1 "using the first match": fails for each that is asked in another order or not at all.
#[test]
fn lifetimes() {
    let table: [(Lines<'_>, Duration); 18] = [
        (&[DATED, IN_A_MINUTE], secs(60)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "max-age=5")], secs(5)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "max-age=500")], secs(500)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "s-maxage=7, max-age=5")], secs(7)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "s-maxage=7")], secs(7)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "s-maxage=x, max-age=5")], secs(0)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "max-age=x")], secs(0)),
        (&[DATED, IN_A_MINUTE, ("cache-control", "max-age = 5")], secs(0)),
        (&[("date", "Sun, 06 Nov 1994 08:49:30 GMT"), IN_A_MINUTE], secs(67)),
        (&[("date", "Sunday, 06-Nov-94 08:49:37 GMT"), IN_A_MINUTE], secs(60)),
        (&[DATED, ("expires", "0")], secs(0)),
        (&[DATED, ("expires", "-1")], secs(0)),
        (&[DATED, ("expires", "Sun, 06 Nov 1994 08:49:37 GMT")], secs(0)),
        (&[DATED, ("expires", "Sun, 06 Nov 1994 08:49:36 GMT")], secs(0)),
        (&[DATED, ("expires", "Sun, 06 Nov 1994 08:50:37 UTC")], secs(0)),
        (&[DATED, IN_A_MINUTE, IN_A_MINUTE], secs(0)),
        (&[DATED, ("cache-control", "max-age=5"), ("cache-control", "max-age=7")], secs(0)),
        (&[DATED], secs(0)),
    ];
    for (lines, expected) in table {
        assert_eq!(case().plan(lines).unwrap().lifetime, expected, "{lines:?}");
    }
    let received = Duration::from_millis(59_500);
    assert_eq!(case().plan(&[IN_A_MINUTE]).unwrap().lifetime, received, "from when it came");
    assert_eq!(case().plan(&[("date", "x"), IN_A_MINUTE]).unwrap().lifetime, received, "from when it came");
}

/// RFC 9213 §2.2: "it MUST ignore the Cache-Control and Expires header fields in that response".
#[test]
fn a_targeted_field_replaces_expires() {
    let targets = [HeaderName::from_static("cdn-cache-control")];
    let case = Case { terms: Terms { targets: &targets, ..TERMS }, ..case() };
    let of = |line| case.plan(&[DATED, IN_A_MINUTE, ("cache-control", "private"), ("cdn-cache-control", line)]);
    assert_eq!(of("max-age=5").unwrap().lifetime, secs(5));
    assert_eq!(of("must-revalidate").unwrap().lifetime, secs(0));
    assert!(of("must-revalidate").unwrap().for_waiters, "it declares nothing");
    assert_eq!(of("&"), Err(NotShared::Private));
}

/// §4.2.3. Fails if one of both ages is left out, if they are added, or if the delay is forgotten.
#[test]
fn ages() {
    let table: [(Lines<'_>, u64, u64); 14] = [
        (&[], 0, 0),
        (&[], 3, 3),
        (&[DATED], 0, 0),
        (&[("date", "Sun, 06 Nov 1994 08:49:30 GMT")], 0, 7),
        (&[("date", "Sun, 06 Nov 1994 08:49:40 GMT")], 0, 0),
        (&[("date", "x")], 0, 0),
        (&[("age", "5")], 3, 8),
        (&[("age", "5"), ("date", "Sun, 06 Nov 1994 08:49:30 GMT")], 1, 7),
        (&[("age", "5"), ("date", "Sun, 06 Nov 1994 08:49:30 GMT")], 3, 8),
        (&[("age", "5, 9")], 0, 5),
        (&[("age", "5"), ("age", "9")], 0, 5),
        (&[("age", "-5")], 0, 0),
        (&[("age", "x, 5")], 0, 0),
        (&[("age", "99999999999999999999")], 0, 1 << 31),
    ];
    for (lines, delay, expected) in table {
        let plan = Case { delay: secs(delay), ..case() }.plan(&[lines, &control("max-age=60")].concat()).unwrap();
        assert_eq!(plan.age, secs(expected), "{lines:?} after {delay}");
        assert_eq!(plan.fresh(), secs(60).saturating_sub(secs(expected)), "{lines:?} after {delay}");
    }
}

/// Whether there is a use for it once those who wait are served.
fn is_of_use(plan: &Plan) -> bool {
    plan.validator || !(plan.fresh() + plan.stale() + plan.if_error()).is_zero()
}

/// Fails if what is over is shared with those who wait, or what says nothing is kept on a guess (§4.2.2, §4.2.4).
#[test]
fn what_is_for_those_who_wait_and_what_is_stored() {
    let table: [(Lines<'_>, bool, bool); 12] = [
        (&[], true, false),
        (&[ETAG], true, true),
        (&[("last-modified", "x")], true, true),
        (&control("public"), true, false),
        (&control("max-age=5"), true, true),
        (&control("max-age=0"), false, false),
        (&[("cache-control", "max-age=0"), ETAG], false, true),
        (&[("expires", "0")], false, false),
        (&[("cache-control", "max-age=5"), ("age", "5")], false, false),
        (&[("cache-control", "max-age=5"), ("age", "4")], true, true),
        (&control("max-age=0, stale-while-revalidate=5"), true, true),
        (&control("max-age=0, stale-if-error=5"), false, true),
    ];
    for (lines, for_waiters, stored) in table {
        let plan = case().plan(lines).unwrap();
        assert_eq!((plan.for_waiters, is_of_use(&plan)), (for_waiters, stored), "{lines:?}");
    }
}

/// Fails if a window outlasts its cap, or serves what must be revalidated (§4.2.4, §5.2.2.2, §5.2.2.8, §5.2.2.10).
#[test]
fn windows_of_staleness() {
    let both = "stale-while-revalidate=3, stale-if-error=7";
    let of = |more: &str| case().plan(&control(&format!("{both}, {more}"))).unwrap();
    let windows =
        |plan: &Plan| (plan.stale_while_revalidate.as_secs(), plan.stale_if_error.as_secs(), plan.never_stale);
    assert_eq!(windows(&of("max-age=5")), (3, 7, false));
    for line in ["must-revalidate", "proxy-revalidate", "s-maxage=5", "s-maxage=x"] {
        assert_eq!(windows(&of(line)), (0, 0, true), "{line}");
    }
    assert_eq!(windows(&case().plan(&control("max-age=5, must-revalidate x")).unwrap()), (0, 0, true), "a broken line");
    assert_eq!((of("max-age=5").stale(), of("max-age=5").if_error()), (secs(3), secs(7)));
    let capped = Case { terms: Terms { max_stale: secs(4), ..TERMS }, ..case() };
    assert_eq!(windows(&capped.plan(&control(both)).unwrap()), (3, 4, false));
    // What was over before it landed has less left.
    let late = case().plan(&[("cache-control", "max-age=5, stale-if-error=7"), ("age", "10")]).unwrap();
    assert_eq!((late.fresh(), late.stale(), late.if_error()), (secs(0), secs(0), secs(2)));
}

/// Fails if the cap counts from another moment than the landing.
#[test]
fn nothing_is_fresh_for_longer_than_the_cap() {
    let case = Case { terms: Terms { max_fresh: secs(100), ..TERMS }, ..case() };
    let plan = case.plan(&[("cache-control", "max-age=99999999999, stale-if-error=7"), ("age", "50")]).unwrap();
    assert_eq!((plan.age, plan.lifetime, plan.fresh(), plan.if_error()), (secs(50), secs(150), secs(100), secs(7)));
    assert_eq!(case.plan(&control("max-age=60")).unwrap().fresh(), secs(60));
    let nothing = Case { terms: Terms { max_fresh: secs(0), ..TERMS }, ..case };
    let plan = nothing.plan(&control("max-age=60")).unwrap();
    assert_eq!((plan.for_waiters, is_of_use(&plan)), (true, false), "a cache that keeps nothing still shares");
}

/// §5.2.2.4 and §5.2.2.7 for those who have no wish to validate. Fails if either list is dropped.
#[test]
fn fields_that_others_must_not_see() {
    let plan = case().plan(&control("max-age=5, private=\"x-a, X-B\", no-cache=\"set-cookie\"")).unwrap();
    assert_eq!(plan.stripped, ["x-a", "x-b", "set-cookie"]);
}

fn asked(line: &str) -> RequestDirectives {
    let request = Request::builder().header("cache-control", line).body(()).unwrap();
    RequestDirectives::of(request.headers())
}

/// §4 and §5.2.1. Fails for each directive that is not honoured, and for a limit that is off by one.
#[test]
fn what_a_request_asks_for() {
    let plan =
        case().plan(&[("cache-control", "max-age=60, stale-while-revalidate=5, stale-if-error=10"), ("age", "10")]);
    let plan = plan.unwrap();
    let table = [
        (0, "", Reuse::Fresh),
        (49, "", Reuse::Fresh),
        (50, "", Reuse::Stale),
        (54, "", Reuse::Stale),
        (55, "", Reuse::IfError),
        (59, "", Reuse::IfError),
        (60, "", Reuse::Validated),
        (0, "no-cache", Reuse::Validated),
        (52, "no-cache", Reuse::Validated),
        (57, "no-cache", Reuse::Validated),
        (10, "max-age=20", Reuse::Fresh),
        (11, "max-age=20", Reuse::Validated),
        (52, "max-age=100", Reuse::Validated),
        (52, "max-age=100, max-stale", Reuse::Stale),
        (52, "max-age=50, max-stale", Reuse::Validated),
        (10, "min-fresh=40", Reuse::Fresh),
        (11, "min-fresh=40", Reuse::Validated),
        (52, "min-fresh=0", Reuse::Validated),
        (1_000_000, "max-stale", Reuse::Stale),
        (150, "max-stale=100", Reuse::Stale),
        (151, "max-stale=100", Reuse::Validated),
        (53, "max-stale=2", Reuse::Validated),
        (60, "stale-if-error=20", Reuse::IfError),
        (70, "stale-if-error=20", Reuse::Validated),
        (59, "stale-if-error=1", Reuse::IfError),
    ];
    for (resident, line, expected) in table {
        assert_eq!(reusable(&plan, secs(resident), &asked(line)), expected, "{line} after {resident}");
    }
    let strict = case().plan(&control("max-age=60, must-revalidate")).unwrap();
    assert_eq!(reusable(&strict, secs(59), &asked("max-stale")), Reuse::Fresh);
    assert_eq!(reusable(&strict, secs(60), &asked("max-stale, stale-if-error=9")), Reuse::Validated);
    let over = case().plan(&[("cache-control", "max-age=0"), ETAG]).unwrap();
    assert_eq!(reusable(&over, secs(0), &asked("")), Reuse::Validated);
}

proptest! {
    /// However old it came and whatever it says, it is never served past what it said, nor past the caps.
    #[test]
    fn nothing_outlives_its_plan(
        max_age in option::of(0..200_u64), swr in 0..200_u64, age in 0..200_u64, delay in 0..200_u64, resident in 0..500_u64,
        max_fresh in 0..200_u64, max_stale in 0..200_u64,
    ) {
        let lifetime = max_age.map_or(String::new(), |max_age| format!("max-age={max_age}, "));
        let line = format!("{lifetime}stale-while-revalidate={swr}");
        let terms = Terms { targets: &[], max_fresh: secs(max_fresh), max_stale: secs(max_stale) };
        let plan = Case { delay: secs(delay), terms, ..case() }
            .plan(&[("cache-control", &line), ("age", &age.to_string())]).unwrap();
        let current = age + delay + resident;
        let reuse = reusable(&plan, secs(resident), &RequestDirectives::default());
        prop_assert_eq!(reuse == Reuse::Fresh, current < max_age.unwrap_or(0) && resident < max_fresh);
        prop_assert_eq!(reuse == Reuse::Fresh, secs(resident) < plan.fresh());
        prop_assert_eq!(reuse == Reuse::Validated, secs(resident) >= plan.fresh() + plan.stale().max(plan.if_error()));
        prop_assert!(reuse != Reuse::Stale || current < max_age.unwrap_or(0) + swr);
        prop_assert!(reuse != Reuse::Stale || resident < max_fresh + max_stale);
    }
}
