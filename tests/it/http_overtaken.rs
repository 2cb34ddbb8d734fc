//! What was read before a change, or is kept for nobody: it reaches no later request, on whatever way.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{Outcome, Policy, Share, SingleflightLayer, backend::Memory, share_fn};

use crate::{
    http_origin::{Body, Fleet, URI, answer, get, is_stale, numbered, outcome, request, text},
    http_support::{Calls, secs},
};

/// Fails if what a request with `no-cache` gets is stored: no flight holds it against a change.
#[tokio::test(start_paused = true)]
async fn a_read_that_validates_stores_nothing_that_is_older_than_a_change() {
    let version = AtomicUsize::new(1);
    let fleet = Fleet::listening(move |request, _| {
        if *request.method() == Method::PUT {
            version.fetch_add(1, Ordering::SeqCst);
        }
        answer(200, &[("cache-control", "max-age=60")], format!("version {}", version.load(Ordering::SeqCst)))
    });
    fleet.get(0).await.unwrap();
    let validating = tokio::spawn(fleet.send(0, get(&[("cache-control", "no-cache")])));
    sleep(Duration::from_millis(500)).await;
    fleet.send(1, request(Method::PUT, URI, &[])).await.unwrap();
    assert_eq!(text(validating.await.unwrap()).await, "version 1", "it asked before");
    for at in 0..2 {
        assert_eq!(text(fleet.get(at).await).await, "version 2", "{at}");
    }
}

/// Fails if such a request puts back what was invalidated, in place of an error.
#[tokio::test(start_paused = true)]
async fn what_was_invalidated_does_not_come_back_in_place_of_an_error() {
    let fleet = Fleet::listening(|request, call| match (request.method(), call) {
        (&Method::PUT, _) => answer(204, &[], ""),
        (_, 2) => answer(503, &[], ""),
        _ => numbered(call, &[("cache-control", "max-age=60, stale-if-error=60")]),
    });
    fleet.get(0).await.unwrap();
    let validating = tokio::spawn(fleet.send(0, get(&[("cache-control", "no-cache")])));
    sleep(Duration::from_millis(500)).await;
    fleet.send(1, request(Method::PUT, URI, &[])).await.unwrap();
    let _ = validating.await.unwrap();
    assert_eq!(text(fleet.get(1).await).await, "call 4");
}

/// Fails if what one client wants anew takes other variants with it.
#[tokio::test(start_paused = true)]
async fn a_read_that_validates_leaves_other_variants_alone() {
    let fleet =
        Fleet::listening(|_, call| numbered(call, &[("cache-control", "max-age=60"), ("vary", "accept-language")]));
    let language = |language| get(&[("accept-language", language)]);
    fleet.send(0, language("de")).await.unwrap();
    fleet.send(0, language("en")).await.unwrap();
    fleet.send(0, get(&[("accept-language", "de"), ("cache-control", "no-cache")])).await.unwrap();
    assert_eq!(text(fleet.send(0, language("en")).await).await, "call 2");
}

/// Fails if `max-stale` finds what is in the store for those who waited alone.
#[tokio::test(start_paused = true)]
async fn what_is_kept_for_nobody_is_not_stale_for_anybody() {
    let fleet = Fleet::with(
        |layer| layer.honor_request_directives(true).share(share_fn(|_| Share::WaitersOnly)),
        |_, call| numbered(call, &[]),
    );
    fleet.get(0).await.unwrap();
    assert_eq!(text(fleet.send(1, get(&[("cache-control", "max-stale=60")])).await).await, "call 2");
    assert_eq!(
        fleet.send(1, get(&[("cache-control", "max-stale, only-if-cached")])).await.unwrap().status(),
        StatusCode::GATEWAY_TIMEOUT
    );
}

/// Fails if `max-stale` finds a server error that was given to those who waited.
#[tokio::test(start_paused = true)]
async fn an_error_is_not_stale_for_anybody() {
    let fleet = Fleet::listening(|_, call| if call < 3 { answer(500, &[], "oops") } else { numbered(call, &[]) });
    let burst = [0, 1].map(|at| tokio::spawn(fleet.send(at, get(&[]))));
    for got in burst {
        got.await.unwrap().unwrap();
    }
    assert_eq!(fleet.calls.count(), 2);
    let got = fleet.send(0, get(&[("cache-control", "max-stale=60")])).await;
    assert_eq!(text(got).await, "call 3");
}

/// Requests over HTTP/1 name no scheme, those over HTTP/2 do. Fails if a change by the one leaves what the other reads.
#[tokio::test(start_paused = true)]
async fn a_change_over_one_protocol_is_seen_over_the_other() {
    let http1 = |method: Method| request(method, "/file", &[("host", "a.test")]);
    let http2 = |method: Method| request(method, "https://a.test/file", &[]);
    for http1_changes in [true, false] {
        let fleet = Fleet::with(|layer| layer.result_ttl(secs(60)), |_, call| numbered(call, &[]));
        let (read, change) = if http1_changes {
            (http2(Method::GET), http1(Method::PUT))
        } else {
            (http1(Method::GET), http2(Method::PUT))
        };
        fleet.send(0, read.clone()).await.unwrap();
        fleet.send(0, change).await.unwrap();
        assert_eq!(text(fleet.send(0, read).await).await, "call 3", "{http1_changes}");
    }
}

/// Fails if a change counts only once it is answered.
#[tokio::test(start_paused = true)]
async fn a_change_counts_although_its_client_left() {
    let version = Arc::new(AtomicUsize::new(1));
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(60));
    let inner = service_fn(move |request: Request<Body>| {
        let version = Arc::clone(&version);
        async move {
            if *request.method() == Method::PUT {
                version.fetch_add(1, Ordering::SeqCst);
                sleep(secs(1)).await;
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(version.load(Ordering::SeqCst).to_string())))
        }
    });
    let service = layer.layer(inner);
    let send = async |method: Method| {
        let request = request(method, URI, &[]).map(|()| Body::default());
        let response = service.clone().oneshot(request).await.unwrap();
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    };
    assert_eq!(send(Method::GET).await, "1");
    assert!(tokio::time::timeout(secs(1) / 2, send(Method::PUT)).await.is_err());
    sleep(secs(2)).await;
    assert_eq!(send(Method::GET).await, "2");
}

/// Fails if a response stays in the store that the origin has taken back: the refresh says that it is nobody else's.
#[tokio::test(start_paused = true)]
async fn what_the_origin_has_replaced_is_served_no_more() {
    for (status, line) in [(200, "private"), (200, "no-store"), (403, "max-age=60")] {
        let fleet = Fleet::of_origin(move |_, call| match call {
            1 => numbered(call, &[("cache-control", "max-age=5, stale-while-revalidate=600")]),
            _ => answer(status, &[("cache-control", line)], format!("call {call}")),
        });
        fleet.get(0).await.unwrap();
        sleep(secs(6)).await;
        assert!(is_stale(&fleet.get(0).await));
        // The refresh, and the while for which the key scatters.
        sleep(secs(20)).await;
        let got = fleet.get(1).await;
        assert!(!is_stale(&got), "{status} {line}: {}", outcome(&got));
    }
}

/// A store whose answers to `begin` take longer than a request waits for them: work begins without a lease, gets one later,
/// and what it makes is stored as fresh for nobody, since something may have been invalidated meanwhile.
mod adopted {
    use tower_singleflight::{
        Key,
        backend::{
            Backend, BackendError, Begin, Begun, Completed, Fence, Found, Locals, Owner, Reason, Record, Renewed,
        },
    };

    use super::*;

    #[derive(Clone)]
    struct Late {
        memory: Memory,
        late: Arc<AtomicUsize>,
    }

    impl Backend for Late {
        fn locals(&self) -> &Locals {
            self.memory.locals()
        }

        async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
            if self.late.load(Ordering::SeqCst) > 0 {
                self.late.fetch_sub(1, Ordering::SeqCst);
                sleep(Duration::from_millis(600)).await;
            }
            self.memory.begin(key, begin).await
        }

        async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
            self.memory.renew(key, owner, lease).await
        }

        async fn complete(
            &self,
            key: &Key,
            owner: Owner,
            fence: Fence,
            done: Record,
        ) -> Result<Completed, BackendError> {
            self.memory.complete(key, owner, fence, done).await
        }

        async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
            self.memory.abort(key, owner, reason).await
        }

        async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
            self.memory.invalidate(key).await
        }

        async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
            self.memory.put(key, record).await
        }

        async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
            self.memory.get(key).await
        }
    }

    /// A read on the first replica that saw what was there before a change on the second.
    async fn overtaken() -> Fleet {
        let version = AtomicUsize::new(1);
        let origin = move |request: &Request<()>, call| {
            if *request.method() == Method::PUT {
                version.fetch_add(1, Ordering::SeqCst);
            }
            if call == 3 {
                return answer(503, &[], "away");
            }
            let body = format!("version {}", version.load(Ordering::SeqCst));
            answer(200, &[("cache-control", "max-age=60"), ("content-type", "text/plain")], body)
        };
        let memory = Memory::new();
        let late = Late { memory: memory.replica(), late: Arc::new(1.into()) };
        let layers = [SingleflightLayer::new(late), SingleflightLayer::new(memory)];
        let layers = layers.map(|layer| layer.policy(Policy::Origin));
        let fleet = Fleet { layers, calls: Calls::default(), origin: Arc::new(origin) };
        let old = tokio::spawn(fleet.send(0, get(&[])));
        sleep(Duration::from_millis(450)).await;
        fleet.send(1, request(Method::PUT, URI, &[])).await.unwrap();
        assert_eq!(text(old.await.unwrap()).await, "version 1", "it asked before");
        sleep(Duration::from_millis(10)).await;
        fleet
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fresh_for_nobody_is_no_answer_to_only_if_cached() {
        let fleet = overtaken().await;
        let got = fleet.send(1, get(&[("cache-control", "only-if-cached")])).await;
        assert_eq!(got.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fresh_for_nobody_has_no_parts() {
        let fleet = overtaken().await;
        let got = fleet.send(1, get(&[("range", "bytes=0-")])).await;
        assert!(!matches!(outcome(&got), Outcome::Hit { .. }), "{}", outcome(&got));
    }

    /// And it is fresh again once the origin fails.
    #[tokio::test(start_paused = true)]
    async fn what_is_fresh_for_nobody_stands_in_for_nothing() {
        let fleet = overtaken().await;
        assert_eq!(fleet.get(1).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(fleet.get(1).await).await, "version 2");
    }
}
