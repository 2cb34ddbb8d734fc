//! The upstream that is started if none is given.

use std::{net::Ipv4Addr, time::Duration};

use axum::{
    Router,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{AUTHORIZATION, CACHE_CONTROL},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};
use tower::BoxError;

/// Starts an upstream, which lives as long as this process: where there is a quote that takes so long to make.
pub async fn start(work: Duration) -> Result<Uri, BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let uri = format!("http://{}/quote/{}", listener.local_addr()?, std::process::id()).parse()?;
    let app = Router::new().route("/quote/{id}", get(move |headers| quote(headers, work)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(uri)
}

/// Says how long its answer lives, as a layer with `Policy::Origin` expects it to; and that it is for everybody, though
/// it takes a token to get it.
async fn quote(headers: HeaderMap, work: Duration) -> Response {
    if !headers.contains_key(AUTHORIZATION) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    sleep(work).await;
    ([(CACHE_CONTROL, "max-age=60")], "buy low, sell high\n").into_response()
}
