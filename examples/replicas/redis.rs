use std::{io::ErrorKind, net::TcpListener, process::Stdio};

use axum::BoxError;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A Redis of our own, on a free port of this machine. It writes no files, and is killed when it is dropped.
pub struct PrivateRedis {
    _server: Child,
    url: String,
}

impl PrivateRedis {
    pub async fn start() -> Result<Self, BoxError> {
        // Free now; that somebody else takes it before Redis does is unlikely, and then Redis says so.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => "there is no `redis-server` on the path: install it, or give --redis URL".into(),
                _ => format!("redis-server: {error}"),
            })?;

        let mut log = BufReader::new(server.stdout.take().ok_or("redis-server has no log")?).lines();
        let mut last = String::new();
        while let Some(line) = log.next_line().await? {
            if line.contains("Ready to accept connections") {
                return Ok(Self { _server: server, url: format!("redis://127.0.0.1:{port}/") });
            }
            last = line;
        }
        Err(format!("redis-server did not start: {last}").into())
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}
