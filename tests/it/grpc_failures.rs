//! Calls of gRPC that fail, and those who waited for their response.

use axum::{body::Body, response::Response};
use tokio::time::{Instant, sleep};
use tower_singleflight::{Outcome, backend::Memory};

use crate::{
    grpc_support::{
        METADATA, TRAILERS, burst, code, fleet, layer, message, ok, response, say, send, server, status, within,
    },
    http_support::{Calls, outcome, secs},
};

/// The codes of a server in trouble: they say nothing about others, but the next one has no better prospects.
const FAILURES: [&str; 8] = ["1", "2", "4", "8", "10", "13", "14", "15"];

/// How many calls ten clients cost, and how long that takes, if the first one has this answer and the others succeed.
async fn after(first: fn() -> Response) -> (usize, u64) {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, move |_, _, call| if call == 1 { first() } else { ok("hello") });
    let start = Instant::now();
    burst(&fleet, 10, |_| say("ada")).await;
    (calls.count(), start.elapsed().as_secs())
}

/// Fails if a failure is shared, if one that says nothing about others sets them all off, or if one that does holds them up.
#[tokio::test(start_paused = true)]
async fn what_fails_is_its_own_callers() {
    assert_eq!(after(|| status("14")).await, (2, 2), "unavailable: one of them tries again");
    assert_eq!(after(|| status("4")).await, (2, 2), "the server's own deadline");
    assert_eq!(after(|| response(&METADATA, message("x"), &[])).await, (2, 2), "without trailers it broke off");
    assert_eq!(after(|| response(&METADATA, message("xy").slice(..6), &TRAILERS)).await, (10, 2), "half a message");
    assert_eq!(after(|| status("5")).await, (10, 2), "not found: all of them try");
    assert_eq!(after(|| status("0")).await, (10, 2), "success without a message");
    assert_eq!(after(|| status("7")).await, (10, 2), "permission denied");
}

/// Fails if those who wait try one after the other, where each of them fails.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_method_that_always_fails_does_not_queue() {
    let answers = FAILURES.map(Some).into_iter().chain([None]);
    for answer in answers {
        let calls = Calls::default();
        let fleet = fleet(
            |layer| layer,
            &calls,
            move |_, _, _| answer.map_or_else(|| response(&METADATA, message("x"), &[]), status),
        );
        let start = Instant::now();
        burst(&fleet, 20, |_| say("ada")).await;
        assert!(start.elapsed() <= secs(3), "{answer:?}: {:?}", start.elapsed());
        assert_eq!(calls.count(), 20, "each has its own response");
    }
}

/// Fails if callers hear that their time is over, in place of what the server says.
#[tokio::test(start_paused = true)]
async fn callers_hear_of_a_failure_within_their_time() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, |_, _, _| status("14"));
    for response in burst(&fleet, 10, |_| within("5S")).await {
        assert_eq!(code(&response), "14");
    }
}

/// Fails if what a method says to one sets off one more queue.
#[tokio::test(start_paused = true)]
async fn who_may_not_does_not_queue() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, |_, _, _| status("16"));
    for takes in [2, 1] {
        let start = Instant::now();
        burst(&fleet, 10, |_| say("ada")).await;
        assert_eq!(start.elapsed(), secs(takes));
    }
}

/// Fails if a code that says nothing of the next call makes the method scatter.
#[tokio::test(start_paused = true)]
async fn what_is_not_found_once_flies_again() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, |_, _, call| if call == 1 { status("5") } else { ok("a") });
    send(&fleet[0], say("ada")).await;
    burst(&fleet, 10, |_| say("ada")).await;
    assert_eq!(calls.count(), 2);
}

/// Fails if what is stale goes on after the server has said that it is no longer so; or if it goes with a server in trouble,
/// for which it is kept.
#[tokio::test(start_paused = true)]
async fn what_is_stale_goes_with_a_status_that_speaks_of_the_call() {
    let speaks = ["3", "5", "6", "7", "9", "11", "12", "16"].map(|code| (code, true));
    for (said, goes) in speaks.into_iter().chain(FAILURES.map(|code| (code, false))) {
        let calls = Calls::default();
        let layer = layer(&Memory::new()).result_ttl(secs(2)).warmup_window(secs(600));
        let app = server(&layer, &calls, move |_, _, call| if call == 1 { ok("secret") } else { status(said) });
        send(&app, say("ada")).await;
        sleep(secs(3)).await;
        assert!(matches!(outcome(&send(&app, say("ada")).await), Outcome::Stale { .. }));
        sleep(secs(2)).await;
        let next = send(&app, say("ada")).await;
        assert_eq!(!matches!(outcome(&next), Outcome::Stale { .. }), goes, "{said}: {}", outcome(&next));
        if goes {
            assert_eq!(code(&next), said);
        }
    }
}

/// Fails if the trailers alone decide: clients go by the head, where that speaks first.
#[tokio::test(start_paused = true)]
async fn a_failure_in_the_head_is_not_undone_by_trailers() {
    for said in ["16", "14", "5"] {
        let head = [("content-type", "application/grpc"), ("grpc-status", said)];
        let calls = Calls::default();
        let fleet =
            fleet(|layer| layer.result_ttl(secs(60)), &calls, move |_, _, _| response(&head, message("a"), &TRAILERS));
        burst(&fleet, 4, |_| say("ada")).await;
        send(&fleet[0], say("ada")).await;
        assert_eq!(calls.count(), 5, "{said}");
    }
}

/// Fails if what keeps a response to its own caller does so in the head alone: metadata stands in either place.
#[tokio::test(start_paused = true)]
async fn trailers_keep_a_response_as_heads_do() {
    for own in [("set-cookie", "sid=1"), ("cache-control", "private"), ("cache-control", "no-store")] {
        for in_head in [true, false] {
            let (mut head, mut last) = (METADATA.to_vec(), TRAILERS.to_vec());
            if in_head { &mut head } else { &mut last }.push(own);
            let calls = Calls::default();
            let fleet =
                fleet(|layer| layer.result_ttl(secs(60)), &calls, move |_, _, _| response(&head, message("a"), &last));
            burst(&fleet, 4, |_| say("ada")).await;
            assert_eq!(calls.count(), 4, "{own:?} in the head: {in_head}");
        }
    }
}

/// Fails if the page of a proxy goes to others, or keeps them longer than one more call takes.
#[tokio::test(start_paused = true)]
async fn a_page_of_a_proxy_is_no_answer() {
    for status in [204, 302, 401, 403, 404, 429, 500, 502, 503, 504] {
        let page = move || {
            let page = Response::builder().status(status).header("content-type", "text/html");
            page.body(Body::from("<html>")).unwrap()
        };
        let calls = Calls::default();
        let fleet = fleet(
            |layer| layer.result_ttl(secs(60)),
            &calls,
            move |_, _, call| if call == 1 { page() } else { ok("a") },
        );
        let start = Instant::now();
        let responses = burst(&fleet, 6, |_| say("ada")).await;
        assert_eq!(start.elapsed(), secs(2), "{status}");
        assert_eq!(responses.iter().filter(|response| response.status() == 200).count(), 5, "{status}");
    }
}
