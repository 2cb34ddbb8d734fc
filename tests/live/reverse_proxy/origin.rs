//! An upstream that says exactly what a test wants, on raw sockets, and remembers every byte it was sent.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of a request, and of its connection.
pub enum Answer {
    /// These bytes, and the connection stays.
    Keep(Vec<u8>),
    /// These bytes once the test says so, and the connection stays.
    Held(watch::Receiver<bool>, Vec<u8>),
    /// These bytes, and the connection is closed. Not behind a whole response: whether the next request would still be
    /// sent on that connection is a matter of chance.
    Close(Vec<u8>),
    /// No byte: the connection is reset.
    Reset,
    /// No byte, and the connection stays.
    Silence,
}

/// A whole response with this body.
pub fn ok(body: &str) -> Answer {
    plain("200 OK", "", body)
}

/// A whole response; each field ends its line.
pub fn plain(status: &str, fields: &str, body: &str) -> Answer {
    Answer::Keep(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into())
}

/// Answers one request of a connection after the other; ends with this value.
pub struct Origin {
    pub place: String,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// How far each connection got, as it comes.
    received: watch::Sender<Vec<Vec<u8>>>,
    requests: Mutex<Vec<Vec<u8>>>,
}

impl Origin {
    /// Answers with what `answer` makes of a request and of how many came before.
    pub async fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (seen, answer) = (Arc::new(Seen::default()), Arc::new(answer));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answer)));
                }
            }
        });
        Self { place, seen, task }
    }

    /// The requests so far, as they came.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// The last request.
    pub fn last(&self) -> String {
        String::from_utf8_lossy(self.requests().last().expect("it was asked")).into_owned()
    }

    /// How many connections brought something.
    pub fn connections(&self) -> usize {
        self.seen.received.borrow().iter().filter(|bytes| !bytes.is_empty()).count()
    }

    /// Waits until these bytes have come.
    pub async fn receives(&self, bytes: &str) {
        let has = |all: &Vec<Vec<u8>>| all.iter().any(|one| String::from_utf8_lossy(one).contains(bytes));
        self.seen.received.subscribe().wait_for(has).await.unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>, answer: Arc<impl Fn(&str, usize) -> Answer>) {
    let mut connection = 0;
    seen.received.send_modify(|all| {
        connection = all.len();
        all.push(Vec::new());
    });
    let mut buffer = Vec::new();
    loop {
        let length = loop {
            if let Some(length) = whole(&buffer) {
                break length;
            }
            let start = buffer.len();
            if stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                seen.received.send_modify(|all| all[connection].extend_from_slice(&buffer[start..]));
            } else {
                return;
            }
        };
        let request: Vec<u8> = buffer.drain(..length).collect();
        let answer = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            answer(&String::from_utf8_lossy(&request), requests.len() - 1)
        };
        let (bytes, stays) = match answer {
            Answer::Keep(bytes) => (bytes, true),
            Answer::Held(mut open, bytes) => {
                if open.wait_for(|&open| open).await.is_err() {
                    return;
                }
                (bytes, true)
            }
            Answer::Close(bytes) => (bytes, false),
            Answer::Reset => return stream.set_zero_linger().unwrap(),
            Answer::Silence => return drop(stream.read_u8().await),
        };
        if stream.write_all(&bytes).await.is_err() || !stays {
            return;
        }
    }
}

/// The length of the first request, once all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        // No test sends a chunk that ends in a zero.
        let last = find(&bytes[head..], b"0\r\n")?;
        return Some(head + last + find(&bytes[head + last..], b"\r\n\r\n")? + 4);
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let length = head + length.unwrap_or(0);
    (bytes.len() >= length).then_some(length)
}
