//! What is passed on as it came, and what is not.

use super::{
    Answer, Origin, get,
    origin::{ok, plain},
    proxy, read, request, send, within,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// What a request without fields of its own is passed on with.
const ADDED: &str = "x-forwarded-for: 127.0.0.1\r\nvia: 1.1 reverse-proxy\r\n";

/// Every byte of it. Fails if fields are taken out by `HeaderMap::remove`, which moves the last field to their place, if a
/// line of a repeated field is lost, or if a target is decoded or normalised.
#[tokio::test]
async fn a_request_goes_on_as_it_came() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        for method in ["GET", "PURGE", "QUERY", "M-SEARCH", "PROPFIND", "DELETE", "TRACE", "get"] {
            let mut sent = format!("{method} /a%2Fb/../c//?x=&&y=%1E HTTP/1.1\r\nHost: a.test\r\n").into_bytes();
            sent.extend(
                b"Keep-Alive: 5\r\nX-B: 1\r\nx-a: \xff\xfe\r\nX-B: 3, 2\r\nConnection: close\r\nx-b: \r\nX-C:\r\n\r\n",
            );
            assert_eq!(send(&proxy, sent).await.status(), 200);

            let mut expected = format!("{method} /a%2Fb/../c//?x=&&y=%1E HTTP/1.1\r\nhost: a.test\r\n").into_bytes();
            expected.extend(b"x-b: 1\r\nx-b: 3, 2\r\nx-b: \r\nx-a: \xff\xfe\r\nx-c: \r\n");
            expected.extend(format!("{ADDED}\r\n").into_bytes());
            let seen = origin.requests().pop().unwrap();
            assert_eq!(seen, expected, "{}", String::from_utf8_lossy(&seen));
        }
        assert_eq!(send(&proxy, request("OPTIONS", "*", "")).await.status(), 200);
        assert_eq!(origin.last(), format!("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n{ADDED}\r\n"));
    })
    .await;
}

/// Whether it leads or bypasses. Fails if a status has to be a known one.
#[tokio::test]
async fn a_response_comes_as_it_was_sent() {
    within(30, async {
        let origin = Origin::start(|request, _| {
            let status = request.split(['/', ' ']).nth(2).unwrap().to_owned();
            let fields = "X-B: 1\r\nSet-Cookie: a=1\r\nX-A: 2\r\nX-B: 3\r\nSet-Cookie: b=2\r\n";
            plain(&format!("{status} Odd"), fields, if matches!(&*status, "204" | "304") { "" } else { "body" })
        })
        .await;
        let proxy = proxy(&origin.place, &[]).await;
        for method in ["GET", "POST"] {
            for status in [200, 204, 299, 304, 399, 418, 499, 500, 599, 600, 999] {
                let reply = send(&proxy, request(method, &format!("/{status}"), "Content-Length: 0\r\n")).await;
                let fields = "x-b: 1\r\nx-b: 3\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-a: 2\r\n";
                let expected = format!("HTTP/1.1 {status} Odd\r\n{fields}");
                assert!(reply.head().starts_with(&expected), "{reply:?}");
                assert_eq!(reply.body(), if matches!(status, 204 | 304) { "" } else { "body" });
                assert_eq!(reply.field("via").unwrap(), "1.1 reverse-proxy");
            }
        }
        assert_eq!(origin.count(), 22);
    })
    .await;
}

/// Fails if one of these fields, or what `Connection` names, is passed on in either direction.
#[tokio::test]
async fn what_is_meant_for_one_connection_goes_no_further() {
    const FIELDS: &str =
        "X-Gone: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: websocket\r\nX-Stays: 1\r\nX-Gone-2: 1\r\n";
    within(30, async {
        let origin =
            Origin::start(|_, _| plain("200 OK", &format!("{FIELDS}Connection: x-gone, X-Gone-2\r\n"), "")).await;
        let proxy = proxy(&origin.place, &[]).await;
        let named = "Connection: upgrade,, x-gone ,bad name\r\nconnection:X-GONE-2\r\nTE: gzip;q=0.5\r\n";
        let reply = send(&proxy, request("POST", "/", &format!("{FIELDS}{named}"))).await;
        assert_eq!(origin.last(), format!("POST / HTTP/1.1\r\nhost: a.test\r\nx-stays: 1\r\n{ADDED}\r\n"));
        assert!(reply.head().starts_with("HTTP/1.1 200 OK\r\nx-stays: 1\r\nvia:"), "{reply:?}");
        assert!(!reply.head().contains("x-gone"), "{reply:?}");

        // The client can read trailers. So can this proxy, and it says so as RFC 9110, section 10.1.4, wants it.
        send(&proxy, request("POST", "/", "TE: gzip, trailers\r\n")).await;
        assert_eq!(
            origin.last(),
            format!("POST / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\n{ADDED}connection: te\r\n\r\n")
        );
    })
    .await;
}

/// The field is taken out before the layer sees the request: the upstream never saw it, so what it answered is not
/// stored for requests that have it. Fails if `hop::strip` runs inside of the layer.
#[tokio::test]
async fn a_field_that_connection_names_selects_no_response() {
    within(30, async {
        let origin = Origin::start(|request, _| {
            let tenant = request.lines().find_map(|line| line.strip_prefix("x-tenant: ")).unwrap_or("nobody");
            plain("200 OK", "Vary: X-Tenant\r\n", tenant)
        })
        .await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        let forged = send(&proxy, request("GET", "/", "X-Tenant: one\r\nConnection: x-tenant\r\n")).await;
        assert_eq!(forged.body(), "nobody");
        for _ in 0..2 {
            assert_eq!(send(&proxy, request("GET", "/", "X-Tenant: one\r\n")).await.body(), "one");
        }
        assert_eq!(origin.count(), 2);
    })
    .await;
}

/// Fails if the length of a body that comes in chunks is believed, or if the body of a GET is lost.
#[tokio::test]
async fn request_bodies_go_on_with_their_trailers() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        for method in ["POST", "PURGE", "GET", "HEAD"] {
            for (named, length) in [("", true), ("Connection: content-length\r\n", false)] {
                let sent = request(method, "/", &format!("Content-Length: 5\r\n{named}")) + "hello";
                assert_eq!(send(&proxy, sent).await.status(), 200);
                let seen = origin.last();
                assert_eq!(
                    seen.contains("\r\ncontent-length: 5\r\n") && seen.ends_with("\r\n\r\nhello"),
                    length,
                    "{seen}"
                );
                assert_eq!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), !length, "{seen}");
            }

            let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n";
            let sent = request(method, "/", "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n") + chunks;
            assert_eq!(send(&proxy, sent).await.status(), 200);
            let seen = origin.last();
            assert!(seen.contains("\r\ntransfer-encoding: chunked\r\n") && seen.contains("hello"), "{seen}");
            assert!(seen.ends_with("\r\n0\r\nx-sum: 7\r\n\r\n") && !seen.contains("content-length"), "{seen}");
        }
    })
    .await;
}

/// Fails if a body is collected before it goes on: nothing would come before the end, which comes later.
#[tokio::test]
async fn a_request_body_goes_on_as_it_comes() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        let mut stream = TcpStream::connect(&proxy.place).await.unwrap();
        stream.write_all(request("POST", "/", "Content-Length: 10\r\n").as_bytes()).await.unwrap();
        stream.write_all(b"first").await.unwrap();
        origin.receives("first").await;
        assert_eq!(origin.count(), 0, "it is not complete");
        stream.write_all(b"-last").await.unwrap();
        assert_eq!(read(stream).await.status(), 200);
        assert!(origin.last().ends_with("first-last"));
    })
    .await;
}

#[tokio::test]
async fn response_bodies_come_with_their_trailers() {
    within(30, async {
        let origin = Origin::start(|_, _| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nTrailer: x-sum\r\n\r\n";
            Answer::Keep(format!("{head}5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n").into())
        })
        .await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        // Streamed, recorded, and from the store.
        for method in ["POST", "GET", "GET"] {
            let reply = send(&proxy, request(method, "/", "TE: trailers\r\n")).await;
            assert_eq!(reply.body(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n", "{reply:?}");
            assert_eq!(reply.field("content-length"), None);
        }
        assert_eq!(origin.count(), 2);
    })
    .await;
}

/// A response to HEAD tells a length and has no body, or tells none; and what comes before a response is no response.
#[tokio::test]
async fn heads_without_bodies() {
    within(30, async {
        let origin = Origin::start(|request, _| {
            Answer::Keep(match request.split(' ').nth(1).unwrap() {
                "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".into(),
                "/chunks" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                "/not-modified" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".into(),
                _ => b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
                    .into(),
            })
        })
        .await;
        let proxy = proxy(&origin.place, &[]).await;
        for (method, target, status, length) in [
            ("HEAD", "/length", 200, Some("100")),
            ("HEAD", "/chunks", 200, None),
            ("GET", "/not-modified", 304, None),
            ("GET", "/after-others", 204, None),
            ("POST", "/after-others", 204, None),
        ] {
            let reply = send(&proxy, request(method, target, "")).await;
            assert_eq!((reply.status(), reply.body()), (status, String::new()), "{reply:?}");
            assert_eq!(reply.field("content-length").as_deref(), length, "{reply:?}");
            assert_eq!(reply.field("link"), None);
        }
    })
    .await;
}

/// Fails if `Host` wins over the target, or if what has no one host is passed on.
#[tokio::test]
async fn the_host_that_is_asked_for_is_one() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        for (sent, passed) in [
            ("GET http://b.test:81/x HTTP/1.1\r\nHost: a.test\r\n", "GET /x HTTP/1.1\r\nhost: b.test:81\r\n"),
            ("GET http://b.test HTTP/1.1\r\nHost: a.test\r\n", "GET / HTTP/1.1\r\nhost: b.test\r\n"),
            ("GET /x HTTP/1.1\r\nHost: A.test\r\n", "GET /x HTTP/1.1\r\nhost: A.test\r\n"),
            ("GET /x HTTP/1.0\r\nHost: a.test\r\n", "GET /x HTTP/1.1\r\nhost: a.test\r\n"),
            // Who names no host is asked for that of the upstream.
            ("GET /x HTTP/1.0\r\n", "GET /x HTTP/1.1\r\nx-forwarded-for: 127.0.0.1\r\n"),
        ] {
            assert_eq!(send(&proxy, format!("{sent}Connection: close\r\n\r\n")).await.status(), 200, "{sent}");
            assert!(origin.last().starts_with(passed), "{}", origin.last());
        }
        assert!(origin.last().contains(&format!("\r\nhost: {}\r\n", origin.place)), "{}", origin.last());
        let asked = origin.count();
        for (status, sent) in [
            (400, "GET / HTTP/1.1\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: me@a.test\r\n"),
            (400, "GET http://me@a.test/ HTTP/1.1\r\nHost: a.test\r\n"),
            (501, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"),
        ] {
            assert_eq!(send(&proxy, format!("{sent}Connection: close\r\n\r\n")).await.status(), status, "{sent}");
        }
        assert_eq!(origin.count(), asked, "none of them was passed on");
    })
    .await;
}

/// Fails if what earlier proxies say is overwritten, or if a client can have its own address left out.
#[tokio::test]
async fn the_client_is_added_to_the_proxies_before() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        let fields = "X-Forwarded-For: 192.0.2.1\r\nVia: 1.0 far\r\nX-Forwarded-For: 192.0.2.2\r\n";
        send(&proxy, request("GET", "/", fields)).await;
        assert!(
            origin.last().contains("\r\nx-forwarded-for: 192.0.2.1, 192.0.2.2, 127.0.0.1\r\n"),
            "{}",
            origin.last()
        );
        assert!(origin.last().contains("\r\nvia: 1.0 far\r\nvia: 1.1 reverse-proxy\r\n"), "{}", origin.last());
        send(&proxy, request("GET", "/", &format!("{fields}Connection: x-forwarded-for\r\n"))).await;
        assert!(origin.last().contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{}", origin.last());
    })
    .await;
}

/// Requests one after the other need one connection to the upstream.
#[tokio::test]
async fn connections_are_kept() {
    within(30, async {
        let origin = Origin::start(|_, _| ok("")).await;
        let proxy = proxy(&origin.place, &[]).await;
        for _ in 0..5 {
            assert_eq!(get(&proxy, "/").await.status(), 200);
        }
        assert_eq!((origin.count(), origin.connections()), (5, 1));
    })
    .await;
}
