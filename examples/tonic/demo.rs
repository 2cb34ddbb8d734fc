//! What many calls cost: two servers, and clients that call both.

use std::{collections::BTreeSet, future::pending, net::Ipv4Addr, time::Duration};

use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::BoxError;

use crate::{
    greeter::{HelloReply, HelloRequest, greeter_client::GreeterClient},
    serve,
    service::Slow,
};

/// Calls at the same time, each by a client with a connection of its own.
const CALLS: usize = 50;

pub async fn run(work: Duration) -> Result<(), BoxError> {
    let servers = [Slow::new(work), Slow::new(work)];
    let mut places = Vec::new();
    for slow in &servers {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        places.push(Endpoint::try_from(format!("http://{}", listener.local_addr()?))?);
        tokio::spawn(serve(listener, slow.clone(), pending()));
    }
    let executions = || servers.iter().map(Slow::executions).sum::<u64>();

    let mut clients = Vec::new();
    for place in places.iter().cycle().take(CALLS) {
        clients.push(GreeterClient::new(place.connect().await?));
    }
    let start = Instant::now();
    let calls: JoinSet<_> = clients.into_iter().map(|client| say_hello(client, "Ada")).collect();
    let replies: Result<Vec<_>, _> = calls.join_all().await.into_iter().collect();
    let messages: BTreeSet<_> = replies?.into_iter().map(|reply| reply.message).collect();
    println!(
        "{CALLS} calls of two servers at the same time: {} execution(s), {} ms, {messages:?}",
        executions(),
        start.elapsed().as_millis()
    );
    Ok(())
}

async fn say_hello(mut client: GreeterClient<Channel>, name: &str) -> Result<HelloReply, Status> {
    Ok(client.say_hello(HelloRequest { name: name.to_owned() }).await?.into_inner())
}
