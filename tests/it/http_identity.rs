//! Who asks: what is answered to one caller reaches no other, in flight and from the store, within one replica and across
//! two; and those who are one caller share.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method};
use tokio::time::sleep;
use tower_singleflight::{
    Caller, Identity, Outcome, Share, SingleflightLayer, Why, backend::Memory, identity_fn, share_fn,
};

use crate::http_support::{Calls, app, get, get_with, joined, led, outcome, secs, send, spawn, text, together};

const URI: &str = "http://a.test/report";

fn layer(memory: &Memory, identity: Identity) -> SingleflightLayer {
    SingleflightLayer::new(memory.clone()).result_ttl(secs(60)).identity(identity)
}

/// Two replicas of one application that keeps what it may for a minute.
fn fleet<R: IntoResponse>(
    calls: &Calls,
    identity: impl Fn() -> Identity,
    handler: impl Fn(&Request, usize) -> R + Clone + Send + Sync + 'static,
) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| app(&layer(&memory, identity()), calls, handler.clone()))
}

fn said(request: &Request, name: &str) -> String {
    request.headers().get(name).map_or("nobody".into(), |line| line.to_str().unwrap().into())
}

fn asks(name: &str, who: &str) -> Request {
    if who == "nobody" { get(URI) } else { get_with(URI, name, who) }
}

fn is_hit(response: &Response) -> bool {
    matches!(outcome(response), Outcome::Hit { .. })
}

/// Sends a request of each of `callers` to both replicas, three times all at once and then one by one, and checks what each
/// caller gets.
async fn each(fleet: &[Router; 2], name: &str, callers: &[&'static str], check: impl AsyncFn(&str, Response)) {
    for _ in 0..2 {
        let both = || [0, 1, 0, 1, 0, 1].into_iter().flat_map(|app| callers.iter().map(move |who| (app, *who)));
        let responses = together(both().map(|(app, who)| (fleet[app].clone(), asks(name, who)))).await;
        for ((_, who), response) in both().zip(responses) {
            check(who, response).await;
        }
        for (app, who) in both() {
            check(who, send(&fleet[app], asks(name, who)).await).await;
        }
    }
}

const CALLERS: [&str; 3] = ["ada", "bob", "nobody"];

/// Fails if a field that was added is not asked, or ignoring some cookies ignores others.
#[tokio::test(start_paused = true)]
async fn whoever_says_who_asks_gets_what_is_answered_to_him_alone() {
    let identity = || Identity::new().field("x-tenant-user").ignore_cookies(["_ga"]);
    let cookies = ["_ga=1; sid=ada", "sid=bob; _ga=1", "sid=eve", "_ga=1, sid=ann", "", "_ga", "nobody"];
    for (name, callers) in [("x-tenant-user", &CALLERS[..]), ("authorization", &CALLERS), ("cookie", &cookies)] {
        let fleet = fleet(&Calls::default(), identity, move |request, _| said(request, name));
        each(&fleet, name, callers, async |who, response| {
            assert_eq!(matches!(outcome(&response), Outcome::Bypassed(Why::Identity)), who != "nobody", "{who}");
            assert_eq!(text(response).await, who);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn ignored_cookies_are_nobodys() {
    let (calls, identity) = (Calls::default(), || Identity::new().ignore_cookies(["_ga", "theme"]).except("x-user"));
    let fleet = fleet(&calls, identity, |_, call| format!("call {call}"));
    each(&fleet, "cookie", &["_ga=1", "_ga=2; theme=dark", "nobody"], async |_, response| {
        assert_eq!(text(response).await, "call 1");
    })
    .await;
    assert!(is_hit(&send(&fleet[0], get_with(URI, "x-user", "ada")).await));
    assert_eq!(calls.count(), 1);
}

/// A session that is minted reaches its own client, and what is answered to that session no other: neither those who wait
/// for the response that mints it, nor those who come later.
///
/// Fails if `Set-Cookie` is shared, if a session is no partition, or if a cookie that is not ignored flies.
#[tokio::test(start_paused = true)]
async fn minted_cookies_are_their_clients_alone() {
    let by_session = identity_fn(|head| match head.headers.get("cookie") {
        Some(cookie) => Caller::Partition(cookie.as_bytes().into()),
        None => Caller::Anybody,
    });
    let listed = Identity::new().ignore_cookies(["_ga"]);
    for identity in [listed, Identity::new().by("secret", by_session)] {
        let (calls, memory) = (Calls::default(), Memory::new());
        let fleet = [memory.replica(), memory].map(|memory| {
            // Without a pause that keeps the requests of one key apart anyhow.
            let layer = layer(&memory, identity.clone()).scatter(Duration::ZERO);
            app(&layer, &calls, |request, call| match request.headers().get("cookie") {
                Some(_) => said(request, "cookie").into_response(),
                None => [("set-cookie", format!("sid={call}"))].into_response(),
            })
        });
        let mut minted = BTreeSet::new();
        for _ in 0..2 {
            let strangers = [0, 0, 1, 1].map(|app| (fleet[app].clone(), get(URI)));
            let cookies =
                together(strangers).await.into_iter().map(|response| response.headers()["set-cookie"].clone());
            let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect();
            let known = [0, 1, 0, 1].into_iter().zip(&cookies);
            let known = known.map(|(app, cookie)| (fleet[app].clone(), get_with(URI, "cookie", cookie)));
            for (response, cookie) in together(known).await.into_iter().zip(&cookies) {
                assert_eq!(&text(response).await, cookie);
            }
            minted.extend(cookies);
        }
        assert_eq!(minted.len(), 8, "each its own");
    }
}

fn by_token() -> Identity {
    let by_token = identity_fn(|head| match head.headers.get("authorization").map(HeaderValue::as_bytes) {
        None => Caller::Anybody,
        Some(b"mallory") => Caller::Bypass,
        Some(token) => Caller::Partition(token.into()),
    });
    Identity::new().by("a secret of the fleet", by_token)
}

/// Fails if the key leaves out the partition (one call for all), or the name of a partition is not the same on both replicas
/// (one call each).
#[tokio::test(start_paused = true)]
async fn partitions_are_apart_and_each_is_worked_for_once() {
    let calls = Calls::default();
    let fleet = fleet(&calls, by_token, |request, _| said(request, "authorization"));
    each(&fleet, "authorization", &CALLERS, async |who, response| {
        assert!(!matches!(outcome(&response), Outcome::Bypassed(_)), "{who}");
        assert_eq!(text(response).await, who);
    })
    .await;
    assert_eq!(calls.count(), 3, "one for each");
    let refused = send(&fleet[0], asks("authorization", "mallory")).await;
    assert_eq!(outcome(&refused), Outcome::Bypassed(Why::Identity));
    // A policy decides alone: what the list says counts no more.
    assert!(is_hit(&send(&fleet[0], get_with(URI, "x-api-key", "x")).await));
    assert_eq!(calls.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn replicas_with_other_secrets_share_no_partition() {
    let (calls, memory) = (Calls::default(), Memory::new());
    for secret in ["one", "other"] {
        let everybody = identity_fn(|_| Caller::Partition(Vec::new()));
        let layer = layer(&memory.replica(), Identity::new().by(secret, everybody));
        send(&app(&layer, &calls, |_, _| "fine"), get(URI)).await;
    }
    assert_eq!(calls.count(), 2);
}

/// Fails if `HEAD`, a part or `only-if-cached` is looked up without the partition.
#[tokio::test(start_paused = true)]
async fn partitions_have_variants_heads_and_parts_of_their_own() {
    let calls = Calls::default();
    let fleet = fleet(&calls, by_token, |request, _| {
        let body = format!("{} in {}", said(request, "authorization"), said(request, "accept-language"));
        ([("vary", "accept-language")], body)
    });
    let read = |who: &str, name: &'static str, line: &str| {
        let mut request = asks("authorization", who);
        request.headers_mut().insert(name, line.parse().unwrap());
        request
    };
    let cached = |who| read(who, "cache-control", "only-if-cached");
    let part = |who| read(who, "range", "bytes=0-2");
    let head = |who| {
        let mut head = asks("authorization", who);
        *head.method_mut() = Method::HEAD;
        head
    };
    for who in CALLERS {
        assert_eq!(send(&fleet[0], cached(who)).await.status(), 504, "{who}: the others' does not do");
        assert_eq!(outcome(&send(&fleet[1], part(who)).await), Outcome::Bypassed(Why::Range), "{who}");
        assert_eq!(outcome(&send(&fleet[1], head(who)).await), Outcome::Led, "{who}");
        for language in ["de", "da"] {
            let requests = [0, 1].map(|app| (fleet[app].clone(), read(who, "accept-language", language)));
            for response in together(requests).await {
                assert_eq!(text(response).await, format!("{who} in {language}"));
            }
        }
        send(&fleet[0], asks("authorization", who)).await;
        assert_eq!(text(send(&fleet[1], cached(who)).await).await, format!("{who} in nobody"));
        assert_eq!(text(send(&fleet[1], part(who)).await).await, who[..3]);
        let length = format!("{who} in nobody").len().to_string();
        assert_eq!(send(&fleet[0], head(who)).await.headers()["content-length"], length);
    }
    assert_eq!(calls.count(), 3 * (1 + 1 + 2 + 1), "a part, a head, two languages and none");
}

/// Fails if a partition is a key of its own rather than a variant.
#[tokio::test(start_paused = true)]
async fn what_invalidates_the_key_invalidates_every_partition() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let handle = layer(&memory.replica(), by_token()).handle();
    let fleet = [memory.replica(), memory].map(|memory| app(&layer(&memory, by_token()), &calls, |_, _| "fine"));
    let put = || {
        let put = Request::put(URI).header("authorization", "ada").header("content-length", "0");
        put.body(axum::body::Body::empty()).unwrap()
    };
    for round in 0..3 {
        for who in CALLERS {
            let responses = together([0, 1].map(|app| (fleet[app].clone(), asks("authorization", who)))).await;
            assert_eq!(led(&responses), 1, "{who} in round {round}");
        }
        match round {
            0 => handle.invalidate_uri(&URI.parse().unwrap()).await.unwrap(),
            _ => assert_eq!(outcome(&send(&fleet[0], put()).await), Outcome::Bypassed(Why::Method)),
        }
    }
}

/// Fails if the response is not asked whether it is for others too.
#[tokio::test(start_paused = true)]
async fn by_the_rfc_what_is_answered_to_authorization_is_shared_if_it_says_so() {
    for line in ["public", "s-maxage=60", "max-age=60, must-revalidate"] {
        let calls = Calls::default();
        let fleet =
            fleet(&calls, || Identity::new().rfc(), move |_, call| ([("cache-control", line)], call.to_string()));
        let first = spawn(&fleet[0], asks("authorization", "ada"));
        sleep(secs(1) / 2).await;
        each(&fleet, "authorization", &CALLERS, async |_, response| assert_eq!(text(response).await, "1", "{line}"))
            .await;
        assert_eq!(outcome(&first.await.unwrap()), Outcome::Led);
        assert_eq!(calls.count(), 1, "{line}");
    }
    for line in ["max-age=60", "proxy-revalidate", "public=1", "private", "no-store"] {
        for policy in [Share::Default, Share::For(secs(60)), Share::WaitersOnly] {
            let memory = Memory::new();
            let fleet = [memory.replica(), memory].map(|memory| {
                let layer = layer(&memory, Identity::new().rfc()).share(share_fn(move |_| policy));
                app(&layer, &Calls::default(), move |request, _| {
                    ([("cache-control", line)], said(request, "authorization"))
                })
            });
            let first = spawn(&fleet[0], asks("authorization", "ada"));
            sleep(secs(1) / 2).await;
            each(&fleet, "authorization", &CALLERS, async |who, response| {
                let text = text(response).await;
                assert!(text == who || text == "nobody", "{line} {policy:?}: {who} got what was answered to {text}");
            })
            .await;
            assert_eq!(text(first.await.unwrap()).await, "ada");
        }
    }
}

/// Fails if a response that is withheld scatters its key: made-up credentials would undo the layer for everybody.
#[tokio::test(start_paused = true)]
async fn what_is_withheld_from_others_does_not_hold_them_up() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let layer = layer(&memory, Identity::new().rfc()).result_ttl(secs(5)).warmup_window(secs(60));
    let app = app(&layer, &calls, |request, _| said(request, "authorization"));
    let burst = || (0..5).map(|_| (app.clone(), get(URI)));
    for made_up in ["x", "y"] {
        assert_eq!(outcome(&send(&app, asks("authorization", made_up)).await), Outcome::Led);
    }
    let responses = together(burst()).await;
    assert_eq!((led(&responses), responses.iter().filter(|response| joined(response)).count()), (1, 4));
    assert_eq!(calls.count(), 3);

    // Nor does it take away what is stored.
    sleep(secs(7)).await;
    assert!(matches!(outcome(&send(&app, asks("authorization", "z")).await), Outcome::Stale { .. }));
    sleep(secs(2)).await;
    for response in together(burst()).await {
        assert!(matches!(outcome(&response), Outcome::Stale { .. }));
        assert_eq!(text(response).await, "nobody");
    }
}
