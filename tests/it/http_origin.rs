//! Replicas in front of an origin whose responses say what may be done with them, and which may fail.
//!
//! The clock of the runtime is paused; dates are held against the real one, which hardly moves meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{Outcome, Policy, SingleflightLayer, backend::Memory, middleware::ResponseBody};

use crate::http_support::{Calls, secs};

pub(crate) const URI: &str = "http://a.test/file";
pub(crate) const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

pub(crate) type Answer = Result<Response<Full<Bytes>>, &'static str>;
pub(crate) type Origin = dyn Fn(&Request<()>, usize) -> Answer + Send + Sync;
pub(crate) type Got = Result<Response<ResponseBody<Full<Bytes>>>, &'static str>;
pub(crate) type Body = http_body_util::Empty<Bytes>;

/// Replicas in front of one origin, which decides when it is asked and takes a second to answer.
pub(crate) struct Fleet {
    pub(crate) layers: [SingleflightLayer; 2],
    pub(crate) calls: Calls,
    pub(crate) origin: Arc<Origin>,
}

impl Fleet {
    pub(crate) fn with(
        set: impl Fn(SingleflightLayer) -> SingleflightLayer,
        origin: impl Fn(&Request<()>, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let memory = Memory::new();
        let layers = [memory.replica(), memory].map(|memory| set(SingleflightLayer::new(memory)));
        Self { layers, calls: Calls::default(), origin: Arc::new(origin) }
    }

    pub(crate) fn of_origin(origin: impl Fn(&Request<()>, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(|layer| layer.policy(Policy::Origin), origin)
    }

    pub(crate) fn listening(origin: impl Fn(&Request<()>, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(|layer| layer.policy(Policy::Origin).honor_request_directives(true), origin)
    }

    pub(crate) fn send(&self, at: usize, request: Request<()>) -> impl Future<Output = Got> + Send + 'static {
        let (calls, origin) = (self.calls.clone(), Arc::clone(&self.origin));
        let inner = service_fn(move |request: Request<()>| {
            let (calls, origin) = (calls.clone(), Arc::clone(&origin));
            async move {
                let call = calls.next();
                let answer = origin(&request, call);
                if request.method().is_safe() {
                    sleep(secs(1)).await;
                }
                answer
            }
        });
        let service = self.layers[at].layer(inner.map_request(|request: Request<Body>| request.map(|_| ())));
        service.oneshot(request.map(|()| Body::default()))
    }

    pub(crate) async fn get(&self, at: usize) -> Got {
        self.send(at, get(&[])).await
    }

    /// Ten requests at a time, on both replicas.
    pub(crate) async fn burst(&self) -> Vec<Got> {
        let flights: Vec<_> = (0..10).map(|at| tokio::spawn(self.send(at % 2, get(&[])))).collect();
        let mut answers = Vec::new();
        for flight in flights {
            answers.push(flight.await.unwrap());
        }
        answers
    }
}

pub(crate) fn request(method: Method, uri: &str, lines: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri(uri);
    lines.iter().fold(request, |request, (name, line)| request.header(*name, *line)).body(()).unwrap()
}

pub(crate) fn get(lines: &[(&str, &str)]) -> Request<()> {
    request(Method::GET, URI, lines)
}

pub(crate) fn answer(status: u16, lines: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let response = lines.iter().fold(Response::builder().status(status), |to, (name, line)| to.header(*name, *line));
    Ok(response.body(Full::new(body.into())).unwrap())
}

pub(crate) fn numbered(call: usize, lines: &[(&str, &str)]) -> Answer {
    answer(200, lines, format!("call {call}"))
}

pub(crate) fn outcome(got: &Got) -> Outcome {
    *got.as_ref().unwrap().extensions().get().unwrap()
}

pub(crate) fn is_hit(got: &Got) -> bool {
    matches!(outcome(got), Outcome::Hit { .. })
}

pub(crate) fn is_stale(got: &Got) -> bool {
    matches!(got, Ok(response) if matches!(response.extensions().get(), Some(Outcome::Stale { .. })))
}

pub(crate) fn field<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    got.as_ref().unwrap().headers().get(name).map(|line| line.to_str().unwrap())
}

pub(crate) async fn text(got: Got) -> String {
    String::from_utf8(got.unwrap().into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}
