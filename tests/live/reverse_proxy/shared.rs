//! Two proxies on one Redis are one cache.

use rustix::process::Signal;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

use super::{Answer, Origin, get, origin::ok, proxy, read, request, send, within};
use crate::support::{Server, example::Example, fleet::until};

/// With a budget no starved core exceeds: a proxy that does not hear from Redis works by itself, and rightly so.
const KEPT: [&str; 4] = ["--ttl-ms", "600000", "--redis-budget-ms", "10000"];

/// Two of them, connected to Redis.
async fn two(origin: &Origin, server: &Server) -> [Example; 2] {
    let url = server.url();
    let args = [&KEPT[..], &["--redis", &url]].concat();
    let proxies = [proxy(&origin.place, &args).await, proxy(&origin.place, &args).await];
    for (number, proxy) in proxies.iter().enumerate() {
        until(true, async || {
            let reply = get(proxy, &format!("/warm-up/{number}")).await;
            reply.cache_status().contains("stored") || reply.cache_status().contains("hit")
        })
        .await;
    }
    proxies
}

/// How many requests there were for a target.
fn asked(origin: &Origin, target: &str) -> usize {
    let wanted = |request: &&Vec<u8>| String::from_utf8_lossy(request).split(' ').nth(1) == Some(target);
    origin.requests().iter().filter(wanted).count()
}

#[tokio::test]
async fn what_one_has_stored_is_a_hit_on_the_other() {
    within(60, async {
        let (origin, server) = (Origin::start(|_, before| ok(&before.to_string())).await, Server::start());
        let [one, other] = two(&origin, &server).await;
        let first = get(&one, "/x").await;
        assert_eq!((first.status(), &*first.cache_status()), (200, "reverse-proxy; fwd=uri-miss; stored"));
        let second = get(&other, "/x").await;
        assert_eq!((second.status(), second.body()), (200, first.body()));
        assert!(second.cache_status().starts_with("reverse-proxy; hit; ttl="), "{second:?}");
        assert_eq!(asked(&origin, "/x"), 1);
    })
    .await;
}

/// Fails without Redis: then each of the two asks for itself.
#[tokio::test]
async fn a_burst_over_both_asks_once() {
    within(60, async {
        let (open, opened) = watch::channel(false);
        let origin = Origin::start(move |request, before| match ok(&before.to_string()) {
            Answer::Keep(bytes) if request.contains("/burst") => Answer::Held(opened.clone(), bytes),
            other => other,
        })
        .await;
        let server = Server::start();
        let proxies = two(&origin, &server).await;
        let mut streams = Vec::new();
        for proxy in proxies.iter().cycle().take(40) {
            let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
            stream.write_all(request("GET", "/burst", "").as_bytes()).await.unwrap();
            streams.push(stream);
        }
        origin.receives("/burst").await;
        open.send_replace(true);
        // Whoever came too late to join is a hit.
        let mut replies = Vec::new();
        for stream in streams {
            replies.push(read(stream).await);
        }
        assert!(replies.iter().all(|reply| reply.status() == 200 && reply.body == replies[0].body), "{replies:?}");
        assert_eq!(asked(&origin, "/burst"), 1);
    })
    .await;
}

/// Fails if the layer keeps what a PUT has changed, on the proxy that saw it or on the other.
#[tokio::test]
async fn a_put_through_one_invalidates_on_both() {
    within(60, async {
        let (origin, server) = (Origin::start(|_, before| ok(&before.to_string())).await, Server::start());
        let proxies = two(&origin, &server).await;
        let all = async || {
            let mut bodies = Vec::new();
            for proxy in &proxies {
                bodies.push(get(proxy, "/x").await.body());
            }
            bodies
        };
        let before = all().await;
        assert_eq!(before[0], before[1]);
        for proxy in &proxies {
            let old = all().await;
            assert_eq!(send(proxy, request("PUT", "/x", "Content-Length: 0\r\n")).await.status(), 200);
            let new = all().await;
            assert_eq!(new[0], new[1]);
            assert_ne!(new, old);
        }
        assert_eq!(asked(&origin, "/x"), 5, "one for each of three versions, and two that changed it");
    })
    .await;
}

/// Hosts are different sites, on one upstream.
#[tokio::test]
async fn hosts_share_nothing() {
    within(60, async {
        let origin = Origin::start(|request, _| {
            ok(request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default())
        })
        .await;
        let server = Server::start();
        let proxies = two(&origin, &server).await;
        for proxy in &proxies {
            for host in ["a.test", "b.test"] {
                let sent = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                assert_eq!(send(proxy, sent).await.body(), host);
            }
        }
        assert_eq!(asked(&origin, "/x"), 2);
    })
    .await;
}

#[tokio::test]
async fn without_redis_one_is_a_cache_by_itself() {
    within(30, async {
        let origin = Origin::start(|_, before| ok(&before.to_string())).await;
        let proxy = proxy(&origin.place, &KEPT).await;
        assert_eq!((get(&proxy, "/x").await.body(), get(&proxy, "/x").await.body()), ("0".into(), "0".into()));
        assert_eq!(origin.count(), 1);
        assert!(get(&proxy, "/x").await.cache_status().contains("hit"));
    })
    .await;
}

/// Fails if the proxy ends at once, or never.
#[tokio::test]
async fn a_proxy_that_is_told_to_end_answers_first() {
    within(30, async {
        let (open, opened) = watch::channel(false);
        let origin =
            Origin::start(move |_, _| Answer::Held(opened.clone(), b"HTTP/1.1 204 No Content\r\n\r\n".into())).await;
        let mut proxy = proxy(&origin.place, &[]).await;
        let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
        // A client that would send more.
        stream.write_all(b"POST /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        origin.receives("/x").await;
        proxy.signal(Signal::TERM);
        until(false, async || TcpStream::connect(&proxy.place).await.is_ok()).await;
        open.send_replace(true);
        assert_eq!(read(stream).await.status(), 204);
        assert!(proxy.ended().await.success());
    })
    .await;
}
