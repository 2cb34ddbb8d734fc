//! Nanoseconds per request through the layer over `Memory`, now and before, in turns: both see the same noise.

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt, service_fn};

const TURNS: usize = 200;
const REQUESTS: u32 = 2_000;

type Body = Empty<Bytes>;

async fn answer(_: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

fn request(credentials: bool) -> Request<Body> {
    let request = Request::get("http://a.test/report/7").header("accept", "*/*").header("user-agent", "cost");
    let request = if credentials { request.header("authorization", "Bearer x") } else { request };
    request.body(Empty::new()).expect("it is a request")
}

/// What one turn took per request.
fn turn<S>(runtime: &Runtime, service: &S, credentials: bool) -> f64
where
    S: Service<Request<Body>, Error = Infallible> + Clone,
{
    runtime.block_on(async {
        let started = Instant::now();
        for _ in 0..REQUESTS {
            let _ = black_box(service.clone().oneshot(request(credentials)).await);
        }
        started.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
    })
}

fn median(mut turns: Vec<f64>) -> f64 {
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}

fn compare<A, B>(runtime: &Runtime, what: &str, now: &A, before: &B, credentials: bool)
where
    A: Service<Request<Body>, Error = Infallible> + Clone,
    B: Service<Request<Body>, Error = Infallible> + Clone,
{
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        new.push(turn(runtime, now, credentials));
        old.push(turn(runtime, before, credentials));
    }
    let ratios = new.iter().zip(&old).map(|(new, old)| new / old).collect();
    println!("{what:<8} {:>7.0} ns   before {:>7.0} ns   {:.2} x", median(new), median(old), median(ratios));
}

fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let hour = Duration::from_secs(3600);
    let now = now::SingleflightLayer::new(now::backend::Memory::new()).result_ttl(hour).layer(service_fn(answer));
    let before = before::SingleflightLayer::new(before::backend::Memory::new());
    let before = before.result_ttl(hour).layer(service_fn(answer));
    println!("medians of {TURNS} turns of {REQUESTS} requests, making the request included");
    compare(&runtime, "hit", &now, &before, false);
    compare(&runtime, "bypass", &now, &before, true);
}
