//! What others may have put into redis, as callers of groups and services see it: misses that are repaired, no panic.

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};
use tower_singleflight::{Key, Outcome, SingleflightLayer, backend::Redis, group::Source, key_fn};

use crate::support::{
    Server,
    calls::LONG,
    fleet::{APP, Job, answers, assert_all, callers, group_key, landed, parked, replicas},
    forge,
};

/// Total, fresh and stale time of a forged record, in milliseconds.
const FRESH: [u64; 3] = [3_600_000, 3_600_000, 0];
const STALE: [u64; 3] = [3_600_000, 0, 3_600_000];

async fn plant(server: &Server, key: &Key, record: Vec<u8>) {
    server.set(&forge::name(APP, key, "r"), record, Some(FRESH[0])).await;
}

const PAYLOADS: [&[u8]; 6] = [b"", b"{", b"garbage", b"7", b"\xff\xfe\x00", b"\"cut"];

#[tokio::test]
async fn a_record_that_is_no_value_is_a_miss_and_repaired() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.result_ttl(LONG)).await;
    for payload in PAYLOADS {
        let name = format!("{payload:?}");
        plant(&server, &group_key(&name), forge::record(&group_key(&name), 7, FRESH, payload)).await;
        assert_eq!(groups[0].peek(&name).await.unwrap(), None, "{name}");
        let job = Job::held();
        let mut calls = callers(&groups[0], 5, &name, &job);
        job.started(1).await;
        calls.extend(callers(&groups[1], 5, &name, &job));
        calls.extend(callers(&groups[2], 5, &name, &job));
        parked(&server, &group_key(&name), 2).await;
        job.release();
        assert_all(&answers(calls).await, "run 1");
        let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 5, &name, &job)).collect();
        let flown = answers(calls).await;
        assert!(flown.iter().all(|flown| matches!(flown.source, Source::Hit { .. })), "{name}: {flown:?}");
        assert_all(&flown, "run 1");
        assert_eq!(job.runs(), 1, "{name}");
    }
}

/// A record within its warm-up window is handed to the replicas that come while another one leads. One that finds it to
/// be no value gets it out of the way, and the flight in the air with it: each replica may run the work once.
#[tokio::test]
async fn a_stale_record_that_is_no_value_is_a_miss_and_repaired() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group.result_ttl(LONG)).await;
    for payload in PAYLOADS {
        let name = format!("{payload:?}");
        plant(&server, &group_key(&name), forge::record(&group_key(&name), 7, STALE, payload)).await;
        let job = Job::held();
        let mut calls = callers(&groups[0], 5, &name, &job);
        job.started(1).await;
        calls.extend(callers(&groups[1], 5, &name, &job));
        job.started(2).await;
        calls.extend(callers(&groups[2], 5, &name, &job));
        // The record is gone by now, and the third replica follows the second.
        parked(&server, &group_key(&name), 1).await;
        job.release();
        let flown = answers(calls).await;
        assert_all(&flown[..5], "run 1");
        assert_all(&flown[5..], "run 2");
        landed(&server, &group_key(&name)).await;
        assert_eq!(groups[0].peek(&name).await.unwrap().map(|flown| flown.value).as_deref(), Some("run 2"));
        assert_eq!(job.runs(), 2, "{name}");
    }
}

/// A digest is not a key: the record of another key under this one's name, even with the fence of its last flight.
#[tokio::test]
async fn a_record_of_another_key_is_a_miss() {
    let server = Server::start();
    let groups = replicas(&server, 2, |group| group.result_ttl(LONG)).await;
    let job = Job::quick();
    assert_eq!(
        groups[0]
            .try_work("key", {
                let job = job.clone();
                || job.run()
            })
            .await
            .unwrap(),
        "run 1"
    );
    let record: Vec<u8> = server.run(&["GET", &forge::name(APP, &group_key("key"), "r")]).await;
    let fence = u64::from_be_bytes(record[4..12].try_into().unwrap());
    for (fence, expected) in [(fence, "run 2"), (7, "run 3")] {
        plant(&server, &group_key("key"), forge::record(&group_key("other"), fence, FRESH, b"\"foreign\"")).await;
        assert_eq!(groups[1].peek("key").await.unwrap(), None);
        // The first replica remembers the record that was there, the second does not.
        for group in &groups {
            assert_all(&answers(callers(group, 5, "key", &job)).await, expected);
        }
    }
    assert_eq!(job.runs(), 3);
}

/// A message with a record that is no value, or with another key's: those who wait look, and go on waiting.
///
/// Fails if a record reaches those who wait for another key.
#[tokio::test]
async fn a_message_that_is_no_value_is_not_an_answer() {
    let server = Server::start();
    let groups = replicas(&server, 3, |group| group).await;
    let (key, job) = (group_key("key"), Job::held());
    let mut calls = callers(&groups[0], 5, "key", &job);
    job.started(1).await;
    calls.extend(callers(&groups[1], 5, "key", &job));
    calls.extend(callers(&groups[2], 5, "key", &job));
    parked(&server, &key, 2).await;
    let fence: u64 = server.run(&["HGET", &forge::name(APP, &key, "s"), "f"]).await;
    let garbage = forge::record(&key, fence, FRESH, b"garbage");
    let foreign = forge::record(&group_key("other"), fence, FRESH, b"\"foreign\"");
    for lie in [
        garbage.clone(),
        foreign.clone(),
        forge::message(1, key.digest(), fence, &garbage),
        forge::message(1, key.digest(), fence + 1, &garbage),
        forge::message(1, key.digest(), fence, &foreign),
        forge::message(1, key.digest(), fence, b""),
        forge::message(2, key.digest(), 0, b""),
        forge::message(4, group_key("other").digest(), 0, b""),
        forge::message(255, key.digest(), 0, b""),
        vec![],
    ] {
        server.publish_to_all(APP, &lie).await;
    }
    job.release();
    assert_all(&answers(calls).await, "run 1");
    assert_eq!(job.runs(), 1);
}

fn path_key(path: &str) -> Key {
    Key::builder("path").part(path).finish()
}

fn echo(layer: SingleflightLayer) -> Router {
    let handler = service_fn(async |request: Request| {
        Ok::<_, std::convert::Infallible>(request.uri().to_string().into_response())
    });
    Router::new().fallback_service(handler).layer(layer)
}

async fn get(app: &Router, target: &str) -> (Outcome, String) {
    let request = Request::get(target).header("host", "a.test").body(Body::empty()).unwrap();
    let response: Response = app.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let outcome = *response.extensions().get::<Outcome>().unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (outcome, String::from_utf8(body.into()).unwrap())
}

/// Fails if the key that a record holds is not compared, or the version of what it holds.
#[tokio::test]
async fn a_record_that_is_no_response_is_a_miss_and_repaired() {
    let server = Server::start();
    let mut apps = Vec::new();
    for _ in 0..2 {
        let redis = Redis::connect(&server.url(), APP).await.unwrap();
        let layer = SingleflightLayer::new(redis).result_ttl(LONG);
        apps.push(echo(layer.key(key_fn(|head| Some(path_key(head.uri.path()))))));
    }
    // A good one first, of which the others are made.
    assert_eq!(get(&apps[0], "/good").await, (Outcome::Led, "/good".to_owned()));
    let stored = forge::name(APP, &path_key("/good"), "r");
    landed(&server, &path_key("/good")).await;
    let record: Vec<u8> = server.run(&["GET", &stored]).await;
    let good = &record[48 + path_key("/good").canonical().len()..];
    let [mut version, mut length] = [good.to_vec(), good.to_vec()];
    version[0] += 1;
    length[1..5].fill(0xff);
    let payloads: [&[u8]; 8] = [
        b"",
        b"garbage",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 1000],
        &good[..3],
        &good[..good.len() / 2],
        &version,
        &length,
    ];
    for (number, payload) in payloads.iter().enumerate() {
        for (name, times) in [("fresh", FRESH), ("stale", STALE)] {
            let path = format!("/{name}/{number}");
            plant(&server, &path_key(&path), forge::record(&path_key(&path), 7, times, payload)).await;
            assert_eq!(get(&apps[0], &path).await, (Outcome::Led, path.clone()));
            landed(&server, &path_key(&path)).await;
            let (outcome, body) = get(&apps[1], &path).await;
            assert!(
                matches!(outcome, Outcome::Hit { .. } | Outcome::Joined { .. }) && body == path,
                "{outcome:?} {body}"
            );
        }
    }
    // A good response, of another target.
    for (name, times) in [("fresh", FRESH), ("stale", STALE)] {
        let path = format!("/{name}/other");
        plant(&server, &path_key(&path), forge::record(&path_key("/good"), 7, times, good)).await;
        assert_eq!(get(&apps[0], &path).await, (Outcome::Led, path.clone()));
        landed(&server, &path_key(&path)).await;
        assert_eq!(get(&apps[1], &path).await.1, path);
    }
}

/// Whoever waits for a response of another replica looks at what comes, and goes on waiting.
///
/// Fails if a record reaches those who wait for another key, or if one of another version is read as if it were of this one.
#[tokio::test]
async fn a_message_that_is_no_response_is_not_an_answer() {
    let server = Server::start();
    let mut layers = Vec::new();
    for _ in 0..2 {
        let redis = Redis::connect(&server.url(), APP).await.unwrap();
        let layer = SingleflightLayer::new(redis).result_ttl(LONG).wait_timeout(LONG);
        layers.push(layer.key(key_fn(|head| Some(path_key(head.uri.path())))));
    }
    get(&echo(layers[0].clone()), "/good").await;
    landed(&server, &path_key("/good")).await;
    let record: Vec<u8> = server.run(&["GET", &forge::name(APP, &path_key("/good"), "r")]).await;
    let good = &record[48 + path_key("/good").canonical().len()..];
    let mut version = good.to_vec();
    version[0] += 1;
    let lies = [
        ("/key", &b"garbage"[..]),
        ("/key", &good[..good.len() - 1]),
        ("/key", &version),
        // Whole, and of another target.
        ("/good", good),
    ];
    for (number, (of, payload)) in lies.into_iter().enumerate() {
        // A flight for each: who has seen one lie looks into the store, and sees no other.
        let (target, job) = (format!("/key/{number}"), Job::held());
        let key = path_key(&target);
        let ask = |layer: &SingleflightLayer| {
            let (job, target) = (job.clone(), target.clone());
            let work = service_fn(move |_: Request| {
                let work = job.clone().run();
                async { work.await.map(IntoResponse::into_response) }
            });
            let app = Router::new().fallback_service(work).layer(layer.clone());
            tokio::spawn(async move { get(&app, &target).await })
        };
        let leader = ask(&layers[0]);
        job.started(1).await;
        let followers: Vec<_> = (0..5).map(|_| ask(&layers[1])).collect();
        parked(&server, &key, 1).await;
        let fence: u64 = server.run(&["HGET", &forge::name(APP, &key, "s"), "f"]).await;
        let of = if of == "/key" { key.clone() } else { path_key(of) };
        // A record that is small is a message as it stands.
        server.publish_to_all(APP, &forge::record(&of, fence, FRESH, payload)).await;
        job.release();
        assert_eq!(leader.await.unwrap(), (Outcome::Led, "run 1".to_owned()));
        for (outcome, body) in answers(followers).await {
            let shared = matches!(outcome, Outcome::Joined { .. } | Outcome::Hit { .. });
            assert!(shared && body == "run 1", "lie {number}: {outcome:?} {body}");
        }
        assert_eq!(job.runs(), 1);
    }
}

/// Targets that look alike, and such that could break a name: each has its own response, here and elsewhere.
#[tokio::test]
async fn any_target_is_a_key() {
    let server = Server::start();
    let mut apps = Vec::new();
    for _ in 0..2 {
        let redis = Redis::connect(&server.url(), APP).await.unwrap();
        apps.push(echo(SingleflightLayer::new(redis).result_ttl(LONG)));
    }
    let long = format!("/?{}", "x".repeat(10 * 1024));
    let targets = [
        "/",
        "//",
        "/?",
        "/??",
        "/?a",
        "/?a=",
        "/?a=1&b=2",
        "/?b=2&a=1",
        "/%7Ba%7D",
        "/{a}",
        "/{",
        "/}",
        "/a%20b",
        "/a+b",
        "/a%0Ab",
        "/a%0D%0Ab",
        "/%ff%fe",
        "/%00",
        "/a/b",
        "/a%2Fb",
        "/a/../b",
        "/:r",
        "/*",
        "/?a={}:s",
        &long,
    ];
    for (number, target) in targets.iter().enumerate() {
        assert_eq!(get(&apps[number % 2], target).await, (Outcome::Led, (*target).to_owned()));
    }
    for target in targets {
        for app in &apps {
            let (outcome, body) = get(app, target).await;
            let shared = matches!(outcome, Outcome::Hit { .. } | Outcome::Joined { .. });
            assert!(body == target && shared, "{target}: {outcome:?} {body}");
        }
    }
}
