//! Calls of gRPC by hand, servers that answer them, and what came of them.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Collected, Full, channel::Channel};
use tokio::{task::JoinHandle, time::sleep};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_singleflight::{RequestBody, SingleflightLayer, backend::Memory, middleware::Grpc};

use crate::http_support::{Calls, secs};

pub(crate) type App = BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// Fields of a head, or of trailers.
pub(crate) type Lines = [(&'static str, &'static str)];

pub(crate) const METADATA: [(&str, &str); 4] =
    [("content-type", "application/grpc"), ("x-one", "1"), ("x-one", "2"), ("x-raw-bin", "AAEC")];
pub(crate) const TRAILERS: [(&str, &str); 4] =
    [("grpc-status", "0"), ("grpc-message", ""), ("x-last", "a"), ("grpc-status-details-bin", "CAA")];

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn message(text: &str) -> Bytes {
    [&[0][..], &u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat().into()
}

pub(crate) fn request(lines: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let request = Request::post("http://a.test/hello.Greeter/SayHello");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(body.into()).unwrap()
}

pub(crate) fn say(text: &str) -> Request<Body> {
    request(&[], message(text))
}

/// A call whose caller waits so long.
pub(crate) fn within(timeout: &str) -> Request<Body> {
    request(&[("grpc-timeout", timeout)], message("ada"))
}

pub(crate) fn fields(lines: &Lines) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, line) in lines {
        fields.append(*name, line.parse().unwrap());
    }
    fields
}

/// A response with this head, this message and these trailers.
pub(crate) fn response(head: &Lines, body: impl Into<Bytes>, trailers: &Lines) -> Response {
    let trailers = fields(trailers);
    let body = Full::new(body.into()).with_trailers(async move { Some(Ok(trailers)) });
    (fields(head), Body::new(body)).into_response()
}

pub(crate) fn ok(text: &str) -> Response {
    response(&METADATA, message(text), &TRAILERS)
}

/// The status alone, in the head.
pub(crate) fn status(code: &'static str) -> Response {
    fields(&[("content-type", "application/grpc"), ("grpc-status", code), ("x-why", "because")]).into_response()
}

/// The status of trailers alone.
pub(crate) fn code(response: &Response) -> &HeaderValue {
    &response.headers()["grpc-status"]
}

pub(crate) fn layer(memory: &Memory) -> SingleflightLayer<Grpc> {
    SingleflightLayer::grpc(memory.clone()).methods(["/hello.Greeter/Say*"])
}

pub(crate) fn boxed<S, F>(layer: &SingleflightLayer<Grpc>, inner: S) -> App
where
    S: Service<Request<RequestBody<Body>>, Response = Response, Error = Infallible, Future = F>
        + Clone
        + Send
        + Sync
        + 'static,
    F: Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    BoxCloneSyncService::new(layer.layer(inner).map_response(|response| response.map(Body::new)))
}

/// A server that takes a second over each call, once it has read it.
pub(crate) fn server(
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

/// Two replicas of it.
pub(crate) fn fleet(
    set: impl Fn(SingleflightLayer<Grpc>) -> SingleflightLayer<Grpc>,
    calls: &Calls,
    answer: impl Fn(HeaderMap, Bytes, usize) -> Response + Clone + Send + Sync + 'static,
) -> [App; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| server(&set(layer(&memory)), calls, answer.clone()))
}

/// A server that has its head at once; its messages come each so many milliseconds after the one before, and its trailers
/// so long after them, if ever.
pub(crate) fn streaming(
    layer: &SingleflightLayer<Grpc>,
    calls: &Calls,
    messages: &'static [u64],
    end: Option<u64>,
) -> App {
    let calls = calls.clone();
    let inner = service_fn(move |_: Request<RequestBody<Body>>| {
        calls.next();
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                for (number, wait) in messages.iter().enumerate() {
                    sleep(millis(*wait)).await;
                    if sender.send_data(message(&number.to_string())).await.is_err() {
                        return;
                    }
                }
                sleep(end.map_or(secs(100_000), millis)).await;
                let _ = sender.send_trailers(fields(&TRAILERS)).await;
            });
            Ok::<_, Infallible>((fields(&METADATA), Body::new(body)).into_response())
        }
    });
    boxed(layer, inner)
}

pub(crate) fn spawn(app: &App, request: Request<Body>) -> JoinHandle<Response> {
    let app = app.clone();
    tokio::spawn(async move { app.oneshot(request).await.unwrap() })
}

pub(crate) async fn send(app: &App, request: Request<Body>) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

/// So many calls at once, over all replicas.
pub(crate) async fn burst(fleet: &[App], number: usize, call: impl Fn(usize) -> Request<Body>) -> Vec<Response> {
    let flights: Vec<_> = (0..number).map(|number| spawn(&fleet[number % fleet.len()], call(number))).collect();
    let mut responses = Vec::new();
    for flight in flights {
        responses.push(flight.await.unwrap());
    }
    responses
}

/// Everything that a client sees of a response.
pub(crate) async fn seen(response: Response) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (headers, body.to_bytes(), trailers)
}
