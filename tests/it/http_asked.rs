//! Conditions, parts, HEAD and `only-if-cached`, answered from what everybody gets.

use axum::{Router, extract::Request, response::Response};
use http::{Method, StatusCode};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, get_with, outcome, secs, send, text, together};

const URI: &str = "http://a.test/file";

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Two replicas. The handler says which conditions and parts it was asked for.
fn fleet(calls: &Calls) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| {
        let layer = SingleflightLayer::new(memory).result_ttl(secs(60));
        app(&layer, calls, |request: &Request, _| {
            let seen = ["if-none-match", "if-modified-since", "range", "if-range"];
            let seen = seen.into_iter().filter(|name| request.headers().contains_key(*name)).collect::<Vec<_>>();
            let fields = [("etag", "\"a\""), ("last-modified", MODIFIED), ("x-kept", "no")];
            (fields, format!("0123456789{}", seen.join(",")))
        })
    })
}

fn head(uri: &str) -> Request {
    let mut request = get(uri);
    *request.method_mut() = Method::HEAD;
    request
}

fn field<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|line| line.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn whoever_has_it_already_is_told_so_and_nobody_else() {
    for (name, line) in [("if-none-match", "W/\"b\", \"a\""), ("if-none-match", "*"), ("if-modified-since", MODIFIED)] {
        let calls = Calls::default();
        let fleet = fleet(&calls);
        // In flight, whoever leads, on both replicas; then from the store.
        for _ in 0..2 {
            let asking = || {
                fleet.iter().flat_map(|app| [get_with(URI, name, line), get(URI)].map(|request| (app.clone(), request)))
            };
            for (at, response) in together(asking()).await.into_iter().enumerate() {
                if at % 2 == 0 {
                    assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{name}: {line}");
                    assert_eq!((field(&response, "etag"), field(&response, "x-kept")), (Some("\"a\""), None));
                    assert_eq!(text(response).await, "");
                } else {
                    assert_eq!((response.status(), &*text(response).await), (StatusCode::OK, "0123456789"));
                }
            }
        }
        assert_eq!(calls.count(), 1, "{name}: {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_another_one_gets_this_one() {
    let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
    for (name, line) in [("if-none-match", "\"b\""), ("if-modified-since", earlier), ("if-modified-since", "soon")] {
        let [app, _] = fleet(&Calls::default());
        for _ in 0..2 {
            let response = send(&app, get_with(URI, name, line)).await;
            assert_eq!((response.status(), &*text(response).await), (StatusCode::OK, "0123456789"), "{name}: {line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_is_cut_from_what_is_stored() {
    let calls = Calls::default();
    let [app, other] = fleet(&calls);
    let unstored = send(&app, get_with(URI, "range", "bytes=2-4")).await;
    assert_eq!(outcome(&unstored), Outcome::Bypassed(Why::Range));
    assert_eq!(text(unstored).await, "0123456789range", "it is the handler's to answer");
    send(&app, get(URI)).await;
    let table = [
        ("bytes=2-4", StatusCode::PARTIAL_CONTENT, "234", Some("bytes 2-4/10")),
        ("bytes=-3", StatusCode::PARTIAL_CONTENT, "789", Some("bytes 7-9/10")),
        ("bytes=8-", StatusCode::PARTIAL_CONTENT, "89", Some("bytes 8-9/10")),
        ("bytes=10-", StatusCode::RANGE_NOT_SATISFIABLE, "", Some("bytes */10")),
        ("pages=1", StatusCode::OK, "0123456789", None),
        ("bytes=x", StatusCode::OK, "0123456789", None),
    ];
    for app in [&app, &other] {
        for (range, status, body, content_range) in table {
            let response = send(app, get_with(URI, "range", range)).await;
            assert_eq!((response.status(), field(&response, "content-range")), (status, content_range), "{range}");
            assert!(matches!(outcome(&response), Outcome::Hit { .. }));
            assert_eq!(text(response).await, body, "{range}");
        }
        let mut fitting = get_with(URI, "range", "bytes=0-0");
        fitting.headers_mut().insert("if-range", "\"a\"".parse().unwrap());
        assert_eq!(text(send(app, fitting).await).await, "0");
        let mut other = get_with(URI, "range", "bytes=0-0");
        other.headers_mut().insert("if-range", "\"b\"".parse().unwrap());
        assert_eq!(text(send(app, other).await).await, "0123456789");
    }
    assert_eq!(calls.count(), 2);
    let several = send(&app, get_with(URI, "range", "bytes=0-1,3-4")).await;
    assert_eq!((outcome(&several), calls.count()), (Outcome::Bypassed(Why::Range), 3));
}

#[tokio::test(start_paused = true)]
async fn a_part_neither_leads_nor_joins() {
    let calls = Calls::default();
    let [app, _] = fleet(&calls);
    let requests = [get_with(URI, "range", "bytes=2-4"), get(URI), get(URI)].map(|request| (app.clone(), request));
    let bodies: Vec<_> = together(requests).await;
    let mut texts = Vec::new();
    for response in bodies {
        texts.push(text(response).await);
    }
    assert_eq!(
        (texts, calls.count()),
        (vec!["0123456789range".into(), "0123456789".into(), "0123456789".to_owned()], 2)
    );
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_from_a_stored_get_and_never_the_other_way_round() {
    let calls = Calls::default();
    let [app, other] = fleet(&calls);
    assert_eq!(outcome(&send(&app, head(URI)).await), Outcome::Led);
    assert_eq!(text(send(&app, get(URI)).await).await, "0123456789");
    assert_eq!(calls.count(), 2);
    let response = send(&other, head(URI)).await;
    assert!(matches!(outcome(&response), Outcome::Hit { .. }));
    assert_eq!((field(&response, "content-length"), field(&response, "etag")), (Some("10"), Some("\"a\"")));
    assert_eq!(text(response).await, "");
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_leads() {
    let calls = Calls::default();
    let [app, other] = fleet(&calls);
    let asks = || get_with(URI, "cache-control", "only-if-cached");
    let response = send(&app, asks()).await;
    assert_eq!(
        (response.status(), outcome(&response)),
        (StatusCode::GATEWAY_TIMEOUT, Outcome::Bypassed(Why::OnlyIfCached))
    );
    assert_eq!(calls.count(), 0);
    send(&app, get(URI)).await;
    assert_eq!(text(send(&other, asks()).await).await, "0123456789");
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shared_stays_whole() {
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(60));
    let app = app(&layer, &Calls::default(), |_, _| ([("etag", "\"a\""), ("set-cookie", "a=b")], "mine"));
    let response = send(&app, get_with(URI, "if-none-match", "\"a\"")).await;
    assert_eq!((response.status(), field(&response, "set-cookie")), (StatusCode::OK, Some("a=b")));
}

/// Fails if what is switched off is answered by the layer all the same, or shared.
#[tokio::test(start_paused = true)]
async fn what_the_layer_shall_not_answer_goes_to_the_handler() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(60));
    let layer = layer.answer_conditions(false).answer_ranges(false);
    let app = app(&layer, &calls, |request: &Request, call| {
        let fields = ["if-none-match", "range"].into_iter().filter(|name| request.headers().contains_key(*name));
        ([("etag", "\"a\"")], format!("{call} {}", fields.collect::<String>()))
    });
    send(&app, get(URI)).await;
    for (name, line, why, expected) in
        [("if-none-match", "\"a\"", Why::Conditional, "2 if-none-match"), ("range", "bytes=0-1", Why::Range, "3 range")]
    {
        let response = send(&app, get_with(URI, name, line)).await;
        assert_eq!((response.status(), outcome(&response)), (StatusCode::OK, Outcome::Bypassed(why)));
        assert_eq!(text(response).await, expected);
    }
}
