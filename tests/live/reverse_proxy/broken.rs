//! An upstream that is away, silent, or breaks off.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{
    Answer, Origin, get,
    origin::{ok, plain},
    proxy, read, request, send, within,
};
use crate::support::{fleet::until, server::free_port};

#[tokio::test]
async fn nobody_there_is_a_502() {
    within(30, async {
        let proxy = proxy(&format!("127.0.0.1:{}", free_port()), &[]).await;
        for method in ["GET", "POST"] {
            let reply = send(&proxy, request(method, "/", "")).await;
            assert_eq!((reply.status(), reply.body()), (502, String::new()));
            assert_eq!(reply.field("proxy-status").unwrap(), "reverse-proxy; error=destination_unavailable");
        }
    })
    .await;
}

/// On a new connection and on one that was kept: whether the upstream has acted on a request nobody knows. Fails if an error
/// is answered with another try.
#[tokio::test]
async fn a_connection_that_ends_before_the_head_is_a_502_and_no_second_request() {
    within(60, async {
        for broken in [|| Answer::Reset, || Answer::Close(Vec::new()), || Answer::Close(b"HTTP/1.1 20".into())] {
            let origin =
                Origin::start(move |request, _| if request.contains("/kept") { ok("") } else { broken() }).await;
            let proxy = proxy(&origin.place, &[]).await;
            for (requests, method) in ["GET", "PUT", "PURGE"].into_iter().enumerate() {
                let reply = send(&proxy, request(method, "/new", "")).await;
                assert_eq!((reply.status(), origin.count(), origin.connections()), (502, requests + 1, requests + 1));
                assert_eq!(reply.field("proxy-status").unwrap(), "reverse-proxy; error=connection_terminated");
            }
            assert_eq!(get(&proxy, "/kept").await.status(), 200);
            assert_eq!(get(&proxy, "/new").await.status(), 502);
            assert_eq!((origin.count(), origin.connections()), (5, 4), "the last two took one connection");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_answer_is_a_502() {
    within(30, async {
        for answer in
            ["220 mail.test ESMTP\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]
        {
            let origin = Origin::start(move |_, _| Answer::Close(answer.into())).await;
            let proxy = proxy(&origin.place, &[]).await;
            let reply = send(&proxy, request("GET", "/", "Connection: upgrade\r\nUpgrade: x\r\n")).await;
            assert_eq!((reply.status(), origin.count()), (502, 1), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn silence_is_a_504_and_no_second_request() {
    within(30, async {
        let origin = Origin::start(|_, _| Answer::Silence).await;
        let proxy = proxy(&origin.place, &["--upstream-timeout-ms", "200"]).await;
        for (requests, method) in ["GET", "POST"].into_iter().enumerate() {
            let reply = send(&proxy, request(method, "/", "")).await;
            assert_eq!((reply.status(), origin.count()), (504, requests + 1));
            assert_eq!(reply.field("proxy-status").unwrap(), "reverse-proxy; error=http_response_timeout");
        }
    })
    .await;
}

/// Long enough for the second silence to end after the ten seconds for which the layer lets requests wait by default.
/// Fails if the layer sees failures as errors, which each who waits would try for himself, or if those who wait give up
/// before.
#[tokio::test]
async fn a_silent_upstream_is_asked_twice_however_many_wait() {
    within(60, async {
        let origin = Origin::start(|_, _| Answer::Silence).await;
        let proxy = proxy(&origin.place, &["--upstream-timeout-ms", "5500"]).await;
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
            stream.write_all(request("GET", "/", "").as_bytes()).await.unwrap();
            streams.push(stream);
        }
        for stream in streams {
            let reply = read(stream).await;
            assert_eq!((reply.status(), reply.body()), (504, String::new()), "{reply:?}");
        }
        assert_eq!(origin.count(), 2);
    })
    .await;
}

/// What the upstream has done before it broke off stays done. Fails if the layer sees a response to a request that may
/// change its target, which it would take for a refusal.
#[tokio::test]
async fn a_change_that_is_not_answered_invalidates() {
    within(30, async {
        let origin = Origin::start(|request, before| match request.starts_with("PUT") {
            true => Answer::Reset,
            false => ok(&before.to_string()),
        })
        .await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        assert_eq!((get(&proxy, "/").await.body(), get(&proxy, "/").await.body()), ("0".into(), "0".into()));
        let reply = send(&proxy, request("PUT", "/", "Content-Length: 0\r\n")).await;
        assert_eq!((reply.status(), reply.body()), (502, String::new()));
        until(true, async || get(&proxy, "/").await.body() == "2").await;
    })
    .await;
}

/// The upstream has nothing to answer before the request is there. Fails if its time is counted from the start.
#[tokio::test]
async fn a_client_that_takes_its_time_is_no_silent_upstream() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &["--upstream-timeout-ms", "2000"]).await;
        let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
        stream.write_all(request("PUT", "/", "Content-Length: 4\r\n").as_bytes()).await.unwrap();
        for byte in [b"a", b"b", b"c", b"d"] {
            // Not to wait for something: it is that slow.
            sleep(Duration::from_millis(700)).await;
            stream.write_all(byte).await.unwrap();
        }
        assert_eq!(read(stream).await.status(), 200);
        assert!(origin.last().ends_with("abcd"));
    })
    .await;
}

/// Fails if the failure becomes a response that the layer stores, such as a 501.
#[tokio::test]
async fn a_failure_is_not_kept() {
    within(30, async {
        let origin = Origin::start(|_, before| if before == 0 { Answer::Reset } else { ok("there") }).await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        assert_eq!(get(&proxy, "/").await.status(), 502);
        for _ in 0..2 {
            assert_eq!(get(&proxy, "/").await.body(), "there");
        }
        assert_eq!(origin.count(), 2, "a failure, and one response for all");
    })
    .await;
}

/// Recorded or streamed, with a length or in chunks, long or short. Fails if the server is given an end instead of an error.
#[tokio::test]
async fn a_body_that_breaks_off_is_never_a_complete_one() {
    within(60, async {
        let origin = Origin::start(|request, _| {
            let size = if request.contains("/long") { 3 << 20 } else { 3 };
            let (framing, start) = match request.contains("/chunks") {
                true => ("Transfer-Encoding: chunked".to_owned(), format!("{size:x}\r\n")),
                false => (format!("Content-Length: {}", size + 1), String::new()),
            };
            let body = "x".repeat(size);
            Answer::Close(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{start}{body}").into())
        })
        .await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        for target in ["/length", "/chunks", "/long/length", "/long/chunks"] {
            for method in ["GET", "GET", "POST"] {
                let reply = send(&proxy, request(method, target, "")).await;
                assert!(!reply.is_complete(), "{method} {target}: {}", reply.head());
                assert!(matches!(reply.status(), 0 | 200), "{method} {target}: {}", reply.head());
                if target.starts_with("/long") {
                    assert!(!reply.body.is_empty(), "{method} {target}: what came is passed on: {}", reply.head());
                }
            }
        }
        assert_eq!(origin.count(), 12, "each went to the upstream once");
    })
    .await;
}

/// The upstream may say what it likes about itself: a 502 of its own is a response.
#[tokio::test]
async fn a_502_of_the_upstream_is_its_own() {
    within(30, async {
        let origin = Origin::start(|_, _| plain("502 Mine", "", "mine")).await;
        let proxy = proxy(&origin.place, &[]).await;
        let reply = get(&proxy, "/").await;
        assert_eq!((reply.status(), reply.body(), reply.field("proxy-status")), (502, "mine".to_owned(), None));
    })
    .await;
}
