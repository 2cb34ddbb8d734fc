//! The example `gather-stats`: services behind one lock, in processes of their own.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    net::TcpStream,
    process::Command,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::support::{
    Server,
    example::{self, Example},
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Gathered {
    by: String,
    fence: u64,
    run: u64,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Who {
    holder: Option<String>,
    left_ms: u64,
}

async fn service(redis: &Server, replica: &str, args: &[&str]) -> Example {
    example::build();
    let url = redis.url();
    let args = [&["--redis", &url, "--replica", replica], args].concat();
    Example::start("gather-stats", &args).await
}

/// What a service answers, on a connection of its own; an error if it dies before.
async fn get(place: String, target: &str) -> hyper::Result<(StatusCode, HeaderMap, Bytes)> {
    let stream = TcpStream::connect(&place).await.unwrap();
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(target).header("host", &place).body(Empty::<Bytes>::new()).unwrap();
    let (head, body) = send.send_request(request).await?.into_parts();
    Ok((head.status, head.headers, body.collect().await?.to_bytes()))
}

async fn told<T: DeserializeOwned>(service: &Example, target: &str) -> T {
    let answer = timeout(PATIENCE, get(service.place.clone(), target)).await.expect("it answers").unwrap();
    assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    serde_json::from_slice(&answer.2).unwrap()
}

/// Asks a service to gather, and waits until it holds the lock, as others are told.
async fn gathering(service: &Example, name: &str) -> JoinHandle<hyper::Result<(StatusCode, HeaderMap, Bytes)>> {
    let gather = tokio::spawn(get(service.place.clone(), "/gather_stats"));
    held_by(service, name).await;
    gather
}

async fn held_by(asked: &Example, name: &str) -> Who {
    let held = async {
        loop {
            match told::<Option<Who>>(asked, "/who").await {
                Some(who) if who.holder.as_deref() == Some(name) => return who,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, held).await.expect("it holds the lock")
}

/// Whoever gathers reads how many did before, works, and writes one more: two at a time would be the same run. Fails if it
/// works without the lock, or if locks of two processes are not the same one.
#[tokio::test]
async fn services_that_are_asked_at_the_same_time_gather_one_after_another() {
    let redis = Server::start();
    let args = ["--work-ms", "50", "--wait-ms", "30000"];
    let services = [service(&redis, "one", &args).await, service(&redis, "two", &args).await];
    let asks = services.iter().cycle().take(20).map(|service| get(service.place.clone(), "/gather_stats"));
    let answers = timeout(PATIENCE, asks.collect::<JoinSet<_>>().join_all()).await.expect("somebody hangs");
    let mut gathered: Vec<Gathered> = answers
        .into_iter()
        .map(|answer| serde_json::from_slice(&answer.unwrap().2).expect("everybody had its turn"))
        .collect();
    gathered.sort_by_key(|gathered| gathered.run);
    assert!(gathered.iter().map(|gathered| gathered.run).eq(1..=20), "{gathered:?}");
    assert!(gathered.is_sorted_by(|one, next| one.fence < next.fence), "{gathered:?}");
    assert!(gathered.is_sorted_by(|one, next| next.after.as_ref() == Some(&one.by)), "{gathered:?}");
    for name in ["one", "two"] {
        assert_eq!(gathered.iter().filter(|gathered| gathered.by == name).count(), 10);
    }
}

/// Fails if a lock is not free when its lease is over, if it is free before, or if the fence begins anew.
#[tokio::test]
async fn a_service_that_dies_while_it_gathers_is_followed_after_its_lease() {
    let redis = Server::start();
    let dying = service(&redis, "dying", &["--work-ms", "60000", "--lock-ttl-ms", "3000"]).await;
    let next = service(&redis, "next", &["--work-ms", "0", "--wait-ms", "30000"]).await;
    let before: Gathered = told(&next, "/gather_stats").await;
    let gather = gathering(&dying, "dying").await;
    dying.signal(Signal::KILL);
    assert!(gather.await.unwrap().is_err(), "its client has no answer");

    let asked = Instant::now();
    let who = held_by(&next, "dying").await;
    let after: Gathered = told(&next, "/gather_stats").await;
    let waited = asked.elapsed();
    assert_eq!((after.run, after.after.as_deref()), (2, Some("next")), "what it was at is lost with it");
    assert!(after.fence > before.fence);
    // Redis counts in whole milliseconds.
    assert!(waited + Duration::from_millis(2) >= Duration::from_millis(who.left_ms), "{waited:?}, {who:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}, {who:?}");
    assert!(told::<Option<Who>>(&next, "/who").await.is_none());
}

/// Fails if it does not notice that the lock is lost, or writes where a greater fence was written.
#[tokio::test]
async fn a_service_that_was_paused_writes_nothing_when_it_goes_on() {
    let redis = Server::start();
    let paused = service(&redis, "paused", &["--work-ms", "60000", "--lock-ttl-ms", "1000"]).await;
    let next = service(&redis, "next", &["--work-ms", "0", "--wait-ms", "30000"]).await;
    let gather = gathering(&paused, "paused").await;
    paused.signal(Signal::STOP);
    let between: Gathered = told(&next, "/gather_stats").await;
    assert_eq!(between.run, 1);
    paused.signal(Signal::CONT);
    let (status, _, why) = timeout(PATIENCE, gather).await.expect("it answers").unwrap().unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{why:?}");
    let after: Gathered = told(&next, "/gather_stats").await;
    assert_eq!((after.run, after.after.as_deref()), (2, Some("next")));

    let _: u64 = redis.run(&["HSET", "gather-stats", "fence", &u64::MAX.to_string()]).await;
    let (status, ..) = get(next.place.clone(), "/gather_stats").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let run: u64 = redis.run(&["HGET", "gather-stats", "run"]).await;
    assert_eq!(run, 2);
}

/// Fails if it waits for longer than it shall, or does not tell who holds the lock and when to come again.
#[tokio::test]
async fn who_is_refused_is_told_who_gathers() {
    let redis = Server::start();
    let busy = service(&redis, "busy", &["--work-ms", "60000"]).await;
    let other = service(&redis, "other", &["--wait-ms", "100"]).await;
    let _gather = gathering(&busy, "busy").await;
    let (status, head, why) = get(other.place.clone(), "/gather_stats").await.unwrap();
    assert_eq!((status, &*why), (StatusCode::SERVICE_UNAVAILABLE, &b"busy: busy gathers\n"[..]));
    // The lease is 5 s.
    let again: u64 = head[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&again), "{again}");
}

/// The example `mutex` checks what it shows, on one Redis and on three. Fails if it does not see what its README says.
#[tokio::test]
async fn a_job_stops_when_its_lock_is_lost() {
    let servers = [Server::start(), Server::start(), Server::start()];
    for used in [0, 1, 3] {
        let urls = servers[..used].iter().flat_map(|server| ["--redis".to_owned(), server.url()]);
        let mut job = Command::new(example::build().join("mutex"));
        let job = job.args(urls).stdin(Stdio::null()).kill_on_drop(true).output();
        let shown = timeout(PATIENCE, job).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && said.lines().count() == 13, "on {used}: {said}");
    }
}
