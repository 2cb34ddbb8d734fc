//! The local path, on `Memory`: what a call costs when no network is in the way.

use std::{
    convert::Infallible,
    future::ready,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_singleflight::{Group, SingleflightLayer, backend::Memory, codec::Raw};

const CALLS: u32 = 50_000;

fn group(ttl: Duration) -> Group<Bytes> {
    Group::with_codec(Memory::new(), "bench", Raw).result_ttl(ttl)
}

async fn value() -> Result<Bytes, Infallible> {
    Ok(Bytes::from_static(b"a result"))
}

fn print(what: &str, started: Instant, calls: u32) {
    println!("  {what:<44} {:>9.0} ns", started.elapsed().as_nanos() as f64 / f64::from(calls));
}

pub async fn run() {
    println!("local path, `Memory`, one call at a time");
    let hits = group(Duration::from_secs(3600));
    hits.work("key", value).await.unwrap();
    let started = Instant::now();
    for _ in 0..CALLS {
        hits.work("key", value).await.unwrap();
    }
    print("hit", started, CALLS);

    let leads = group(Duration::ZERO);
    let started = Instant::now();
    for _ in 0..CALLS {
        leads.work("key", value).await.unwrap();
    }
    print("lead", started, CALLS);
    join().await;
    bypass().await;
}

/// Everybody joins one flight; the work ends when all have.
async fn join() {
    let group = group(Duration::ZERO);
    let gate = std::sync::Arc::new(Semaphore::new(0));
    let leader = tokio::spawn({
        let (group, gate) = (group.clone(), gate.clone());
        async move {
            let work = move || async move {
                let _open = gate.acquire().await;
                value().await
            };
            group.work("key", work).await
        }
    });
    tokio::task::yield_now().await;
    let started = Instant::now();
    let joins: Vec<_> = (0..CALLS)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { group.work("key", value).await })
        })
        .collect();
    gate.add_permits(1);
    for join in joins {
        join.await.unwrap().unwrap();
    }
    print("join (task, call, answer)", started, CALLS);
    leader.await.unwrap().unwrap();
    let started = Instant::now();
    let tasks: Vec<_> = (0..CALLS).map(|_| tokio::spawn(value())).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    print("of that, the task alone", started, CALLS);
}

async fn bypass() {
    let bare = service_fn(|_: Request<Empty<Bytes>>| ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))));
    let mut layered = SingleflightLayer::new(Memory::new()).layer(bare);
    let mut bare = bare;
    let request =
        || Request::get("http://a.test/report/7").header("authorization", "Bearer x").body(Empty::new()).unwrap();
    let started = Instant::now();
    for _ in 0..CALLS {
        std::hint::black_box(bare.ready().await.unwrap().call(request()).await.unwrap());
    }
    print("request without the layer", started, CALLS);
    let started = Instant::now();
    for _ in 0..CALLS {
        std::hint::black_box(layered.ready().await.unwrap().call(request()).await.unwrap());
    }
    print("bypassed request", started, CALLS);
}
