//! All workers, and what they ask for.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use http::{HeaderName, Request, Uri};
use http_body_util::{BodyExt, Empty};
use tokio::task::JoinSet;
use tower::{BoxError, ServiceExt};
use tower_singleflight::Outcome;

use crate::worker::{Calls, Worker};

pub struct Fleet {
    pub workers: Vec<Worker>,
    pub requests: usize,
    /// Those of all workers.
    pub calls: Calls,
}

impl Fleet {
    /// Sends all requests of all workers at once; how often the upstream was asked for that.
    pub async fn burst(&self, what: &str, uri: &Uri) -> Result<usize, BoxError> {
        let requests =
            self.workers.iter().flat_map(|worker| (0..self.requests).map(|_| outcome(worker.clone(), get(uri))));
        send(what, &self.calls, requests).await
    }

    /// Sends a request of one worker, with a field of its own.
    pub async fn one(&self, what: &str, uri: &Uri, name: HeaderName, line: &'static str) -> Result<usize, BoxError> {
        let mut request = get(uri);
        request.headers_mut().insert(name, line.try_into()?);
        let worker = self.workers.iter().take(1);
        send(what, &self.calls, worker.map(|worker| outcome(worker.clone(), request.clone()))).await
    }
}

/// Sends requests at the same time, and prints how often the upstream was asked for that and what became of them.
pub async fn send(
    what: &str,
    calls: &Calls,
    requests: impl Iterator<Item: Future<Output = Result<String, BoxError>> + Send + 'static>,
) -> Result<usize, BoxError> {
    let (before, start) = (calls.count(), Instant::now());
    let mut sent: JoinSet<_> = requests.collect();
    let mut tally = BTreeMap::<String, usize>::new();
    while let Some(outcome) = sent.join_next().await {
        *tally.entry(outcome??).or_default() += 1;
    }
    let asked = calls.count() - before;
    // Backwards, so that `led` comes before `joined`.
    let outcomes: Vec<_> = tally.iter().rev().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let (sum, took) = (tally.values().sum::<usize>(), start.elapsed().as_millis());
    println!("{what}: {sum} request(s), upstream asked {asked} time(s), {took} ms: {}", outcomes.join(", "));
    Ok(asked)
}

fn get(uri: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    // The whole of it, with scheme and authority: the client needs them to connect, and the layer for the key.
    *request.uri_mut() = uri.clone();
    request
}

/// What a request was, once its response has come to its end.
async fn outcome(worker: Worker, request: Request<Empty<Bytes>>) -> Result<String, BoxError> {
    let (head, body) = worker.oneshot(request).await?.into_parts();
    // Errors of the body are boxed: the body may be the upstream's, or that of a recording which broke off.
    body.collect().await?;
    let outcome = head.extensions.get().map(Outcome::to_string).ok_or("the layer says what a request was")?;
    Ok(if head.status.is_success() { outcome } else { format!("{outcome} ({})", head.status) })
}
