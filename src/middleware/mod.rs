//! Tower middleware that coalesces identical requests over HTTP and gRPC, on one replica and across replicas.
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
//! `GET` and `HEAD`. A `HEAD` is answered from what is stored for `GET`, or has flights of its own, which never answer
//! a `GET`. The rest bypasses: it goes to the inner service as if the layer were not there. So do requests
//!
//! - that say who asks: `Authorization`, `Cookie`, `Proxy-Authorization`, `X-Api-Key` and their kin, and what a proxy asserts
//!   once it knows: `X-Forwarded-User`, `X-Forwarded-Client-Cert`, `X-Amzn-Oidc-Identity` and the like
//!   ([below](#who-asks) is what can be set);
//! - with content, or with `Expect`;
//! - with `Cache-Control: no-store` (`no-cache`, `max-age` and `Pragma` are ignored unless the layer
//!   [listens](SingleflightLayer::honor_request_directives): clients cannot force executions);
//! - with `If-Match` or `If-Unmodified-Since`, which are for the origin;
//! - that ask for an upgrade or an event stream;
//! - with `X-HTTP-Method-Override`, `X-Original-URL`, `X-Rewrite-URL` and their kin
//!   ([the list](SingleflightLayer::override_fields) can be set);
//! - without one clear authority. An HTTP/1 request has one in `Host`; **a request made by hand in a test may have none**.
//!
//! What a request asks beyond the response never reaches the inner service with a request that leads, as others wait for the
//! whole. `If-None-Match` and `If-Modified-Since` are answered with 304 on the way out. One `Range` is cut out of what is
//! stored, with 206, and bypasses if nothing is. `only-if-cached` is answered from what is stored, or with 504.
//!
//! So do, on routes where they only read, `POST` and `QUERY`, told apart by their content, once a
//! [`body_key`](SingleflightLayer::body_key) says how.
//!
//! A request that may change its target (`POST`, `PUT`, `PATCH`, `DELETE`, and methods that nobody knows) invalidates it
//! once it has [succeeded](SingleflightLayer::invalidate_on_change), fleet-wide: what is stored is gone, and a read that is
//! still in the air neither stores its response nor serves it to those who come later. So it does with
//! [what else](SingleflightLayer::also_invalidate) the application says it changes. The application does the same with the layer's
//! [`Handle`].
//!
//! # Who asks
//!
//! [`SingleflightLayer::identity`] sets what tells that: [`Identity`] adds fields to the list and takes some off, ignores
//! cookies that name nobody, or follows RFC 9111, by which it is the response to a request with `Authorization` that
//! says whether it is for all. Or the application decides with [`identity_fn`]: a request gets what everybody gets,
//! bypasses, or belongs to a [partition](Caller::Partition), such as a user or a tenant, whose requests share among
//! themselves. Nothing of this opens what a response withholds: `private` and `Set-Cookie` are shared with nobody.
//!
//! # Which responses are shared
//!
//! Whatever decides how long they live, the layer shares with nobody
//!
//! - `Cache-Control: no-store`, `private`, `no-cache`. A list of fields behind the latter two
//!   (`private="x-user"`) takes those fields out of what others get, and no more;
//! - `Set-Cookie`;
//! - `Vary: *`;
//! - 401, 403, 407, 206, 304; and, unless a [policy](SharePolicy) or a [TTL](SingleflightLayer::status_ttl) admits them,
//!   statuses without a rule, such as 302, and those that speak of one request, such as 400 and 429 (a [policy](SharePolicy)
//!   may give the latter to those who wait);
//! - bodies over [`max_body`](SingleflightLayer::max_body), event streams, bodies that take longer than
//!   [`wait_timeout`](SingleflightLayer::wait_timeout), or pause for longer than
//!   [`body_idle_timeout`](SingleflightLayer::body_idle_timeout);
//! - bodies for which there is [no room](SingleflightLayer::max_recorded);
//! - bodies that break off, or are not as long as `Content-Length` says.
//!
//! Such a response goes to its own client untouched, as a stream. Those who waited are released as soon as this is
//! known, which is at its head unless it shows in the body, and for a [while](SingleflightLayer::scatter) the requests
//! of that key go by themselves. After a 4xx or 5xx only those who waited do: it says nothing about the next response.
//!
//! Where such a response comes in place of one that is stored, the stored one is forgotten, and its variants with it:
//! the origin has taken it back. A 4xx that speaks of one request, and a 5xx, leave it alone.
//!
//! A response that varies serves the requests whose fields match those of the one that led. `Content-Encoding` and
//! `Access-Control-Allow-Origin` other than `*` are taken for `Vary: Accept-Encoding` and `Vary: Origin`. The requests
//! for the V variants of one target cost V executions, in two rounds at most; a replica takes part in 32 variants of a
//! target at a time, and what is beyond bypasses.
//!
//! # How long they live
//!
//! Under [`Policy::Route`], the default, the layer takes the route's word that its responses are the same for everybody:
//!
//! | status | for those who wait | kept |
//! |---|---|---|
//! | 200 203 204 300 301 308 | yes | the [result TTL](SingleflightLayer::result_ttl) (zero unless set), or shorter if the response says so |
//! | 404 405 410 414 501 | yes | the [negative TTL](SingleflightLayer::negative_ttl), or shorter |
//! | other 5xx | after one more try | no |
//! | others | no | the [TTL of that status](SingleflightLayer::status_ttl), if there is one; those who wait have it then |
//!
//! Under [`Policy::Origin`] the response alone decides, by RFC 9111: `s-maxage`, else `max-age`, else `Expires` less
//! `Date`, less the age at which it came, and a day [at most](SingleflightLayer::max_ttl). What declares to be over is
//! shared with nobody; what says nothing is shared with those who wait and is no hit for anybody. A status without a
//! rule, such as 302, is shared if the response declares a lifetime. 4xx and 5xx are as above.
//!
//! Past its life a response may
//!
//! - be served while one caller in the fleet refreshes it: `stale-while-revalidate`, or the
//!   [warm-up window](SingleflightLayer::warmup_window) of the route;
//! - stand in for an inner service that fails: `stale-if-error`, or the route's
//!   [window](SingleflightLayer::stale_if_error);
//! - be confirmed: under [`Policy::Origin`], or where a [window](SingleflightLayer::revalidation_window) is set, the request that
//!   leads asks with `If-None-Match` and `If-Modified-Since`, and a 304 gives the stored response another life. One
//!   question serves all who wait.
//!
//! `must-revalidate`, `proxy-revalidate` and `s-maxage` forbid the first two; while such a response waits to be
//! confirmed and an origin gives an error in place of a response, requests are answered with 504.
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
//! # gRPC
//!
//! Nothing on the wire tells a unary call from a stream, or a read from a write, and errors come as 200. So a layer of
//! its own makes [calls](SingleflightLayer::grpc) fly, and only those of methods that are named. It is nothing but
//! settings of its own: all of the above that speaks of flights, of who asks, and of the inner service holds there too.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{HeaderMap, Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_singleflight::{Outcome, RequestBody, SingleflightLayer, backend::Memory};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In place of the routes of tonic: `Server::builder().layer(layer).add_service(..)`.
//! let greeter = service_fn(async |request: Request<RequestBody<Full<Bytes>>>| {
//!     let message = request.into_body().collect().await?.to_bytes();
//!     let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
//!     let body = Full::new(message).with_trailers(async { Some(Ok(status)) });
//!     Ok::<_, Infallible>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
//! });
//! let layer = SingleflightLayer::grpc(Memory::new()).methods(["/hello.Greeter/Say*"]);
//!
//! let request = Request::post("http://a.test/hello.Greeter/SayHello").header("content-type", "application/grpc");
//! let request = request.body(Full::from(&[0, 0, 0, 0, 2, 10, 0][..])).unwrap();
//! let response = layer.layer(greeter).oneshot(request).await.unwrap();
//! assert_eq!(response.extensions().get(), Some(&Outcome::Led));
//! # }
//! ```
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
//! What a middleware writes into the path, and a router takes out again as a parameter of `nest`, stands in neither
//! URI: such requests have no key, and bypass. [`RequestKey::part`] does not help there: rewrite what is no parameter.
//!
//! Clients choose their `Host`. Whoever may ask one service may ask for any key of the services that share its backend
//! handle or its prefix: give services that trust different clients prefixes of their own.
//!
//! Only HTTP/2 tells the scheme of a request. A server without TLS that speaks both versions makes two keys of what is
//! one target: share them with a key of the [service](RequestKey::of_service), or write the scheme into the URI before
//! the layer.
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
//! - Whoever would wait where [too many](SingleflightLayer::max_waiters) do, or while [too
//!   much](SingleflightLayer::max_recorded) is recorded, goes to the inner service by itself, or is refused with a 503, as
//!   is [set](SingleflightLayer::overload).
//! - A flight does not see the task-locals of its callers, nor the tracing span that was entered around them.
//! - It needs a tokio runtime with time enabled.

mod asked;
mod authority;
mod body;
mod cache_status;
mod collect;
mod content;
#[expect(clippy::disallowed_methods, reason = "how long a response has been kept is measured")]
mod directed;
#[expect(clippy::disallowed_methods, reason = "conditions are held against a clock")]
mod door;
mod extract;
mod fields;
#[expect(clippy::disallowed_methods, reason = "conditions are held against a clock, and waits measured")]
mod flight;
mod future;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod grpc;
mod handle;
mod identity;
mod invalidate;
mod key;
#[expect(clippy::disallowed_methods, reason = "how long variants count is measured")]
mod layer;
#[expect(
    clippy::disallowed_methods,
    reason = "dates in responses are held against a clock, and scattering is jittered"
)]
mod lead;
mod mode;
mod nest;
mod outcome;
mod overload;
mod overrides;
mod policy;
mod record;
mod recording;
mod request;
mod request_body;
#[expect(clippy::disallowed_methods, reason = "how long a response has been kept is measured")]
mod revalidate;
mod rules;
mod service;
mod share;
mod tape;
mod variants;
mod web;

pub use self::{
    body::ResponseBody,
    content::{BodyKey, BodyKeyExtractor, BodyKeyFn, body_key_fn},
    future::ResponseFuture,
    handle::Handle,
    identity::{Caller, Identity, IdentityFn, IdentityPolicy, identity_fn},
    key::{KeyExtractor, KeyFn, RequestKey, key_fn},
    layer::SingleflightLayer,
    mode::{Bodies, Grpc, Http, Web},
    outcome::{Outcome, Why},
    overload::Overload,
    policy::Policy,
    request_body::RequestBody,
    service::Singleflight,
    share::{Share, ShareFn, SharePolicy, share_fn},
};
