//! What becomes of a response when the origin confirms it or fails, and how others see it then.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{Identity, Outcome, Policy, SingleflightLayer, backend::Memory};

use crate::{
    http_origin::{Body, Fleet, MODIFIED, URI, answer, field, get, is_stale, numbered, outcome, request, text},
    http_support::{Calls, secs},
};

/// Fails if a question that failed lets anybody have the response stale.
#[tokio::test(start_paused = true)]
async fn a_failed_validation_gives_a_response_no_life_as_a_stale_one() {
    for line in ["max-age=60, must-revalidate", "max-age=60"] {
        let fleet = Fleet::listening(move |_, call| match call {
            1 => numbered(call, &[("cache-control", line)]),
            _ => answer(503, &[], "away"),
        });
        fleet.get(0).await.unwrap();
        sleep(secs(10)).await;
        let _ = fleet.send(0, get(&[("cache-control", "no-cache")])).await;
        sleep(secs(51)).await;
        let got = fleet.get(1).await;
        assert!(!is_stale(&got), "{line}: {:?}", outcome(&got));
    }
}

/// Fails if a client that says `no-cache` gets what is stored in place of the origin's error.
#[tokio::test(start_paused = true)]
async fn who_wants_the_word_of_the_origin_hears_of_its_error() {
    let fleet = Fleet::listening(move |_, call| match call {
        1 => numbered(call, &[("cache-control", "max-age=60, must-revalidate")]),
        _ => answer(503, &[], "away"),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(10)).await;
    let got = fleet.send(0, get(&[("cache-control", "no-cache")])).await;
    assert_eq!(got.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Fails if the time in the store counts twice for the caller that led.
#[tokio::test(start_paused = true)]
async fn the_age_of_what_stands_in_is_its_age() {
    let fleet = Fleet::of_origin(|_, call| match call {
        1 => numbered(call, &[("cache-control", "max-age=5, stale-if-error=600")]),
        _ => answer(503, &[], "away"),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(60)).await;
    let got = fleet.get(0).await;
    // A second on its way, sixty in the store, and one more until the origin failed.
    assert_eq!((is_stale(&got), field(&got, "age")), (true, Some("62")));
}

/// Fails if `ttl` in `Cache-Status` counts from another moment.
#[tokio::test(start_paused = true)]
async fn the_ttl_of_what_stands_in_counts_from_its_life() {
    let set = |layer: SingleflightLayer| layer.result_ttl(secs(50)).stale_if_error(secs(600)).cache_status("shop");
    let fleet = Fleet::with(set, |_, call| if call == 1 { numbered(call, &[]) } else { Err("gone") });
    fleet.get(0).await.unwrap();
    sleep(secs(60)).await;
    let got = fleet.get(0).await;
    assert_eq!(field(&got, "cache-status"), Some("shop; hit; ttl=-11"));
}

/// "A recipient with a clock that receives a response message without a Date header field MUST record the time it was
/// received" (RFC 9110 §6.6.1). Fails if a confirmed response is as old as what it confirms.
#[tokio::test(start_paused = true)]
async fn a_304_without_a_date_was_made_now() {
    let date = httpdate::fmt_http_date(SystemTime::now() - secs(100));
    let fleet = Fleet::of_origin(move |request, call| match request.headers().contains_key("if-none-match") {
        true => answer(304, &[("etag", "\"a\""), ("cache-control", "max-age=50")], ""),
        false => numbered(call, &[("etag", "\"a\""), ("cache-control", "max-age=110"), ("date", &*date)]),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(20)).await;
    assert_eq!(text(fleet.get(0).await).await, "call 1");
    let got = fleet.get(1).await;
    assert!(matches!(outcome(&got), Outcome::Hit { .. }), "{}", outcome(&got));
}

/// An origin that knows its responses by `Last-Modified` sends it in no 304 (RFC 9110 §15.4.5). Fails if such a 304 is taken
/// for one about another response.
#[tokio::test(start_paused = true)]
async fn a_304_that_names_no_validator_is_no_error() {
    let fleet = Fleet::of_origin(|request, call| match request.headers().contains_key("if-modified-since") {
        true => answer(304, &[], ""),
        false => numbered(call, &[("last-modified", MODIFIED), ("cache-control", "max-age=5")]),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    assert_eq!(fleet.get(1).await.unwrap().status(), StatusCode::OK);
}

/// Fails if whoever makes up credentials scatters everybody, by a confirmation that is withheld from others.
#[tokio::test(start_paused = true)]
async fn a_confirmation_that_is_withheld_scatters_nobody() {
    let fleet = Fleet::with(
        |layer| layer.policy(Policy::Origin).identity(Identity::new().rfc()),
        |request, call| match request.headers().contains_key("if-none-match") {
            true => answer(304, &[("etag", "\"a\"")], ""),
            false => numbered(call, &[("etag", "\"a\""), ("cache-control", "max-age=5")]),
        },
    );
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    fleet.send(0, get(&[("authorization", "made up")])).await.unwrap();
    let got = fleet.get(1).await;
    assert_eq!(outcome(&got), Outcome::Led);
}

/// `Vary` that is named among the fields of one user is not in the stored head. Fails if the response serves everybody
/// once a 304 has confirmed it.
#[tokio::test(start_paused = true)]
async fn a_response_varies_after_its_confirmation_as_before() {
    varies_still(("cache-control", "max-age=5, no-cache=\"vary\"")).await;
}

/// The same if the connection claims it.
#[tokio::test(start_paused = true)]
async fn a_response_varies_after_its_confirmation_whatever_its_connection_claims() {
    varies_still(("connection", "vary")).await;
}

/// "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204" (RFC 9110 §8.6).
#[tokio::test(start_paused = true)]
async fn a_head_of_nothing_has_no_length() {
    let fleet = Fleet::with(|layer| layer.result_ttl(secs(60)), |_, _| answer(204, &[], ""));
    fleet.get(0).await.unwrap();
    let got = fleet.send(0, request(Method::HEAD, URI, &[])).await;
    assert_eq!((outcome(&got) == Outcome::Led, field(&got, "content-length")), (false, None));
}

/// Fails if who asks for the head or a part of what is stale gets it, and nobody refreshes it.
#[tokio::test(start_paused = true)]
async fn whoever_is_served_stale_has_it_refreshed() {
    for asks in [request(Method::HEAD, URI, &[]), get(&[("range", "bytes=0-1")])] {
        let fleet =
            Fleet::of_origin(|_, call| numbered(call, &[("cache-control", "max-age=5, stale-while-revalidate=600")]));
        fleet.get(0).await.unwrap();
        sleep(secs(6)).await;
        assert!(!is_stale(&fleet.send(0, asks).await));
        assert_eq!(fleet.calls.count(), 2);
    }
}

/// Fails if a variant counts for less time than its response is kept, so that there are more of them than counted.
#[tokio::test(start_paused = true)]
async fn variants_count_as_long_as_they_are_kept() {
    let memory = Memory::new();
    let layer = SingleflightLayer::new(memory.clone()).status_ttl(StatusCode::OK, secs(600));
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::builder().header("vary", "x-made-up").body(Full::<Bytes>::default()).unwrap())
    });
    let service = layer.layer(inner);
    for value in 0..120 {
        let request = Request::get(URI).header("x-made-up", value).body(Body::default()).unwrap();
        service.clone().oneshot(request).await.unwrap();
        if value % 30 == 29 {
            advance(secs(10)).await;
        }
    }
    assert!(memory.len() <= 33, "{}", memory.len());
}

/// A replica that does not read targeted fields stored it, one that does confirms it. Fails if the record goes by the
/// settings of the first, and nobody can read it.
#[tokio::test(start_paused = true)]
async fn what_is_confirmed_by_a_targeted_field_can_be_read() {
    let memory = Memory::new();
    let layers = [memory.replica(), memory].map(|memory| SingleflightLayer::new(memory).policy(Policy::Origin));
    let [deaf, hears] = layers;
    let layers = [deaf, hears.targeted_fields(["cdn-cache-control"])];
    let origin = |request: &Request<()>, call| match request.headers().contains_key("if-none-match") {
        true => {
            answer(304, &[("etag", "\"a\""), ("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")], "")
        }
        false => numbered(call, &[("etag", "\"a\""), ("cache-control", "max-age=5")]),
    };
    let fleet = Fleet { layers, calls: Calls::default(), origin: Arc::new(origin) };
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    fleet.get(1).await.unwrap();
    let got = fleet.get(1).await;
    assert!(matches!(outcome(&got), Outcome::Hit { .. }), "{}", outcome(&got));
}

/// Fails if a field that makes a request bypass sends one to the inner service that takes nothing but what is stored.
#[tokio::test(start_paused = true)]
async fn only_if_cached_asks_nobody_whoever_asks() {
    let fleet = Fleet::with(|layer| layer, |_, call| numbered(call, &[]));
    let got = fleet.send(0, get(&[("cache-control", "only-if-cached"), ("cookie", "a=b")])).await;
    assert_eq!((got.unwrap().status(), fleet.calls.count()), (StatusCode::GATEWAY_TIMEOUT, 0));
}

async fn varies_still(hidden: (&'static str, &'static str)) {
    let fleet = Fleet::of_origin(move |request, call| {
        let language = request.headers().get("accept-language").map_or("", |line| line.to_str().unwrap());
        match request.headers().contains_key("if-none-match") {
            true => answer(304, &[("etag", "\"a\""), ("cache-control", "max-age=60")], ""),
            false => answer(
                200,
                &[("cache-control", "max-age=5"), ("etag", "\"a\""), ("vary", "accept-language"), hidden],
                format!("{language} {call}"),
            ),
        }
    });
    let language = |language| get(&[("accept-language", language)]);
    assert_eq!(text(fleet.send(0, language("de")).await).await, "de 1");
    sleep(secs(6)).await;
    assert_eq!(text(fleet.send(0, language("de")).await).await, "de 1");
    assert_eq!(text(fleet.send(1, language("en")).await).await, "en 3", "{hidden:?}");
}

/// Fails if a response that the origin takes back leaves its key without a marker: each burst would queue up once more.
#[tokio::test(start_paused = true)]
async fn what_the_origin_takes_back_scatters_its_key() {
    let fleet = Fleet::of_origin(|_, call| match call {
        1 => numbered(call, &[("cache-control", "max-age=5"), ("etag", "\"a\"")]),
        _ => numbered(call, &[("cache-control", "private")]),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    for rounds in [2, 1] {
        let start = Instant::now();
        fleet.burst().await;
        assert_eq!(start.elapsed(), secs(rounds));
    }
    assert_eq!(fleet.calls.count(), 21);
}
