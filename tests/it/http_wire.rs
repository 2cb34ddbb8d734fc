//! Behind a real server, on a connection that is kept alive.

use axum::{Router, body::Body, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_LENGTH};
use http_body_util::channel::Channel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_singleflight::{SingleflightLayer, backend::Memory};

/// What a client reads that sends two requests at once, up to the end of the connection.
async fn read(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    let requests =
        "GET /one HTTP/1.1\r\nhost: a.test\r\n\r\nGET /two HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    client.write_all(requests.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    server.abort();
    String::from_utf8(bytes).unwrap()
}

/// With the body there at once, and while it comes: on this runtime the task that sends it runs after the first look.
///
/// Fails if a body of the wrong length is given an exact one, or made to look as if it had ended.
#[tokio::test]
async fn a_body_of_another_length_than_declared_never_runs_into_the_next_response() {
    for (length, sent, streams) in [("4", "12345"), ("6", "12345"), ("5", "")]
        .into_iter()
        .flat_map(|(length, sent)| [false, true].map(|streams| (length, sent, streams)))
    {
        let handler = move || async move {
            let (mut sender, body) = Channel::<Bytes>::new(1);
            let mut send = move || {
                if !sent.is_empty() {
                    sender.try_send(http_body::Frame::data(Bytes::from_static(sent.as_bytes()))).unwrap();
                }
            };
            if streams {
                tokio::spawn(async move { send() });
            } else {
                send();
            }
            ([("content-length", length)], Body::new(body)).into_response()
        };
        let plain = Router::new().fallback(handler);
        let layered = plain.clone().layer(SingleflightLayer::new(Memory::new()));
        for text in [read(plain).await, read(layered).await] {
            match length {
                "4" => assert_eq!(text.matches("\r\n\r\n1234").count() + text.matches("12345").count(), 2, "{text}"),
                // What is missing is never made up of what follows: the connection ends.
                _ => assert!(text.matches("HTTP/1.1").count() <= 1 && !text.contains("length: 0"), "{text}"),
            }
        }
    }
}

/// Fails if a client that reads along gets chunks where it was promised a length, or the other way round.
#[tokio::test]
async fn a_body_that_streams_is_framed_as_it_would_be_without_the_layer() {
    for length in [None, Some("10")] {
        let handler = move || async move {
            let (mut sender, body) = Channel::<Bytes>::new(1);
            tokio::spawn(async move {
                for piece in ["12345", "67890"] {
                    sender.send_data(Bytes::from_static(piece.as_bytes())).await.unwrap();
                }
            });
            let mut response = Body::new(body).into_response();
            response.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from_static(length))));
            response
        };
        let plain = Router::new().fallback(handler);
        let layered = plain.clone().layer(SingleflightLayer::new(Memory::new()));
        for text in [read(plain).await, read(layered).await] {
            let (chunks, lengths) = (text.matches("transfer-encoding: chunked"), text.matches("content-length: 10"));
            let expected = if length.is_some() { (0, 2) } else { (2, 0) };
            assert_eq!((chunks.count(), lengths.count()), expected, "{text}");
            assert_eq!(text.matches("12345").count() + text.matches("67890").count(), 4, "{text}");
        }
    }
}
