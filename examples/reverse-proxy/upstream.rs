//! The service inside the layer: the upstream, as it answers or does not.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Either, Empty, combinators::UnsyncBoxBody};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{select, sync::watch, time::sleep};
use tower::Service;

use crate::{failure::Failure, flags::Flags, hop};

/// Longer than a packet that was lost and is sent again, and shorter than clients wait.
const CONNECT: Duration = Duration::from_secs(5);

/// Shorter than the five seconds and more for which servers keep connections. A request on a connection that is being closed
/// fails, and nobody may send it twice: so it is this side that closes.
const IDLE: Duration = Duration::from_secs(4);

/// What the upstream sent, or nothing in its stead.
pub type Answer = Either<Incoming, Empty<Bytes>>;

#[derive(Clone)]
pub struct Upstream {
    client: Client<Dial, UnsyncBoxBody<Bytes, hyper::Error>>,
    authority: Authority,
    http2: bool,
    patience: Duration,
}

impl Upstream {
    pub fn new(flags: &Flags) -> Self {
        let authority = flags.upstream.clone();
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .http2_only(flags.upstream_http2)
            // Whoever asked knows whether it may be asked twice.
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(Dial { connector, upstream: uri(authority.clone(), PathAndQuery::from_static("/")) });
        Self { client, authority, http2: flags.upstream_http2, patience: flags.upstream_timeout_ms }
    }

    /// The request as it goes out. The upstream sees the host that the client asked for, in the place where its version of
    /// HTTP has it: for HTTP/1 in the field that came in, for HTTP/2 in the target.
    fn address<B: Body>(&self, request: &mut Request<B>) {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let asked = request.uri().authority().filter(|_| self.http2);
        *request.uri_mut() = uri(asked.unwrap_or(&self.authority).clone(), path);
        if self.http2 {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
            return;
        }
        *request.version_mut() = Version::HTTP_11;
        // In chunks: with a length trailers have no place, and without either the body of a GET would be left out.
        let fields = request.headers();
        if !request.body().is_end_stream() && (!fields.contains_key(CONTENT_LENGTH) || fields.contains_key(TRAILER)) {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if request.headers().contains_key(TE) {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
}

impl Service<Request<Incoming>> for Upstream {
    type Response = Response<Answer>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    /// A failure is a response, which the layer shares: after a second one nobody who waits asks again. Errors belong to one
    /// request, and as many as wait would try one after the other.
    ///
    /// Not where the request may change something, which nobody shares anyway: whether the upstream has acted is not known,
    /// and of an error the layer takes it for granted, so that what was stored is forgotten.
    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let safe = request.method().is_safe();
        self.address(&mut request);
        let (sends, sent) = watch::channel(());
        let request = request.map(|body| body.inspect_frame(move |_| sends.send_replace(())).boxed_unsync());
        let answer = answered(self.client.request(request), sent, self.patience);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(response.map(Either::Left)),
                Err(failure) if safe => Ok(failure.answer().map(Either::Right)),
                Err(failure) => Err(failure),
            }
        })
    }
}

/// The response, once its head is there. While the request is still on its way the upstream owes no answer: each piece
/// that is sent starts its time again.
async fn answered(
    answer: ResponseFuture,
    mut sent: watch::Receiver<()>,
    patience: Duration,
) -> Result<Response<Incoming>, Failure> {
    let mut answer = pin!(answer);
    let mut response = loop {
        select! {
            biased;
            answer = &mut answer => break answer?,
            Ok(()) = sent.changed() => {}
            () = sleep(patience) => return Err(Failure::Silent),
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Switched);
    }
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    hop::strip(response.headers_mut());
    hop::sign(response.headers_mut(), version);
    Ok(response)
}

/// Connects to the upstream, whichever host the upstream is asked for.
#[derive(Clone)]
struct Dial {
    connector: HttpConnector,
    upstream: Uri,
}

impl Service<Uri> for Dial {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.connector.call(self.upstream.clone())
    }
}

fn uri(authority: Authority, path: PathAndQuery) -> Uri {
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path);
    uri.build().expect("it has all three parts")
}
