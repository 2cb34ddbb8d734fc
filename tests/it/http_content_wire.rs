//! Reads by `POST` and `QUERY` as they come over HTTP/1: with lengths, in chunks, one behind the other.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{Layer, service_fn};
use tower_singleflight::{BodyKey, RequestBody, SingleflightLayer, backend::Memory, middleware::Bodies};

use crate::http_support::{Calls, secs};

fn layer() -> SingleflightLayer<Bodies> {
    SingleflightLayer::new(Memory::new()).result_ttl(secs(60)).body_key(BodyKey::digest())
}

/// The client's end of a connection to a server that answers with the number of the call, the method and the content.
fn connection(layer: &SingleflightLayer<Bodies>) -> DuplexStream {
    let calls = Calls::default();
    let inner = service_fn(move |request: Request<RequestBody<Incoming>>| {
        let call = calls.next();
        async move {
            let method = request.method().clone();
            let content = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("<{call} {method} {}>", str::from_utf8(&content).unwrap());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let service = TowerToHyperService::new(layer.layer(inner));
    let (client, server) = tokio::io::duplex(1 << 20);
    tokio::spawn(http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(server), service));
    client
}

/// What the responses hold.
fn contents(said: &str) -> Vec<&str> {
    said.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
}

/// Fails if a body that was read for its key leaves something on the connection, or takes something of the next request; or
/// if nobody says that it may come.
#[tokio::test]
async fn requests_behind_one_that_was_read_are_themselves() {
    let mut client = connection(&layer());
    let pipelined = [
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nred",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nr\r\n2\r\ned\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "QUERY /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nred",
        "POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
    ];
    client.write_all(pipelined.concat().as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"100 Continue\r\n\r\n") {
        assert_ne!(client.read_buf(&mut said).await.unwrap(), 0, "{}", String::from_utf8_lossy(&said));
    }
    let rest = [
        "red",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nred\r\n0\r\nx-sum: 1\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ];
    client.write_all(rest.concat().as_bytes()).await.unwrap();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(
        contents(str::from_utf8(&said).unwrap()),
        ["1 POST red", "1 POST red", "2 POST ", "3 QUERY red", "4 POST red", "5 POST red", "6 GET "]
    );
}

/// Fails if content in many pieces does not come through, whether it is read to its end or to the limit.
#[tokio::test]
async fn content_in_chunks_of_one_byte_is_read() {
    const CHUNKS: usize = 16 << 10;
    let head = "POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let request = format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(CHUNKS));
    for most in [1, CHUNKS] {
        let mut client = connection(&layer().max_request_body(most));
        client.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(contents(&said), [format!("1 POST {}", "x".repeat(CHUNKS))], "up to {most}");
    }
}
