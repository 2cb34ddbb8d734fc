//! A private `redis-server` on a free port.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// A `redis-server`: nothing persists, and it ends with this value.
pub struct Server {
    process: Child,
    url: String,
    dir: PathBuf,
}

impl Server {
    pub fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("peers-{}-{next}", std::process::id()));
        // Somebody else may take the port between the question and the start.
        for _ in 0..5 {
            fs::create_dir_all(&dir).expect("the directory for temporary files is writable");
            let port = free_port();
            let mut process = launch(port, &dir);
            let says = process.stdout.take().expect("its output is ours");
            let server = Self { process, url: format!("redis://127.0.0.1:{port}/"), dir: dir.clone() };
            if ready(says) {
                return server;
            }
        }
        panic!("redis-server did not start; see what `redis-server --port 0` says");
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn launch(port: u16, dir: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server can be started")
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
