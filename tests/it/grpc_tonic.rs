//! Calls of gRPC as tonic makes and serves them: clients and routes with the layer in between, without sockets.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{
    Code, Status, Streaming,
    codegen::tokio_stream::{self, Stream, StreamExt, wrappers::ReceiverStream},
    metadata::MetadataValue,
    service::{LayerExt, Routes},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{
    Outcome, RequestBody, Singleflight, SingleflightLayer, Why, backend::Memory, middleware::Grpc,
};

use self::generated::{
    HelloReply, HelloRequest, RepeatRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use crate::http_support::{Calls, secs};

#[path = "../../examples/tonic/greeter.rs"]
#[allow(clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
mod generated;

/// Greets: after half a second, or once a second.
struct Slow(Calls);

fn hello(name: &str, execution: usize) -> HelloReply {
    HelloReply { message: format!("Hello, {name}!"), execution: execution as u64, ..HelloReply::default() }
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Slow {
    async fn say_hello(&self, request: tonic::Request<HelloRequest>) -> Result<tonic::Response<HelloReply>, Status> {
        let call = self.0.next();
        sleep(secs(1) / 2).await;
        match request.into_inner().name.as_str() {
            "" => {
                let mut status =
                    Status::with_details(Code::NotFound, "nobody: \u{e4}%\n", Bytes::from_static(b"\0\xff"));
                status.metadata_mut().insert("x-call", call.into());
                Err(status)
            }
            name => {
                let mut response = tonic::Response::new(hello(name, call));
                response.metadata_mut().insert("x-call", call.into());
                response.metadata_mut().insert_bin("x-raw-bin", MetadataValue::from_bytes(b"\0\x01\xff"));
                Ok(response)
            }
        }
    }

    type RepeatStream = Replies;

    async fn repeat(&self, request: tonic::Request<RepeatRequest>) -> Result<tonic::Response<Replies>, Status> {
        let call = self.0.next();
        let RepeatRequest { name, times } = request.into_inner();
        let replies = tokio_stream::iter(0..times).then(move |time| {
            let reply = hello(&format!("{name} {time}"), call);
            async move {
                sleep(secs(u64::from(time > 0))).await;
                Ok(reply)
            }
        });
        Ok(tonic::Response::new(Box::pin(replies)))
    }

    async fn gather(
        &self,
        request: tonic::Request<Streaming<HelloRequest>>,
    ) -> Result<tonic::Response<HelloReply>, Status> {
        let call = self.0.next();
        let names = request.into_inner().map(|request| request.map(|request| request.name));
        let names: Vec<_> = names.collect::<Result<_, _>>().await?;
        Ok(tonic::Response::new(hello(&names.join(", "), call)))
    }

    type ChatStream = Replies;

    async fn chat(&self, request: tonic::Request<Streaming<HelloRequest>>) -> Result<tonic::Response<Replies>, Status> {
        let call = self.0.next();
        let replies = request.into_inner().map(move |request| Ok(hello(&request?.name, call)));
        Ok(tonic::Response::new(Box::pin(replies)))
    }
}

type Client = GreeterClient<Singleflight<Routes, Grpc>>;

/// A server's clients: with `named`, calls of all methods fly that are unary.
fn client(memory: &Memory, calls: &Calls, named: &[&str]) -> Client {
    // Such calls name no authority.
    let layer = SingleflightLayer::grpc(memory.clone()).methods(named.iter().copied()).service("greeter");
    GreeterClient::new(layer.layer(Routes::new(GreeterServer::new(Slow(calls.clone())))))
}

fn ada() -> HelloRequest {
    HelloRequest { name: "Ada".into() }
}

const UNARY: &[&str] = &["/greeter.Greeter/SayHello"];
const ALL: &[&str] = &["/greeter.Greeter/*"];

/// Fails if what is replayed is not what tonic can read, metadata and all.
#[tokio::test(start_paused = true)]
async fn fifty_clients_of_two_servers_get_one_reply() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let servers = [memory.replica(), memory].map(|memory| client(&memory, &calls, UNARY));
    let flights: JoinSet<_> = servers.iter().cycle().take(50).map(|client| say(client.clone(), ada())).collect();
    for response in flights.join_all().await {
        let response = response.unwrap();
        assert_eq!(response.metadata().get("x-call").unwrap(), "1");
        assert_eq!(response.metadata().get_bin("x-raw-bin").unwrap().to_bytes().unwrap(), &b"\0\x01\xff"[..]);
        assert_eq!(response.into_inner(), hello("Ada", 1));
    }
    assert_eq!(calls.count(), 1);

    // Not shared, and each its own: the status with all it has.
    let flights: JoinSet<_> =
        servers.iter().map(|client| say(client.clone(), HelloRequest { name: String::new() })).collect();
    let mut seen = Vec::new();
    for response in flights.join_all().await {
        let status = response.unwrap_err();
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::NotFound, "nobody: \u{e4}%\n", &b"\0\xff"[..])
        );
        seen.push(status.metadata().get("x-call").unwrap().to_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["2", "3"]);
}

async fn say(mut client: Client, request: HelloRequest) -> Result<tonic::Response<HelloReply>, Status> {
    client.say_hello(request).await
}

/// Fails if the deadline of the one who leads ends the work of the other.
#[tokio::test(start_paused = true)]
async fn a_leader_in_a_hurry_takes_nothing_from_a_follower() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let within = |millis| {
        let mut client = client(&memory, &calls, UNARY);
        let mut request = tonic::Request::new(ada());
        request.set_timeout(Duration::from_millis(millis));
        tokio::spawn(async move { client.say_hello(request).await })
    };
    let start = Instant::now();
    let leader = within(50);
    tokio::task::yield_now().await;
    let follower = within(5000);
    assert_eq!(leader.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_millis(), 50);
    assert_eq!(follower.await.unwrap().unwrap().into_inner(), hello("Ada", 1));
    assert_eq!((start.elapsed().as_millis(), calls.count()), (500, 1));
}

/// When the messages of a response came, and what they were.
async fn came(start: Instant, mut replies: Streaming<HelloReply>) -> Vec<(u128, String)> {
    let mut came = Vec::new();
    while let Some(reply) = replies.message().await.unwrap() {
        came.push((start.elapsed().as_millis(), reply.message));
    }
    assert!(replies.trailers().await.unwrap().is_some());
    came
}

/// Fails if a stream waits: for its end, for its next message, or for more than the lingering of one that should not be
/// named.
#[tokio::test(start_paused = true)]
async fn streams_are_what_they_are_without_the_layer() {
    for (named, late) in [(UNARY, 0), (ALL, 100)] {
        let calls = Calls::default();
        let mut client = client(&Memory::new(), &calls, named);
        let start = Instant::now();
        let replies = client.repeat(RepeatRequest { name: "Ada".into(), times: 3 }).await.unwrap().into_inner();
        let expected = [(0, 0), (1000, 1), (2000, 2)].map(|(millis, time)| (millis, format!("Hello, Ada {time}!")));
        assert_eq!(came(start, replies).await, expected);

        let names = || tokio_stream::iter(["Ada", "Bob", "Eve"]).map(|name| HelloRequest { name: name.into() });
        let start = Instant::now();
        let gathered = client.gather(names()).await.unwrap().into_inner();
        assert_eq!((start.elapsed().as_millis(), gathered), (0, hello("Ada, Bob, Eve", 2)));

        // Each name waits for the greeting before.
        let (send, names) = mpsc::channel(1);
        let start = Instant::now();
        send.send(ada()).await.unwrap();
        let mut replies = client.chat(ReceiverStream::new(names)).await.unwrap().into_inner();
        for name in ["Ada", "Bob", "Eve"] {
            let reply = replies.message().await.unwrap().unwrap();
            assert_eq!((start.elapsed().as_millis(), reply), (late, hello(name, 3)), "{named:?}");
            send.send(HelloRequest { name: if name == "Ada" { "Bob" } else { "Eve" }.into() }).await.unwrap();
        }
        drop((send, replies));
        assert_eq!(calls.count(), 3);
    }
}

/// Fails if a client that waits for the first word of the server waits for longer than the lingering of a call.
#[tokio::test(start_paused = true)]
async fn a_chat_in_which_the_server_speaks_first() {
    for (named, late) in [(UNARY, 0), (ALL, 500)] {
        let mut client = client(&Memory::new(), &Calls::default(), named);
        let start = Instant::now();
        let (send, names) = mpsc::channel(1);
        let mut replies = client.chat(ReceiverStream::new(names)).await.unwrap().into_inner();
        assert_eq!(start.elapsed().as_millis(), late, "{named:?}");
        send.send(ada()).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap(), hello("Ada", 1));
    }
}

/// Counts while it lives.
struct Live(Arc<AtomicUsize>, Vec<u8>);

impl AsRef<[u8]> for Live {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fails if anything is kept of a stream that goes by, also of one that was to be recorded.
#[tokio::test(start_paused = true)]
async fn an_endless_stream_takes_no_memory() {
    for (named, outcome) in [(UNARY, Outcome::Bypassed(Why::Method)), (ALL, Outcome::Led)] {
        let live = Arc::new(AtomicUsize::default());
        let counted = Arc::clone(&live);
        let inner = service_fn(move |_: Request<RequestBody<tonic::body::Body>>| {
            let live = Arc::clone(&counted);
            let messages = tokio_stream::iter(0..u64::MAX).map(move |_| {
                live.fetch_add(1, Ordering::Relaxed);
                let message = Live(Arc::clone(&live), [&[0, 0, 0, 4, 0][..], &[7; 1024]].concat());
                Ok::<_, Status>(http_body::Frame::data(Bytes::from_owner(message)))
            });
            let response = Response::builder().header("content-type", "application/grpc");
            async { Ok::<_, Status>(response.body(StreamBody::new(messages)).unwrap()) }
        });
        let layer = SingleflightLayer::grpc(Memory::new()).methods(named.iter().copied());
        let request = Request::post("http://a.test/greeter.Greeter/Repeat").header("content-type", "application/grpc");
        let body = tonic::body::Body::new(http_body_util::Full::new(Bytes::from_static(&[0; 5])));
        let mut response = layer.layer(inner).oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&outcome));
        for _ in 0..10_000 {
            drop(response.body_mut().frame().await.unwrap().unwrap());
            let live = live.load(Ordering::Relaxed);
            assert!(live <= 2, "{live} messages are kept");
        }
    }
}

/// On one service among others, which keep their names and are left alone.
#[tokio::test(start_paused = true)]
async fn a_service_by_itself() {
    let (memory, calls) = (Memory::new(), Calls::default());
    let replica = |memory: Memory| {
        let layer = SingleflightLayer::grpc(memory).methods(UNARY.iter().copied()).service("greeter");
        GreeterClient::new(Routes::new(layer.named_layer(GreeterServer::new(Slow(calls.clone())))))
    };
    let flights: JoinSet<_> = [memory.replica(), memory]
        .map(replica)
        .into_iter()
        .map(|mut client| async move { client.say_hello(ada()).await.unwrap().into_inner() })
        .collect();
    assert_eq!(flights.join_all().await, [hello("Ada", 1), hello("Ada", 1)]);
    assert_eq!(calls.count(), 1);
}
