//! A server of hyper, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use http::{Request, header::HOST, request::Parts};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::io::{DuplexStream, duplex};
use tower::{Layer, Service, service_fn};
use tower_singleflight::{RequestKey, Singleflight, SingleflightLayer, key_fn};

use super::{Slow, burst, layer, shares};

/// A server on the other end.
fn connect(stack: &Singleflight<Slow>) -> TokioIo<DuplexStream> {
    let (client, server) = duplex(1 << 16);
    let service = TowerToHyperService::new(stack.clone());
    tokio::spawn(async move {
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(server), service).await.unwrap();
    });
    TokioIo::new(client)
}

/// A connection for each request.
fn over_http_1(
    stack: &Singleflight<Slow>,
) -> impl Service<super::Request, Response = http::Response<Incoming>, Error = hyper::Error, Future: Send> + Clone + use<>
{
    let stack = stack.clone();
    service_fn(move |mut request: Request<Empty<Bytes>>| {
        let stream = connect(&stack);
        async move {
            let host = request.uri().authority().unwrap().as_str().parse().unwrap();
            request.headers_mut().insert(HOST, host);
            *request.uri_mut() = request.uri().path().parse().unwrap();
            let (mut send, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            send.send_request(request).await
        }
    })
}

/// One connection for all of them.
async fn over_http_2(
    stack: &Singleflight<Slow>,
) -> impl Service<super::Request, Response = http::Response<Incoming>, Error = hyper::Error, Future: Send> + Clone + use<>
{
    let (send, connection) = http2::handshake(TokioExecutor::new(), connect(stack)).await.unwrap();
    tokio::spawn(connection);
    service_fn(move |request: Request<Empty<Bytes>>| send.clone().send_request(request))
}

#[tokio::test(start_paused = true)]
async fn connections_of_http_1_share() {
    let slow = Slow::default();
    shares(&over_http_1(&layer().layer(slow.clone())), &slow.0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_http_2_share() {
    let slow = Slow::default();
    shares(&over_http_2(&layer().layer(slow.clone())).await, &slow.0).await;
}

/// Three requests over each version at the same time, and how many calls they cost.
async fn both(layer: SingleflightLayer) -> usize {
    let slow = Slow::default();
    let stack = layer.layer(slow.clone());
    let (one, two) = (over_http_1(&stack), over_http_2(&stack).await);
    let (one, two) = tokio::join!(burst(&one, &["/x"; 3]), burst(&two, &["/x"; 3]));
    for (told, secs) in one.iter().chain(&two) {
        assert!(told.as_ref().is_ok_and(|text| text.starts_with("/x #")) && *secs == 4, "{told:?} after {secs} s");
    }
    assert_eq!(one, vec![one[0].clone(); 3]);
    assert_eq!(two, vec![two[0].clone(); 3]);
    slow.0.count()
}

/// HTTP/2 says `http` or `https` with each request, and HTTP/1 does not: to the usual key they are two targets. A key of the
/// service names neither scheme nor host. Fails if the one shares, or the other does not.
#[tokio::test(start_paused = true)]
async fn versions_share_where_the_key_is_the_services() {
    assert_eq!(both(layer()).await, 2);
    let of_service = key_fn(|head: &Parts| RequestKey::of_service(head, "slow").finish());
    assert_eq!(both(layer().key(of_service)).await, 1);
}
