//! Connections from clients, over HTTP/1 and HTTP/2.

use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{net::TcpListener, select, time::sleep};

use crate::front::{self, Proxy};

/// How long requests in the air may take once the proxy was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stopped`, and then answers what is in the air.
pub async fn serve(listener: TcpListener, proxy: Proxy, stopped: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    // What is not accepted any more is refused: the listener ends here.
    select! {
        // In this order, so that signals are listened for before the first request is in the air.
        biased;
        () = stopped => {}
        () = accept(listener, proxy, &connections) => {}
    }
    select! {
        () = connections.shutdown() => {}
        () = sleep(GRACE) => eprintln!("stopped before everything was answered"),
    }
}

async fn accept(listener: TcpListener, proxy: Proxy, connections: &GracefulShutdown) {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept: {error}");
                // Out of descriptors, most likely: to try again at once would keep a core busy and free none.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let proxy = proxy.clone();
        let service = service_fn(move |request| front::answer(proxy.clone(), client.ip(), request));
        let connection = http.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        // It fails when its client goes away, or when the upstream breaks a body off and the client has to see that.
        tokio::spawn(async move { drop(connection.await) });
    }
}
