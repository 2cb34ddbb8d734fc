//! Requests in the air together, on one replica and on two, and what becomes of them afterwards.

use std::convert::Infallible;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_singleflight::{Outcome, RequestKey, Share, SingleflightLayer, Why, backend::Memory, key_fn, share_fn};

use crate::http_support::{Calls, app, get, get_with, joined, led, outcome, secs, send, spawn, text, together};

const URI: &str = "http://a.test/report?id=7";

fn numbered(_: &Request, call: usize) -> String {
    format!("call {call}")
}

fn layer() -> SingleflightLayer {
    SingleflightLayer::new(Memory::new())
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_are_one_execution() {
    let calls = Calls::default();
    let app = app(&layer(), &calls, numbered);
    let responses = together((0..100).map(|_| (app.clone(), get(URI)))).await;
    assert_eq!(calls.count(), 1);
    assert_eq!(led(&responses), 1);
    assert_eq!(responses.iter().filter(|response| joined(response)).count(), 99);
    for response in responses {
        assert_eq!(text(response).await, "call 1");
    }
}

#[tokio::test(start_paused = true)]
async fn two_replicas_are_one_execution() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let here = app(&SingleflightLayer::new(memory.clone()), &calls, numbered);
    let there = app(&SingleflightLayer::new(memory.replica()), &calls, numbered);
    let fleet = [here, there].into_iter().cycle().take(100);
    let responses = together(fleet.map(|app| (app, get(URI)))).await;
    assert_eq!(calls.count(), 1);
    assert_eq!(led(&responses), 1);
    assert_eq!(responses.iter().filter(|response| joined(response)).count(), 99);
    assert!(responses.iter().any(|response| outcome(response) == Outcome::Joined { elsewhere: true }));
    for response in responses {
        assert_eq!(text(response).await, "call 1");
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_over_one_handle_share_flights() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let apps = [(); 2].map(|()| app(&SingleflightLayer::new(memory.clone()), &calls, numbered));
    let responses = together(apps.map(|app| (app, get(URI)))).await;
    assert_eq!((calls.count(), led(&responses)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_unless_asked_for() {
    let calls = Calls::default();
    let app = app(&layer(), &calls, numbered);
    for call in 1..=3 {
        let response = send(&app, get(URI)).await;
        assert_eq!(outcome(&response), Outcome::Led);
        assert_eq!(text(response).await, format!("call {call}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_a_hit_until_its_ttl() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let replicas = [memory.replica(), memory]
        .map(|memory| app(&SingleflightLayer::new(memory).result_ttl(secs(5)).cache_status("shop"), &calls, numbered));
    let first = send(&replicas[0], get(URI)).await;
    assert_eq!(outcome(&first), Outcome::Led);
    assert_eq!(first.headers()["cache-status"], "shop; fwd=uri-miss; stored");
    assert!(!first.headers().contains_key("age"));
    sleep(secs(2)).await;
    for app in &replicas {
        let hit = send(app, get(URI)).await;
        assert!(matches!(outcome(&hit), Outcome::Hit { age } if age.as_secs() == 2), "{}", outcome(&hit));
        assert_eq!(hit.headers()["age"], "2");
        assert!(matches!(hit.headers()["cache-status"].as_bytes(), b"shop; hit; ttl=2" | b"shop; hit; ttl=3"));
        assert_eq!(text(hit).await, "call 1");
    }
    sleep(secs(4)).await;
    assert_eq!(text(send(&replicas[1], get(URI)).await).await, "call 2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_result_is_served_while_one_caller_refreshes_it() {
    let calls = Calls::default();
    let app = app(&layer().result_ttl(secs(5)).warmup_window(secs(5)), &calls, numbered);
    send(&app, get(URI)).await;
    sleep(secs(7)).await;
    for response in together((0..10).map(|_| (app.clone(), get(URI)))).await {
        assert!(matches!(outcome(&response), Outcome::Stale { .. }), "{}", outcome(&response));
        assert_eq!(text(response).await, "call 1");
    }
    sleep(secs(2)).await;
    assert_eq!(text(send(&app, get(URI)).await).await, "call 2");
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_taken_over_once() {
    let calls = Calls::default();
    let app = app(&layer(), &calls, |_, call| match call {
        1 => Err(StatusCode::BAD_GATEWAY),
        call => Ok(format!("call {call}")),
    });
    let responses = together((0..10).map(|_| (app.clone(), get(URI)))).await;
    assert_eq!(calls.count(), 2);
    assert_eq!(responses.iter().filter(|response| response.status() == StatusCode::BAD_GATEWAY).count(), 1);
    assert_eq!(responses.iter().filter(|response| response.status() == StatusCode::OK).count(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_second_failure_is_given_to_those_who_wait_and_kept_for_nobody() {
    let calls = Calls::default();
    let app = app(&layer().result_ttl(secs(60)), &calls, |_, call| (StatusCode::BAD_GATEWAY, format!("call {call}")));
    let responses = together((0..10).map(|_| (app.clone(), get(URI)))).await;
    assert_eq!(calls.count(), 2);
    assert!(responses.iter().all(|response| response.status() == StatusCode::BAD_GATEWAY));
    send(&app, get(URI)).await;
    assert_eq!(calls.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_to_its_caller_and_another_takes_over() {
    let calls = Calls::default();
    let counted = calls.clone();
    let service = layer().layer(service_fn(move |_: http::Request<Empty<Bytes>>| {
        let call = counted.next();
        async move {
            sleep(secs(1)).await;
            if call == 1 { Err("no") } else { Ok(Response::new(Full::<Bytes>::from("yes"))) }
        }
    }));
    let flights = [(); 5].map(|()| {
        let request = http::Request::get(URI).body(Empty::new()).unwrap();
        tokio::spawn(service.clone().oneshot(request))
    });
    let mut errors = 0;
    for flight in flights {
        errors += usize::from(flight.await.unwrap().is_err());
    }
    assert_eq!((calls.count(), errors), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_its_caller_alone() {
    let calls = Calls::default();
    let app = app(&layer(), &calls, |_, call| {
        assert!(call > 1, "the first call panics");
        "survived"
    });
    let flights = [(); 5].map(|()| spawn(&app, get(URI)));
    let mut panics = 0;
    for flight in flights {
        match flight.await {
            Ok(response) => assert_eq!(text(response).await, "survived"),
            Err(error) => panics += usize::from(error.is_panic()),
        }
    }
    assert_eq!((calls.count(), panics), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_client_leaves_takes_nothing_from_the_others() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let layers = [memory.replica(), memory].map(|memory| SingleflightLayer::new(memory).result_ttl(secs(60)));
    let [here, there] = layers.map(|layer| app(&layer, &calls, numbered));
    let leader = spawn(&here, get(URI));
    sleep(secs(1) / 4).await;
    let followers = [spawn(&here, get(URI)), spawn(&there, get(URI))];
    sleep(secs(1) / 4).await;
    leader.abort();
    for follower in followers {
        assert_eq!(text(follower.await.unwrap()).await, "call 1");
    }
    assert!(matches!(outcome(&send(&here, get(URI)).await), Outcome::Hit { .. }));
    assert_eq!(calls.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_work_goes_on_when_every_client_has_left() {
    let calls = Calls::default();
    let app = app(&layer().result_ttl(secs(60)), &calls, numbered);
    let leader = spawn(&app, get(URI));
    sleep(secs(1) / 2).await;
    leader.abort();
    sleep(secs(1)).await;
    assert_eq!(text(send(&app, get(URI)).await).await, "call 1");
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_as_long_as_it_is_willing_to() {
    let calls = Calls::default();
    let slow = app(&layer().wait_timeout(secs(1) / 2), &calls, numbered);
    let leader = spawn(&slow, get(URI));
    sleep(secs(1) / 4).await;
    let impatient = send(&slow, get(URI)).await;
    assert_eq!(outcome(&impatient), Outcome::Bypassed(Why::WaitTimeout));
    assert_eq!(text(impatient).await, "call 2");
    assert_eq!(outcome(&leader.await.unwrap()), Outcome::Led);
}

#[tokio::test(start_paused = true)]
async fn head_and_get_are_two_flights() {
    let calls = Calls::default();
    let app = app(&layer().result_ttl(secs(60)), &calls, |request, call| {
        let content = if request.method() == Method::HEAD { String::new() } else { format!("call {call}") };
        ([("content-length", "6")], content)
    });
    let head = || Request::head(URI).body(Body::empty()).unwrap();
    let responses = together([head(), get(URI), head(), get(URI)].map(|request| (app.clone(), request))).await;
    assert_eq!(calls.count(), 2);
    let mut texts = Vec::new();
    for response in responses {
        assert_eq!(response.headers()["content-length"], "6");
        texts.push(text(response).await);
    }
    assert_eq!((&*texts[0], &*texts[2]), ("", ""));
    assert!(texts[1].starts_with("call ") && texts[1] == texts[3]);
    assert!(matches!(outcome(&send(&app, head()).await), Outcome::Hit { .. }));
}

#[tokio::test(start_paused = true)]
async fn trailers_are_shared() {
    let calls = Calls::default();
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let sent = trailers.clone();
    let app = app(&layer().result_ttl(secs(60)), &calls, move |_, _| {
        let trailers = sent.clone();
        Body::new(Full::<Bytes>::from("hello").with_trailers(async move { Some(Ok(trailers)) }))
    });
    let mut responses = together([(); 3].map(|()| (app.clone(), get(URI)))).await;
    responses.push(send(&app, get(URI)).await);
    assert_eq!(calls.count(), 1);
    for response in responses {
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn neither_hits_nor_joined_requests_need_room_in_the_inner_service() {
    let slow = service_fn(async |_: http::Request<Empty<Bytes>>| {
        sleep(secs(1)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    });
    let service = ServiceBuilder::new().layer(layer().result_ttl(secs(60))).concurrency_limit(1).service(slow);
    let call = |uri| service.clone().oneshot(http::Request::get(uri).body(Empty::new()).unwrap());
    call(URI).await.unwrap();
    let start = Instant::now();
    let flights = [(); 5].map(|()| tokio::spawn(call("http://a.test/other")));
    sleep(secs(1) / 2).await;
    let asked = Instant::now();
    call(URI).await.unwrap();
    assert!(asked.elapsed() < secs(1) / 4, "{:?}", asked.elapsed());
    for flight in flights {
        flight.await.unwrap().unwrap();
    }
    assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn keys_and_policies_are_the_users() {
    let calls = Calls::default();
    let layer = layer()
        .result_ttl(secs(60))
        .key(key_fn(|head| RequestKey::without_query(head)?.query("id").header("accept-language").finish()))
        .share(share_fn(
            |head| if head.headers.contains_key("x-passing") { Share::WaitersOnly } else { Share::Default },
        ));
    let app = app(&layer, &calls, |request, call| {
        let passing = if request.uri().query() == Some("id=2") { "x-passing" } else { "x-kept" };
        ([(passing, "1")], format!("call {call}"))
    });
    assert_eq!(text(send(&app, get("http://a.test/?id=1&utm=x")).await).await, "call 1");
    assert_eq!(text(send(&app, get("http://a.test/?utm=y&id=1")).await).await, "call 1");
    assert_eq!(text(send(&app, get_with("http://a.test/?id=1", "accept-language", "de")).await).await, "call 2");
    assert_eq!(text(send(&app, get("http://a.test/?id=2")).await).await, "call 3");
    assert_eq!(text(send(&app, get("http://a.test/?id=2")).await).await, "call 4");
}
