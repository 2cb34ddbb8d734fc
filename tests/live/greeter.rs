//! The example `tonic`: servers in processes of their own, and clients of tonic.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, process::Command, task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

use self::generated::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use crate::support::{
    Server,
    example::{self, Example},
};

#[path = "../../examples/tonic/greeter.rs"]
#[allow(clippy::allow_attributes_without_reason, unused_qualifications, reason = "generated")]
mod generated;

const PATIENCE: Duration = Duration::from_secs(30);

async fn client(server: &Example) -> GreeterClient<Channel> {
    let place = Endpoint::try_from(format!("http://{}", server.place)).unwrap();
    GreeterClient::new(place.connect().await.unwrap())
}

fn ada() -> HelloRequest {
    HelloRequest { name: "Ada".to_owned() }
}

/// Fails if a server has flights of its own, or if its port is part of what is called.
#[tokio::test]
async fn fifty_calls_of_two_servers_are_one_execution() {
    example::build();
    let redis = Server::start();
    let args = ["--work-ms", "3000", "--redis-budget-ms", "10000", "--redis", &redis.url()];
    let servers = [Example::start("tonic", &args).await, Example::start("tonic", &args).await];
    let mut clients = Vec::new();
    for server in servers.iter().cycle().take(50) {
        clients.push(client(server).await);
    }
    let calls = clients.into_iter().map(|mut client| async move { client.say_hello(ada()).await.unwrap() });
    let replies = timeout(PATIENCE, calls.collect::<JoinSet<_>>().join_all()).await.expect("somebody hangs");
    let replies: Vec<HelloReply> = replies.into_iter().map(tonic::Response::into_inner).collect();
    assert_eq!((replies[0].message.as_str(), replies[0].execution), ("Hello, Ada!", 1));
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    // Nothing is kept: whoever asks now costs an execution. The server that worked is at its second, the other at its first.
    let mut then = Vec::new();
    for server in &servers {
        then.push(client(server).await.say_hello(ada()).await.unwrap().into_inner());
    }
    for reply in then {
        assert_eq!(reply.execution, if reply.process == replies[0].process { 2 } else { 1 });
    }
}

/// What they show they also check. Fails if one of them does not see what its README says.
#[tokio::test]
async fn examples_that_call_themselves_see_one_execution() {
    for (name, lines) in [("tonic", 3), ("client", 6)] {
        let mut example = Command::new(example::build().join(name));
        let example = example.args(["--work-ms", "1000"]).stdin(Stdio::null()).kill_on_drop(true).output();
        let shown = timeout(PATIENCE, example).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success() && said.lines().count() == lines, "{name}: {said}");
    }
}

type Raw = http2::SendRequest<Full<Bytes>>;

async fn connect(place: &str) -> Raw {
    let stream = TokioIo::new(TcpStream::connect(place).await.unwrap());
    let (send, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// What stands on the wire: the head, the message and the trailers. `Date` is the servers' own.
async fn raw(mut send: Raw, place: &str, lines: &[(&str, &str)]) -> (HeaderMap, Bytes, HeaderMap) {
    let message = ada().encode_to_vec();
    let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &*message].concat();
    let request = Request::post(format!("http://{place}/greeter.Greeter/SayHello"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = lines.iter().fold(request, |request, (name, line)| request.header(*name, *line));
    let response = send.send_request(request.body(Full::new(Bytes::from(framed))).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut head, body) = response.into_parts();
    head.headers.remove("date");
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (head.headers, body.to_bytes(), trailers)
}

/// Fails if a client that is not of tonic's makes gets another message, other metadata, or other trailers.
#[tokio::test]
async fn clients_that_speak_bare_http_2_are_served_alike() {
    example::build();
    let redis = Server::start();
    let args = ["--work-ms", "3000", "--redis-budget-ms", "10000", "--redis", &redis.url()];
    let servers = [Example::start("tonic", &args).await, Example::start("tonic", &args).await];
    let mut clients = Vec::new();
    for server in servers.iter().cycle().take(20) {
        clients.push((connect(&server.place).await, server.place.clone()));
    }
    let call = |send, place: String| async move {
        raw(send, &place, &[("user-agent", &place), ("grpc-timeout", "20S")]).await
    };
    let calls: JoinSet<_> = clients.into_iter().map(|(send, place)| call(send, place)).collect();
    let mut seen = timeout(PATIENCE, calls.join_all()).await.expect("somebody hangs");
    let (head, message, trailers) = seen.pop().unwrap();
    for other in seen {
        assert_eq!(other, (head.clone(), message.clone(), trailers.clone()));
    }
    assert!(head["content-type"] == "application/grpc" && trailers["grpc-status"] == "0");
    let reply = HelloReply::decode(message.slice(5..)).unwrap();
    assert_eq!((reply.message.as_str(), reply.execution), ("Hello, Ada!", 1));
}

/// Fails if the work ends with the deadline of the one whose call began it.
#[tokio::test]
async fn a_leader_in_a_hurry_leaves_its_work_to_a_follower() {
    example::build();
    let redis = Server::start();
    let args = ["--work-ms", "4000", "--redis-budget-ms", "10000", "--redis", &redis.url()];
    let servers = [Example::start("tonic", &args).await, Example::start("tonic", &args).await];
    let [here, there] = servers.each_ref().map(|server| &*server.place);
    let (head, message, _) = raw(connect(here).await, here, &[("grpc-timeout", "500m")]).await;
    assert_eq!((&head["grpc-status"], message.len()), (&"4".parse().unwrap(), 0));
    let (_, message, trailers) = raw(connect(there).await, there, &[("grpc-timeout", "20S")]).await;
    assert_eq!(trailers["grpc-status"], "0");
    let reply = HelloReply::decode(message.slice(5..)).unwrap();
    // The other server's, which had just begun.
    assert_eq!(reply.execution, 1);
    let own = client(&servers[1]).await.say_hello(ada()).await.unwrap().into_inner();
    assert_ne!(reply.process, own.process);
}
