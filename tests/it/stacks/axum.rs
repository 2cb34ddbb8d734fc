//! axum's routers.

use axum::{
    Router,
    body::Body,
    routing::{MethodRouter, get_service},
};
use tower::{ServiceBuilder, util::MapRequest};

use super::{Request, Slow, burst, keeping, layer, shares, told};

/// Takes the requests of these tests.
fn over(app: Router) -> MapRequest<Router, fn(Request) -> http::Request<Body>> {
    MapRequest::new(app, |request| request.map(Body::new))
}

#[tokio::test(start_paused = true)]
async fn around_a_router() {
    let slow = Slow::default();
    let app = Router::new().route_service("/x", slow.clone()).route_service("/y", slow.clone()).layer(layer());
    shares(&over(app), &slow.0).await;
}

#[tokio::test(start_paused = true)]
async fn around_its_routes() {
    let slow = Slow::default();
    let app = Router::new().route_service("/{*rest}", slow.clone()).route_layer(layer());
    shares(&over(app), &slow.0).await;
}

#[tokio::test(start_paused = true)]
async fn around_its_fallback() {
    let slow = Slow::default();
    let app = Router::new().fallback_service(ServiceBuilder::new().layer(layer()).service(slow.clone()));
    shares(&over(app), &slow.0).await;
}

#[tokio::test(start_paused = true)]
async fn around_a_method_router() {
    let slow = Slow::default();
    let method: MethodRouter = get_service(slow.clone()).layer(layer());
    shares(&over(Router::new().route("/x", method.clone()).route("/y", method)), &slow.0).await;
}

/// Below `nest`, the two paths look alike. Fails if the key is made of what is left of them.
async fn apart(nested: impl Fn(Router) -> Router) {
    let slow = Slow::default();
    let app = nested(Router::new().route_service("/x", slow.clone()));
    let told_all = burst(&over(app), &["/one/x", "/two/x", "/one/x", "/two/x", "/one/x"]).await;
    let (one, two) = (told("/x #1", 4), told("/x #2", 4));
    assert_eq!(told_all, [one.clone(), two.clone(), one.clone(), two, one]);
    assert_eq!(slow.0.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn inside_of_nested_routers() {
    let layer = keeping();
    apart(|routes| {
        let routes = routes.layer(layer.clone());
        Router::new().nest("/one", routes.clone()).nest("/two", routes)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn outside_of_nested_routers() {
    apart(|routes| Router::new().nest("/one", routes.clone()).nest("/two", routes).layer(keeping())).await;
}
