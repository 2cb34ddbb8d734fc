//! HTTP/2 on either side.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::HOST, request::Parts};
use http_body_util::{BodyExt, Channel, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Answer, Origin, get, origin::ok, proxy, read, request, send, within};
use crate::support::{example::Example, server::free_port};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

async fn client(proxy: &Example) -> SendRequest<Body> {
    let stream = TcpStream::connect(&proxy.place).await.unwrap();
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
}

/// A body with trailers.
fn summed(bytes: &'static str) -> Body {
    full(bytes).with_trailers(std::future::ready(Some(Ok(trailers())))).boxed_unsync()
}

fn lines(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

/// Fails if the crumbs of a cookie stay apart, which HTTP/1 forbids, or if trailers are lost on the way.
#[tokio::test]
async fn a_client_speaks_http_2_and_the_upstream_http_1() {
    within(30, async {
        let origin = Origin::start(|_, _| {
            let head = "HTTP/1.1 299 Odd\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\nConnection: x-gone\r\nX-Gone: 1\r\n";
            let body = "Trailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
            Answer::Keep(format!("{head}{body}").into())
        })
        .await;
        let proxy = proxy(&origin.place, &[]).await;
        let request = Request::builder().method("PURGE").uri("http://a.test/x?y=%1E").header("x-b", "1");
        let request = request.header("cookie", "a=1").header("x-a", "2").header("x-b", "3").header("cookie", "b=2");
        let request = request.header("te", "trailers").header("trailer", "x-sum").body(summed("question")).unwrap();
        let response = client(&proxy).await.send_request(request).await.unwrap();

        let seen = origin.last();
        assert!(
            seen.starts_with("PURGE /x?y=%1E HTTP/1.1\r\nx-b: 1\r\nx-b: 3\r\ncookie: a=1; b=2\r\nx-a: 2\r\n"),
            "{seen}"
        );
        assert!(seen.contains("\r\nvia: 2 reverse-proxy\r\nhost: a.test\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\n8\r\nquestion\r\n0\r\nx-sum: 7\r\n\r\n"), "{seen}");
        assert_eq!(
            (response.status().as_u16(), lines(response.headers(), "x-b")),
            (299, vec![b"1".into(), b"3".into()])
        );
        assert_eq!(lines(response.headers(), "x-gone"), Vec::<Vec<u8>>::new());
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&trailers()));
        assert_eq!(body.to_bytes(), "hello");
    })
    .await;
}

/// Fails if the scheme, which only HTTP/2 tells, makes another key of the same resource.
#[tokio::test]
async fn clients_of_both_versions_share() {
    within(30, async {
        let origin = Origin::start(|_, before| ok(&before.to_string())).await;
        let proxy = proxy(&origin.place, &["--ttl-ms", "600000"]).await;
        let mut client = client(&proxy).await;
        let mut over_2 = async |method: &str| {
            let request = Request::builder().method(method).uri("http://a.test/").body(full("")).unwrap();
            let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!((over_2("GET").await, get(&proxy, "/").await.body()), ("0".into(), "0".into()));
        send(&proxy, request("PUT", "/", "Content-Length: 0\r\n")).await;
        assert_eq!((over_2("GET").await, get(&proxy, "/").await.body()), ("2".into(), "2".into()));
        over_2("PUT").await;
        assert_eq!((get(&proxy, "/").await.body(), over_2("GET").await), ("4".into(), "4".into()));
        assert_eq!(origin.count(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error() {
    within(30, async {
        let origin = Origin::start(|request, _| match request.contains("/cut") {
            true => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".into()),
            false => ok(""),
        })
        .await;
        let proxy = proxy(&origin.place, &[]).await;
        let mut client = client(&proxy).await;
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri("http://a.test/cut").body(full("")).unwrap();
            let whole = async { client.send_request(request).await?.into_body().collect().await };
            assert!(whole.await.is_err(), "{method}");
        }
        // The connection, and the requests of others on it, go on.
        let request = Request::get("http://a.test/").body(full("")).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
    })
    .await;
}

/// A head, a body and its trailers.
type Asked = (Parts, Bytes, Option<HeaderMap>);

/// An upstream that speaks HTTP/2, and remembers what it was asked.
struct Upstream {
    place: String,
    seen: Arc<Mutex<Vec<Asked>>>,
    /// When the body that is asked for at `/cut` breaks off.
    cut: watch::Sender<bool>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (seen, cut) = (Arc::new(Mutex::new(Vec::new())), watch::Sender::new(false));
        let service = service_fn({
            let (seen, cut) = (Arc::clone(&seen), cut.clone());
            move |request: Request<Incoming>| {
                let (seen, cut) = (Arc::clone(&seen), cut.subscribe());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap();
                    let answer = if head.uri.path() == "/cut" { cut_off(cut) } else { summed("hello") };
                    let trailers = body.trailers().cloned();
                    seen.lock().unwrap().push((head, body.to_bytes(), trailers));
                    let response = Response::builder().status(599).header("x-b", "1").header("x-a", "2");
                    Ok::<_, Infallible>(response.header("x-b", "3").body(answer).unwrap())
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service.clone()));
            }
        });
        Self { place, seen, cut }
    }
}

/// A body that breaks off when it is told to.
fn cut_off(mut cut: watch::Receiver<bool>) -> Body {
    let (mut frames, body) = Channel::new(1);
    tokio::spawn(async move {
        frames.send_data(Bytes::from_static(b"hello")).await.unwrap();
        cut.wait_for(|&cut| cut).await.unwrap();
        frames.abort(std::io::Error::other("cut"));
    });
    body.boxed_unsync()
}

/// Fails if the upstream is asked for its own name instead of the host that the client wants, or is told two hosts.
#[tokio::test]
async fn the_upstream_speaks_http_2() {
    within(30, async {
        let Upstream { place, seen, .. } = Upstream::start().await;
        let proxy = proxy(&place, &["--upstream-http2"]).await;
        let chunks = "5\r\nquery\r\n0\r\nX-Sum: 7\r\n\r\n";
        let fields =
            "X-B: 1\r\nX-A: \u{e9}\r\nX-B: 3\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n";
        let reply = send(&proxy, request("QUERY", "/x?y=%1E", fields) + chunks).await;
        assert!(reply.head().starts_with("HTTP/1.1 599 <none>\r\nx-b: 1\r\nx-b: 3\r\nx-a: 2\r\n"), "{reply:?}");
        assert_eq!(reply.field("via").unwrap(), "2 reverse-proxy");
        assert!(reply.body().contains("hello"), "{reply:?}");

        // HTTP/1.0 need not say which host it wants.
        send(&proxy, "GET /y HTTP/1.0\r\n\r\n").await;
        let seen = seen.lock().unwrap();
        let [(first, body, sum), (second, ..)] = &seen[..] else { panic!("{} requests", seen.len()) };
        assert_eq!((first.method.as_str(), first.uri.to_string()), ("QUERY", "http://a.test/x?y=%1E".to_owned()));
        assert_eq!(lines(&first.headers, "x-b"), [b"1", b"3"]);
        assert_eq!(lines(&first.headers, "x-a"), ["\u{e9}".as_bytes()]);
        assert_eq!(lines(&first.headers, "te"), [b"trailers"]);
        assert!(!first.headers.contains_key(HOST));
        assert_eq!((&body[..], sum), (&b"query"[..], &Some(trailers())));
        assert_eq!(second.uri.to_string(), format!("http://{place}/y"));
    })
    .await;
}

#[tokio::test]
async fn an_upstream_over_http_2_breaks_off() {
    within(30, async {
        let Upstream { place, cut, .. } = Upstream::start().await;
        let there = proxy(&place, &["--upstream-http2"]).await;
        let mut stream = TcpStream::connect(&there.place).await.unwrap();
        stream.write_all(request("POST", "/cut", "").as_bytes()).await.unwrap();
        let mut start = Vec::new();
        while !start.ends_with(b"hello\r\n") {
            assert!(stream.read_buf(&mut start).await.unwrap() > 0);
        }
        cut.send_replace(true);
        let rest = read(stream).await;
        assert_eq!((rest.head, rest.body), (Vec::new(), Vec::new()), "no last chunk");

        let nobody = proxy(&format!("127.0.0.1:{}", free_port()), &["--upstream-http2"]).await;
        assert_eq!(get(&nobody, "/").await.status(), 502);
        // Who speaks HTTP/1 is not understood.
        let origin = Origin::start(|_, _| Answer::Close(b"HTTP/1.1 400 Bad Request\r\n\r\n".into())).await;
        let other = proxy(&origin.place, &["--upstream-http2"]).await;
        assert_eq!(get(&other, "/").await.status(), 502);
    })
    .await;
}
