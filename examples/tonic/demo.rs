//! What many calls cost: two servers, and clients that call both.

use std::{collections::BTreeSet, future::pending, net::Ipv4Addr, time::Duration};

use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use tower::BoxError;
use tower_singleflight::{SingleflightLayer, middleware::Grpc};

use crate::{
    greeter::{HelloReply, HelloRequest, RepeatRequest, greeter_client::GreeterClient},
    serve,
    service::Slow,
};

/// Calls at the same time, each by a client with a connection of its own.
const CALLS: usize = 50;

type Client = GreeterClient<Channel>;

pub async fn run(layers: [SingleflightLayer<Grpc>; 2], work: Duration) -> Result<(), BoxError> {
    let mut servers = Vec::new();
    for layer in layers {
        let (slow, listener) = (Slow::new(work), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let place = Endpoint::try_from(format!("http://{}", listener.local_addr()?))?;
        tokio::spawn(serve(listener, layer, slow.clone(), pending()));
        servers.push((slow, place));
    }
    let mut clients = Vec::new();
    for (_, place) in servers.iter().cycle().take(CALLS) {
        clients.push(Client::new(place.connect().await?));
    }
    let executions = || servers.iter().map(|(slow, _)| slow.executions()).sum();

    let greeted = burst(&clients, executions).await?;
    impatient(&clients, work, executions).await?;
    streams(&clients, executions).await?;
    if greeted != 1 { Err("the greeting should have been thought of once".into()) } else { Ok(()) }
}

/// All clients want the same greeting.
async fn burst(clients: &[Client], executions: impl Fn() -> u64) -> Result<u64, BoxError> {
    let start = Instant::now();
    let calls: JoinSet<_> = clients.iter().map(|client| say_hello(client, "Ada", None)).collect();
    let replies: Result<Vec<_>, _> = calls.join_all().await.into_iter().collect();
    let messages: BTreeSet<_> = replies?.into_iter().map(|reply| reply.message).collect();
    let (executed, took) = (executions(), start.elapsed().as_millis());
    println!("{CALLS} calls of two servers at the same time: {executed} execution(s), {took} ms, {messages:?}");
    Ok(executed)
}

/// The call that leads has no patience; the one that follows has.
async fn impatient(clients: &[Client], work: Duration, executions: impl Fn() -> u64) -> Result<(), BoxError> {
    let before = executions();
    let leader = tokio::spawn(say_hello(&clients[0], "Grace", Some(work / 10)));
    while executions() == before {
        sleep(Duration::from_millis(1)).await;
    }
    let follower = say_hello(&clients[1], "Grace", Some(work * 10)).await?;
    let leader = leader.await?.err().map_or("no error", |status| status.code().description());
    let (executed, message) = (executions() - before, follower.message);
    println!("a leader with little time and a follower with enough: {executed} execution(s), {leader:?}, {message:?}");
    Ok(())
}

/// Streams are each caller's own.
async fn streams(clients: &[Client], executions: impl Fn() -> u64) -> Result<(), BoxError> {
    let (before, start) = (executions(), Instant::now());
    let mut first = Duration::ZERO;
    for client in clients.iter().take(2) {
        let begun = Instant::now();
        let request = RepeatRequest { name: "Ada".to_owned(), times: 2 };
        let mut replies = client.clone().repeat(request).await?.into_inner();
        replies.message().await?;
        first = first.max(begun.elapsed());
        while replies.message().await?.is_some() {}
    }
    let (executed, took, first) = (executions() - before, start.elapsed().as_millis(), first.as_millis());
    println!(
        "2 streams of 2 replies, one after the other: {executed} execution(s), {took} ms, first replies within {first} ms"
    );
    Ok(())
}

/// A call, once it is polled.
fn say_hello(
    client: &Client,
    name: &str,
    deadline: Option<Duration>,
) -> impl Future<Output = Result<HelloReply, Status>> + Send + use<> {
    let mut client = client.clone();
    let mut request = Request::new(HelloRequest { name: name.to_owned() });
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    async move { Ok(client.say_hello(request).await?.into_inner()) }
}
