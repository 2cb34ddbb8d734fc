//! The layer among the middleware that services are built of. A burst of identical requests costs one call of the handler
//! wherever the layer stands; whom a limit, a deadline or a coding concerns is a matter of the order, which these tests
//! state in calls and seconds.

mod axum;
mod encoded;
mod hyper;
mod limited;
mod rationed;
mod timed;
mod traced;

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, ServiceExt};
use tower_singleflight::{SingleflightLayer, backend::Memory};

use crate::http_support::{Calls, secs};

type Request = http::Request<Empty<Bytes>>;

/// A handler that takes four seconds, and answers what it was asked for and the number of the call.
#[derive(Clone, Default)]
struct Slow(Calls);

impl<B> Service<http::Request<B>> for Slow {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let said = format!("{} #{}", request.uri().path(), self.0.next());
        Box::pin(async move {
            sleep(secs(4)).await;
            Ok(http::Response::new(said.into()))
        })
    }
}

/// Shares with those who wait, and keeps nothing.
fn layer() -> SingleflightLayer {
    SingleflightLayer::new(Memory::new())
}

/// Keeps what it has for longer than any test takes.
fn keeping() -> SingleflightLayer {
    layer().result_ttl(secs(600))
}

fn get(target: &str) -> Request {
    http::Request::get(format!("http://a.test{target}")).body(Empty::new()).unwrap()
}

/// What came back, and after how many seconds.
type Told<T> = (Result<T, String>, u64);

fn told(text: &str, secs: u64) -> Told<String> {
    (Ok(text.to_owned()), secs)
}

fn failed(error: &str, secs: u64) -> Told<String> {
    (Err(error.to_owned()), secs)
}

/// What became of requests that were sent at the same time, in their order. The first of them is the first to arrive.
async fn burst<S, R>(service: &S, targets: &[&str]) -> Vec<Told<String>>
where
    S: Service<Request, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    let responses = responses(service, targets.iter().map(|target| get(target))).await;
    let text = |response: http::Response<Bytes>| String::from_utf8(response.into_body().into()).unwrap();
    responses.into_iter().map(|(response, secs)| (response.map(text), secs)).collect()
}

async fn responses<S, R>(service: &S, requests: impl IntoIterator<Item = Request>) -> Vec<Told<http::Response<Bytes>>>
where
    S: Service<Request, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    let start = Instant::now();
    let one = |request| {
        let service = service.clone();
        async move {
            let (head, body) = service.oneshot(request).await.map_err(Into::into)?.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            Ok::<_, BoxError>(http::Response::from_parts(head, body))
        }
    };
    let timed = |request| {
        let one = one(request);
        tokio::spawn(async move { (one.await.map_err(|error| error.to_string()), start.elapsed().as_secs()) })
    };
    let flights: Vec<JoinHandle<_>> = requests.into_iter().map(timed).collect();
    let mut told = Vec::new();
    for flight in flights {
        told.push(flight.await.unwrap());
    }
    told
}

/// Nine requests for one target and one for another: two calls, which take no longer than one does.
async fn shares<S, R>(service: &S, calls: &Calls)
where
    S: Service<Request, Response = http::Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    let told = burst(service, &["/x", "/x", "/x", "/x", "/y", "/x", "/x", "/x", "/x", "/x"]).await;
    let texts: Vec<_> = told.iter().map(|(text, _)| text.as_deref().unwrap()).collect();
    let (x, y) = (texts[0], texts[4]);
    assert_ne!(x, y);
    assert_eq!(texts, [x, x, x, x, y, x, x, x, x, x]);
    assert!(told.iter().all(|(_, secs)| *secs == 4), "{told:?}");
    assert_eq!(calls.count(), 2);
}
