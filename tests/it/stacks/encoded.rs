//! tower-http's `CompressionLayer`.

use std::convert::Infallible;

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service, ServiceBuilder};
use tower_http::compression::CompressionLayer;

use super::{Request, Slow, get, layer, responses};

fn verbosity() -> String {
    "so it goes. ".repeat(100)
}

/// A handler whose responses are worth it.
fn verbose(
    slow: &Slow,
) -> impl Service<Request, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + Send + use<> {
    let long = |response: Response<Full<Bytes>>| response.map(|_| Full::from(verbosity()));
    ServiceBuilder::new().map_response(long).service(slow.clone())
}

fn accepting(coding: &'static str) -> Request {
    let mut request = get("/x");
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
    request
}

/// How many calls these requests cost, and after how many seconds each has its response, in the coding it accepts.
async fn sent<S, R>(stack: &S, slow: &Slow, accepted: &[&'static str]) -> (usize, Vec<u64>)
where
    S: Service<Request, Response = Response<R>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send,
{
    let told = responses(stack, accepted.iter().copied().map(accepting)).await;
    let times = accepted.iter().zip(told).map(|(accepted, (response, secs))| {
        let response = response.unwrap();
        match accepted.contains("gzip") {
            true => {
                assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
                assert!(response.body().starts_with(b"\x1f\x8b") && response.body().len() < verbosity().len());
            }
            false => {
                assert!(!response.headers().contains_key(CONTENT_ENCODING));
                assert_eq!(response.body(), verbosity().as_bytes());
            }
        }
        secs
    });
    let times = times.collect();
    (slow.0.count(), times)
}

/// Fails if what was compressed for one is what others get: the layer keeps what the handler said, and each gets it his way.
#[tokio::test(start_paused = true)]
async fn outside_one_call_is_enough_for_all_codings() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().layer(CompressionLayer::new()).layer(layer()).service(verbose(&slow));
    assert_eq!(sent(&stack, &slow, &["gzip", "identity", "gzip, br", "br, gzip", "identity"]).await, (1, vec![4; 5]));
}

/// The trap: the response varies, so that each way of asking costs a call, and those who did not ask like the first wait for
/// it in vain. Fails if somebody gets a coding that he does not accept.
#[tokio::test(start_paused = true)]
async fn inside_each_way_of_asking_costs_a_call() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().layer(layer()).layer(CompressionLayer::new()).service(verbose(&slow));
    let accepted = ["gzip", "identity", "gzip", "gzip, br", "identity", "br, gzip", "gzip"];
    assert_eq!(sent(&stack, &slow, &accepted).await, (4, vec![4, 8, 4, 8, 8, 8, 4]));
}
