//! The yardstick: how long the servers take to answer at all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{Client, IntoConnectionInfo, aio::MultiplexedConnection};

/// A client that sends at once, as our backend does.
pub fn client(url: &str) -> Client {
    let info = url.into_connection_info().unwrap();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(tcp)).unwrap()
}

/// A connection to each of the nodes.
pub struct Ping(Vec<MultiplexedConnection>);

impl Ping {
    pub async fn connect(nodes: &[&str]) -> Self {
        let connections = nodes.iter().map(async |node| client(node).get_multiplexed_async_connection().await.unwrap());
        Self(join_all(connections).await)
    }

    /// One `PING` to every node at once, until the last has answered.
    pub async fn once(&mut self) -> Duration {
        let started = Instant::now();
        join_all(self.0.iter_mut().map(async |node| redis::cmd("PING").exec_async(node).await.unwrap())).await;
        started.elapsed()
    }
}
