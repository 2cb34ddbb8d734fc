//! A TCP proxy in front of a server: it counts what passes, and can lose, hang and cut it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// How much is read at once.
const READ: usize = 64 * 1024;

/// What passed on one connection.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Exchanges: the client wrote, one or many commands, and the server answered. Operations that are in the air at the
    /// same time share them, so it takes the commands as well to tell what was paid.
    pub exchanges: usize,
    /// The names of all commands, in order.
    pub commands: Vec<String>,
    /// Bytes from client to server.
    pub sent: usize,
    /// Bytes from server to client.
    pub received: usize,
    /// Whether the client subscribed to something.
    pub subscribed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mode {
    hang: bool,
    mute: bool,
    drop_messages: bool,
    refuse: bool,
    cuts: u64,
}

/// A proxy on a free port in front of one server. It ends with this value.
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    traffic: Arc<Mutex<Vec<Arc<Mutex<Traffic>>>>>,
    accept: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of the server on `upstream` on 127.0.0.1.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let mode = watch::Sender::new(Mode::default());
        let traffic = Arc::<Mutex<Vec<Arc<Mutex<Traffic>>>>>::default();
        let accept = tokio::spawn(accept(listener, upstream, mode.clone(), Arc::clone(&traffic)));
        Self { port, mode, traffic, accept }
    }

    /// The address of the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What passed on each connection so far, in the order in which they were made.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.traffic.lock().unwrap().iter().map(|traffic| traffic.lock().unwrap().clone()).collect()
    }

    /// Exchanges on all connections that carry data.
    pub fn exchanges(&self) -> usize {
        self.traffic().iter().filter(|traffic| !traffic.subscribed).map(|traffic| traffic.exchanges).sum()
    }

    /// The names of all commands on connections that carry data, in order on each of them.
    pub fn commands(&self) -> Vec<String> {
        self.traffic().into_iter().filter(|traffic| !traffic.subscribed).flat_map(|traffic| traffic.commands).collect()
    }

    /// Loses every pub/sub message from now on, or stops doing so.
    pub fn drop_messages(&self, drop: bool) {
        self.mode.send_modify(|mode| mode.drop_messages = drop);
    }

    /// Holds everything back from now on, or lets it pass again.
    pub fn hang(&self, hang: bool) {
        self.mode.send_modify(|mode| mode.hang = hang);
    }

    /// Holds every answer back from now on, or lets them pass again: what is asked is done, and nobody learns of it. They
    /// are lost if the connections are [cut](Self::cut) meanwhile.
    pub fn mute(&self, mute: bool) {
        self.mode.send_modify(|mode| mode.mute = mute);
    }

    /// Closes new connections at once from now on, or stops doing so.
    pub fn refuse(&self, refuse: bool) {
        self.mode.send_modify(|mode| mode.refuse = refuse);
    }

    /// Closes all connections. New ones are accepted.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accept.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: u16,
    mode: watch::Sender<Mode>,
    traffic: Arc<Mutex<Vec<Arc<Mutex<Traffic>>>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if mode.borrow().refuse {
            continue;
        }
        let counted = Arc::<Mutex<Traffic>>::default();
        traffic.lock().unwrap().push(Arc::clone(&counted));
        tokio::spawn(carry(client, upstream, mode.subscribe(), counted));
    }
}

async fn carry(client: TcpStream, upstream: u16, mode: watch::Receiver<Mode>, traffic: Arc<Mutex<Traffic>>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cuts = mode.borrow().cuts;
    let mut cut = mode.clone();
    // True while commands wait for their answer: the first answer ends the exchange, unless the client is still writing.
    let (waiting, writing, answering) = (Mutex::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let requests = pump(
        from_client,
        to_server,
        mode.clone(),
        |mode| mode.hang,
        &writing,
        |frame, _| {
            let name = command(frame);
            let mut traffic = traffic.lock().unwrap();
            traffic.sent += frame.len();
            traffic.subscribed |= name == "SUBSCRIBE";
            traffic.commands.push(name);
            let was_waiting = std::mem::replace(&mut *waiting.lock().unwrap(), true);
            traffic.exchanges += usize::from(!was_waiting);
            true
        },
    );
    let answers = pump(
        from_server,
        to_client,
        mode,
        |mode| mode.hang || mode.mute,
        &answering,
        |frame, mode| {
            *waiting.lock().unwrap() &= writing.load(SeqCst);
            traffic.lock().unwrap().received += frame.len();
            !(mode.drop_messages && frame.starts_with(b"*3\r\n$7\r\nmessage\r\n"))
        },
    );
    tokio::select! {
        biased;
        // First: what was held back until then is lost, though it may pass from now on.
        _ = async { cut.wait_for(|mode| mode.cuts != cuts).await.map(|mode| mode.cuts) } => {}
        _ = requests => {}
        _ = answers => {}
    }
}

/// Passes whole frames on if `pass` says so, and none while the mode is one that `holds` them. `partial` tells whether
/// more is to come of what was read.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    holds: impl Fn(&Mode) -> bool,
    partial: &AtomicBool,
    pass: impl Fn(&[u8], Mode) -> bool,
) -> io::Result<()> {
    // Room for all that was written at once: left to itself, a buffer grows by a few bytes for each read.
    let mut buffer = Vec::with_capacity(READ);
    while from.read_buf(&mut buffer).await? > 0 {
        let mut out = Vec::new();
        let mut start = 0;
        let current = mode.wait_for(|mode| !holds(mode)).await.map_or_else(|_| Mode::default(), |mode| *mode);
        while let Some(length) = frame(&buffer[start..]) {
            let bytes = &buffer[start..start + length];
            if pass(bytes, current) {
                out.extend_from_slice(bytes);
            }
            start += length;
        }
        buffer.drain(..start);
        buffer.reserve(READ);
        partial.store(!buffer.is_empty(), SeqCst);
        to.write_all(&out).await?;
    }
    Ok(())
}

/// The length of the first whole RESP value.
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'$' => {
            let length = usize::try_from(number()?).map_or(line, |body| line + body + 2);
            (bytes.len() >= length).then_some(length)
        }
        b'*' => (0..number()?).try_fold(line, |length, _| Some(length + frame(&bytes[length..])?)),
        _ => Some(line),
    }
}

/// The name of a command, which is the first string of its array.
fn command(frame: &[u8]) -> String {
    let mut lines = frame.split(|byte| *byte == b'\n').skip(2);
    let name = lines.next().unwrap_or_default();
    String::from_utf8_lossy(name).trim_end().to_ascii_uppercase()
}
