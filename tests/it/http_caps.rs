//! More requests or bytes than there is room for.

use std::time::Duration;

use axum::{Router, extract::Request, response::Response};
use http::StatusCode;
use tokio::{task::JoinHandle, time::sleep};
use tower_singleflight::{Outcome, Overload, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, joined, led, outcome, spawn, together};

const OVERLOADED: Outcome = Outcome::Bypassed(Why::Overloaded);

const REFUSE: Overload = Overload::Refuse { retry_after: Duration::from_millis(1200) };

fn layer() -> SingleflightLayer {
    SingleflightLayer::new(Memory::new()).cache_status("shop")
}

fn numbered(_: &Request, call: usize) -> String {
    format!("call {call}")
}

fn uri(path: &str) -> String {
    format!("http://a.test/{path}")
}

/// Lets every task run until all of them wait for something.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Requests for one target that are in the air from now on.
async fn in_the_air(app: &Router, path: &str, requests: usize) -> Vec<JoinHandle<Response>> {
    let flights = (0..requests).map(|_| spawn(app, get(&uri(path)))).collect();
    settle().await;
    flights
}

async fn all(flights: Vec<JoinHandle<Response>>) -> Vec<Response> {
    let mut responses = Vec::new();
    for flight in flights {
        responses.push(flight.await.unwrap());
    }
    responses
}

/// Whether it is a refusal, and says no more than when to come back: what is made up here has no `Cache-Status`.
fn refused(response: &Response) -> bool {
    let fields = response.headers();
    let status = response.status() == StatusCode::SERVICE_UNAVAILABLE && outcome(response) == OVERLOADED;
    status && fields.len() == 1 && fields["retry-after"] == "2"
}

/// Whether the inner service ran for it alone, because of the overload.
fn bypassed(response: &Response) -> bool {
    let status = response.headers().get("cache-status");
    outcome(response) == OVERLOADED && status.is_some_and(|status| status == "shop; fwd=uri-miss")
}

/// Fails if a limit to those who wait is not the layer's, if its overload is not told as it is, if a refused request calls
/// the inner service, or if anybody else is refused.
#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_goes_alone_or_is_refused() {
    for limited in [layer().max_waiters_per_key(2), layer().max_waiters(2)] {
        for overload in [Overload::Bypass, REFUSE] {
            let calls = Calls::default();
            let app = app(&limited.clone().overload(overload), &calls, numbered);
            for round in 1..3 {
                let before = calls.count();
                let seated = in_the_air(&app, "a", 3).await;
                let above = all(in_the_air(&app, "a", 2).await).await;
                let executed = if overload == REFUSE { 0 } else { 2 };
                assert_eq!(above.iter().filter(|response| refused(response)).count(), 2 - executed);
                assert_eq!(above.iter().filter(|response| bypassed(response)).count(), executed);
                let seated = all(seated).await;
                assert_eq!((led(&seated), seated.iter().filter(|response| joined(response)).count()), (1, 2));
                assert_eq!(calls.count() - before, 1 + executed, "round {round}");
            }
        }
    }
}

/// Fails if one key's waiters count for another one's limit, or not for all.
#[tokio::test(start_paused = true)]
async fn another_key_has_its_own_limit_and_shares_that_of_all() {
    let per_key = layer().max_waiters_per_key(2).max_waiters(3).overload(REFUSE);
    let app = app(&per_key, &Calls::default(), numbered);
    let mut flights = in_the_air(&app, "a", 3).await;
    flights.extend(in_the_air(&app, "b", 2).await);
    let above = all(in_the_air(&app, "b", 1).await).await;
    assert!(refused(&above[0]));
    let flights = all(flights).await;
    assert_eq!((led(&flights), flights.iter().filter(|response| joined(response)).count()), (2, 3));
}

/// Fails if the limits that nobody has set are in anybody's way.
#[tokio::test(start_paused = true)]
async fn ten_thousand_wait_for_one_execution() {
    let calls = Calls::default();
    let app = app(&layer().overload(REFUSE), &calls, numbered);
    let responses = together((0..10_001).map(|_| (app.clone(), get(&uri("a"))))).await;
    assert_eq!((calls.count(), led(&responses)), (1, 1));
    assert_eq!(responses.iter().filter(|response| joined(response)).count(), 10_000);
}

/// Fails if a request that goes by itself for another reason is refused.
#[tokio::test(start_paused = true)]
async fn nothing_but_overload_refuses() {
    let calls = Calls::default();
    let unshareable = app(&layer().overload(REFUSE), &calls, |_, _| ([("set-cookie", "a=b")], "mine"));
    let impatient = layer().overload(REFUSE).wait_timeout(Duration::from_millis(10));
    let impatient = app(&impatient, &calls, numbered);
    for app in [unshareable, impatient] {
        let responses = together((0..5).map(|_| (app.clone(), get(&uri("a"))))).await;
        assert!(responses.iter().all(|response| response.status() == StatusCode::OK));
    }
    assert_eq!(calls.count(), 10);
}
