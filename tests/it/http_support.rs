//! Routers, requests and what came of them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, channel::Channel};
use tokio::{task::JoinHandle, time::sleep};
use tower::{ServiceExt, service_fn};
use tower_singleflight::{Outcome, SingleflightLayer};

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Counts how often a handler ran.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<AtomicUsize>);

impl Calls {
    /// This call's number, from one.
    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A router whose every target takes a second and answers what `handler` makes of the request and the call's number.
pub(crate) fn app<R: IntoResponse>(
    layer: &SingleflightLayer,
    calls: &Calls,
    handler: impl Fn(&Request, usize) -> R + Clone + Send + Sync + 'static,
) -> Router {
    let calls = calls.clone();
    let handler = service_fn(move |request: Request| {
        let (calls, handler) = (calls.clone(), handler.clone());
        async move {
            let call = calls.next();
            sleep(secs(1)).await;
            Ok::<_, Infallible>(handler(&request, call).into_response())
        }
    });
    Router::new().fallback_service(handler).layer(layer.clone())
}

pub(crate) fn get(uri: &str) -> Request {
    Request::get(uri).body(Body::empty()).unwrap()
}

pub(crate) fn get_with(uri: &str, name: &str, line: &str) -> Request {
    Request::get(uri).header(name, line).body(Body::empty()).unwrap()
}

pub(crate) async fn send(app: &Router, request: Request) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

pub(crate) fn spawn(app: &Router, request: Request) -> JoinHandle<Response> {
    let app = app.clone();
    tokio::spawn(async move { send(&app, request).await })
}

/// The responses to requests that are in the air at the same time, in the order of the requests.
pub(crate) async fn together(requests: impl IntoIterator<Item = (Router, Request)>) -> Vec<Response> {
    let flights: Vec<_> = requests.into_iter().map(|(app, request)| spawn(&app, request)).collect();
    let mut responses = Vec::new();
    for flight in flights {
        responses.push(flight.await.unwrap());
    }
    responses
}

pub(crate) async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

pub(crate) fn outcome(response: &Response) -> Outcome {
    *response.extensions().get().unwrap()
}

pub(crate) fn joined(response: &Response) -> bool {
    matches!(outcome(response), Outcome::Joined { .. })
}

pub(crate) fn led(responses: &[Response]) -> usize {
    responses.iter().filter(|response| outcome(response) == Outcome::Led).count()
}

/// How a body ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    Ends,
    BreaksOff,
    Hangs,
}

/// A body whose pieces come a second apart, the first of them at once. Nobody has taken more than one of them in advance.
pub(crate) fn slow(pieces: &[&'static str], then: Then) -> Body {
    let pieces = pieces.to_vec();
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send_data(Bytes::from_static(piece.as_bytes())).await.is_err() {
                return;
            }
            sleep(secs(1)).await;
        }
        match then {
            Then::Ends => {}
            Then::BreaksOff => sender.abort(std::io::Error::other("gone")),
            Then::Hangs => sleep(secs(3600)).await,
        }
    });
    Body::new(body)
}

pub(crate) async fn piece(response: &mut Response) -> String {
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

pub(crate) async fn error(response: Response) -> String {
    response.into_body().collect().await.unwrap_err().to_string()
}

pub(crate) fn quarter() -> Duration {
    secs(1) / 4
}
