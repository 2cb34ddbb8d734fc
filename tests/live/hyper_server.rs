//! The example `hyper`, in a process of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::support::{
    Server,
    example::{self, Example},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A client of either version, with a connection of its own.
enum Client {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn of_http_1(place: &str) -> Self {
        let (send, connection) = http1::handshake(stream(place).await).await.unwrap();
        tokio::spawn(connection);
        Self::One(send)
    }

    async fn of_http_2(place: &str) -> Self {
        let (send, connection) = http2::handshake(TokioExecutor::new(), stream(place).await).await.unwrap();
        tokio::spawn(connection);
        Self::Two(send)
    }

    /// What it is told, and what its request was.
    async fn ask(&mut self, place: &str, target: &str) -> (String, String) {
        let response: hyper::Result<http::Response<Incoming>> = match self {
            Self::One(send) => {
                let request = Request::get(target).header(HOST, place).body(Empty::new()).unwrap();
                send.send_request(request).await
            }
            Self::Two(send) => {
                let request = Request::get(format!("http://{place}{target}")).body(Empty::new()).unwrap();
                send.send_request(request).await
            }
        };
        let (head, body) = response.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        (text, head.headers["x-outcome"].to_str().unwrap().to_owned())
    }
}

async fn stream(place: &str) -> TokioIo<TcpStream> {
    let stream = TcpStream::connect(place).await.unwrap();
    stream.set_nodelay(true).unwrap();
    TokioIo::new(stream)
}

/// Fifty clients of these servers, half of them of each version, ask for the same at the same time.
async fn burst(servers: &[&Example]) -> Vec<(String, String)> {
    let mut clients = Vec::new();
    for (number, server) in (0..50).zip(servers.iter().cycle()) {
        let place = server.place.clone();
        // By halves, so that each server has clients of both.
        let client = if number < 25 { Client::of_http_1(&place).await } else { Client::of_http_2(&place).await };
        clients.push((client, place));
    }
    let asks = clients.into_iter().map(|(mut client, place)| async move { client.ask(&place, "/report/7").await });
    timeout(PATIENCE, asks.collect::<JoinSet<_>>().join_all()).await.expect("somebody hangs")
}

fn led(told: &[(String, String)]) -> usize {
    told.iter().filter(|(_, outcome)| outcome == "led").count()
}

/// Fails if a version has flights of its own, as it has with the usual key.
#[tokio::test]
async fn both_versions_of_http_are_one_execution() {
    example::build();
    let mut server = Example::start("hyper", &["--work-ms", "1000", "--result-ttl-ms", "60000"]).await;
    let told = burst(&[&server]).await;
    let (first, _) = &told[0];
    assert!(first.starts_with("report 7, execution 1 of process "), "{first}");
    assert!(told.iter().all(|(text, _)| text == first), "{told:?}");
    assert_eq!(led(&told), 1);

    let (text, outcome) = Client::of_http_2(&server.place).await.ask(&server.place, "/report/8").await;
    assert!(text.starts_with("report 8, execution 2 "), "{text}");
    assert_eq!(outcome, "led");
    server.signal(Signal::TERM);
    assert!(timeout(PATIENCE, server.ended()).await.expect("it stops when it is told to").success());
}

/// Fails if a server has flights of its own.
#[tokio::test]
async fn two_servers_on_one_redis_are_one_execution() {
    example::build();
    let redis = Server::start();
    let args = ["--work-ms", "1000", "--result-ttl-ms", "60000", "--redis", &redis.url()];
    let (one, two) = (Example::start("hyper", &args).await, Example::start("hyper", &args).await);
    let told = burst(&[&one, &two]).await;
    assert!(told.iter().all(|(text, _)| *text == told[0].0), "{told:?}");
    assert_eq!(led(&told), 1);
}
