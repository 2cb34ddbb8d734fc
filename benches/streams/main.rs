//! What the layer costs calls of gRPC on sockets, each figure beside the same call without the layer, in turns:
//! `cargo bench --bench streams`.

#[path = "../../examples/tonic/greeter.rs"]
#[allow(clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
mod greeter;
#[path = "../../examples/tonic/service.rs"]
#[allow(dead_code, reason = "the example counts executions")]
mod service;

use std::time::{Duration, Instant};

use greeter::{HelloRequest, RepeatRequest, greeter_client::GreeterClient, greeter_server::GreeterServer};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{
    codegen::tokio_stream::wrappers::ReceiverStream,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower_singleflight::{SingleflightLayer, backend::Memory};

const ROUNDS: usize = 1000;

/// The methods that are named, if there is a layer: the one that is unary, or, against all advice, those that stream as
/// well.
const SERVERS: [(&str, Option<&str>); 3] = [
    ("without the layer", None),
    ("with it", Some("/greeter.Greeter/SayHello")),
    ("with it, streams named", Some("/greeter.Greeter/*")),
];

async fn server(methods: Option<&str>) -> GreeterClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", listener.local_addr().unwrap());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let greeter = GreeterServer::new(service::Slow::new(Duration::ZERO));
    match methods {
        None => tokio::spawn(Server::builder().add_service(greeter).serve_with_incoming(incoming)),
        Some(methods) => {
            let layer = SingleflightLayer::grpc(Memory::new()).methods([methods]);
            tokio::spawn(Server::builder().layer(layer).add_service(greeter).serve_with_incoming(incoming))
        }
    };
    GreeterClient::new(Endpoint::try_from(place).unwrap().tcp_nodelay(true).connect().await.unwrap())
}

fn ada() -> HelloRequest {
    HelloRequest { name: "Ada".to_owned() }
}

async fn unary(client: &mut GreeterClient<Channel>) -> Duration {
    let start = Instant::now();
    client.say_hello(ada()).await.unwrap();
    start.elapsed()
}

/// Until the first message is there.
async fn repeat(client: &mut GreeterClient<Channel>) -> Duration {
    let start = Instant::now();
    let mut replies = client.repeat(RepeatRequest { name: "Ada".to_owned(), times: 1 }).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    start.elapsed()
}

/// Until the first message is answered, while the call goes on.
async fn chat(client: &mut GreeterClient<Channel>) -> Duration {
    let (send, names) = mpsc::channel(1);
    let start = Instant::now();
    send.send(ada()).await.unwrap();
    let mut replies = client.chat(ReceiverStream::new(names)).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap();
    start.elapsed()
}

async fn measure(what: &str, call: impl AsyncFn(&mut GreeterClient<Channel>) -> Duration) {
    let mut clients = Vec::new();
    for (name, methods) in SERVERS {
        clients.push((name, server(methods).await, Vec::with_capacity(ROUNDS)));
    }
    for _ in 0..ROUNDS {
        for (_, client, times) in &mut clients {
            // One before it, so that none pays for what the other left: cold caches, threads that sleep.
            call(client).await;
            times.push(call(client).await);
        }
    }
    println!("{what}");
    let quantile = |times: &[Duration], part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e6;
    let mut bare = None;
    for (name, _, mut times) in clients {
        times.sort_unstable();
        let (median, slow) = (quantile(&times, 0.5), quantile(&times, 0.99));
        let bare = *bare.get_or_insert(median);
        println!("  {name:<26} p50 {median:>8.1}µs  p99 {slow:>8.1}µs  p50 = {:.2} x without", median / bare);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let parts = async {
        measure("a unary call", unary).await;
        measure("a server's stream, until its first message", repeat).await;
        measure("a stream both ways, until the first answer", chat).await;
    };
    runtime.block_on(parts);
}
