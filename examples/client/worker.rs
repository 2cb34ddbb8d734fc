//! One worker: an HTTP client with the layer around it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioExecutor,
};
use tower::{ServiceBuilder, util::BoxCloneSyncService};
use tower_singleflight::{Policy, SingleflightLayer, middleware::ResponseBody};

/// What the application sees of it. The layer adds no error, and the client's need not be `Clone`: an error goes to the
/// one whose request it was, and one of those who waited tries again.
pub type Worker = BoxCloneSyncService<Request<Empty<Bytes>>, Response<ResponseBody<Incoming>>, legacy::Error>;

/// Counts the requests that go out.
#[derive(Clone, Default)]
pub struct Calls(Arc<AtomicUsize>);

impl Calls {
    pub fn count_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn new(layer: SingleflightLayer, calls: Calls) -> Worker {
    let layer = layer
        // Nobody here vouches for what comes: how long it is kept, the upstream says.
        .policy(Policy::Origin)
        // Who asks is the application itself. On a server, where anybody asks, this would let anybody force executions.
        .honor_request_directives(true);
    let stack = ServiceBuilder::new()
        .layer(layer)
        // Inside of the layer: the token is the fleet's and not the caller's, so that it shall not keep callers apart.
        .map_request(authorized)
        .map_request(move |request| {
            calls.count_one();
            request
        })
        .service(Client::builder(TokioExecutor::new()).build_http());
    BoxCloneSyncService::new(stack)
}

fn authorized<B>(mut request: Request<B>) -> Request<B> {
    request.headers_mut().entry(AUTHORIZATION).or_insert(HeaderValue::from_static("Bearer of-the-fleet"));
    request
}
