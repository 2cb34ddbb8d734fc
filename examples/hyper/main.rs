//! A plain hyper server over HTTP/1.1 and HTTP/2, whose slow handler runs once for all who ask at the same time.
//!
//! `cargo run --example hyper`. See README.md beside this file.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, select, time::sleep};
use tower::{BoxError, Service, ServiceBuilder};
use tower_singleflight::{
    Key, Outcome, RequestKey, SingleflightLayer,
    backend::{Memory, Redis},
    key_fn,
    middleware::ResponseBody,
};

/// How long requests in the air may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves slow reports over HTTP/1.1 and HTTP/2, and makes each of them once for all who ask at the same time.
#[derive(Parser)]
struct Flags {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The Redis that several servers share; without it, requests are coalesced in this process alone.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// How long a report takes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    work_ms: u64,
    /// How long a report is kept; 0 shares it only with those who are waiting for it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    result_ttl_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let flags = Flags::parse();
    let singleflight = match &flags.redis {
        // Lazily: it shall start, and serve, without Redis too. A malformed URL is an error even so; it is not repeated,
        // since it may hold a password.
        Some(url) => {
            let redis = Redis::builder("hyper").connect_lazy(url);
            redis.map(SingleflightLayer::new).map_err(|e| format!("--redis: {e}"))?
        }
        None => SingleflightLayer::new(Memory::new()),
    };
    let singleflight = singleflight.result_ttl(Duration::from_millis(flags.result_ttl_ms)).key(key_fn(key));
    let reports = Reports { work: Duration::from_millis(flags.work_ms), executions: Arc::default() };
    let stack = ServiceBuilder::new()
        // Outside, so that it sees the responses of all requests.
        .map_response(show_outcome)
        .layer(singleflight)
        .service_fn(move |request| reports.clone().answer(request));

    let listener =
        TcpListener::bind(flags.listen).await.map_err(|error| format!("--listen {}: {error}", flags.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, stack, stopped()).await;
    Ok(())
}

/// The target, without scheme and authority.
///
/// Only HTTP/2 tells the scheme, so to the usual key a request over HTTP/1.1 has another target than one over HTTP/2. And
/// several servers on one Redis have ports of their own, which stand in the authority. The handler reads neither.
fn key(head: &Parts) -> Option<Key> {
    RequestKey::of_service(head, "report").finish()
}

/// What all requests share.
#[derive(Clone)]
struct Reports {
    work: Duration,
    executions: Arc<AtomicU64>,
}

impl Reports {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = Response::new(Full::default());
        match (request.method(), request.uri().path().strip_prefix("/report/")) {
            (&Method::GET, Some(report)) => {
                let execution = self.executions.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(self.work).await;
                let text = format!("report {report}, execution {execution} of process {}\n", std::process::id());
                *response.body_mut() = Full::from(text);
            }
            (_, Some(_)) => *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
            (_, None) => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }
}

/// Shows to clients what the layer knows about their request.
fn show_outcome<B>(mut response: Response<B>) -> Response<B> {
    let outcome = response.extensions().get().map(Outcome::to_string);
    if let Some(Ok(outcome)) = outcome.map(HeaderValue::try_from) {
        response.headers_mut().insert("x-outcome", outcome);
    }
    response
}

/// Serves until `stopped`, and then answers what is in the air.
async fn serve<S>(listener: TcpListener, stack: S, stopped: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody<Full<Bytes>>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let connections = GracefulShutdown::new();
    // What is not accepted any more is refused: the listener ends here.
    select! {
        // In this order, so that signals are listened for before the first request is in the air.
        biased;
        () = stopped => {}
        () = accept(listener, stack, &connections) => {}
    }
    select! {
        () = connections.shutdown() => {}
        () = sleep(GRACE) => eprintln!("stopped before everything was answered"),
    }
}

async fn accept<S>(listener: TcpListener, stack: S, connections: &GracefulShutdown)
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody<Full<Bytes>>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    // Each connection begins with what its client speaks, which tells the version.
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    // From here on a service of hyper: each request has a clone, and so the layer need not be ready for it.
    let service = TowerToHyperService::new(stack);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                // Out of descriptors, most likely: to try again at once would keep a core busy and free none.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
        let connection = connections.watch(connection);
        // It fails when its client goes away.
        tokio::spawn(async move { drop(connection.await) });
    }
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
