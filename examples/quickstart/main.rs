//! A slow handler behind `SingleflightLayer`: of a hundred requests at the same time, one runs it.
//!
//! `cargo run --example quickstart`. Needs nothing: the backend is `Memory`. See README.md beside this file.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, Uri},
    middleware::map_response,
    response::Response,
    routing::get,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};

const REQUESTS: usize = 100;

type Executions = Arc<AtomicU64>;

/// What is worth coalescing: the answer takes a while and is the same for everybody.
async fn report(State(executions): State<Executions>, Path(id): Path<u64>) -> String {
    let execution = executions.fetch_add(1, Ordering::Relaxed) + 1;
    sleep(Duration::from_millis(200)).await;
    format!("report {id}, execution {execution}\n")
}

/// Shows to clients what the layer knows about their request.
async fn show_outcome(mut response: Response) -> Response {
    let outcome = response.extensions().get().map(Outcome::to_string);
    if let Some(Ok(outcome)) = outcome.map(HeaderValue::try_from) {
        response.headers_mut().insert("x-outcome", outcome);
    }
    response
}

fn app(executions: Executions) -> Router {
    // Without a result TTL, a response goes only to those who ask while it is being made.
    let singleflight = SingleflightLayer::new(Memory::new()).result_ttl(Duration::from_secs(5));
    Router::new()
        .route("/report/{id}", get(report))
        .route_layer(singleflight)
        .layer(map_response(show_outcome)) // the last layer is the outermost
        .with_state(executions)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let executions = Executions::default();
    let listener = match TcpListener::bind("127.0.0.1:3000").await {
        Ok(listener) => listener,
        Err(_taken) => TcpListener::bind("127.0.0.1:0").await?,
    };
    let url = format!("http://{}/report/7", listener.local_addr()?);
    let server = axum::serve(listener, app(executions.clone())).with_graceful_shutdown(stopped());
    let server = tokio::spawn(server.into_future());

    let tally = burst(url.parse()?).await?;
    let ran = executions.load(Ordering::Relaxed);
    // Backwards, so that `led` comes before `joined`.
    let outcomes: Vec<_> = tally.iter().rev().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    println!("{REQUESTS} requests, handler ran {ran} time(s): {}", outcomes.join(", "));
    if ran != 1 {
        return Err("the handler should have run once".into());
    }
    println!("one more request: {}", outcome(&client(), url.parse()?).await?);

    println!("serving on {url} - try: curl -i {url}; Ctrl-C stops");
    server.await??;
    Ok(())
}

type HttpClient = Client<HttpConnector, Body>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends all requests at once, and counts what each of them was.
async fn burst(uri: Uri) -> Result<BTreeMap<String, usize>, BoxError> {
    let client = client();
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let (client, uri) = (client.clone(), uri.clone());
        requests.spawn(async move { outcome(&client, uri).await });
    }
    let mut tally = BTreeMap::new();
    while let Some(outcome) = requests.join_next().await {
        *tally.entry(outcome??).or_default() += 1;
    }
    Ok(tally)
}

async fn outcome(client: &HttpClient, uri: Uri) -> Result<String, BoxError> {
    let response = client.get(uri).await?;
    let outcome = response.headers().get("x-outcome").ok_or("a response without `x-outcome`")?;
    Ok(outcome.to_str()?.to_owned())
}

/// Ends on Ctrl-C, or when the process is told to terminate.
async fn stopped() {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
