//! How long responses of an origin live, how it confirms them, and what stands in for it when it fails.

use std::time::Duration;

use http::{Request, StatusCode};
use tokio::time::{advance, sleep};
use tower_singleflight::{Outcome, Policy, Why};

use crate::{
    http_origin::{Answer, Fleet, MODIFIED, answer, field, get, is_hit, is_stale, numbered, outcome, text},
    http_support::secs,
};

/// Fails if the layer guesses a lifetime, or forgets `Age` or `Date`.
#[tokio::test(start_paused = true)]
async fn an_origin_says_how_long_its_responses_live() {
    let silent = Fleet::of_origin(|_, call| numbered(call, &[]));
    assert_eq!(silent.burst().await.len(), 10);
    assert_eq!(silent.calls.count(), 1, "those who wait share it");
    assert_eq!(text(silent.get(1).await).await, "call 2");

    let fleet = Fleet::of_origin(|_, call| numbered(call, &[("cache-control", "max-age=60"), ("age", "20")]));
    let first = fleet.get(0).await;
    assert_eq!(outcome(&first), Outcome::Led);
    let date = field(&first, "date").unwrap().to_owned();
    sleep(secs(9)).await;
    let hit = fleet.get(1).await;
    // It took a second to come, which counts (RFC 9111 §4.2.3).
    assert_eq!((is_hit(&hit), field(&hit, "age"), field(&hit, "date")), (true, Some("30"), Some(&*date)));
    sleep(secs(31)).await;
    assert_eq!(text(fleet.get(0).await).await, "call 2");
}

/// Fails if `CDN-Cache-Control` is read unasked, or a record that goes by it does not decode.
#[tokio::test(start_paused = true)]
async fn a_targeted_field_replaces_cache_control() {
    let origin =
        |_: &Request<()>, call| numbered(call, &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")]);
    let deaf = Fleet::of_origin(origin);
    for call in 1..3 {
        assert_eq!(text(deaf.get(0).await).await, format!("call {call}"));
    }
    let fleet = Fleet::with(|layer| layer.policy(Policy::Origin).targeted_fields(["CDN-Cache-Control"]), origin);
    fleet.get(0).await.unwrap();
    let hit = fleet.get(1).await;
    assert_eq!((is_hit(&hit), field(&hit, "cache-control")), (true, Some("no-store")));
}

/// Fails if a field that is one user's reaches another, in flight or from the store, or is kept from its own.
#[tokio::test(start_paused = true)]
async fn a_field_of_one_user_is_taken_out_of_what_others_get() {
    let fleet = Fleet::of_origin(|_, call| {
        numbered(call, &[("cache-control", "max-age=60, private=\"x-user\""), ("x-user", "ada")])
    });
    let mut burst = fleet.burst().await;
    burst.push(fleet.get(1).await);
    for got in burst {
        let own = outcome(&got) == Outcome::Led;
        assert_eq!(field(&got, "x-user"), own.then_some("ada"), "{}", outcome(&got));
    }
    assert_eq!(fleet.calls.count(), 1);
}

fn confirming(request: &Request<()>, call: usize) -> Answer {
    let tags = [("etag", "\"a\""), ("last-modified", MODIFIED), ("cache-control", "max-age=5")];
    match request.headers().get("if-none-match") {
        Some(tag) => {
            assert_eq!(
                (tag.as_bytes(), request.headers()["if-modified-since"].as_bytes()),
                (&b"\"a\""[..], MODIFIED.as_bytes())
            );
            answer(304, &[("etag", "\"a\""), ("cache-control", "max-age=20"), ("x-new", "1")], "")
        }
        None => numbered(call, &tags),
    }
}

/// Fails if the validators are not sent, if the 304 reaches anybody, if its fields are lost, or if more than one asks.
#[tokio::test(start_paused = true)]
async fn one_question_in_the_fleet_gives_a_response_another_life() {
    let fleet = Fleet::of_origin(confirming);
    fleet.get(0).await.unwrap();
    sleep(secs(60)).await;
    for got in fleet.burst().await {
        assert_eq!((got.as_ref().unwrap().status(), field(&got, "x-new")), (StatusCode::OK, Some("1")));
        assert_eq!(text(got).await, "call 1");
    }
    assert_eq!(fleet.calls.count(), 2);
    sleep(secs(15)).await;
    let hit = fleet.get(1).await;
    assert_eq!((is_hit(&hit), field(&hit, "x-new")), (true, Some("1")));
    assert_eq!(text(hit).await, "call 1");
    // Kept for an hour after its life, and no longer.
    sleep(secs(3600 + 20)).await;
    assert_eq!(text(fleet.get(1).await).await, "call 3");
}

/// Fails if the route's handler sees conditions that nobody asked it for, or never sees them.
#[tokio::test(start_paused = true)]
async fn a_route_is_asked_if_it_wants_to_be() {
    let unasked = Fleet::with(|layer| layer.result_ttl(secs(5)), confirming);
    let asked = Fleet::with(|layer| layer.result_ttl(secs(5)).revalidation_window(secs(60)), confirming);
    for (fleet, second) in [(unasked, "call 2"), (asked, "call 1")] {
        fleet.get(0).await.unwrap();
        sleep(secs(6)).await;
        assert_eq!(text(fleet.get(1).await).await, second);
        assert_eq!(fleet.calls.count(), 2);
    }
}

/// Fails if a 304 about another response updates this one, or is asked for again and again.
#[tokio::test(start_paused = true)]
async fn a_304_about_another_response_is_not_believed() {
    let fleet = Fleet::of_origin(|request, call| match request.headers().contains_key("if-none-match") {
        true => answer(304, &[("etag", "\"other\"")], ""),
        false => numbered(call, &[("etag", "\"a\""), ("cache-control", "max-age=5")]),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    assert_eq!(fleet.get(1).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(text(fleet.get(0).await).await, "call 3");
}

/// Fails if a cookie that comes with a 304 reaches anybody but the one who asked.
#[tokio::test(start_paused = true)]
async fn a_cookie_that_comes_with_a_304_is_for_one() {
    let fleet = Fleet::of_origin(|request, call| match request.headers().contains_key("if-none-match") {
        true => answer(304, &[("etag", "\"a\""), ("set-cookie", "id=7")], ""),
        false => numbered(call, &[("etag", "\"a\""), ("cache-control", "max-age=5")]),
    });
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    let burst = fleet.burst().await;
    assert!(burst.iter().all(|got| outcome(got) == Outcome::Led || matches!(outcome(got), Outcome::Bypassed(_))));
    assert!(burst.iter().all(|got| field(got, "set-cookie") == Some("id=7") || outcome(got) != Outcome::Led));
}

/// Fails if anybody waits for the refresh, or more than one refreshes.
#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_is_one_refresh_that_nobody_waits_for() {
    let lines = [("cache-control", "max-age=5, stale-while-revalidate=10")];
    let fleet = Fleet::of_origin(move |_, call| numbered(call, &lines));
    fleet.get(0).await.unwrap();
    sleep(secs(6)).await;
    let before = tokio::time::Instant::now();
    for got in fleet.burst().await {
        assert!(is_stale(&got));
        assert_eq!(text(got).await, "call 1");
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    sleep(secs(2)).await;
    assert_eq!(fleet.calls.count(), 2);
    assert_eq!(text(fleet.get(0).await).await, "call 2");
    // Ten seconds after its life it is over.
    sleep(secs(16)).await;
    assert_eq!(text(fleet.get(1).await).await, "call 3");
}

/// Fails if the error reaches anybody, if the origin in trouble is asked more than once in ten seconds, or if the response
/// stands in for longer than it says.
#[tokio::test(start_paused = true)]
async fn a_response_stands_in_for_an_origin_that_fails() {
    for failing in [|| Err("gone"), || answer(500, &[], "oops"), || answer(503, &[("cache-control", "no-store")], "")] {
        let fleet = Fleet::of_origin(move |_, call| match call {
            1 => numbered(call, &[("cache-control", "max-age=5, stale-if-error=60")]),
            _ => failing(),
        });
        fleet.get(0).await.unwrap();
        sleep(secs(6)).await;
        for got in fleet.burst().await {
            assert_eq!(got.as_ref().unwrap().status(), StatusCode::OK, "{}", outcome(&got));
            assert_eq!(text(got).await, "call 1");
        }
        assert_eq!(fleet.calls.count(), 2);
        sleep(secs(5)).await;
        let stale = fleet.get(1).await;
        assert_eq!((is_stale(&stale), field(&stale, "age")), (true, Some("13")));
        sleep(secs(2)).await;
        assert_eq!(fleet.calls.count(), 3, "one caller tries again meanwhile");
        sleep(secs(60)).await;
        assert!(fleet.get(1).await.map_or(true, |response| response.status().is_server_error()));
    }
}

/// Fails if what must be revalidated is served without, or the origin's absence shows as anything but a 504 (RFC 9111
/// §5.2.2.2).
#[tokio::test(start_paused = true)]
async fn what_must_be_revalidated_is_a_504_while_the_origin_is_away() {
    for line in ["must-revalidate", "proxy-revalidate", "s-maxage=5"] {
        let lines = format!("max-age=5, stale-if-error=60, stale-while-revalidate=60, {line}");
        let fleet = Fleet::of_origin(move |_, call| match call {
            1 => numbered(call, &[("etag", "\"a\""), ("cache-control", &lines)]),
            _ => Err("gone"),
        });
        fleet.get(0).await.unwrap();
        sleep(secs(6)).await;
        for got in fleet.burst().await {
            assert_eq!(got.unwrap().status(), StatusCode::GATEWAY_TIMEOUT, "{line}");
        }
        // Twice, however many wait.
        assert_eq!(fleet.calls.count(), 3, "{line}");
    }
}

/// Fails if clients can force executions unasked, or cannot when they may.
#[tokio::test(start_paused = true)]
async fn requests_are_listened_to_if_they_may_decide() {
    let forced: [&[(&str, &str)]; 5] = [
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=3")],
        &[("cache-control", "min-fresh=56")],
        &[("pragma", "no-cache")],
        &[("cache-control", "max-age=0")],
    ];
    let origin = |_: &Request<()>, call| numbered(call, &[("cache-control", "max-age=60")]);
    for lines in forced {
        let deaf = Fleet::of_origin(origin);
        let fleet = Fleet::with(|layer| layer.policy(Policy::Origin).honor_request_directives(true), origin);
        for (fleet, calls) in [(&deaf, 1), (&fleet, 2)] {
            fleet.get(0).await.unwrap();
            advance(secs(5)).await;
            let got = fleet.send(1, get(lines)).await;
            assert_eq!(outcome(&got) == Outcome::Bypassed(Why::Directive), calls == 2, "{lines:?}");
            assert_eq!(text(got).await, format!("call {calls}"), "{lines:?}");
            // Others go on with what is stored.
            let next = fleet.get(0).await;
            assert_eq!((is_hit(&next), &*text(next).await), (true, "call 1"), "{lines:?}");
        }
    }
    let fleet = Fleet::with(|layer| layer.policy(Policy::Origin).honor_request_directives(true), origin);
    fleet.get(0).await.unwrap();
    advance(secs(5)).await;
    assert!(is_hit(&fleet.send(1, get(&[("cache-control", "max-age=30, min-fresh=30")])).await));
    advance(secs(60)).await;
    assert_eq!(fleet.calls.count(), 1);
}

/// Fails if a client that takes stale responses is given none.
#[tokio::test(start_paused = true)]
async fn a_client_may_take_what_is_stale() {
    let origin = |_: &Request<()>, call| numbered(call, &[("cache-control", "max-age=5"), ("etag", "\"a\"")]);
    let fleet = Fleet::with(|layer| layer.policy(Policy::Origin).honor_request_directives(true), origin);
    fleet.get(0).await.unwrap();
    sleep(secs(10)).await;
    assert!(is_stale(&fleet.send(1, get(&[("cache-control", "max-stale=30")])).await));
    assert!(is_stale(&fleet.send(0, get(&[("cache-control", "max-stale, only-if-cached")])).await));
    assert_eq!(text(fleet.send(1, get(&[("cache-control", "max-stale=1")])).await).await, "call 2");
}
