//! A replica: the example `axum` in a process of its own, which can be stopped and killed.

use std::process::ExitStatus;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{net::TcpStream, task::JoinHandle};

use super::example::Example;

/// A process that serves `GET /report/{id}`. It is killed with this value, stopped or not.
pub struct Replica {
    pub name: String,
    example: Example,
}

/// What a replica answers to `GET /stats`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Stats {
    pub executions: u64,
    pub led: u64,
}

impl Replica {
    /// A replica that listens, on a free port; more arguments are those of the example.
    pub async fn start(name: &str, redis: &str, args: &[&str]) -> Self {
        let args = [&["--replica", name, "--redis", redis], args].concat();
        Self { name: name.to_owned(), example: Example::start("axum", &args).await }
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        let place = &self.example.place;
        let stream = TcpStream::connect(place).await.expect("a replica accepts");
        stream.set_nodelay(true).expect("a connected socket has options");
        let (send, connection) = handshake(TokioIo::new(stream)).await.expect("a replica accepts");
        // An error of the connection is an error of the request too.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Client { place: place.clone(), send, connection }
    }

    /// So many clients.
    pub async fn clients(&self, number: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..number {
            clients.push(self.client().await);
        }
        clients
    }

    /// What it has counted since it started.
    pub async fn stats(&self) -> Stats {
        let mut client = self.client().await;
        let reply = client.get("/stats").await.expect("a replica answers");
        serde_json::from_slice(&reply.body).expect("numbers")
    }

    /// How often its handler began.
    pub async fn executions(&self) -> u64 {
        self.stats().await.executions
    }

    /// Ends it without warning (SIGKILL): it can tell nobody.
    pub fn kill(&self) {
        self.example.signal(Signal::KILL);
    }

    /// Tells it to end (SIGTERM).
    pub fn terminate(&self) {
        self.example.signal(Signal::TERM);
    }

    /// Stops it (SIGSTOP): its connections stay, and it does not know.
    pub fn pause(&self) {
        self.example.signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.example.signal(Signal::CONT);
    }

    /// How it ended.
    pub async fn ended(&mut self) -> ExitStatus {
        self.example.ended().await
    }
}

/// One client of a replica. Its connection is kept open, and closed with this value.
pub struct Client {
    place: String,
    send: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
}

/// An answer on its way; an error if the connection broke before it was there.
pub type Pending = JoinHandle<hyper::Result<Reply>>;

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    /// What the layer says that the request was.
    pub outcome: String,
    pub body: Bytes,
}

/// What stands in the body of a report: who made it, and the how-many-th of that process it was.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Report {
    pub replica: String,
    pub execution: u64,
}

impl Client {
    /// Sends a request. One at a time: HTTP/1 answers in order.
    pub async fn ask(&mut self, target: &str) -> Pending {
        self.send.ready().await.expect("the connection is open, and the last request answered");
        let request = Request::get(target).header("host", &self.place).body(Empty::new()).expect("a target");
        let response = self.send.send_request(request);
        tokio::spawn(async move {
            let (head, body) = response.await?.into_parts();
            let outcome = head.headers.get("x-outcome").map(|outcome| outcome.to_str().expect("visible ASCII").into());
            let body = body.collect().await?.to_bytes();
            Ok(Reply { status: head.status, outcome: outcome.unwrap_or_default(), body })
        })
    }

    /// Sends a request and waits for the answer.
    pub async fn get(&mut self, target: &str) -> hyper::Result<Reply> {
        self.ask(target).await.await.expect("reading an answer does not panic")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    pub fn report(&self) -> Report {
        serde_json::from_slice(&self.body).expect("a report")
    }
}
