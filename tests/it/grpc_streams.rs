//! Calls of gRPC that were named as unary and stream, or whose message comes in its own time.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use tower_singleflight::{Outcome, RequestBody, SingleflightLayer, Why, backend::Memory};

use crate::{
    grpc_support::{
        METADATA, TRAILERS, boxed, fields, layer, message, millis, request, say, seen, send, spawn, streaming,
    },
    http_support::{Calls, Then, joined, outcome, secs, slow},
};

const ALONE: Outcome = Outcome::Bypassed(Why::Unshareable);

async fn next(response: &mut Response) -> Frame<Bytes> {
    response.body_mut().frame().await.unwrap().unwrap()
}

/// Fails if a message waits for the next one, or the others for the end.
#[tokio::test(start_paused = true)]
async fn a_call_that_streams_goes_on_to_its_caller() {
    let calls = Calls::default();
    let app = streaming(&layer(&Memory::new()), &calls, &[0, 1000, 1000], Some(1000));
    let start = Instant::now();
    let mut first = send(&app, say("ada")).await;
    let second = spawn(&app, say("ada"));
    for number in 0..3 {
        let frame = next(&mut first).await;
        assert_eq!((frame.into_data().unwrap(), start.elapsed()), (message(&number.to_string()), secs(number)));
    }
    assert_eq!(next(&mut first).await.into_trailers().unwrap(), fields(&TRAILERS));
    assert!(first.body_mut().frame().await.is_none());
    assert_eq!((outcome(&second.await.unwrap()), calls.count()), (ALONE, 2));

    // It scatters by now, and nobody waits.
    let start = Instant::now();
    let _ = send(&app, say("ada")).await;
    assert_eq!((start.elapsed(), calls.count()), (secs(0), 3));
}

/// Fails if a call that nobody named is delayed, even one that says nothing first.
#[tokio::test(start_paused = true)]
async fn streams_that_are_not_named_are_left_alone() {
    let app = streaming(&SingleflightLayer::grpc(Memory::new()), &Calls::default(), &[0, 1000, 1000], Some(0));
    let start = Instant::now();
    let mut response = send(&app, request(&[], slow(&[], Then::Hangs))).await;
    for at in 0..3 {
        assert!(next(&mut response).await.is_data());
        assert_eq!(start.elapsed(), secs(at));
    }
    assert_eq!(next(&mut response).await.into_trailers().unwrap(), fields(&TRAILERS));
}

/// Fails if a second message is recorded as well: who waits is let go by it, not by the end, nor by the time that an end
/// may take.
#[tokio::test(start_paused = true)]
async fn a_second_message_lets_the_others_go() {
    let app = streaming(&layer(&Memory::new()), &Calls::default(), &[0, 100, 3000], Some(0));
    let start = Instant::now();
    let _first = send(&app, say("ada")).await;
    let second = send(&app, say("ada")).await;
    assert_eq!((outcome(&second), start.elapsed()), (ALONE, millis(100)));
}

/// Fails if the others wait for the end of a quiet stream as for a slow message, or not long enough for trailers that
/// come by themselves.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_message_is_not_waited_for_long() {
    let cases: [(&[u64], Option<u64>, Option<u64>); 4] = [
        (&[1000], Some(200), None),
        (&[1000], Some(300), Some(1250)),
        (&[0], None, Some(250)),
        (&[2000], Some(0), None),
    ];
    for (messages, end, let_go) in cases {
        let calls = Calls::default();
        let app = streaming(&layer(&Memory::new()), &calls, messages, end);
        let start = Instant::now();
        let mut first = send(&app, say("ada")).await;
        let second = spawn(&app, say("ada"));
        assert!(next(&mut first).await.is_data());
        assert_eq!(start.elapsed(), millis(messages[0]), "its own caller waits for the message alone");
        let second = second.await.unwrap();
        let Some(let_go) = let_go else {
            assert!(joined(&second), "{messages:?} {end:?}: {}", outcome(&second));
            assert_eq!(seen(second).await, (fields(&METADATA), message("0"), Some(fields(&TRAILERS))));
            assert_eq!(calls.count(), 1);
            continue;
        };
        assert_eq!((outcome(&second), start.elapsed()), (ALONE, millis(let_go)), "{messages:?} {end:?}");
        assert_eq!(calls.count(), 2);
        if end.is_some() {
            assert_eq!(next(&mut first).await.into_trailers().unwrap(), fields(&TRAILERS));
        }
    }
}

/// Fails if who waits is not let go as soon as it is known that the message is too long.
#[tokio::test(start_paused = true)]
async fn a_message_that_will_be_too_long_lets_the_others_go() {
    let inner = service_fn(|_: Request<RequestBody<Body>>| async {
        Ok::<_, Infallible>((fields(&METADATA), slow(&["\0\0\0\x0f\0a"], Then::Hangs)).into_response())
    });
    let app = boxed(&layer(&Memory::new()).max_body(99), inner);
    let start = Instant::now();
    let _first = send(&app, say("ada")).await;
    let second = send(&app, say("ada")).await;
    assert_eq!((outcome(&second), start.elapsed()), (ALONE, secs(0)));
}

/// Message after message, as often as it is asked.
struct Endless(usize);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        Poll::Ready(Some(Ok(Frame::data(message(&self.0.to_string())))))
    }
}

/// Fails if a stream that is ready at any time is read to its end, which never comes, or if who asks the same waits for
/// that.
#[tokio::test(start_paused = true)]
async fn an_endless_stream_goes_on_to_each_caller() {
    let inner = service_fn(|_: Request<RequestBody<Body>>| async {
        Ok::<_, Infallible>((fields(&METADATA), Body::new(Endless(0))).into_response())
    });
    let app = boxed(&layer(&Memory::new()), inner);
    let start = Instant::now();
    let mut first = send(&app, say("ada")).await;
    let mut second = send(&app, say("ada")).await;
    for number in 1..1000 {
        for response in [&mut first, &mut second] {
            assert_eq!(next(response).await.into_data().unwrap(), message(&number.to_string()));
        }
    }
    assert_eq!(start.elapsed(), secs(0));
}

/// Fails if a caller takes along what others wait for, when it leaves with the message on its way.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_its_message_leaves_it_to_the_others() {
    let calls = Calls::default();
    let app = streaming(&layer(&Memory::new()), &calls, &[500], Some(0));
    let leader = spawn(&app, say("ada"));
    sleep(millis(10)).await;
    let follower = spawn(&app, say("ada"));
    sleep(millis(10)).await;
    drop(leader.await.unwrap());
    let follower = follower.await.unwrap();
    assert!(joined(&follower));
    assert_eq!(seen(follower).await, (fields(&METADATA), message("0"), Some(fields(&TRAILERS))));
    assert_eq!(calls.count(), 1);
}
