//! Calls of gRPC, by hand: messages, metadata and trailers as they stand on the wire.

use std::convert::Infallible;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Collected, Full, channel::Channel};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_singleflight::{
    Caller, Identity, Outcome, RequestBody, SingleflightLayer, Why, backend::Memory, identity_fn, middleware::Grpc,
};

use crate::http_support::{Calls, Then, led, outcome, secs, slow};

type App = BoxCloneSyncService<Request<Body>, Response, Infallible>;

const URI: &str = "http://a.test/hello.Greeter/SayHello";

fn message(text: &str) -> Bytes {
    [&[0, 0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat().into()
}

fn request(lines: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(URI).header("content-type", "application/grpc").header("te", "trailers");
    lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(body.into()).unwrap()
}

fn say(text: &str) -> Request<Body> {
    request(&[], message(text))
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, line) in lines {
        fields.append(*name, line.parse().unwrap());
    }
    fields
}

const METADATA: [(&str, &str); 4] =
    [("content-type", "application/grpc"), ("x-one", "1"), ("x-one", "2"), ("x-raw-bin", "AAEC")];
const TRAILERS: [(&str, &str); 4] =
    [("grpc-status", "0"), ("grpc-message", ""), ("x-last", "a"), ("grpc-status-details-bin", "CAA")];

/// A response with this message and these trailers.
fn response(body: impl Into<Bytes>, trailers: &[(&'static str, &'static str)]) -> Response {
    let trailers = fields(trailers);
    let body = Full::new(body.into()).with_trailers(async move { Some(Ok(trailers)) });
    (fields(&METADATA), Body::new(body)).into_response()
}

fn ok(text: &str) -> Response {
    response(message(text), &TRAILERS)
}

/// The status alone, in the head.
fn status(code: &'static str) -> Response {
    fields(&[("content-type", "application/grpc"), ("grpc-status", code), ("x-why", "because")]).into_response()
}

/// A server that takes a second over each call, once it has read it.
fn server(
    layer: &SingleflightLayer<Grpc>,
    calls: &Calls,
    answer: impl Fn(HeaderMap, Bytes, usize) -> Response + Clone + Send + Sync + 'static,
) -> App {
    let calls = calls.clone();
    let inner = service_fn(move |request: Request<RequestBody<Body>>| {
        let (calls, answer) = (calls.clone(), answer.clone());
        async move {
            let call = calls.next();
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_or_else(|_| Bytes::from("broken"), Collected::to_bytes);
            sleep(secs(1)).await;
            Ok::<_, Infallible>(answer(head.headers, body, call))
        }
    });
    boxed(layer, inner)
}

fn boxed<S, F>(layer: &SingleflightLayer<Grpc>, inner: S) -> App
where
    S: tower::Service<Request<RequestBody<Body>>, Response = Response, Error = Infallible, Future = F>
        + Clone
        + Send
        + Sync
        + 'static,
    F: Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    BoxCloneSyncService::new(layer.layer(inner).map_response(|response| response.map(Body::new)))
}

fn layer(memory: &Memory) -> SingleflightLayer<Grpc> {
    SingleflightLayer::grpc(memory.clone()).methods(["/hello.Greeter/Say*"])
}

fn fleet(
    set: impl Fn(SingleflightLayer<Grpc>) -> SingleflightLayer<Grpc>,
    calls: &Calls,
    answer: impl Fn(HeaderMap, Bytes, usize) -> Response + Clone + Send + Sync + 'static,
) -> [App; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| server(&set(layer(&memory)), calls, answer.clone()))
}

fn spawn(app: &App, request: Request<Body>) -> JoinHandle<Response> {
    let app = app.clone();
    tokio::spawn(async move { app.oneshot(request).await.unwrap() })
}

async fn send(app: &App, request: Request<Body>) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

/// Ten calls at once over both replicas.
async fn burst(fleet: &[App; 2], call: impl Fn() -> Request<Body>) -> Vec<Response> {
    let flights: Vec<_> = (0..10).map(|number| spawn(&fleet[number % 2], call())).collect();
    let mut responses = Vec::new();
    for flight in flights {
        responses.push(flight.await.unwrap());
    }
    responses
}

/// Everything that a client sees of a response.
async fn seen(response: Response) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (headers, body.to_bytes(), trailers)
}

/// Fails if anything is added to what others get, or taken from it: an `Age`, a second line, what is binary.
#[tokio::test(start_paused = true)]
async fn equal_calls_are_one_with_its_message_metadata_and_trailers() {
    let calls = Calls::default();
    let fleet = fleet(
        |layer| layer.result_ttl(secs(60)),
        &calls,
        |_, body, call| ok(&format!("{call} {}", String::from_utf8_lossy(&body[5..]))),
    );
    let mut responses = burst(&fleet, || say("ada")).await;
    assert_eq!((led(&responses), calls.count()), (1, 1));
    sleep(secs(7)).await;
    let hit = send(&fleet[1], say("ada")).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    responses.push(hit);
    for response in responses {
        assert_eq!(response.status(), 200);
        assert_eq!(seen(response).await, (fields(&METADATA), message("1 ada"), Some(fields(&TRAILERS))));
    }
    assert_eq!(seen(send(&fleet[0], say("bob")).await).await.1, message("2 bob"));
}

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
    let within = |timeout| request(&[("grpc-timeout", timeout)], message("ada"));
    let hasty = spawn(&fleet[0], within("50m"));
    let patient = fleet.each_ref().map(|app| spawn(app, within("5S")));
    sleep(secs(0)).await;
    let hasty_too = fleet.each_ref().map(|app| spawn(app, within("250m")));
    let hasty = hasty.await.unwrap();
    assert_eq!((start.elapsed().as_millis(), outcome(&hasty)), (50, Outcome::Bypassed(Why::Deadline)));
    assert_eq!((hasty.status().as_u16(), &hasty.headers()["grpc-status"]), (200, &HeaderValue::from_static("4")));
    assert_eq!(seen(hasty).await.1, "");
    for hasty in hasty_too {
        assert_eq!(hasty.await.unwrap().headers()["grpc-status"], "4");
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

/// How many calls ten clients cost, and how long that takes, if the first one has this answer and the others succeed.
async fn after(first: fn() -> Response) -> (usize, u64) {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, move |_, _, call| if call == 1 { first() } else { ok("hello") });
    let start = Instant::now();
    burst(&fleet, || say("ada")).await;
    (calls.count(), start.elapsed().as_secs())
}

/// Fails if a failure is shared, if one that says nothing about others sets them all off, or if one that does holds them up.
#[tokio::test(start_paused = true)]
async fn what_fails_is_its_own_callers() {
    assert_eq!(after(|| status("14")).await, (2, 2), "unavailable: one of them tries again");
    assert_eq!(after(|| status("4")).await, (2, 2), "the server's own deadline");
    assert_eq!(after(|| response(message("x"), &[])).await, (2, 2), "without trailers it broke off");
    assert_eq!(after(|| response(message("xy").slice(..6), &TRAILERS)).await, (10, 2), "half a message");
    assert_eq!(after(|| status("5")).await, (10, 2), "not found: all of them try");
    assert_eq!(after(|| status("0")).await, (10, 2), "success without a message");
    assert_eq!(after(|| status("7")).await, (10, 2), "permission denied");
}

/// Fails if what a method says to one sets off one more queue.
#[tokio::test(start_paused = true)]
async fn who_may_not_does_not_queue() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer, &calls, |_, _, _| status("16"));
    for takes in [2, 1] {
        let start = Instant::now();
        burst(&fleet, || say("ada")).await;
        assert_eq!(start.elapsed(), secs(takes));
    }
}

/// Fails if trailers alone come out as anything else, or live as long as a success.
#[tokio::test(start_paused = true)]
async fn codes_that_are_shared() {
    let calls = Calls::default();
    let fleet = fleet(|layer| layer.result_ttl(secs(30)).share_codes([5]), &calls, |_, _, _| status("5"));
    let responses = burst(&fleet, || say("ada")).await;
    assert_eq!((led(&responses), calls.count()), (1, 1));
    sleep(secs(2)).await;
    let hit = send(&fleet[0], say("ada")).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    for response in responses.into_iter().chain([hit]) {
        assert!(http_body::Body::is_end_stream(response.body()), "a server makes trailers alone of it");
        let (headers, body, trailers) = seen(response).await;
        assert_eq!((headers, body.len(), trailers), (status("5").headers().clone(), 0, None));
    }
    sleep(secs(2)).await;
    assert_eq!(outcome(&send(&fleet[0], say("ada")).await), Outcome::Led, "a tenth of the TTL");
}

#[test]
#[should_panic = "`share_codes`"]
fn a_code_that_is_never_shared() {
    let _ = layer(&Memory::new()).share_codes([5, 14]);
}

#[test]
#[should_panic = "`methods`"]
fn no_method() {
    let _ = layer(&Memory::new()).methods(["hello.Greeter/Say"]);
}

/// A server whose answer comes as it does, a message each second.
fn streaming(layer: &SingleflightLayer<Grpc>, calls: &Calls) -> App {
    let calls = calls.clone();
    let inner = service_fn(move |_: Request<RequestBody<Body>>| {
        calls.next();
        async {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                for number in 0..3 {
                    if sender.send_data(message(&number.to_string())).await.is_err() {
                        return;
                    }
                    sleep(secs(1)).await;
                }
                let _ = sender.send_trailers(fields(&TRAILERS)).await;
            });
            Ok::<_, Infallible>((fields(&METADATA), Body::new(body)).into_response())
        }
    });
    boxed(layer, inner)
}

/// Fails if a message waits for the next one, or the others for the end.
#[tokio::test(start_paused = true)]
async fn a_call_that_streams_goes_on_to_its_caller() {
    let calls = Calls::default();
    let memory = Memory::new();
    let app = streaming(&layer(&memory), &calls);
    let start = Instant::now();
    let mut first = send(&app, say("ada")).await;
    let second = spawn(&app, say("ada"));
    for number in 0..3 {
        let frame = first.body_mut().frame().await.unwrap().unwrap();
        assert_eq!((frame.into_data().unwrap(), start.elapsed()), (message(&number.to_string()), secs(number)));
    }
    assert_eq!(first.body_mut().frame().await.unwrap().unwrap().into_trailers().unwrap(), fields(&TRAILERS));
    assert!(first.body_mut().frame().await.is_none());
    assert_eq!((outcome(&second.await.unwrap()), calls.count()), (Outcome::Bypassed(Why::Unshareable), 2));

    // It scatters by now, and nobody waits.
    let start = Instant::now();
    let _ = send(&app, say("ada")).await;
    assert_eq!((start.elapsed(), calls.count()), (secs(0), 3));
}

/// What makes a body, what is in it, and after how many milliseconds the handler has it.
type Sent<'a> = (fn() -> Body, &'a [u8], u64);

/// Fails if what was read of a call that does not fly is lost, or comes late.
#[tokio::test(start_paused = true)]
async fn what_is_not_one_message_reaches_the_handler_as_it_came() {
    let calls = Calls::default();
    let inner = service_fn(|request: Request<RequestBody<Body>>| async {
        Ok::<_, Infallible>(Response::new(Body::new(request.into_body())))
    });
    let app = boxed(&layer(&Memory::new()).max_request_body(12), inner);
    let twice = [message("ada"), message("bob")].concat();
    // Made when they are sent: their pieces come by the clock.
    let bodies: [Sent<'_>; 7] = [
        (|| [message("ada"), message("bob")].concat().into(), &twice, 0),
        (|| slow(&["\0\0\0\0\x01a", "\0\0\0\0\x01b"], Then::Ends), b"\0\0\0\0\x01a\0\0\0\0\x01b", 10),
        (|| slow(&["\0\0\0\0\x01a"], Then::Hangs), b"\0\0\0\0\x01a", 10),
        (|| slow(&["\0\0\0\0\x02a", "b"], Then::Hangs), b"\0\0\0\0\x02ab", 1010),
        (|| slow(&["\0\0\0\0\x08a", "b"], Then::Ends), b"\0\0\0\0\x08ab", 0),
        (|| Bytes::from_static(b"\0\0").into(), b"\0\0", 0),
        (Body::empty, b"", 0),
    ];
    for (body, content, millis) in bodies {
        let start = Instant::now();
        let mut response = send(&app, request(&[], body())).await;
        assert_eq!(start.elapsed().as_millis(), u128::from(millis), "{content:?}");
        assert_eq!(outcome(&response), Outcome::Bypassed(Why::Content));
        let mut echoed = Vec::new();
        while echoed.len() < content.len() {
            echoed.extend(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(echoed, content);
    }
    let untouched = server(&layer(&Memory::new()), &calls, |_, _, call| ok(&call.to_string()));
    for uri in ["http://a.test/hello.Greeter/Chat", "http://a.test/grpc.health.v1.Health/Watch"] {
        let mut other = say("ada");
        *other.uri_mut() = uri.parse().unwrap();
        assert_eq!(outcome(&send(&untouched, other).await), Outcome::Bypassed(Why::Method));
    }
}

/// Fails if who asks counts for nothing, or too much.
#[tokio::test(start_paused = true)]
async fn callers_share_with_their_kind() {
    let calls = Calls::default();
    let by_token = identity_fn(|head| match head.headers.get("authorization") {
        Some(token) => Caller::Partition(token.as_bytes().into()),
        None => Caller::Anybody,
    });
    let identity = Identity::new().by("hush-hush", by_token);
    let fleet = fleet(
        move |layer| layer.identity(identity.clone()).metadata(["x-tenant"]),
        &calls,
        |_, _, call| ok(&call.to_string()),
    );
    let mut flights = Vec::new();
    for lines in [&[][..], &[("authorization", "ada")], &[("authorization", "bob")], &[("x-tenant", "1")]] {
        flights.extend(fleet.each_ref().map(|app| spawn(app, request(lines, message("hi")))));
    }
    for flight in flights {
        assert_eq!(flight.await.unwrap().status(), 200);
    }
    assert_eq!(calls.count(), 4);
}
