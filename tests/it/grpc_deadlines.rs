//! Calls of gRPC whose callers say how long they wait.

use std::convert::Infallible;

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request};
use tokio::{
    sync::mpsc,
    time::{Instant, advance, sleep},
};
use tower::{Service, ServiceExt, service_fn};
use tower_singleflight::{Outcome, RequestBody, Why, backend::Memory};

use crate::{
    grpc_support::{
        App, boxed, burst, code, fleet, layer, message, millis, ok, request, say, seen, send, server, spawn, status,
        streaming, within,
    },
    http_support::{Calls, Then, outcome, secs, slow},
};

/// Fails if the time of one caller ends the work of others, or is not kept where it waits for them.
#[tokio::test(start_paused = true)]
async fn deadlines_are_each_callers_own() {
    let calls = Calls::default();
    let fleet = fleet(
        |layer| layer,
        &calls,
        |headers, _, _| {
            assert!(!headers.contains_key("grpc-timeout"));
            ok("hello")
        },
    );
    let start = Instant::now();
    let hasty = spawn(&fleet[0], within("50m"));
    let patient = fleet.each_ref().map(|app| spawn(app, within("5S")));
    sleep(secs(0)).await;
    let hasty_too = fleet.each_ref().map(|app| spawn(app, within("250m")));
    let hasty = hasty.await.unwrap();
    assert_eq!((start.elapsed().as_millis(), outcome(&hasty)), (50, Outcome::Bypassed(Why::Deadline)));
    assert_eq!((hasty.status().as_u16(), code(&hasty)), (200, &HeaderValue::from_static("4")));
    assert_eq!(seen(hasty).await.1, "");
    for hasty in hasty_too {
        assert_eq!(code(&hasty.await.unwrap()), "4");
    }
    assert_eq!(start.elapsed().as_millis(), 250);
    for patient in patient {
        assert_eq!(seen(patient.await.unwrap()).await.1, message("hello"));
    }
    assert_eq!((start.elapsed(), calls.count()), (secs(1), 1));

    // One that goes by itself says what it said.
    let alone = server(&layer(&Memory::new()), &calls, |headers, _, _| ok(headers["grpc-timeout"].to_str().unwrap()));
    let bypassing = request(&[("grpc-timeout", "5S"), ("authorization", "x")], message("ada"));
    assert_eq!(seen(send(&alone, bypassing).await).await.1, message("5S"));
}

/// Fails if much time is none, if none is some, or if it does not pass while a call is read.
#[tokio::test(start_paused = true)]
async fn deadlines_at_the_edges() {
    let app = server(&layer(&Memory::new()), &Calls::default(), |_, _, _| ok("a"));
    for timeout in ["99999999H", "99999999M", "99999999S", "99999999m"] {
        assert_eq!(seen(send(&app, within(timeout)).await).await.1, message("a"), "{timeout}");
    }
    let start = Instant::now();
    for timeout in ["0n", "0H", "1n"] {
        assert_eq!(code(&send(&app, within(timeout)).await), "4");
    }
    assert!(start.elapsed() <= millis(3));
    let start = Instant::now();
    let hanging = request(&[("grpc-timeout", "50m")], slow(&["\0\0\0\0\x02a"], Then::Hangs));
    assert_eq!(code(&send(&app, hanging).await), "4");
    assert_eq!(start.elapsed(), millis(50));
}

/// Fails if time counts from the first poll: a server that keeps it as well, around the layer, is then first.
#[tokio::test(start_paused = true)]
async fn deadlines_count_from_the_call() {
    let mut app = server(&layer(&Memory::new()), &Calls::default(), |_, _, _| ok("hello"));
    let start = Instant::now();
    let call = app.ready().await.unwrap().call(within("50m"));
    advance(millis(30)).await;
    assert_eq!(code(&call.await.unwrap()), "4");
    assert!(start.elapsed() <= millis(51), "{:?}", start.elapsed());
}

/// When the body of a response ended, what came of its messages, and with which status.
async fn ended(response: Response, start: Instant) -> (u128, String, HeaderValue) {
    let (_, messages, trailers) = seen(response).await;
    let messages = String::from_utf8(messages.into()).unwrap();
    (start.elapsed().as_millis(), messages, trailers.unwrap()["grpc-status"].clone())
}

/// Fails if time is over with the head: the handler of a call that flies does not know of it, and nobody else would end the
/// body.
#[tokio::test(start_paused = true)]
async fn deadlines_count_for_the_body_too() {
    let over = HeaderValue::from_static("4");
    let app = |messages, end| streaming(&layer(&Memory::new()), &Calls::default(), messages, end);
    for (messages, end, came) in
        [(&[3000][..], Some(0), ""), (&[0], Some(3000), "\0\0\0\0\u{1}0"), (&[20, 3000], None, "\0\0\0\0\u{1}0")]
    {
        let start = Instant::now();
        let leader = send(&app(messages, end), within("50m")).await;
        assert_eq!((leader.status().as_u16(), start.elapsed()), (200, secs(0)));
        assert_eq!(ended(leader, start).await, (50, came.to_owned(), over.clone()), "{messages:?} {end:?}");
    }
    let start = Instant::now();
    let leader = send(&app(&[30], Some(10)), within("50m")).await;
    assert_eq!(ended(leader, start).await, (40, "\0\0\0\0\u{1}0".to_owned(), HeaderValue::from_static("0")));

    // Whoever follows has the rest all the same.
    let app = app(&[300], Some(0));
    let leader = send(&app, within("50m")).await;
    let follower = spawn(&app, say("ada"));
    assert_eq!(seen(leader).await.2.unwrap()["grpc-status"], over);
    let follower = follower.await.unwrap();
    assert!(matches!(outcome(&follower), Outcome::Joined { .. }), "{}", outcome(&follower));
    assert_eq!(seen(follower).await.1, message("0"));
}

/// A server that answers after this time, and tells what it hears of its callers' patience.
fn listening(
    wait_timeout: u64,
    takes: u64,
    answer: fn() -> Response,
) -> (App, mpsc::UnboundedReceiver<Option<HeaderValue>>) {
    let (said, heard) = mpsc::unbounded_channel();
    let inner = service_fn(move |request: Request<RequestBody<Body>>| {
        said.send(request.headers().get("grpc-timeout").cloned()).unwrap();
        async move {
            sleep(secs(takes)).await;
            Ok::<_, Infallible>(answer())
        }
    });
    (boxed(&layer(&Memory::new()).wait_timeout(secs(wait_timeout)), inner), heard)
}

/// Fails if the handler of a call that waited in vain hears nothing of its caller's time, or hears of what is over.
#[tokio::test(start_paused = true)]
async fn who_goes_alone_says_what_is_left_of_its_time() {
    let (app, mut heard) = listening(4, 60, || ok("a"));
    let _leader = spawn(&app, say("ada"));
    sleep(millis(1)).await;
    let start = Instant::now();
    let follower = send(&app, within("5S")).await;
    assert_eq!((code(&follower), start.elapsed()), (&HeaderValue::from_static("4"), secs(5)));
    assert_eq!(heard.recv().await.unwrap(), None, "the work of all takes the time it takes");
    assert_eq!(heard.recv().await.unwrap().unwrap(), "1000m");

    // Let go by a status that is the leader's own.
    let (app, mut heard) = listening(60, 1, || status("5"));
    let responses = burst(&[app], 2, |_| within("5S")).await;
    assert!(responses.iter().all(|response| code(response) == "5"));
    assert_eq!(heard.recv().await.unwrap(), None);
    assert_eq!(heard.recv().await.unwrap().unwrap(), "4000m");
}
