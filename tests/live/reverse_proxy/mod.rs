//! The example `reverse-proxy` between raw sockets: what comes in, what goes out, and what breaks.

mod broken;
mod http2;
mod origin;
mod shared;
mod wire;

use std::{fmt, future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::origin::{Answer, Origin};
use crate::support::example::{self, Example};

async fn proxy(upstream: &str, args: &[&str]) -> Example {
    let url = format!("http://{upstream}");
    Example::start("reverse-proxy", &[&["--upstream", &url], args].concat()).await
}

/// A test that hangs fails.
async fn within(seconds: u64, test: impl Future<Output = ()>) {
    // Building may take minutes, which are not the test's.
    example::build();
    let limit = Duration::from_secs(seconds);
    timeout(limit, test).await.unwrap_or_else(|_| panic!("somebody hangs: no end after {limit:?}"));
}

/// A request of one connection: no second one follows.
fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{fields}Connection: close\r\n\r\n")
}

/// Sends bytes on a connection of their own, and reads until it ends.
async fn send(proxy: &Example, bytes: impl AsRef<[u8]>) -> Reply {
    let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    read(stream).await
}

async fn get(proxy: &Example, target: &str) -> Reply {
    send(proxy, request("GET", target, "")).await
}

/// What came, whichever way the connection ended.
async fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    let body = bytes.split_off(end);
    Reply { head: bytes, body }
}

/// A response as it came over the wire.
struct Reply {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Reply {
    fn head(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    fn body(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Zero if there is none.
    fn status(&self) -> u16 {
        self.head().split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    fn field(&self, name: &str) -> Option<String> {
        self.head().lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    }

    fn cache_status(&self) -> String {
        self.field("cache-status").unwrap_or_default()
    }

    /// Whether the body looks as if it had come to its end.
    fn is_complete(&self) -> bool {
        match self.field("content-length") {
            Some(length) => self.body.len() == length.parse::<usize>().unwrap(),
            None if self.head().contains("transfer-encoding: chunked") => self.body.ends_with(b"0\r\n\r\n"),
            // Its end is that of the connection.
            None => !self.head.is_empty(),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.head(), self.body().get(..200).unwrap_or(&self.body()))
    }
}
