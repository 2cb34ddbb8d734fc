//! More requests or bytes than there is room for.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::channel::{Channel, Sender};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower_singleflight::{Outcome, Overload, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, joined, led, outcome, secs, send, spawn, text, together};

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

/// A router whose targets below `/open` have a body that is still to come: the other end of each is in the second value.
fn streaming(layer: &SingleflightLayer, calls: &Calls) -> (Router, UnboundedReceiver<Sender<Bytes>>) {
    let (opened, open) = unbounded_channel();
    let app = app(layer, calls, move |request: &Request, call| {
        if !request.uri().path().starts_with("/open") {
            return format!("call {call}").into_response();
        }
        let (sender, body) = Channel::<Bytes>::new(1);
        opened.send(sender).unwrap();
        Body::new(body).into_response()
    });
    (app, open)
}

/// The same request once more.
fn again(request: &Request) -> Request {
    let mut again = get(&request.uri().to_string());
    *again.method_mut() = request.method().clone();
    again
}

/// The other end of the next body that is opened, which takes no longer than the handlers do.
async fn next(open: &mut UnboundedReceiver<Sender<Bytes>>) -> Sender<Bytes> {
    timeout(secs(2), open.recv()).await.expect("somebody calls the inner service").unwrap()
}

async fn say(sender: &mut Sender<Bytes>, data: &'static str) {
    sender.send_data(Bytes::from_static(data.as_bytes())).await.unwrap();
    settle().await;
}

/// Fails if the door stays open while there is no room for a body, if it keeps from what is stored, or if it does not open
/// again.
#[tokio::test(start_paused = true)]
async fn nobody_leads_or_joins_where_nothing_can_be_recorded() {
    for overload in [Overload::Bypass, REFUSE] {
        let calls = Calls::default();
        let layer = layer().max_body(8).max_recorded(10).result_ttl(secs(60)).overload(overload);
        let (app, mut open) = streaming(&layer, &calls);
        // That of HEAD has a place of its own.
        let mut head = get(&uri("head"));
        *head.method_mut() = Method::HEAD;
        let stored = [get(&uri("stored")), head];
        for request in stored.each_ref().map(again) {
            assert_eq!(outcome(&send(&app, request).await), Outcome::Led);
        }
        let leads = in_the_air(&app, "open", 2).await;
        let mut sender = next(&mut open).await;
        say(&mut sender, "ab").await;
        let enters = in_the_air(&app, "small", 1).await;
        assert_eq!(led(&all(enters).await), 1, "a body of eight bytes has room beside two");
        say(&mut sender, "c").await;
        let before = calls.count();
        for path in ["open", "other"] {
            let above = &in_the_air(&app, path, 1).await[0];
            if overload == REFUSE {
                settle().await;
                assert!(above.is_finished(), "{path}");
            }
            above.abort();
        }
        let above = send(&app, get(&uri("other"))).await;
        assert!(if overload == REFUSE { refused(&above) } else { bypassed(&above) });
        assert_eq!(calls.count() - before, if overload == REFUSE { 0 } else { 3 });
        for request in stored {
            assert!(matches!(outcome(&send(&app, request).await), Outcome::Hit { .. }));
        }
        drop(sender);
        let leads = all(leads).await;
        assert_eq!((led(&leads), leads.iter().filter(|response| joined(response)).count()), (1, 1));
        // What nobody has read yet takes room.
        assert_ne!(outcome(&send(&app, get(&uri("other"))).await), Outcome::Led);
        drop(leads);
        assert_eq!(outcome(&send(&app, get(&uri("other"))).await), Outcome::Led);
    }
}

/// Fails if a body is recorded for which there is no room, if anything of it is lost, if anybody else gets it, or if the
/// key scatters, on this replica or on another one.
#[tokio::test(start_paused = true)]
async fn a_body_without_room_is_its_own_clients_alone() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let [here, there] = [memory.clone(), memory.replica()].map(|memory| {
        let layer = SingleflightLayer::new(memory).max_body(8).max_recorded(10);
        streaming(&layer, &calls)
    });
    let (app, mut open) = here;
    let fits = in_the_air(&app, "open/a", 2).await;
    let bursts = in_the_air(&app, "open/b", 2).await;
    let [mut a, mut b] = [next(&mut open).await, next(&mut open).await];
    say(&mut a, "123456").await;
    say(&mut b, "1234").await;
    say(&mut b, "5").await;
    // The one who waited for it has called the inner service by now.
    let mut own = next(&mut open).await;
    say(&mut own, "own").await;
    say(&mut b, "6789").await;
    drop((own, b));
    let [led_by, alone] = all(bursts).await.try_into().unwrap();
    assert_eq!((outcome(&led_by), text(led_by).await.as_str()), (Outcome::Led, "123456789"));
    assert_eq!((outcome(&alone), text(alone).await.as_str()), (Outcome::Bypassed(Why::Unshareable), "own"));
    say(&mut a, "78").await;
    drop(a);
    for response in all(fits).await {
        assert!(matches!(outcome(&response), Outcome::Led | Outcome::Joined { .. }));
        assert_eq!(text(response).await, "12345678");
    }
    for (app, mut open) in [(app, open), there] {
        let again = in_the_air(&app, "open/b", 2).await;
        let mut sender = next(&mut open).await;
        say(&mut sender, "whole").await;
        drop(sender);
        let again = all(again).await;
        assert_eq!((led(&again), again.iter().filter(|response| joined(response)).count()), (1, 1));
    }
}
