//! Replicas that are processes of their own, and what becomes of their clients when processes die, stop and come back.

mod bursts;
mod failing;
mod killed;
mod leaving;
mod outage;
mod paused;
mod scattering;
mod slow;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};
use tower_singleflight::RequestKey;

use crate::support::{
    Server, example, forge,
    replica::{Client, Pending, Replica, Reply},
};

/// What the example calls its application.
const PREFIX: &str = "shop";

/// Replicas `r1`, `r2`, ... on a Redis of their own. Each has been in use: it is connected to Redis.
struct Fleet {
    replicas: Vec<Replica>,
    server: Server,
}

impl Fleet {
    async fn start(replicas: usize, args: &[&str]) -> Self {
        let server = Server::start();
        let fleet = Self::on(server, replicas, args).await;
        for replica in &fleet.replicas {
            // A key of its own: each of them begins, leads and completes once.
            let target = format!("/report/0?work_ms=0&for={}", replica.name);
            let reply = replica.client().await.get(&target).await.unwrap();
            assert_eq!((&*reply.outcome, reply.report().execution), ("led", 1));
        }
        fleet
    }

    /// On this server, which may be away.
    async fn on(server: Server, replicas: usize, args: &[&str]) -> Self {
        let mut fleet = Self { replicas: Vec::new(), server };
        for number in 1..=replicas {
            let replica = Replica::start(&format!("r{number}"), &fleet.server.url(), args).await;
            fleet.replicas.push(replica);
        }
        fleet
    }

    /// How often the handlers of all replicas began.
    async fn executions(&self) -> u64 {
        let mut all = 0;
        for replica in &self.replicas {
            all += replica.executions().await;
        }
        all
    }

    /// What Redis knows of the flight for a target.
    async fn flight(&self, target: &str) -> Flight {
        let head = http::Request::get(target).body(()).unwrap().into_parts().0;
        let key = RequestKey::of_service(&head, "report").finish().unwrap();
        Flight { state: forge::name(PREFIX, &key, "s"), connection: self.server.connection().await }
    }
}

/// A flight, as it stands in Redis.
struct Flight {
    state: String,
    connection: MultiplexedConnection,
}

impl Flight {
    /// Waits until somebody leads.
    async fn is_led(&mut self) {
        until("somebody leads", async || self.field("o").await.map(drop)).await;
    }

    /// Waits until so many replicas follow.
    async fn is_followed_by(&mut self, replicas: usize) {
        until(&format!("{replicas} replicas follow"), async || {
            // The inboxes of those who wait, each followed by a space.
            let inboxes = self.field("w").await.unwrap_or_default();
            (inboxes.split_whitespace().count() == replicas).then_some(())
        })
        .await;
    }

    async fn field(&mut self, name: &str) -> Option<String> {
        let mut command = redis::cmd("HGET");
        command.arg(&self.state).arg(name).query_async(&mut self.connection).await.unwrap()
    }
}

/// Waits for a condition that only asking can tell.
async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited 20 s in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A test that hangs fails.
async fn within(seconds: u64, test: impl Future<Output = ()>) {
    // Building may take minutes, which are not the test's.
    example::build();
    let limit = Duration::from_secs(seconds);
    timeout(limit, test).await.unwrap_or_else(|_| panic!("somebody hangs: no end after {limit:?}"));
}

/// All of them send the same request.
async fn ask(clients: &mut [Client], target: &str) -> Vec<Pending> {
    let mut pending = Vec::new();
    for client in clients {
        pending.push(client.ask(target).await);
    }
    pending
}

/// The answers, all of which come.
async fn replies(pending: Vec<Pending>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for pending in pending {
        replies.push(pending.await.unwrap().expect("the connection lasts until the answer is there"));
    }
    replies
}

/// How many of the answers are what.
fn count(replies: &[Reply], outcome: &str) -> usize {
    replies.iter().filter(|reply| reply.outcome == outcome).count()
}
