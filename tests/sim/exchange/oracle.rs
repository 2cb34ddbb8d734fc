//! Who may receive what: the rules of `shareable`, restated.

use http::{HeaderMap, Method};
use tower_singleflight::{Outcome, Policy};

use super::{
    Asked, PATHS, Plan, TTL, Tally, WARMUP, named,
    origin::{Made, number, tag},
};

/// What a client got.
#[derive(Debug)]
pub enum Got {
    /// An error, of the execution for this request.
    Error(u64),
    Response {
        status: u16,
        outcome: Outcome,
        headers: HeaderMap,
        body: String,
    },
}

/// Who else may have a response, and for how many milliseconds after it was there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reach {
    Nobody,
    /// Those who had asked before it was there.
    Waiters,
    All(u64),
}

/// Whether a list of directives has this one.
fn says(made: &Made, directive: &str) -> bool {
    made.cache_control.split(", ").any(|said| said == directive)
}

fn seconds(made: &Made, name: &str) -> Option<u64> {
    made.cache_control.split(", ").find_map(|said| said.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn reach(plan: &Plan, made: &Made) -> Reach {
    let withheld = ["private", "no-store", "no-cache"].iter().any(|directive| says(made, directive));
    let lifetime = seconds(made, "s-maxage").or(seconds(made, "max-age")).map(|lifetime| lifetime * 1000);
    let open = says(made, "public") || says(made, "must-revalidate") || seconds(made, "s-maxage").is_some();
    let one_users =
        made.asked.field("cookie").is_some() || made.asked.field("authorization").is_some() && !(plan.rfc && open);
    let personal = matches!(made.status, 0 | 206 | 304 | 400 | 401 | 403 | 407);
    let silent = made.status == 302 && (plan.policy == Policy::Route || lifetime.is_none());
    if withheld
        || one_users
        || personal
        || silent
        || made.cookie
        || made.vary == "*"
        || made.asked.method == Method::PUT
    {
        return Reach::Nobody;
    }
    if made.status >= 500 {
        return Reach::Waiters;
    }
    let never_stale = says(made, "must-revalidate") || seconds(made, "s-maxage").is_some();
    let window = seconds(made, "stale-while-revalidate").map(|window| window * 1000);
    let (fresh, window) = match plan.policy {
        Policy::Origin if lifetime == Some(0) => return Reach::Nobody,
        Policy::Origin => (lifetime.unwrap_or(0), window.unwrap_or(0)),
        _ => {
            let (ttl, warmup) = (TTL.as_millis() as u64, WARMUP.as_millis() as u64);
            let (ttl, warmup) = if made.status == 404 { (ttl / 10, 0) } else { (ttl, window.unwrap_or(warmup)) };
            (lifetime.unwrap_or(ttl).min(ttl), warmup)
        }
    };
    match fresh {
        0 => Reach::Waiters,
        fresh => Reach::All(fresh + if never_stale { 0 } else { window }),
    }
}

/// Whether a request gets only what was made for it.
fn keeps_to_itself(plan: &Plan, asked: &Asked) -> bool {
    let names_user = asked.field("cookie").is_some() || asked.field("authorization").is_some() && !plan.rfc;
    names_user || asked.field("cache-control") == Some("no-store") || asked.method == Method::PUT
}

pub fn check(plan: &Plan, books: &[Made], asked: &Asked, got: &Got, tally: &mut Tally) {
    let own = books.iter().position(|made| made.asked.id == asked.id);
    let (status, outcome, headers, body) = match got {
        Got::Error(of) => return assert_eq!(*of, asked.id, "an error is its own caller's"),
        Got::Response { status, outcome, headers, body } => (*status, *outcome, headers, &**body),
    };
    tally.count(outcome);
    let Some(made) = number(headers) else {
        return nameless(plan, asked, own.map(|own| &books[own]), status, headers, body);
    };
    let response = &books[made];
    let context = || format!("{asked:#?}\ngot {got:#?}\nmade as {response:#?}");
    shape(asked, made, response, status, body, tally, &context);
    let cookie = named(headers, "set-cookie");
    assert!(cookie.is_none_or(|cookie| cookie == format!("sid={}", asked.id)), "another's cookie: {}", context());
    if asked.method == Method::PUT {
        tally.changes += u64::from(status == 200);
    }

    if own == Some(made) {
        assert_eq!(cookie.is_some(), response.cookie, "his own cookie: {}", context());
        return;
    }
    if let Some(own) = own {
        // A refresh behind his back is the one case in which a request is executed and answered with something else, and
        // a 304 of the origin the other: it is about what he gets.
        let executed = &books[own];
        let refreshed = matches!(outcome, Outcome::Stale { .. });
        let confirmed = executed.confirms == Some(made);
        tally.confirmed += u64::from(confirmed);
        assert!(
            refreshed || confirmed || reach(plan, executed) != Reach::Nobody,
            "what was made for him alone is not what he got: {executed:#?}\n{}",
            context()
        );
    }
    assert!(!keeps_to_itself(plan, asked), "shares nothing: {}", context());
    assert_eq!(PATHS[asked.path], PATHS[response.asked.path], "another path: {}", context());
    let method = response.asked.method == Method::GET || asked.method == Method::HEAD;
    assert!(method, "another method: {}", context());
    for name in response.vary.split(", ").filter(|name| !name.is_empty()) {
        assert_eq!(asked.field(name), response.asked.field(name), "another variant: {}", context());
    }
    if response.cache_control.contains("\"x-user\"") {
        assert!(named(headers, "x-user").is_none(), "another's field: {}", context());
    }
    // A flight lands when the store knows of it: how late a reply, a message or a record may be.
    let held = response.held + if plan.faults { 2_000 } else { 30 };
    match reach(plan, response) {
        Reach::Nobody => panic!("made for another alone: {}", context()),
        Reach::Waiters => assert!(asked.at <= held, "he had not waited: {}", context()),
        Reach::All(time) => assert!(asked.at <= held + time, "too old: {}", context()),
    }
    // What a network in trouble does not tell the store is lost, and then holds for as long as the record does.
    assert!(plan.faults || response.version >= asked.floor, "older than a change: {}", context());
}

/// The response fits what was asked: the whole, nothing, or a part.
fn shape(
    asked: &Asked,
    number: usize,
    made: &Made,
    status: u16,
    body: &str,
    tally: &mut Tally,
    context: &impl Fn() -> String,
) {
    let is_head = asked.method == Method::HEAD;
    match status {
        304 if made.status != 304 => {
            tally.not_modified += 1;
            let condition = asked.field("if-none-match");
            assert!(condition == Some("*") || condition == Some(&tag(number)), "{}", context());
            assert_eq!(body, "", "{}", context());
        }
        206 if made.status != 206 => {
            tally.parts += 1;
            assert!(made.status == 200 && asked.field("range").is_some(), "{}", context());
            assert_eq!(body, if is_head { "" } else { &made.body[2..6] }, "{}", context());
        }
        status => {
            assert_eq!(status, made.status, "{}", context());
            assert_eq!(body, if is_head { "" } else { &made.body }, "{}", context());
            tally.heads += u64::from(is_head && made.asked.method == Method::GET);
        }
    }
}

/// What names no execution is the layer's own, and tells nothing; or the origin's 304 to this very request.
fn nameless(plan: &Plan, asked: &Asked, own: Option<&Made>, status: u16, headers: &HeaderMap, body: &str) {
    match status {
        304 => assert_eq!(own.map(|own| own.status), Some(304), "whose is it? {asked:#?}"),
        // Nothing is stored; or what is stored must be confirmed and the origin is away, which holds for all who wait.
        504 => {
            let unstored = own.is_none() && asked.field("cache-control") == Some("only-if-cached");
            let away = plan.policy == Policy::Origin && own.is_none_or(|own| own.status == 0);
            assert!(unstored || away, "{asked:#?} {own:#?}");
        }
        status => panic!("a {status} of nobody: {asked:#?} {headers:#?}"),
    }
    assert_eq!(body, "");
}
