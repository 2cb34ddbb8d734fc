//! A private `redis-server` on a free port.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};

/// A `redis-server` of one test: nothing persists, and it ends with this value.
pub struct Server {
    process: Child,
    port: u16,
    dir: PathBuf,
    args: Vec<String>,
}

impl Server {
    /// A server with its defaults.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with more arguments, such as `["--maxmemory", "2mb"]`.
    pub fn start_with(args: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("singleflight-{}-{next}", std::process::id()));
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        // Somebody else may take the port between the question and the start.
        for _ in 0..5 {
            let port = free_port();
            fs::create_dir_all(&dir).expect("the directory for temporary files is writable");
            let mut process = launch(port, &dir, &args);
            let says = process.stdout.take().expect("its output is ours");
            let server = Self { process, port, dir: dir.clone(), args: args.clone() };
            if ready(says) {
                return server;
            }
        }
        panic!("redis-server did not start; see what `redis-server --port 0` says");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("the address is well-formed");
        client.get_multiplexed_async_connection().await.expect("the server answers")
    }

    /// Runs one command and returns what it answers.
    pub async fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut run = redis::cmd(command[0]);
        run.arg(&command[1..]);
        run.query_async(&mut self.connection().await).await.expect("the command is accepted")
    }

    /// Ends the process without warning. Everything stored is lost.
    pub fn kill(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Starts again, on the same port, after [`kill`](Self::kill). Tasks go on meanwhile, and find nobody at first.
    pub async fn restart(&mut self) {
        self.process = launch(self.port, &self.dir, &self.args);
        let says = self.process.stdout.take().expect("its output is ours");
        let ready = tokio::task::spawn_blocking(|| ready(says)).await.expect("reading does not panic");
        assert!(ready, "redis-server did not start again on port {}", self.port);
    }

    /// Stops the process: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the process can be signalled");
    }
}

/// Waits until a process says that it is ready; `false` if it ended instead.
fn ready(says: ChildStdout) -> bool {
    let mut says = BufReader::new(says);
    let mut line = String::new();
    while says.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line.contains("Ready to accept connections") {
            // Whatever else it says must go somewhere.
            thread::spawn(move || io::copy(&mut says, &mut io::sink()));
            return true;
        }
        line.clear();
    }
    false
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn launch(port: u16, dir: &PathBuf, args: &[String]) -> Child {
    let spawned = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(process) => process,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "these tests need the program `redis-server` (7 or newer) on PATH; install it, e.g. `apt-get install redis-server`"
            )
        }
        Err(error) => panic!("redis-server cannot be started: {error}"),
    }
}
