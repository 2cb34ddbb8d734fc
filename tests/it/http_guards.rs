//! What must never reach another client, with requests in the air together and one after the other, within one replica
//! and across two.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, channel::Channel};
use tokio::time::sleep;
use tower_singleflight::{
    Outcome, RequestKey, SingleflightLayer, Why,
    backend::{Backend, Lifetimes, Memory, Record},
};

use crate::http_support::{Calls, app, get, get_with, joined, led, outcome, secs, send, spawn, text, together};

const URI: &str = "http://a.test/report";

/// Two replicas of one application that keeps what it may for a minute.
fn fleet<R: IntoResponse>(
    calls: &Calls,
    handler: impl Fn(&Request, usize) -> R + Clone + Send + Sync + 'static,
) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory]
        .map(|memory| app(&SingleflightLayer::new(memory).result_ttl(secs(60)).max_body(1024), calls, handler.clone()))
}

/// Sends the requests to both replicas, first all at once and then one by one, and checks every response.
async fn each(fleet: &[Router; 2], requests: impl Fn() -> Vec<Request>, check: impl AsyncFn(usize, Response)) {
    let both = fleet.iter().flat_map(|app| requests().into_iter().map(|request| (app.clone(), request)));
    let count = requests().len();
    for (at, response) in together(both).await.into_iter().enumerate() {
        check(at % count, response).await;
    }
    for app in fleet {
        for (at, request) in requests().into_iter().enumerate() {
            check(at, send(app, request).await).await;
        }
    }
}

/// Requests that differ in what the handler answers: nobody may see another's.
async fn apart(echo: impl Fn(&Request) -> String + Clone + Send + Sync + 'static, requests: impl Fn() -> Vec<Request>) {
    let expected: Vec<_> = requests().iter().map(&echo).collect();
    let fleet = fleet(&Calls::default(), move |request, _| echo(request));
    each(&fleet, requests, async |at, response| assert_eq!(text(response).await, expected[at])).await;
}

fn field(name: &'static str) -> impl Fn(&Request) -> String + Clone {
    move |request| request.headers().get(name).map_or("nobody".into(), |line| line.to_str().unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn users_never_see_each_others_responses() {
    let asserted =
        ["x-forwarded-user", "x-forwarded-client-cert", "x-auth-request-email", "x-amzn-oidc-data", "remote-user"];
    for name in ["authorization", "cookie", "proxy-authorization", "x-api-key"].into_iter().chain(asserted) {
        let requests = || vec![get_with(URI, name, "alice"), get_with(URI, name, "bob"), get(URI)];
        apart(field(name), requests).await;
    }
}

#[tokio::test(start_paused = true)]
async fn targets_are_apart() {
    let pairs = [
        ("http://a.test/x", "http://b.test/x"),
        ("http://a.test/a%2Fb", "http://a.test/a/b"),
        ("http://a.test/?x=1&y=2", "http://a.test/?y=2&x=1"),
        ("http://a.test/ab/c", "http://a.test/a/b/c"),
        ("http://ab/c", "http://a/b/c"),
        ("http://a.test/?a=%1E", "http://a.test/?a="),
    ];
    for (one, other) in pairs {
        apart(|request| request.uri().to_string(), || vec![get(one), get(other)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_host_is_reflected_to_its_own_client() {
    let requests = || vec![get_with(URI, "x-forwarded-host", "evil.test"), get(URI)];
    apart(field("x-forwarded-host"), requests).await;
}

#[tokio::test(start_paused = true)]
async fn an_overridden_request_is_its_own() {
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
    ] {
        apart(field(name), || vec![get_with(URI, name, "/admin"), get(URI)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_sharing_or_no_response_of_the_usual_kind_is_its_own() {
    let lines = [
        ("cache-control", "no-store"),
        ("accept", "text/event-stream"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
    ];
    for (name, line) in lines {
        apart(field(name), || vec![get_with(URI, name, line), get(URI)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_is_its_own_clients() {
    let calls = Calls::default();
    let fleet = fleet(&calls, |_, call| ([("content-type", "text/event-stream")], format!("data: {call}\n\n")));
    each(&fleet, || vec![get(URI), get(URI)], async |_, response| assert!(!joined(&response))).await;
    assert_eq!(calls.count(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_leaves_what_is_stored() {
    for status in [400, 408, 429, 500] {
        let calls = Calls::default();
        let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(5)).warmup_window(secs(100));
        let app = app(&layer, &calls, move |_, call| match call {
            2 => Err(StatusCode::from_u16(status).unwrap()),
            call => Ok(format!("call {call}")),
        });
        send(&app, get(URI)).await;
        for _ in 0..2 {
            sleep(secs(7)).await;
            let stale = send(&app, get(URI)).await;
            assert!(matches!(outcome(&stale), Outcome::Stale { .. }), "{status}");
            assert_eq!(text(stale).await, "call 1", "{status}");
        }
        sleep(secs(2)).await;
        assert_eq!(text(send(&app, get(URI)).await).await, "call 3", "{status}: the next refresh succeeds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_or_a_condition_does_not_lead_for_others() {
    for name in ["if-match", "if-unmodified-since", "expect"] {
        apart(field(name), || vec![get_with(URI, name, "x"), get(URI)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_with_content_is_its_own() {
    let echo = |request: &Request| format!("{:?}", http_body::Body::size_hint(request.body()).exact());
    apart(echo, || vec![Request::get(URI).body(Body::from("abc")).unwrap(), get(URI)]).await;
}

#[tokio::test(start_paused = true)]
async fn responses_for_one_client_reach_that_client_alone() {
    let fields = [
        ("set-cookie", "session=1"),
        ("cache-control", "private"),
        ("cache-control", "no-store"),
        ("cache-control", "no-cache"),
        ("vary", "*"),
    ];
    for line in fields {
        let calls = Calls::default();
        let fleet = fleet(&calls, move |_, call| ([line], format!("call {call}")));
        let requests = || vec![get(URI), get(URI), get(URI)];
        let seen = std::sync::Mutex::new(Vec::new());
        each(&fleet, requests, async |_, response| {
            assert!(matches!(outcome(&response), Outcome::Led | Outcome::Bypassed(Why::Unshareable)), "{line:?}");
            assert_eq!(response.headers()[line.0], line.1);
            let text = text(response).await;
            seen.lock().unwrap().push(text);
        })
        .await;
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 12, "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_for_one_client_reach_that_client_alone() {
    for status in [401, 403, 407, 206, 304, 302] {
        let calls = Calls::default();
        let fleet = fleet(&calls, move |_, _| StatusCode::from_u16(status).unwrap());
        each(&fleet, || vec![get(URI), get(URI)], async |_, response| assert!(!joined(&response))).await;
        assert_eq!(calls.count(), 8, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_what_cannot_be_shared_takes_two_rounds_and_the_next_one() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls, |_, _| [("cache-control", "private")]);
    for rounds in [2, 1, 1] {
        let start = tokio::time::Instant::now();
        together((0..50).map(|_| (app.clone(), get(URI)))).await;
        assert!(start.elapsed() < secs(rounds) + Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_request_reaches_no_other() {
    let refused = |request: &Request, _| match request.headers().get("x-huge") {
        Some(_) => StatusCode::BAD_REQUEST,
        None => StatusCode::OK,
    };
    let fleet = fleet(&Calls::default(), refused);
    let requests = || vec![get_with(URI, "x-huge", "..."), get(URI), get(URI)];
    each(&fleet, requests, async |at, response| {
        assert!(at == 0 || response.status() == StatusCode::OK);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_cannot_be_shared_holds_nobody_up() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls, |_, _| (StatusCode::SERVICE_UNAVAILABLE, [("cache-control", "no-store")]));
    let start = tokio::time::Instant::now();
    together((0..50).map(|_| (app.clone(), get(URI)))).await;
    assert_eq!((start.elapsed().as_secs(), calls.count()), (2, 50), "one, and then all that waited");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_kept_a_tenth_as_long() {
    let calls = Calls::default();
    let [app, other] = fleet(&calls, |_, _| StatusCode::NOT_FOUND);
    send(&app, get(URI)).await;
    sleep(secs(4)).await;
    assert!(matches!(outcome(&send(&other, get(URI)).await), Outcome::Hit { .. }));
    sleep(secs(2)).await;
    assert_eq!(outcome(&send(&other, get(URI)).await), Outcome::Led);
}

#[tokio::test(start_paused = true)]
async fn a_long_body_goes_to_everybody_from_their_own_call() {
    let calls = Calls::default();
    let fleet = fleet(&calls, |_, call| format!("{call}").repeat(1025));
    each(
        &fleet,
        || vec![get(URI), get(URI)],
        async |_, response| {
            assert!(!joined(&response));
            assert!(text(response).await.len() >= 1025);
        },
    )
    .await;
    assert_eq!(calls.count(), 8);
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_releases_those_who_wait() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls, |_, _| {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from_static(&[b'x'; 100])).await.is_ok() {
                sleep(secs(1)).await;
            }
        });
        Body::new(body)
    });
    let trailing = together([(); 3].map(|()| (app.clone(), get(URI)))).await;
    assert_eq!(led(&trailing), 1);
    for response in trailing {
        let mut body = response.into_body();
        for _ in 0..20 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 100);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_nobody_elses() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls, |_, call| {
        if call > 1 {
            return Body::from("whole");
        }
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
        sender.try_send(http_body::Frame::data(Bytes::from_static(b"wh"))).unwrap();
        sender.abort(std::io::Error::other("gone"));
        Body::new(body)
    });
    let flights = [(); 4].map(|()| spawn(&app, get(URI)));
    let mut broken = 0;
    for flight in flights {
        match flight.await.unwrap().into_body().collect().await {
            Ok(body) => assert_eq!(body.to_bytes(), "whole"),
            Err(_) => broken += 1,
        }
    }
    assert_eq!((calls.count(), broken), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crafted_record_is_a_miss() {
    let (head, ()) = http::Request::get(URI).body(()).unwrap().into_parts();
    let key = RequestKey::new(&head).unwrap().finish().unwrap();
    let memory = Memory::new();
    let app = app(&SingleflightLayer::new(memory.clone()).result_ttl(secs(60)), &Calls::default(), |_, _| "fine");
    assert_eq!(outcome(&send(&app, get(URI)).await), Outcome::Led);
    let ours = memory.get(&key).await.unwrap().expect("it is stored under this key").payload;

    let payloads: [&[u8]; 6] = [
        b"",
        b"\x02",
        b"\x01\xff\xff\xff\xff",
        b"\x01\0\0\0\x06\xc8\x01\0\0\xff\xff",
        b"<html>",
        &ours[..ours.len() - 1],
    ];
    let crafted = payloads.into_iter().map(|payload| (Bytes::copy_from_slice(payload), false));
    for (payload, usable) in crafted.chain([(ours.clone(), true)]) {
        let lifetimes = Lifetimes { fresh: secs(60), stale: secs(60), keep: secs(120) };
        memory.put(&key, Record { lifetimes, cost: secs(1), payload }).await.unwrap();
        let response = send(&app, get(URI)).await;
        assert_eq!(matches!(outcome(&response), Outcome::Hit { .. }), usable);
        assert_eq!(text(response).await, "fine");
    }
}

#[tokio::test(start_paused = true)]
async fn fields_of_one_exchange_are_not_shared() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls, |_, call| [("x-request-id", call.to_string()), ("etag", "\"1\"".into())]);
    for response in together([(); 5].map(|()| (app.clone(), get(URI)))).await {
        assert_eq!(response.headers().contains_key("x-request-id"), outcome(&response) == Outcome::Led);
        assert_eq!(response.headers()["etag"], "\"1\"");
    }
    assert_eq!(calls.count(), 1);
}
