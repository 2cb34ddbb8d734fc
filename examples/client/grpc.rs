//! The same with a `Channel` of tonic: unary calls of a slow greeter, which is the service of the example `tonic`.

use std::{net::Ipv4Addr, time::Duration};

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::{
    body::Body,
    transport::{self, Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{BoxError, ServiceBuilder, util::BoxCloneSyncService};
use tower_singleflight::{
    Outcome, SingleflightLayer,
    middleware::{Grpc, RequestBody, ResponseBody},
};

use crate::{
    fleet::send,
    greeter::{HelloRequest, greeter_client::GreeterClient, greeter_server::GreeterServer},
    service::Slow,
    worker::Calls,
};

/// What a generated client takes in place of a `Channel`.
type Transport = BoxCloneSyncService<Request<Body>, Response<ResponseBody<Body>>, transport::Error>;

fn transport(layer: SingleflightLayer<Grpc>, channel: Channel, calls: Calls) -> Transport {
    // A call names no authority before it reaches the channel, so the key has the name of the service.
    let layer = layer.methods(["/greeter.Greeter/SayHello"]).service("greeter");
    let stack = ServiceBuilder::new()
        .layer(layer)
        .map_request(move |request: Request<RequestBody<Body>>| {
            calls.count_one();
            // A channel takes bodies of one type.
            request.map(Body::new)
        })
        .service(channel);
    BoxCloneSyncService::new(stack)
}

/// Starts a greeter that takes so long for a greeting, and calls it with all workers at once, each on a channel of its own;
/// how often it was called, by its own count.
pub async fn run(layers: Vec<SingleflightLayer<Grpc>>, requests: usize, work: Duration) -> Result<u64, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let place = format!("http://{}", listener.local_addr()?);
    let slow = Slow::new(work);
    let server = Server::builder().add_service(GreeterServer::new(slow.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let (calls, mut clients) = (Calls::default(), Vec::new());
    for layer in layers {
        let channel = Endpoint::try_from(place.clone())?.connect().await?;
        clients.push(GreeterClient::new(transport(layer, channel, calls.clone())));
    }
    // Another run on the same Redis wants another greeting.
    let name = format!("process {}", std::process::id());
    let greetings = clients.iter().flat_map(|client| (0..requests).map(|_| outcome(client.clone(), name.clone())));
    send("the same over gRPC", &calls, greetings).await?;
    Ok(slow.executions())
}

/// What a call was, which stands in the extensions of its response as it does over HTTP.
async fn outcome(mut client: GreeterClient<Transport>, name: String) -> Result<String, BoxError> {
    let response = client.say_hello(HelloRequest { name }).await?;
    Ok(response.extensions().get().map(Outcome::to_string).ok_or("the layer says what a call was")?)
}
