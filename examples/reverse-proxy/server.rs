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
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    let accepting = async {
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
            // What breaks a connection is either the client's own affair, or was told when the upstream broke off.
            tokio::spawn({
                let connection = connections.watch(connection);
                async move { drop(connection.await) }
            });
        }
    };
    select! {
        () = accepting => {}
        () = stopped => {}
    }
    select! {
        () = connections.shutdown() => {}
        () = sleep(GRACE) => eprintln!("stopped before everything was answered"),
    }
}
