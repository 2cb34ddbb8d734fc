use std::{
    iter::Sum,
    ops::{Add, Sub},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, Bytes},
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{task::JoinSet, time::timeout};

use crate::fleet::Replica;

/// No request takes longer, whatever goes wrong with the fleet: a caller waits for 10 s, and then works itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends requests, many at once.
#[derive(Clone)]
pub struct Load {
    client: Client<HttpConnector, Body>,
    pub requests: u64,
}

/// What a replica answers to `GET /report/{id}`: who made the report, and the how-many-th of this process it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Report {
    pub replica: String,
    pub execution: u64,
}

/// A request's answer, and the name of the replica that it was sent to.
pub struct Answer {
    pub from: String,
    pub report: Result<Report, BoxError>,
}

/// What a replica answers to `GET /stats`.
#[derive(Clone, Copy, Default, Deserialize)]
pub struct Stats {
    pub executions: u64,
    pub led: u64,
    pub joined: u64,
    pub hits: u64,
    pub stale: u64,
    pub bypassed: u64,
}

impl Load {
    pub fn new(requests: u64) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), requests }
    }

    /// Starts all requests for one report at once, spread over the replicas.
    pub fn start(&self, replicas: &[Replica], report: u64, work: Duration) -> JoinSet<Answer> {
        // The query is part of the key: another run on the same Redis has other reports.
        let target = format!("/report/{report}?work_ms={}&run={}", work.as_millis(), std::process::id());
        let requests = replicas.iter().cycle().zip(0..self.requests);
        requests
            .map(|(Replica { name, url, .. }, _)| {
                let (load, from, url) = (self.clone(), name.clone(), format!("{url}{target}"));
                async move { Answer { from, report: load.get(&url).await } }
            })
            .collect()
    }

    pub async fn stats(&self, replica: &Replica) -> Result<Stats, BoxError> {
        self.get(&format!("{}/stats", replica.url)).await
    }

    /// What all replicas together have counted.
    pub async fn total(&self, replicas: &[Replica]) -> Result<Stats, BoxError> {
        let mut total = Vec::new();
        for replica in replicas {
            total.push(self.stats(replica).await?);
        }
        Ok(total.into_iter().sum())
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(&timeout(PATIENCE, self.body(url)).await??)?)
    }

    async fn body(&self, url: &str) -> Result<Bytes, BoxError> {
        let response = self.client.get(url.parse()?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(format!("{url} answers {status}").into()) }
    }
}

impl Stats {
    fn zip(self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            executions: both(self.executions, other.executions),
            led: both(self.led, other.led),
            joined: both(self.joined, other.joined),
            hits: both(self.hits, other.hits),
            stale: both(self.stale, other.stale),
            bypassed: both(self.bypassed, other.bypassed),
        }
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(stats: I) -> Self {
        stats.fold(Self::default(), |sum, stats| sum.zip(stats, u64::add))
    }
}

impl Sub for Stats {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.zip(earlier, u64::sub)
    }
}
