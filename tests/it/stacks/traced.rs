//! tower-http's `TraceLayer`: outside it sees requests, inside calls.

use std::time::Duration;

use http::{Request, Response};
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;

use super::{Slow, layer, shares};
use crate::http_support::Calls;

/// Ten requests are ten outside, and two inside. Fails if a follower or its response passes what stands inside.
#[tokio::test(start_paused = true)]
async fn each_side_sees_its_own() {
    let seen = [(); 4].map(|()| Calls::default());
    let [requests, responses, calls, answers] = seen.clone();
    // Apart, since a closure sees bodies of one type.
    let outside = TraceLayer::new_for_http()
        .on_request(move |_: &Request<_>, _: &_| {
            _ = requests.next();
        })
        .on_response(move |_: &Response<_>, _: Duration, _: &_| {
            _ = responses.next();
        });
    let inside = TraceLayer::new_for_http()
        .on_request(move |_: &Request<_>, _: &_| {
            _ = calls.next();
        })
        .on_response(move |_: &Response<_>, _: Duration, _: &_| {
            _ = answers.next();
        });
    let slow = Slow::default();
    shares(&ServiceBuilder::new().layer(outside).layer(layer()).layer(inside).service(slow.clone()), &slow.0).await;
    assert_eq!(seen.map(|seen| seen.count()), [10, 10, 2, 2]);
}
