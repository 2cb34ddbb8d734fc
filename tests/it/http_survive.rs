//! What has broken caches before, a line each: two requests that look alike, and neither gets what the other is answered.
//! In flight and from the store, within one replica and across two, whichever of them comes first.

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, get_with, joined, led, outcome, secs, send, spawn, text, together};

const URI: &str = "http://a.test/report";

/// All that a handler could answer with.
fn echo(request: &Request) -> String {
    let length = http_body::Body::size_hint(request.body()).exact();
    format!("{} {} {:?} {length:?}", request.method(), request.uri(), request.headers())
}

/// A session for whoever has none, and a refusal of what is too large.
fn answer(request: &Request, call: usize, said: &[(&'static str, &'static str)]) -> Response {
    let mut response = echo(request).into_response();
    for (name, line) in said {
        response.headers_mut().insert(*name, line.parse().unwrap());
        if *name == "set-cookie" {
            *response.body_mut() = Body::from(format!("session {call}"));
        }
    }
    if request.headers().contains_key("x-huge") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

/// Two requests that must not meet.
#[derive(Clone)]
struct Pair {
    what: String,
    requests: [fn() -> Request; 2],
    /// Whether the response of each is kept, for others that ask for the same.
    kept: [bool; 2],
    /// What every response says.
    said: &'static [(&'static str, &'static str)],
}

fn pair(what: &str, kept: [bool; 2], requests: [fn() -> Request; 2]) -> Pair {
    Pair { what: what.to_owned(), requests, kept, said: &[] }
}

/// What each request is answered, by a handler that is asked directly.
async fn expected(pair: &Pair, at: usize) -> (StatusCode, Option<String>) {
    let request = (pair.requests[at])();
    let minted = pair.said.iter().any(|(name, _)| *name == "set-cookie");
    let response = answer(&request, 0, pair.said);
    (response.status(), if minted { None } else { Some(text(response).await) })
}

/// Sends the two requests in this order to these two replicas, then both again the other way round: in flight together, or
/// one after the other. Counts what the handler ran.
async fn meet(pair: &Pair, order: [usize; 2], replicas: [usize; 2], in_flight: bool) {
    let how = format!("{}: {order:?} on {replicas:?}, in flight: {in_flight}", pair.what);
    let (calls, memory, said) = (Calls::default(), Memory::new(), pair.said);
    let fleet = [memory.replica(), memory].map(|memory| {
        let layer = SingleflightLayer::new(memory).result_ttl(secs(60));
        app(&layer, &calls, move |request, call| answer(request, call, said))
    });
    let mut seen = Vec::new();
    for round in 0..2 {
        let mut flights = Vec::new();
        for (turn, at) in order.into_iter().enumerate() {
            let flight = spawn(&fleet[replicas[(turn + round) % 2]], (pair.requests[at])());
            // Into the middle of the first one's second, or behind its end.
            sleep(if in_flight { secs(1) / 2 } else { secs(2) }).await;
            flights.push((at, flight));
        }
        for (at, flight) in flights {
            let response = flight.await.unwrap();
            let (status, body) = expected(pair, at).await;
            assert_eq!(response.status(), status, "{how}");
            let hit = matches!(outcome(&response), Outcome::Hit { .. });
            assert_eq!(hit, round == 1 && pair.kept[at], "{how}: {}", outcome(&response));
            let text = text(response).await;
            assert!(body.is_none_or(|body| body == text), "{how}: got {text}");
            if !hit {
                seen.push(text);
            }
        }
        let again = pair.kept.iter().filter(|kept| !**kept).count();
        assert_eq!(calls.count(), 2 + round * again, "{how}: round {round}");
    }
    if pair.said.iter().any(|(name, _)| *name == "set-cookie") {
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4, "{how}: everybody a session of his own");
    }
}

async fn never_meet(pairs: impl IntoIterator<Item = Pair>) {
    for pair in pairs {
        for order in [[0, 1], [1, 0]] {
            for replicas in [[0, 0], [0, 1], [1, 0]] {
                for in_flight in [true, false] {
                    meet(&pair, order, replicas, in_flight).await;
                }
            }
        }
    }
}

/// Fails if `authorization` or `cookie` is taken off the list of what says who asks.
#[tokio::test(start_paused = true)]
async fn two_users_and_nobody() {
    let plain = || get(URI);
    never_meet([
        pair(
            "two tokens",
            [false; 2],
            [|| get_with(URI, "authorization", "Bearer ada"), || get_with(URI, "authorization", "Bearer bob")],
        ),
        pair("two cookies", [false; 2], [|| get_with(URI, "cookie", "sid=1"), || get_with(URI, "cookie", "sid=2")]),
        pair("a token and nobody", [false, true], [|| get_with(URI, "authorization", "Bearer ada"), plain]),
        pair("a cookie and nobody", [false, true], [|| get_with(URI, "cookie", "sid=1"), plain]),
    ])
    .await;
}

/// Fails if the gate lets `Set-Cookie` pass.
#[tokio::test(start_paused = true)]
async fn two_minted_cookies() {
    let minted = pair("minted cookies", [false; 2], [|| get(URI), || get(URI)]);
    never_meet([Pair { said: &[("set-cookie", "sid=1")], ..minted }]).await;
}

/// Fails if the key leaves out the authority, decodes the path, sorts the query, folds its case, leaves out
/// escaped control characters, or puts its parts together without their lengths.
#[tokio::test(start_paused = true)]
async fn two_targets() {
    let kept = [true; 2];
    never_meet([
        pair("authority", kept, [|| get("http://a.test/x"), || get("http://b.test/x")]),
        pair("host", kept, [|| get_with("/x", "host", "a.test"), || get_with("/x", "host", "b.test")]),
        pair("escaped slash", kept, [|| get("http://a.test/a%2Fb"), || get("http://a.test/a/b")]),
        pair("order of parameters", kept, [|| get("http://a.test/?x=1&y=2"), || get("http://a.test/?y=2&x=1")]),
        pair("authority and path", kept, [|| get("http://ab/c"), || get("http://a/b/c")]),
        pair("path and query", kept, [|| get("http://a.test/ab/c?d"), || get("http://a.test/ab/?cd")]),
        pair("separator", kept, [|| get("http://a.test/?a=%1E"), || get("http://a.test/?a=%1e")]),
        pair("separator and nothing", kept, [|| get("http://a.test/?a=%1E"), || get("http://a.test/?a=")]),
    ])
    .await;
}

/// Fails if the fields of proxies are left out of the key, if an override flies, or if content does.
#[tokio::test(start_paused = true)]
async fn what_stands_beside_the_target() {
    let plain = || get(URI);
    never_meet([
        pair("forwarded host", [true; 2], [|| get_with(URI, "x-forwarded-host", "evil.test"), plain]),
        pair(
            "two forwarded hosts",
            [true; 2],
            [|| get_with(URI, "forwarded", "host=a.test"), || get_with(URI, "forwarded", "host=b.test")],
        ),
        pair("method override", [false, true], [|| get_with(URI, "x-http-method-override", "DELETE"), plain]),
        pair("content", [false, true], [|| Request::get(URI).body(Body::from("abc")).unwrap(), plain]),
    ])
    .await;
}

/// Fails if a 400 is shared and kept like other responses.
#[tokio::test(start_paused = true)]
async fn a_refusal_and_a_normal_request() {
    for replicas in [[0, 0], [0, 1]] {
        for (in_flight, huge_first) in [(true, true), (true, false), (false, true), (false, false)] {
            let (calls, memory) = (Calls::default(), Memory::new());
            let fleet = [memory.replica(), memory].map(|memory| {
                let layer = SingleflightLayer::new(memory).result_ttl(secs(60));
                app(&layer, &calls, |request, call| answer(request, call, &[]))
            });
            let requests = || [get_with(URI, "x-huge", "..."), get(URI)];
            let mut requests = requests();
            if !huge_first {
                requests.reverse();
            }
            let mut flights = Vec::new();
            for (replica, request) in replicas.into_iter().zip(requests) {
                flights.push(spawn(&fleet[replica], request));
                sleep(if in_flight { secs(1) / 2 } else { secs(2) }).await;
            }
            let mut statuses = Vec::new();
            for flight in flights {
                statuses.push(flight.await.unwrap().status().as_u16());
            }
            // Whoever sends nonsense may get what everybody gets; nobody else gets what nonsense is answered.
            let expected = if huge_first { [400, 200] } else { [200, 200] };
            assert_eq!(statuses, expected, "on {replicas:?}, in flight: {in_flight}");
            assert_eq!(calls.count(), 1 + usize::from(huge_first));
            if in_flight && huge_first {
                // The 200 was that of a caller who was let go, and went by himself.
                assert_eq!(outcome(&send(&fleet[0], get(URI)).await), Outcome::Led);
            }
            for app in &fleet {
                assert!(matches!(outcome(&send(app, get(URI)).await), Outcome::Hit { .. }), "the 200 is kept");
            }
        }
    }
}

fn vary(memory: Memory, calls: &Calls) -> Router {
    let layer = SingleflightLayer::new(memory).result_ttl(secs(60));
    app(&layer, calls, |request, _| ([("vary", "x-any")], echo(request)))
}

/// Nobody gets another's, and most go by themselves: a replica takes part in 32 variants, which go on being hits.
///
/// Fails if what selected a record is not compared, or if the number of variants has no bound.
#[tokio::test(start_paused = true)]
async fn ten_thousand_values_of_a_varying_field() {
    const VALUES: usize = 10_000;
    for replicas in [1, 2] {
        for in_flight in [true, false] {
            let (calls, memory) = (Calls::default(), Memory::new());
            let fleet = [memory.replica(), memory].map(|memory| vary(memory, &calls));
            let fleet = &fleet[..replicas];
            let requests = || (0..VALUES).map(|value| get_with(URI, "x-any", &value.to_string()));
            let expected: Vec<_> = requests().map(|request| echo(&request)).collect();
            let mut burst = requests().enumerate().map(|(at, request)| (fleet[at % replicas].clone(), request));
            let start = Instant::now();
            // All behind one that is in the air, or all when it is stored.
            let mut responses = together(burst.by_ref().take(if in_flight { 0 } else { 1 })).await;
            responses.extend(together(burst).await);
            assert_eq!(start.elapsed(), secs(2), "one finds out, then all the others at once");
            assert_eq!(calls.count(), VALUES);
            let alone = Outcome::Bypassed(Why::Variants);
            let known = responses.iter().filter(|response| outcome(response) != alone).count();
            assert!((2..=32 * replicas).contains(&known), "{known} variants on {replicas}, in flight: {in_flight}");
            for (response, expected) in responses.into_iter().zip(&expected) {
                assert_eq!(text(response).await, *expected);
            }
            let hits = together(requests().map(|request| (fleet[0].clone(), request))).await;
            let kept = hits.iter().filter(|response| matches!(outcome(response), Outcome::Hit { .. })).count();
            assert!((2..=32).contains(&kept), "{kept} hits");
            for (response, expected) in hits.into_iter().zip(&expected) {
                assert_eq!(text(response).await, *expected);
            }
        }
    }
}

/// Fails if each caller has a key of his own, or each replica.
#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_on_one_key() {
    for replicas in [1, 2] {
        let (calls, memory) = (Calls::default(), Memory::new());
        let fleet = [memory.replica(), memory].map(|memory| {
            app(&SingleflightLayer::new(memory).result_ttl(secs(60)), &calls, |_, call| format!("call {call}"))
        });
        let burst = || (0..10_000).map(|at| (fleet[at % replicas].clone(), get(URI)));
        let start = Instant::now();
        let responses = together(burst()).await;
        assert_eq!((calls.count(), led(&responses), start.elapsed().as_secs()), (1, 1, 1), "on {replicas}");
        assert_eq!(responses.iter().filter(|response| joined(response)).count(), 9_999);
        let stored = together(burst()).await;
        assert!(stored.iter().all(|response| matches!(outcome(response), Outcome::Hit { .. })));
        assert_eq!(calls.count(), 1);
        for response in responses.into_iter().chain(stored) {
            assert_eq!(text(response).await, "call 1");
        }
    }
}

/// What leads, how it is answered, and how often the handler runs until a plain GET that follows is answered too.
type Leading = (&'static str, fn() -> Request, StatusCode, &'static str, usize);

/// Fails if HEAD flies under the key of GET, if a part may lead, or if a condition goes on to the handler with a
/// request that leads.
#[tokio::test(start_paused = true)]
async fn a_get_behind_one_that_wants_less() {
    let table: [Leading; 5] = [
        ("HEAD", || Request::head(URI).body(Body::empty()).unwrap(), StatusCode::OK, "", 2),
        ("range", || get_with(URI, "range", "bytes=0-1"), StatusCode::PARTIAL_CONTENT, "wh", 2),
        ("if-none-match", || get_with(URI, "if-none-match", "\"a\""), StatusCode::NOT_MODIFIED, "", 1),
        (
            "if-modified-since",
            || get_with(URI, "if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
            StatusCode::NOT_MODIFIED,
            "",
            1,
        ),
        ("if-match", || get_with(URI, "if-match", "\"b\""), StatusCode::PRECONDITION_FAILED, "", 2),
    ];
    // A handler that obeys.
    let obey = |request: &Request, _| {
        let fields = [("etag", "\"a\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
        let asks = |name| request.headers().contains_key(name);
        match () {
            () if request.method() == http::Method::HEAD => (StatusCode::OK, fields, ""),
            () if asks("if-match") => (StatusCode::PRECONDITION_FAILED, fields, ""),
            () if asks("if-none-match") || asks("if-modified-since") => (StatusCode::NOT_MODIFIED, fields, ""),
            () if asks("range") => (StatusCode::PARTIAL_CONTENT, fields, "wh"),
            () => (StatusCode::OK, fields, "whole"),
        }
    };
    for (what, leading, status, body, executions) in table {
        for there in [0, 1] {
            for in_flight in [true, false] {
                let (calls, memory) = (Calls::default(), Memory::new());
                let fleet = [memory.replica(), memory]
                    .map(|memory| app(&SingleflightLayer::new(memory).result_ttl(secs(60)), &calls, obey));
                let how = format!("{what} leads, GET on {there}, in flight: {in_flight}");
                let leader = spawn(&fleet[0], leading());
                sleep(if in_flight { secs(1) / 2 } else { secs(2) }).await;
                let plain = send(&fleet[there], get(URI)).await;
                assert_eq!((plain.status(), &*text(plain).await), (StatusCode::OK, "whole"), "{how}");
                let leader = leader.await.unwrap();
                assert_eq!((leader.status(), &*text(leader).await), (status, body), "{how}");
                assert_eq!(calls.count(), executions, "{how}");
                let stored = send(&fleet[1 - there], get(URI)).await;
                assert_eq!((stored.status(), &*text(stored).await), (StatusCode::OK, "whole"), "{how}");
                assert_eq!(calls.count(), executions, "{how}");
            }
        }
    }
}
