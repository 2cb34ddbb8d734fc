//! Tower middleware that coalesces identical HTTP requests, on one replica and across replicas.
//!
//! While a request is in the air, others with the same [key](RequestKey) wait for its response instead of asking again.
//! Unless a [result TTL](SingleflightLayer::result_ttl) is set, nothing is kept once the response is there.
//!
//! ```
//! use axum::{Router, body::Body, extract::Request, routing::get};
//! use tower::ServiceExt;
//! use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let app = Router::new()
//!     .route("/report/{id}", get(async || "a long calculation"))
//!     .layer(SingleflightLayer::new(Memory::new()));
//!
//! let request = Request::get("/report/7").header("host", "a.test").body(Body::empty()).unwrap();
//! let response = app.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 200);
//! println!("{}", response.extensions().get::<Outcome>().unwrap()); // led
//! # }
//! ```
//!
//! # Which requests fly
//!
//! `GET` and `HEAD`, each with flights of its own. The rest bypasses: it goes to the inner service as if the layer were
//! not there. So do requests
//!
//! - that say who asks: `Authorization`, `Cookie`, `Proxy-Authorization`, `X-Api-Key` and their kin, and what a proxy asserts
//!   once it knows: `X-Forwarded-User`, `X-Forwarded-Client-Cert`, `X-Amzn-Oidc-Identity` and the like;
//! - with content, or with `Expect`;
//! - with `Cache-Control: no-store` (`no-cache`, `max-age` and `Pragma` are ignored: clients cannot force executions);
//! - with `Range`, or with a condition such as `If-None-Match`;
//! - that ask for an upgrade or an event stream;
//! - with `X-HTTP-Method-Override`, `X-Original-URL`, `X-Rewrite-URL` and their kin;
//! - without one clear authority. An HTTP/1 request has one in `Host`; **a request made by hand in a test may have none**.
//!
//! # Which responses are shared
//!
//! The layer takes the route's word that its responses are the same for everybody, and yet shares with nobody
//!
//! - `Cache-Control: no-store`, `private`, `no-cache`, with or without fields behind them;
//! - `Set-Cookie`;
//! - any `Vary`, nor what should have one: `Content-Encoding`, and `Access-Control-Allow-Origin` other than `*`;
//! - 401, 403, 407, 206, 304; and, unless a [policy](SharePolicy) admits them, statuses without a rule, such as 302, and those
//!   that speak of one request, such as 400 and 429;
//! - bodies over [`max_body`](SingleflightLayer::max_body), event streams, bodies that take longer than
//!   [`wait_timeout`](SingleflightLayer::wait_timeout), or pause for longer than
//!   [`body_idle_timeout`](SingleflightLayer::body_idle_timeout);
//! - bodies that break off, or are not as long as `Content-Length` says.
//!
//! Such a response goes to its own client untouched, as a stream. Those who waited are released as soon as this is known,
//! which is at its head unless it shows in the body, and for a [while](SingleflightLayer::scatter) the requests of that key go
//! by themselves. After a 4xx or 5xx only those who waited do: it says nothing about the next response.
//!
//! | status | for those who wait | kept |
//! |---|---|---|
//! | 200 203 204 300 301 308 | yes | the result TTL, or shorter if the response says so |
//! | 404 405 410 414 501 | yes | a tenth of that, five seconds at most |
//! | other 5xx | after one more try | no |
//!
//! An error of the inner service goes to its own caller, and one of those who waited tries again. So does a panic, and a
//! body that breaks off.
//!
//! The client whose request led gets the body as it comes, while it is recorded for the others: neither waits for the other
//! to read. A recording holds [`max_body`](SingleflightLayer::max_body) bytes at most; what is longer, or too slow, its
//! client reads on from the inner service, with nothing between the two. The others get the response once its body is
//! complete; on the same replica they may [follow it while it runs](SingleflightLayer::stream_followers).
//!
//! What the client that led is told of the response, in its [`Outcome`] and in `Cache-Status`, is what is known at that
//! time: at the head, if the body takes its time. Whether it is stored in the end is known only then.
//!
//! A shared copy lacks the fields of one connection (`Connection` and what it names, `Proxy-*`, ...) and of one request
//! (`X-Request-Id`, `Traceparent`, `Server-Timing`, ...). A stored one tells its `Age`. Trailers are shared as trailers.
//! The response to the request that led is what the inner service made of it, extensions included.
//!
//! # Where it stands
//!
//! Outside of the layer: authentication, CORS, compression, and timeouts of single callers. Inside: retries, and a timeout
//! that bounds the shared work. Two kinds of requests need care:
//!
//! - The inner service sees the extensions of the request that leads (a user, a span). What it reads of them must be part
//!   of the [key](KeyExtractor).
//! - Routers strip prefixes. Below axum's `nest`, `/a/x` and `/b/x` both look like `/x`, and would share a response: turn
//!   on the feature `axum`, which reads the original URI, or tell them apart with [`RequestKey::part`].
//!
//! Clients choose their `Host`. Whoever may ask one service may ask for any key of the services that share its backend handle or
//! its prefix: give services that trust different clients prefixes of their own.
//!
//! Requests to a TLS server over HTTP/1 and to a plain one look alike. Where one process is both, and answers them
//! differently, tell them apart in the key.
//!
//! # Semantics
//!
//! - The layer adds no errors: its error type is the inner service's. If the store cannot be reached, requests are
//!   coalesced within the process, or go to the inner service.
//! - It is always ready. The inner service is made ready when it is called, and neither a hit nor a joined request needs
//!   it to be.
//! - The shared work runs in a task of its own: a client that leaves takes nothing from the others. A panic in it is
//!   resumed in the caller whose request it was.
//! - A flight does not see the task-locals of its callers, nor the tracing span that was entered around them.
//! - It needs a tokio runtime with time enabled.

mod asked;
mod authority;
mod body;
mod cache_status;
mod collect;
mod fields;
#[expect(clippy::disallowed_methods, reason = "scattering is jittered")]
mod flight;
mod future;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod identity;
mod invalidate;
mod key;
mod layer;
mod outcome;
mod record;
mod recording;
mod request;
mod rules;
mod service;
mod share;
mod tape;
mod variants;

pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    handle::Handle,
    key::{KeyExtractor, KeyFn, RequestKey, key_fn},
    layer::SingleflightLayer,
    outcome::{Outcome, Why},
    service::Singleflight,
    share::{Share, ShareFn, SharePolicy, share_fn},
};
