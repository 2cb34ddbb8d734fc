//! The layer among other layers: it compiles wherever a layer may stand, bypasses and goes alone without harm, and asks
//! nothing of the services around it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    routing::{self, MethodRouter},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{get, outcome, send, text};

const URI: &str = "http://a.test/hello";

fn layer() -> SingleflightLayer {
    SingleflightLayer::new(Memory::new())
}

async fn hello() -> &'static str {
    "hello"
}

async fn says_hello(app: Router) {
    let response = send(&app, get(URI)).await;
    assert!(response.extensions().get::<Outcome>().is_some());
    assert_eq!(text(response).await, "hello");

    let head = Request::head(URI).body(Body::empty()).unwrap();
    let response = send(&app, head).await;
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(text(response).await, "");

    let post = Request::post(URI).body(Body::from("x")).unwrap();
    let response = send(&app, post).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn on_a_router() {
    says_hello(Router::new().route("/hello", routing::get(hello)).layer(layer())).await;
}

#[tokio::test]
async fn on_its_routes() {
    says_hello(Router::new().route("/hello", routing::get(hello)).route_layer(layer())).await;
}

#[tokio::test]
async fn on_a_method_router() {
    let method: MethodRouter = routing::get(hello).layer(layer());
    says_hello(Router::new().route("/hello", method)).await;
}

#[tokio::test]
async fn on_a_router_with_a_state() {
    let app = Router::<u8>::new().route("/hello", routing::get(hello)).layer(layer());
    says_hello(app.with_state(7)).await;
}

#[tokio::test]
async fn in_a_service_builder_of_axum() {
    let stack = ServiceBuilder::new().layer(layer()).concurrency_limit(1);
    says_hello(Router::new().route("/hello", routing::get(hello)).layer(stack)).await;
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn nested_routers_are_apart() {
    use crate::http_support::secs;
    let layer = layer().result_ttl(secs(60));
    let nested = |said: &'static str| Router::new().route("/x", routing::get(async move || said)).layer(layer.clone());
    let app = Router::new().nest("/a", nested("a")).nest("/b", nested("b"));
    assert_eq!(text(send(&app, get("http://a.test/a/x")).await).await, "a");
    assert_eq!(text(send(&app, get("http://a.test/b/x")).await).await, "b");
}

#[tokio::test(start_paused = true)]
async fn what_another_middleware_makes_of_the_target_counts() {
    use crate::http_support::{get_with, secs};
    let by_path = routing::get(async |uri: http::Uri| uri.to_string());
    let inner = Router::new().route("/{tenant}/x", by_path).layer(layer().result_ttl(secs(60)));
    let rewriting = service_fn(move |mut request: axum::extract::Request| {
        let tenant = request.headers()["x-tenant"].to_str().unwrap().to_owned();
        let uri =
            if tenant.contains('.') { format!("http://{tenant}/host/x") } else { format!("http://a.test/{tenant}/x") };
        *request.uri_mut() = uri.parse().unwrap();
        inner.clone().oneshot(request)
    });
    let app = Router::new().fallback_service(rewriting);
    for (tenant, expected) in [
        ("a", "http://a.test/a/x"),
        ("b", "http://a.test/b/x"),
        ("a.test", "http://a.test/host/x"),
        ("b.test", "http://b.test/host/x"),
    ] {
        let response = send(&app, get_with("http://a.test/x", "x-tenant", tenant)).await;
        assert_eq!(text(response).await, expected);
    }
}

/// No type parameter but the service's.
struct Application {
    layer: SingleflightLayer,
}

#[tokio::test]
async fn a_layer_is_a_field() {
    let application = Application { layer: layer() };
    let app = Router::new().route("/hello", routing::get(hello)).layer(application.layer.clone());
    says_hello(app).await;
    let _: &dyn Send = &application.layer;
    let _: &dyn Sync = &application.layer;
}

fn plain() -> Request<Empty<Bytes>> {
    Request::get(URI).body(Empty::new()).unwrap()
}

async fn answer(_: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

#[tokio::test]
async fn over_services_that_must_be_ready() {
    let limited = ServiceBuilder::new().layer(layer()).concurrency_limit(1).service_fn(answer);
    let shedding = ServiceBuilder::new().layer(layer()).load_shed().concurrency_limit(1).service_fn(answer);
    let buffered = ServiceBuilder::new().layer(layer()).buffer::<Request<Empty<Bytes>>>(4).service_fn(answer);
    for _ in 0..3 {
        for response in [
            limited.clone().oneshot(plain()).await.unwrap(),
            shedding.clone().oneshot(plain()).await.unwrap(),
            buffered.clone().oneshot(plain()).await.unwrap(),
        ] {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
    }
}

#[tokio::test]
async fn over_a_buffer_around_what_cannot_be_cloned() {
    let stack = ServiceBuilder::new()
        .layer(layer())
        .buffer::<Request<Empty<Bytes>>>(4)
        .rate_limit(100, std::time::Duration::from_secs(1))
        .service_fn(answer);
    assert_eq!(stack.oneshot(plain()).await.unwrap().status(), StatusCode::OK);
}

/// An error that is neither `Clone` nor `std::error::Error`.
#[derive(Debug, PartialEq)]
struct Refused(u8);

#[tokio::test]
async fn the_error_is_the_inner_services() {
    let service =
        layer().layer(service_fn(async |_: Request<Empty<Bytes>>| Err::<Response<Full<Bytes>>, _>(Refused(7))));
    assert_eq!(service.clone().oneshot(plain()).await.unwrap_err(), Refused(7));
    let mut post = plain();
    *post.method_mut() = http::Method::POST;
    assert_eq!(service.oneshot(post).await.unwrap_err(), Refused(7));
}

/// Refuses calls that nobody made it ready for, and counts how often it was asked.
struct Strict {
    ready: bool,
    asked: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, asked: Arc::clone(&self.asked) }
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        std::future::ready(Ok(Response::new(Full::from("hello"))))
    }
}

#[tokio::test]
async fn the_inner_service_is_made_ready_where_it_is_called() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut service = layer().layer(Strict { ready: false, asked: Arc::clone(&asked) });
    ServiceExt::<Request<Empty<Bytes>>>::ready(&mut service).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for method in [http::Method::GET, http::Method::POST] {
        let mut request = plain();
        *request.method_mut() = method;
        service.call(request).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_bypasses_says_why() {
    let app = Router::new().route("/hello", routing::get(hello).post(hello)).layer(layer().cache_status("shop"));
    let post = send(&app, Request::post(URI).body(Body::empty()).unwrap()).await;
    assert_eq!(outcome(&post), Outcome::Bypassed(Why::Method));
    assert_eq!(post.headers()["cache-status"], "shop; fwd=method");
    let nowhere = send(&app, get("/hello")).await;
    assert_eq!(outcome(&nowhere), Outcome::Bypassed(Why::NoKey));
    assert_eq!(nowhere.headers()["cache-status"], "shop; fwd=bypass");
}

#[tokio::test]
async fn a_body_that_bypasses_is_untouched() {
    let service = layer().layer(service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    }));
    let response = service.oneshot(Request::post(URI).body(Full::from("x")).unwrap()).await.unwrap();
    let body = response.into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
}
