//! Servers and proxies that are there and yet end connections, or that are no longer the right ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tower_singleflight::backend::{Backend, ErrorKind, Notice, Owner, Redis};

use crate::support::{
    Proxy, Server,
    calls::{LONG, ask, follow, key, lead, record, told, until_ok},
    fleet::until,
};

/// What stands in front of a server and confirms every subscription, only to close then, while `closing`.
struct Fickle {
    url: String,
    closing: Arc<AtomicBool>,
    subscriptions: Arc<AtomicUsize>,
}

impl Fickle {
    async fn start(server: &Server, closing: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let fickle = Self { url, closing: Arc::new(closing.into()), subscriptions: Arc::default() };
        let (closing, subscriptions) = (Arc::clone(&fickle.closing), Arc::clone(&fickle.subscriptions));
        let upstream = server.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (closing, subscriptions) = (Arc::clone(&closing), Arc::clone(&subscriptions));
                tokio::spawn(async move { carry(client, upstream, &closing, &subscriptions).await });
            }
        });
        fickle
    }
}

async fn carry(mut client: TcpStream, upstream: u16, closing: &AtomicBool, subscriptions: &AtomicUsize) {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let mut subscribed = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return };
                if asked[..n].windows(9).any(|word| word == b"SUBSCRIBE") {
                    subscriptions.fetch_add(1, SeqCst);
                    subscribed = true;
                }
                server.write_all(&asked[..n]).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&answered[..n]).await.is_err() || subscribed && closing.load(SeqCst) {
                    return;
                }
            }
        }
    }
}

/// Confirmed and closed, again and again: the pauses grow as if nothing had been confirmed, and so they do for whoever is
/// parked and must begin again each time.
#[tokio::test]
async fn an_inbox_that_is_closed_at_once_is_made_again_with_pauses() {
    let server = Server::start();
    let fickle = Fickle::start(&server, true).await;
    let redis = Redis::connect_lazy(&fickle.url, "storm").unwrap();
    // How long it may try: with a pause of 50 ms that doubles up to a second, and half of each left to chance, nine times
    // at most.
    sleep(Duration::from_secs(2)).await;
    let tried = fickle.subscriptions.load(SeqCst);
    assert!((3..=9).contains(&tried), "{tried} subscriptions in 2 s");
    // Once it stays open, all is well.
    fickle.closing.store(false, SeqCst);
    until_ok(async || redis.begin(&key("after"), ask(1)).await).await;
}

/// A connection that has lived for a while is replaced at once: nobody is sent away meanwhile.
#[tokio::test]
async fn a_long_lived_inbox_is_made_again_at_once() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "lived").await.unwrap();
    for round in 0..2 {
        let inboxes = async || server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await;
        let before = inboxes().await;
        assert_eq!(before.len(), 1);
        // Its subject: how long the connection has lived.
        sleep(Duration::from_millis(1100)).await;
        let _: u32 = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let mut number = 0;
        while inboxes().await.is_empty() || inboxes().await == before {
            lead(&redis, &key(&format!("lived {round} {number}")), 1).await;
            number += 1;
        }
    }
}

/// One connection that breaks under many operations is one error: the server is there all the time.
#[tokio::test]
async fn a_lost_connection_counts_once() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    // A breaker that opens would stay open for longer than anybody is patient.
    let redis = Redis::builder("once").breaker_errors(2).breaker_rest(LONG).connect(&proxy.url()).await.unwrap();
    redis.put(&key("a"), record("x", LONG)).await.unwrap();
    proxy.hang(true);
    let mut gets = JoinSet::new();
    for _ in 0..20 {
        let redis = redis.clone();
        gets.spawn(async move { redis.get(&key("a")).await.map(drop).unwrap_err().kind() });
    }
    // They are in the air when they have been polled; the proxy holds them back.
    tokio::task::yield_now().await;
    proxy.cut();
    proxy.hang(false);
    assert_eq!(gets.join_all().await, [ErrorKind::Unknown; 20], "all of them were in the air");
    until_ok(async || redis.get(&key("a")).await).await;
}

/// The address leads to another server after a failover, and the old one still talks. Writes are refused there and find the
/// new one; so does the inbox, although nothing ended its connection.
#[tokio::test]
async fn the_inbox_follows_the_commands() {
    let (old, new) = (Server::start(), Server::start());
    let target = Arc::new(AtomicU16::new(old.port()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", listener.local_addr().unwrap());
    let port = Arc::clone(&target);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = port.load(SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let redis = Redis::connect(&url, "moved").await.unwrap();
    let other = Redis::connect(&old.url(), "moved").await.unwrap();
    lead(&other, &key("parked"), 1).await;
    let (_, mut watch) = follow(&redis, &key("parked"), 2).await;
    target.store(new.port(), SeqCst);
    let () = old.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    until_ok(async || redis.put(&key("a"), record("y", LONG)).await).await;
    assert_eq!(told(&mut watch).await, Notice::Retry, "whoever waits begins again");
    until(1, async || new.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()).await;
    until(1, async || old.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()).await;
    let leader = Redis::connect(&new.url(), "moved").await.unwrap();
    let (fence, _watch) = lead(&leader, &key("b"), 1).await;
    let (_, mut watch) = follow(&redis, &key("b"), 2).await;
    leader.complete(&key("b"), Owner(1), fence, record("z", LONG)).await.unwrap();
    assert!(matches!(told(&mut watch).await, Notice::Landed(landed, Some(_)) if landed == fence));
}

/// Connecting has its own time. That of an operation may be too short for it.
#[tokio::test]
async fn connecting_may_take_longer_than_an_operation() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    proxy.hang(true);
    let builder = Redis::builder("slow").command_timeout(Duration::from_millis(100));
    let connecting = tokio::spawn({
        let url = proxy.url();
        async move { builder.connect_timeout(Duration::from_secs(10)).connect(&url).await.map(drop) }
    });
    until(2, async || proxy.traffic().len()).await;
    // How long the server takes.
    sleep(Duration::from_millis(300)).await;
    assert!(!connecting.is_finished(), "it was given up");
    assert_eq!(proxy.traffic().len(), 2, "it was not tried again");
    proxy.hang(false);
    connecting.await.unwrap().unwrap();
}

/// A server that was away for long is asked again once a second, and nothing else delays those who come then.
#[tokio::test]
async fn a_server_that_was_away_is_used_within_a_second() {
    let mut server = Server::start();
    // A breaker that opens would stay open for longer than anybody is patient.
    let redis = Redis::builder("back").breaker_rest(LONG).connect(&server.url()).await.unwrap();
    server.kill();
    let start = Instant::now();
    // Long enough for the pauses to have grown to their greatest length.
    while start.elapsed() < Duration::from_secs(3) {
        redis.begin(&key("back"), ask(1)).await.unwrap_err();
        redis.put(&key("back"), record("x", LONG)).await.unwrap_err();
        sleep(Duration::from_millis(10)).await;
    }
    server.restart().await;
    let start = Instant::now();
    until_ok(async || redis.begin(&key("back"), ask(1)).await).await;
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

/// The tasks that keep the connections end with their runtime: that is named, not the connection that went with it.
#[test]
fn a_runtime_that_has_ended_is_named() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ended, lives) = (runtime(), runtime());
    let server = Server::start();
    let redis = ended.block_on(Redis::connect(&server.url(), "gone")).unwrap();
    ended.shutdown_background();
    lives.block_on(async {
        until(0, async || server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()).await;
        let error = redis.get(&key("a")).await.unwrap_err();
        assert!(error.to_string().contains("runtime"), "{error}");
    });
}
