//! The example `tonic`: servers in processes of their own, and clients of tonic.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, task::JoinSet, time::timeout};
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
    let args = ["--work-ms", "1000", "--redis", &redis.url()];
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
