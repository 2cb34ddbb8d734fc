//! A replica: the example `axum` in a process of its own, which can be stopped and killed.

use std::{
    env,
    ffi::OsStr,
    io,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::Child,
    task::JoinHandle,
};

/// A process that serves `GET /report/{id}`. It is killed with this value, stopped or not.
pub struct Replica {
    pub name: String,
    process: Child,
    place: String,
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
        let mut process = tokio::process::Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--replica", name, "--redis", redis])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Panics that tests ask for.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the example was built");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is ours")).lines();
        let line = lines.next_line().await.expect("its output is text").unwrap_or_default();
        let Some(place) = line.strip_prefix("listening on http://") else {
            panic!("a replica with the arguments {args:?} says {line:?} instead of where it listens");
        };
        Self { name: name.to_owned(), process, place: place.to_owned() }
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        let stream = TcpStream::connect(&self.place).await.expect("a replica accepts");
        stream.set_nodelay(true).expect("a connected socket has options");
        let (send, connection) = handshake(TokioIo::new(stream)).await.expect("a replica accepts");
        // An error of the connection is an error of the request too.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Client { place: self.place.clone(), send, connection }
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
        self.signal(Signal::KILL);
    }

    /// Tells it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it (SIGSTOP): its connections stay, and it does not know.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait().await.expect("the process is ours")
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(pid.expect("the process has not ended"), signal).expect("the process can be signalled");
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

/// The example, up to date: a test may have been built without it, or before it was changed. The first call takes as long as
/// building it takes.
pub fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // Cargo puts tests into `<target>/<profile>/deps`.
        let test = env::current_exe().expect("a test knows where it is");
        let profile = test.ancestors().nth(2).expect("a test lies in a profile's directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--all-features", "--example", "axum", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        build.arg("--target-dir").arg(profile.with_file_name(""));
        if profile.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        let built: io::Result<ExitStatus> = build.status();
        let built = built.expect("cargo runs tests, and can run");
        assert!(built.success(), "the example `axum` cannot be built: run `cargo build --all-features --example axum`");
        profile.join("examples").join(format!("axum{}", env::consts::EXE_SUFFIX))
    })
}
