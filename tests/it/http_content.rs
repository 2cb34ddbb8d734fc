//! Reads by `POST` and `QUERY`, told apart by their content.

use axum::{Router, body::Body, extract::Request, response::IntoResponse, routing::any};
use http::{HeaderMap, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tower_singleflight::{
    BodyKey, BodyKeyExtractor, Caller, Identity, Outcome, Policy, SingleflightLayer, Why, backend::Memory, body_key_fn,
    identity_fn, middleware::Bodies,
};

use crate::http_support::{Calls, Then, get, joined, led, outcome, secs, send, slow, text, together};

const URI: &str = "http://a.test/search";

/// Answers after a second with the number of the call, the content and its trailers; `fail` in it fails, `public` says how
/// long the response lives.
fn app(layer: SingleflightLayer<Bodies>, calls: &Calls) -> Router {
    let calls = calls.clone();
    let handler = any(async move |head: Parts, body: Body| {
        let call = calls.next();
        let read = body.collect().await;
        sleep(secs(1)).await;
        let Ok(read) = read else { return (StatusCode::BAD_REQUEST, format!("call {call}: broken")).into_response() };
        let trailers = read.trailers().map_or(0, HeaderMap::len);
        let content = String::from_utf8(read.to_bytes().into()).unwrap();
        let status = if content.contains("fail") { 500 } else { 200 };
        let lives = if content.contains("public") { "max-age=5" } else { "" };
        let fields = [("cache-control", lives), ("etag", "\"x\"")];
        let asked = if head.headers.contains_key("if-none-match") { " asked" } else { "" };
        let text = format!("call {call}: {} {content} {trailers}{asked}", head.method);
        (StatusCode::from_u16(status).unwrap(), fields, text).into_response()
    });
    Router::new().route("/search", handler).layer(layer)
}

fn layer(memory: &Memory) -> SingleflightLayer<Bodies> {
    SingleflightLayer::new(memory.clone()).result_ttl(secs(60)).body_key(mutating(BodyKey::digest()))
}

/// What begins with `set` changes something.
fn mutating(reads: BodyKey) -> impl BodyKeyExtractor {
    body_key_fn(move |head, content| match content.starts_with(b"set") {
        true => None,
        false => reads.key(head, content),
    })
}

fn fleet(calls: &Calls) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| app(layer(&memory), calls))
}

fn request(method: &str, content: impl Into<Body>, lines: &[(&str, &str)]) -> Request {
    let request = Request::builder().method(method).uri(URI);
    lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(content.into()).unwrap()
}

fn post(content: &'static str) -> Request {
    request("POST", content, &[])
}

/// Fails if the content is not in the key, or is no part of the flight that goes on elsewhere.
#[tokio::test(start_paused = true)]
async fn equal_contents_fly_together_and_others_by_themselves() {
    let calls = Calls::default();
    let fleet = fleet(&calls);
    let burst = (0..10).map(|number| (fleet[number % 2].clone(), post("red")));
    let responses = together(burst.chain([(fleet[0].clone(), post("blue")), (fleet[1].clone(), post(""))])).await;
    assert_eq!((calls.count(), led(&responses)), (3, 3));
    assert_eq!(responses.iter().filter(|response| joined(response)).count(), 9);
    let mut texts = Vec::new();
    for response in responses {
        texts.push(text(response).await.split_once(": ").unwrap().1.to_owned());
    }
    assert!(
        texts[..10].iter().all(|text| text == "POST red 0") && texts[10..] == ["POST blue 0", "POST  0"],
        "{texts:?}"
    );
    let again = send(&fleet[1], post("blue")).await;
    assert!(matches!(outcome(&again), Outcome::Hit { .. }));
}

/// Fails if one of them is not part of the key: the content means something else with it.
#[tokio::test(start_paused = true)]
async fn what_describes_the_content_tells_requests_apart() {
    let calls = Calls::default();
    let [here, there] = fleet(&calls);
    let described: [(&str, &[(&str, &str)]); 8] = [
        ("POST", &[]),
        ("QUERY", &[]),
        ("POST", &[("content-type", "")]),
        ("POST", &[("content-type", "text/plain")]),
        ("POST", &[("content-type", "text/plain"), ("content-type", "text/html")]),
        ("POST", &[("content-encoding", "text/plain")]),
        ("POST", &[("content-encoding", "gzip")]),
        ("POST", &[("content-language", "gzip")]),
    ];
    for (number, (method, lines)) in described.iter().enumerate() {
        assert_eq!(outcome(&send(&here, request(method, "x", lines)).await), Outcome::Led, "{number}");
        assert!(matches!(outcome(&send(&there, request(method, "x", lines)).await), Outcome::Hit { .. }), "{number}");
    }
    assert_eq!(outcome(&send(&here, get(URI)).await), Outcome::Led);
    assert_eq!(calls.count(), described.len() + 1);
}

/// Fails if what was read is not put back, or not in front.
#[tokio::test(start_paused = true)]
async fn content_reaches_the_handler_as_it_came() {
    const PIECES: [&str; 3] = ["ab", "cd", "ef"];
    let calls = Calls::default();
    let limited = |bytes| app(layer(&Memory::new()).max_request_body(bytes), &calls);
    let roomy = limited(6);
    let streamed = || request("POST", slow(&PIECES, Then::Ends), &[]);
    let flown = together([(roomy.clone(), streamed()), (roomy, streamed())]).await;
    assert_eq!((led(&flown), calls.count()), (1, 1));
    for response in flown {
        assert_eq!(text(response).await, "call 1: POST abcdef 0");
    }
    for bytes in [5, 4, 3, 1] {
        let start = Instant::now();
        let response = send(&limited(bytes), streamed()).await;
        // Three pieces, the end, and the handler's own time.
        assert_eq!(start.elapsed(), secs(4));
        assert_eq!(outcome(&response), Outcome::Bypassed(Why::Method), "{bytes}");
        assert!(text(response).await.ends_with(": POST abcdef 0"));
    }
}

/// Fails if reading for the key goes on where the limit, or the patience, is at its end.
#[tokio::test(start_paused = true)]
async fn content_that_is_long_or_slow_goes_to_the_handler_while_it_comes() {
    let handler = any(async |body: Body| {
        let mut body = body;
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    });
    let app = |layer: SingleflightLayer<Bodies>| Router::new().route("/search", handler.clone()).layer(layer);
    for (pieces, declared, first, after) in [
        (&["abc", "def"][..], None, "abc", 0),
        (&["ab", "cd", "ef"], None, "abcd", 1),
        (&["ab", "c"], Some("4"), "ab", 0),
        (&["a"], None, "a", 5),
    ] {
        let start = Instant::now();
        let lines: Vec<_> = declared.iter().map(|length| ("content-length", *length)).collect();
        let app = app(layer(&Memory::new()).max_request_body(2));
        let response = send(&app, request("QUERY", slow(pieces, Then::Hangs), &lines)).await;
        assert_eq!((text(response).await.as_str(), start.elapsed()), (first, secs(after)));
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_trailers_reach_the_handler_and_no_other() {
    let fields = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let with_trailers = || {
        let fields = fields.clone();
        Body::new(Full::from("ab").with_trailers(async move { Some(Ok(fields)) }))
    };
    let calls = Calls::default();
    let fleet = fleet(&calls);
    let trailed = together(fleet.iter().map(|app| (app.clone(), request("POST", with_trailers(), &[])))).await;
    let broken = || request("POST", slow(&["ab"], Then::BreaksOff), &[]);
    let broken = together(fleet.iter().map(|app| (app.clone(), broken()))).await;
    assert_eq!(calls.count(), 4);
    for response in trailed {
        assert!(text(response).await.ends_with(": POST ab 1"));
    }
    for response in broken {
        assert_eq!(outcome(&response), Outcome::Bypassed(Why::Method));
        assert!(text(response).await.ends_with(": broken"));
    }
}

/// What two reads of the target get now: its `GET`, and one by `POST`.
async fn calls_of(app: &Router) -> [String; 2] {
    let mut calls = Vec::new();
    for request in [get(URI), post("red")] {
        calls.push(text(send(app, request).await).await.split_once(':').unwrap().0.to_owned());
    }
    calls.try_into().unwrap()
}

/// Fails if a read invalidates its target, if anything else does not, or if reads by `POST` outlive a change.
#[tokio::test(start_paused = true)]
async fn what_is_no_read_changes_its_target_and_reads_do_not() {
    let calls = Calls::default();
    let [here, there] = fleet(&calls);
    let before = calls_of(&here).await;
    let reads: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", "Bearer x")],
        &[("cookie", "a=b")],
        &[("if-none-match", "\"x\"")],
        &[("range", "bytes=0-1")],
        &[("cache-control", "no-store")],
    ];
    for lines in reads {
        assert!(text(send(&there, request("POST", "green", lines)).await).await.contains("green"));
    }
    assert_eq!(text(send(&here, request("QUERY", "set", &[])).await).await, "call 9: QUERY set 0");
    assert_eq!(calls_of(&there).await, before);

    let mut next = calls.count();
    for changes in [
        post("set"),
        post("set public"),
        request("PUT", "green", &[]),
        request("DELETE", "", &[]),
        request("POST", "green", &[("expect", "100-continue")]),
        request("POST", slow(&["green"], Then::BreaksOff), &[]),
        request("POST", "green", &[("content-length", "65537")]),
    ] {
        let status = send(&here, changes).await.status();
        let after = calls_of(&there).await;
        next += 1;
        if status == 200 {
            assert_eq!(after, [format!("call {}", next + 1), format!("call {}", next + 2)]);
            next += 2;
        }
    }
}

/// Fails if a field that keeps a `GET` from flying lets a `POST` fly.
#[tokio::test(start_paused = true)]
async fn what_keeps_other_requests_from_flying_keeps_reads_with_content() {
    let calls = Calls::default();
    let [here, there] = fleet(&calls);
    send(&here, post("red")).await;
    for (name, line, why) in [
        ("authorization", "Bearer x", Why::Identity),
        ("cookie", "a=b", Why::Identity),
        ("cache-control", "no-store", Why::NoStore),
        ("upgrade", "websocket", Why::Upgrade),
        ("accept", "text/event-stream", Why::EventStream),
        ("if-match", "*", Why::Conditional),
        ("if-none-match", "\"x\"", Why::Conditional),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", Why::Conditional),
        ("range", "bytes=0-1", Why::Range),
        ("host", "b.test", Why::NoKey),
    ] {
        for method in ["POST", "QUERY"] {
            let response = send(&there, request(method, "red", &[(name, line)])).await;
            assert_eq!(outcome(&response), Outcome::Bypassed(why), "{method} {name}");
            assert_eq!(response.status(), 200);
        }
    }
}

/// Fails if a `POST` that a field makes a change counts as the read that its content says.
#[tokio::test(start_paused = true)]
async fn what_a_field_turns_into_something_else_is_no_read() {
    let fields = [("x-http-method-override", "DELETE"), ("x-http-method", "PUT"), ("x-original-url", "/admin")];
    for field in fields {
        let [here, there] = fleet(&Calls::default());
        assert_eq!(calls_of(&here).await, ["call 1", "call 2"]);
        let query = send(&there, request("QUERY", "red", &[field])).await;
        assert_eq!(outcome(&query), Outcome::Bypassed(Why::Override), "{field:?}");
        assert_eq!(calls_of(&there).await, ["call 1", "call 2"]);
        let post = send(&here, request("POST", "red", &[field])).await;
        assert_eq!(outcome(&post), Outcome::Bypassed(Why::Method), "{field:?}");
        assert_eq!(calls_of(&there).await, ["call 5", "call 6"]);
    }
}

/// Fails if a partition is not part of the key, or if who is in none gets what is.
#[tokio::test(start_paused = true)]
async fn equal_contents_of_other_callers_are_apart() {
    let by_user = identity_fn(|head| match head.headers.get("authorization") {
        None => Caller::Anybody,
        Some(user) => Caller::Partition(user.as_bytes().into()),
    });
    let calls = Calls::default();
    let app = app(layer(&Memory::new()).identity(Identity::new().by("hush-hush", by_user)), &calls);
    for (user, call) in [(None, 1), (Some("ada"), 2), (Some("bob"), 3), (Some("ada"), 2), (None, 1)] {
        let lines: Vec<_> = user.iter().map(|user| ("authorization", *user)).collect();
        let response = send(&app, request("POST", "red", &lines)).await;
        assert_eq!(text(response).await, format!("call {call}: POST red 0"));
    }
}

/// Fails if methods share, or what a response varies on counts for `GET` alone.
#[tokio::test(start_paused = true)]
async fn methods_and_variants_are_apart() {
    let calls = Calls::default();
    let handler = any(async move |head: Parts| {
        let language = head.headers["accept-language"].to_str().unwrap().to_owned();
        ([("vary", "accept-language")], format!("{} {language} {}", head.method, calls.next()))
    });
    let app = Router::new().route("/search", handler).layer(layer(&Memory::new()));
    let kinds = ["GET", "POST", "QUERY"].map(|method| ["en", "de"].map(|language| (method, language)));
    for _ in 0..2 {
        for (number, (method, language)) in kinds.into_iter().flatten().enumerate() {
            let response = send(&app, request(method, Body::empty(), &[("accept-language", language)])).await;
            assert_eq!(text(response).await, format!("{method} {language} {}", number + 1));
        }
    }
}

/// Fails if bytes are taken for the text that they stand for.
#[test]
fn content_in_a_coding_is_neither_json_nor_graphql() {
    for key in [BodyKey::json(["/a"]), BodyKey::graphql()] {
        for (coding, made) in [(None, true), (Some("x"), false), (Some("gzip"), false)] {
            let head = coding.iter().fold(Request::builder(), |head, coding| head.header("content-encoding", *coding));
            let (head, _) = head.body(Body::empty()).unwrap().into_parts();
            assert_eq!(key.key(&head, br#"{"a":1,"query":"{a}"}"#).is_some(), made, "{coding:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_stored_if_so_asked() {
    let calls = Calls::default();
    let [here, there] = fleet(&calls);
    let only = |content| request("POST", content, &[("cache-control", "only-if-cached")]);
    assert_eq!(send(&here, only("red")).await.status(), StatusCode::GATEWAY_TIMEOUT);
    send(&there, post("red")).await;
    let stored = send(&here, only("red")).await;
    assert!(matches!(outcome(&stored), Outcome::Hit { .. }));
    assert_eq!((text(stored).await, calls.count()), ("call 1: POST red 0".into(), 1));

    // Without a key nothing can be stored.
    let short = app(layer(&Memory::new()).max_request_body(4), &calls);
    let contents: [(&Router, Body); 3] =
        [(&here, "set".into()), (&short, slow(&["gre", "en"], Then::Ends)), (&short, "green".into())];
    for (number, (app, content)) in contents.into_iter().enumerate() {
        let response = send(app, request("QUERY", content, &[("cache-control", "only-if-cached")])).await;
        assert_eq!((response.status(), calls.count()), (StatusCode::GATEWAY_TIMEOUT, 1), "{number}");
    }
}

/// Fails if a condition goes along with another method than GET, or what says that it lives is not believed.
#[tokio::test(start_paused = true)]
async fn an_origin_decides_and_is_asked_for_no_confirmation() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).policy(Policy::Origin).body_key(BodyKey::digest());
    let app = app(layer, &calls);
    for (content, wait, call) in
        [("public", 1, 1), ("public", 5, 1), ("public", 0, 2), ("silent", 0, 3), ("silent", 0, 4)]
    {
        assert_eq!(text(send(&app, post(content)).await).await, format!("call {call}: POST {content} 0"));
        sleep(secs(wait)).await;
    }
}

/// Fails if the setting of one mode is lost on the way to the other.
#[tokio::test(start_paused = true)]
async fn reads_by_get_fly_as_ever() {
    let calls = Calls::default();
    let fleet = fleet(&calls);
    let responses = together((0..10).map(|number| (fleet[number % 2].clone(), get(URI)))).await;
    assert_eq!((calls.count(), led(&responses)), (1, 1));
    assert!(matches!(outcome(&send(&fleet[0], get(URI)).await), Outcome::Hit { .. }));
    let with_content = Request::get(URI).body("x".into()).unwrap();
    assert_eq!(outcome(&send(&fleet[0], with_content).await), Outcome::Bypassed(Why::Content));
}

/// Fails if a mutation flies, or leaves what queries have stored.
#[tokio::test(start_paused = true)]
async fn graphql_queries_fly_and_mutations_forget_them() {
    let calls = Calls::default();
    let memory = Memory::new();
    let [here, there] = [memory.replica(), memory]
        .map(|memory| app(SingleflightLayer::new(memory).result_ttl(secs(60)).body_key(BodyKey::graphql()), &calls));
    let query = r#"{"query":"query Q($id: Int) { item(id: $id) { name } }","variables":{"id":7,"of":"x"}}"#;
    let same = r#"{"variables":{"of":"x","id":7},"query":"query Q($id: Int) { item(id: $id) { name } }"}"#;
    let other = r#"{"query":"query Q($id: Int) { item(id: $id) { name } }","variables":{"id":8,"of":"x"}}"#;
    let burst = [query, same, other].map(|content| [(here.clone(), post(content)), (there.clone(), post(content))]);
    assert_eq!((led(&together(burst.into_iter().flatten()).await), calls.count()), (2, 2));

    let mutation = r#"{"query":"mutation { rename(id: 7) { name } }"}"#;
    let mutations = together([(here.clone(), post(mutation)), (there.clone(), post(mutation))]).await;
    assert!(mutations.iter().all(|response| outcome(response) == Outcome::Bypassed(Why::Method)));
    assert_eq!((outcome(&send(&there, post(same)).await), calls.count()), (Outcome::Led, 5));
}
