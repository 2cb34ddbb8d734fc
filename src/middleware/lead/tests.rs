//! What the work of a flight tells its caller and what it tells everybody else. The flights themselves are tested in
//! `tests/it`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, header::AGE};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::service_fn;

use super::*;
use crate::{backend::Memory, group::Source, middleware::SingleflightLayer};

/// Frames, then how it ends.
struct Stream(VecDeque<Frame<Bytes>>, Then);

enum Then {
    Ends,
    BreaksOff,
    Hangs,
}

impl Stream {
    fn of<const N: usize>(chunks: [&'static str; N], then: Then) -> Self {
        Self(chunks.map(|chunk| Frame::data(Bytes::from_static(chunk.as_bytes()))).into(), then)
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match (self.0.pop_front(), &self.1) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Then::Ends) => Poll::Ready(None),
            (None, Then::BreaksOff) => Poll::Ready(Some(Err("gone"))),
            (None, Then::Hangs) => Poll::Pending,
        }
    }
}

fn settings() -> Arc<Settings> {
    let layer = SingleflightLayer::new(Memory::new()).max_body(8).scatter(Duration::from_secs(10));
    layer.result_ttl(Duration::from_secs(20)).warmup_window(Duration::from_secs(3)).settings()
}

async fn lead<S, R>(inner: S, request: Request<()>, tell: Tell<R, S::Error>) -> Done<Stored>
where
    S: Service<Request<()>, Response = Response<R>>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let (settings, key, headers) = (settings(), Key::builder("test").finish(), HeaderMap::new());
    let leader =
        Leader { settings: &settings, key: &key, method: request.method().clone(), headers: &headers, failures: 0 };
    leader.lead(Start::alone(), inner, request, tell).await
}

/// What the caller gets, and what everybody else does.
async fn led<R>(method: Method, response: Response<R>) -> (Response<ResponseBody<R>>, Done<Stored>)
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let request = Request::builder().method(method).body(()).unwrap();
    let mut response = Some(response);
    let inner = service_fn(move |_: Request<()>| {
        let response = response.take().expect("one call");
        async { Ok::<_, Infallible>(response) }
    });
    let (tell, told) = oneshot::channel();
    let done = lead(inner, request, tell).await;
    let Ok(own) = told.await.unwrap();
    (own.response, done)
}

async fn got(response: Response<ResponseBody<Full<Bytes>>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn scatters(done: &Done<Stored>) -> bool {
    matches!(done, Done::Unshareable(pause) if (9..=11).contains(&pause.as_secs()))
}

#[tokio::test]
async fn a_shared_response_goes_to_everybody() {
    let mut response = Response::new(Full::from("hello"));
    response.headers_mut().insert("x-request-id", HeaderValue::from_static("7"));
    response.extensions_mut().insert("extension");
    let (own, done) = led(Method::GET, response).await;
    assert_eq!(own.headers()["x-request-id"], "7");
    assert_eq!(own.extensions().get(), Some(&"extension"));
    assert_eq!(got(own).await, "hello");
    let Done::Value { value, fresh, stale, .. } = done else { panic!("{done:?}") };
    assert_eq!((fresh.as_secs(), stale.as_secs()), (20, 3));
    let response = value.into_response();
    assert!(response.headers().is_empty());
    assert_eq!(got(response).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn frames_without_data_do_not_pile_up_nor_hold_the_thread() {
    let mut empty = Stream::of(["1234"], Then::Hangs);
    empty.0.extend((0..1_000_000).map(|_| Frame::data(Bytes::new())));
    let (own, done) = led(Method::GET, Response::new(empty)).await;
    assert!(scatters(&done), "{done:?}");
    assert_eq!(own.into_body().frame().await.unwrap().unwrap().into_data().unwrap(), "1234");
}

#[tokio::test]
async fn trailers_are_part_of_it() {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
    let mut body = Stream::of(["a"], Then::Ends);
    body.0.push_back(Frame::trailers(trailers.clone()));
    let (own, done) = led(Method::GET, Response::new(body)).await;
    let Done::Value { value, .. } = done else { panic!("{done:?}") };
    assert_eq!(own.into_body().collect().await.unwrap().trailers(), Some(&trailers));
    let shared = value.into_response::<Full<Bytes>>();
    assert_eq!(shared.into_body().collect().await.unwrap().trailers(), Some(&trailers));
}

#[tokio::test]
async fn an_unshareable_response_is_handed_on_at_its_head() {
    let mut response = Response::new(Stream::of([], Then::Hangs));
    response.headers_mut().insert("set-cookie", HeaderValue::from_static("a=b"));
    let (own, done) = led(Method::GET, response).await;
    assert_eq!(own.headers()["set-cookie"], "a=b");
    assert!(scatters(&done), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_declared_too_long_is_not_read() {
    let start = Instant::now();
    let mut declared = Response::new(Stream::of([], Then::Hangs));
    declared.headers_mut().insert("content-length", HeaderValue::from_static("9"));
    let (_, done) = led(Method::GET, declared).await;
    assert!(scatters(&done), "{done:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);

    let (own, done) = led(Method::GET, Response::new(Full::from("123456789"))).await;
    assert!(scatters(&done), "{done:?}");
    assert_eq!(own.body().size_hint().exact(), Some(9));
    assert_eq!(got(own).await, "123456789");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_too_long_is_handed_on_whole() {
    let start = Instant::now();
    let (own, done) = led(Method::GET, Response::new(Stream::of(["1234", "56789", "0"], Then::Hangs))).await;
    assert!(scatters(&done), "{done:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    let mut body = own.into_body();
    for expected in ["1234", "56789", "0"] {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_for_too_long_is_handed_on() {
    let start = Instant::now();
    let (own, done) = led(Method::GET, Response::new(Stream::of(["1234"], Then::Hangs))).await;
    assert!(scatters(&done), "{done:?}");
    assert_eq!(start.elapsed(), Duration::from_secs(5), "the idle timeout");
    assert_eq!(own.into_body().frame().await.unwrap().unwrap().into_data().unwrap(), "1234");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failure_and_breaks_off_for_the_caller() {
    let (own, done) = led(Method::GET, Response::new(Stream::of(["1234"], Then::BreaksOff))).await;
    assert!(matches!(done, Done::Failed(None)), "{done:?}");
    assert_eq!(own.into_body().collect().await.unwrap_err().to_string(), "gone");
}

#[tokio::test]
async fn a_wrong_length_is_a_failure() {
    for length in ["4", "6"] {
        let mut response = Response::new(Full::from("12345"));
        response.headers_mut().insert("content-length", HeaderValue::from_static(length));
        let (own, done) = led(Method::GET, response).await;
        assert!(matches!(done, Done::Failed(None)), "{done:?}");
        assert_eq!(own.body().size_hint().exact(), None, "a server would believe it");
        assert_eq!(got(own).await, "12345");
    }
}

#[tokio::test]
async fn contradicting_lengths_are_not_shared() {
    let mut response = Response::new(Full::from("12345"));
    response.headers_mut().append("content-length", HeaderValue::from_static("5"));
    response.headers_mut().append("content-length", HeaderValue::from_static("6"));
    assert!(scatters(&led(Method::GET, response).await.1));
}

#[tokio::test]
async fn head_declares_the_length_of_a_body_that_does_not_come() {
    let mut response = Response::new(Full::from(""));
    response.headers_mut().insert("content-length", HeaderValue::from_static("4096"));
    let (_, done) = led(Method::HEAD, response).await;
    let Done::Value { value, .. } = done else { panic!("{done:?}") };
    assert_eq!(value.into_response::<Full<Bytes>>().headers()["content-length"], "4096");
}

#[tokio::test]
async fn a_server_error_is_a_failure_that_those_who_wait_may_have() {
    let mut response = Response::new(Full::from("oops"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    let (own, done) = led(Method::GET, response).await;
    assert_eq!(got(own).await, "oops");
    let Done::Failed(Some(record)) = done else { panic!("{done:?}") };
    assert_eq!(record.plan().fresh(), Duration::ZERO);
    assert_eq!(record.into_response::<Full<Bytes>>().status(), 500);
}

#[tokio::test]
async fn what_speaks_of_one_request_lets_go_of_those_who_wait_and_no_more() {
    for (status, line) in [(502, "no-store"), (400, "max-age=60"), (429, "max-age=60")] {
        let mut response = Response::new(Full::from("oops"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("cache-control", HeaderValue::from_static(line));
        let (_, done) = led(Method::GET, response).await;
        assert!(matches!(done, Done::Unshareable(Duration::ZERO)), "{status}: {done:?}");
    }
}

#[tokio::test]
async fn an_error_goes_to_its_own_caller() {
    let inner = service_fn(|_: Request<()>| async { Err::<Response<Full<Bytes>>, _>("no") });
    let (tell, told) = oneshot::channel();
    let done = lead(inner, Request::new(()), tell).await;
    assert!(matches!(done, Done::Failed(None)), "{done:?}");
    assert_eq!(told.await.unwrap().err(), Some("no"));
}

#[tokio::test]
async fn a_caller_that_went_away_changes_nothing() {
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))) });
    let (tell, told) = oneshot::channel();
    drop(told);
    let done = lead(inner, Request::new(()), tell).await;
    assert!(matches!(done, Done::Value { .. }), "{done:?}");
}

#[test]
fn a_copy_tells_its_age() {
    let aged = |age, source| {
        let (head, ()) = Response::new(()).into_parts();
        let plan = Plan { age: Duration::from_millis(age), lifetime: Duration::from_secs(90), ..Plan::default() };
        let stored = Stored::new(&head, plan, &[], None, Bytes::new(), None);
        let response = settings().answer::<Full<Bytes>>(stored, source);
        response.headers().get(AGE).map(|age| age.to_str().unwrap().to_owned())
    };
    let age = Duration::from_millis(2900);
    assert_eq!(aged(0, Source::Hit { age }).unwrap(), "2");
    assert_eq!(aged(40_200, Source::Hit { age }).unwrap(), "43");
    assert_eq!(aged(0, Source::Hit { age: Duration::ZERO }).unwrap(), "0");
    assert_eq!(aged(40_000, Source::JoinedHere).unwrap(), "40");
    assert_eq!(aged(0, Source::JoinedElsewhere), None);
}

/// Fails if a handler is told that others may get its response while nobody coordinates it, or is told nothing.
#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn the_inner_service_is_told_how_its_request_flies() {
    use crate::{group::Alone, middleware::Why};
    for (alone, expected) in
        [(None, Outcome::Led), (Some(Alone::Unavailable), Outcome::Bypassed(Why::StoreUnavailable))]
    {
        let inner = service_fn(async |request: Request<()>| {
            let mut response = Response::new(Full::<Bytes>::default());
            response.extensions_mut().extend(request.extensions().clone());
            Ok::<_, Infallible>(response)
        });
        let (settings, key, headers) = (settings(), Key::builder("test").finish(), HeaderMap::new());
        let leader = Leader { settings: &settings, key: &key, method: Method::GET, headers: &headers, failures: 0 };
        let (tell, told) = oneshot::channel();
        leader.lead(Start { alone, ..Start::alone() }, inner, Request::new(()), tell).await;
        let Ok(own) = told.await.unwrap();
        assert_eq!(own.response.extensions().get(), Some(&expected));
    }
}
