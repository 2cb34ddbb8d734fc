//! How often callers make a replica ask redis, counted at the socket.

use axum::{Router, body::Body, extract::Request, response::Response};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::{ServiceExt, service_fn};
use tower_singleflight::{Group, Key, Outcome, SingleflightLayer, backend::Redis, group::Source, key_fn};

use crate::support::{
    Proxy, Server,
    calls::LONG,
    fleet::{APP, Job, answers, assert_all, at_once, callers, group_key, landed, parked, proxied},
};

/// The scripts are known to redis before anything is counted: `EVALSHA` is answered `NOSCRIPT` but once per server. So
/// is the connection for large bodies, which is made when it is first needed.
async fn warm(group: &Group<String>, size: usize) {
    let job = Job::sized(size);
    job.release();
    // Strict: returns when the result has landed.
    group.try_work(format!("warm {size}"), || job.run()).await.unwrap();
}

/// What each replica has paid so far: exchanges, and the commands in them. The number of exchanges alone would not show
/// operations that are in the air at the same time.
fn counts(proxies: &[Proxy]) -> Vec<(usize, Vec<String>)> {
    proxies.iter().map(|proxy| (proxy.exchanges(), proxy.commands())).collect()
}

/// What each replica has paid since, in alphabetical order: data travels on two connections.
fn since(before: &[(usize, Vec<String>)], proxies: &[Proxy]) -> Vec<(usize, String)> {
    let paid = counts(proxies).into_iter().zip(before);
    paid.map(|((exchanges, mut commands), before)| {
        for command in &before.1 {
            commands.remove(commands.iter().position(|other| other == command).expect("it is still counted"));
        }
        commands.sort();
        (exchanges - before.0, commands.join(" "))
    })
    .collect()
}

/// What each replica paid: `first` the leader, `others` whoever follows.
fn bill(first: (usize, &str), others: (usize, &str), n: usize) -> Vec<(usize, String)> {
    let price = |(exchanges, commands): (usize, &str)| (exchanges, commands.to_owned());
    let mut bill = vec![price(others); n];
    bill[0] = price(first);
    bill
}

/// A begin and a complete.
const LED: (usize, &str) = (2, "EVALSHA EVALSHA GET");

/// A begin and a complete whose record lies ready.
const LED_LARGE: (usize, &str) = (2, "EVALSHA EVALSHA GET SET");

/// A begin.
const BEGUN: (usize, &str) = (1, "EVALSHA GET");

/// A begin before and one after.
const BEGUN_TWICE: (usize, &str) = (2, "EVALSHA EVALSHA GET GET");

/// A record that is known to be fresh.
const KNOWN: (usize, &str) = (1, "GET");

/// The same of a variant, with the floor of its family.
const KNOWN_VARIANT: (usize, &str) = (1, "GET HGET");

/// Through the script, unless the record is known to be fresh: of one's own flight, and the second time surely.
fn is_a_hit(paid: &(usize, String), known: (usize, &str), round: usize) -> bool {
    let price = (paid.0, &*paid.1);
    price == known || price == BEGUN && round == 1
}

/// One flight: the first replica leads, all others follow.
async fn fly(
    server: &Server,
    (proxies, groups): (&[Proxy], &[Group<String>]),
    per_replica: usize,
    key: &str,
    job: Job,
) -> Vec<(usize, String)> {
    let before = counts(proxies);
    let mut calls = callers(&groups[0], per_replica, key, &job);
    job.started(1).await;
    for group in &groups[1..] {
        calls.extend(callers(group, per_replica, key, &job));
    }
    parked(server, &group_key(key), groups.len() - 1).await;
    job.release();
    assert_all(&answers(calls).await, &job.value(1));
    // A leader's callers are answered before its result is stored.
    landed(server, &group_key(key)).await;
    assert_eq!(job.runs(), 1);
    since(&before, proxies)
}

/// Begin and complete for the leader, begin for whoever follows: N + 1 for N replicas, however many callers they have.
/// A hit is one exchange for all callers of a replica that ask together: first through the script, then, as the record
/// is known to be fresh, by a plain read.
#[tokio::test]
async fn a_flight_costs_one_exchange_more_than_it_has_replicas() {
    let server = Server::start();
    for n in [1, 2, 5] {
        let (proxies, groups) = proxied(&server, n, |group| group.result_ttl(LONG)).await;
        warm(&groups[0], 0).await;
        for per_replica in [1, 10, 100] {
            let key = format!("{per_replica} callers on {n} replicas");
            let paid = fly(&server, (&proxies, &groups), per_replica, &key, Job::held()).await;
            assert_eq!(paid, bill(LED, BEGUN, n), "{key}");
            for round in 1..=2 {
                let (before, job) = (counts(&proxies), Job::quick());
                let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, per_replica, &key, &job)).collect();
                let flown = answers(calls).await;
                assert_all(&flown, "run 1");
                assert!(flown.iter().all(|flown| matches!(flown.source, Source::Hit { .. })), "{key}: {flown:?}");
                let paid = since(&before, &proxies);
                assert!(paid.iter().all(|paid| is_a_hit(paid, KNOWN, round)), "{key}, hit {round}: {paid:?}");
                assert_eq!(job.runs(), 0);
            }
        }
    }
}

/// A record above the inline limit does not come with the message: each following replica begins once more.
#[tokio::test]
async fn a_large_record_costs_each_follower_one_exchange_more() {
    let server = Server::start();
    for n in [2, 5] {
        let (proxies, groups) = proxied(&server, n, |group| group).await;
        for size in [20_000, 200_000] {
            warm(&groups[0], size).await;
            for per_replica in [1, 10] {
                let key = format!("{size} bytes for {per_replica} callers on {n} replicas");
                let paid = fly(&server, (&proxies, &groups), per_replica, &key, Job::sized(size)).await;
                assert_eq!(paid, bill(LED_LARGE, BEGUN_TWICE, n), "{key}");
            }
        }
    }
}

fn path_key(path: &str) -> Key {
    Key::builder("path").part(path).finish()
}

/// The key of a path, of which the first segment may say that it is a variant.
fn request_key(path: &str) -> Key {
    if path.starts_with("/variant/") { path_key(path).variant("de") } else { path_key(path) }
}

/// A replica whose handler is the job.
fn app(redis: Redis, job: &Job) -> Router {
    let layer = SingleflightLayer::new(redis).result_ttl(LONG).wait_timeout(LONG);
    let layer = layer.key(key_fn(|head| Some(request_key(head.uri.path()))));
    let job = job.clone();
    let handler = service_fn(move |_: Request| {
        let job = job.clone();
        async move { job.run().await.map(|text| Response::new(Body::from(text))) }
    });
    Router::new().fallback_service(handler).layer(layer)
}

fn send(app: &Router, path: &str) -> JoinHandle<(Outcome, String)> {
    let request = Request::get(format!("http://a.test{path}")).body(Body::empty()).unwrap();
    let app = app.clone();
    at_once(async move {
        let response = app.oneshot(request).await.unwrap_or_else(|never| match never {});
        let outcome = *response.extensions().get::<Outcome>().unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (outcome, String::from_utf8(body.into()).unwrap())
    })
}

/// The middleware asks as often as a group does.
#[tokio::test]
async fn requests_cost_as_much_as_calls() {
    let server = Server::start();
    for n in [2, 5] {
        let (mut proxies, mut redises) = (Vec::new(), Vec::new());
        for _ in 0..n {
            proxies.push(Proxy::start(server.port()).await);
            redises.push(Redis::connect(&proxies.last().unwrap().url(), APP).await.unwrap());
        }
        warm(&crate::support::fleet::group(redises[0].clone()), 0).await;
        let (small, large) = ((LED, BEGUN), (LED_LARGE, BEGUN_TWICE));
        let cases = [(1, 0, small), (10, 0, small), (100, 0, small), (10, 20_000, large)];
        for ((kind, known), (per_replica, size, (leading, following))) in
            [("key", KNOWN), ("variant", KNOWN_VARIANT)].into_iter().flat_map(|kind| cases.map(|case| (kind, case)))
        {
            let path = format!("/{kind}/{n}/{per_replica}/{size}");
            let job = Job::sized(size);
            let apps: Vec<_> = redises.iter().map(|redis| app(redis.clone(), &job)).collect();
            let all = |apps: &[Router]| -> Vec<_> {
                apps.iter().flat_map(|app| (0..per_replica).map(|_| send(app, &path))).collect()
            };
            let before = counts(&proxies);
            let mut sent = all(&apps[..1]);
            job.started(1).await;
            sent.extend(all(&apps[1..]));
            parked(&server, &request_key(&path), n - 1).await;
            job.release();
            let responses = answers(sent).await;
            landed(&server, &request_key(&path)).await;
            assert!(responses.iter().all(|(_, body)| *body == job.value(1)), "{responses:?}");
            assert_eq!(responses.iter().filter(|(outcome, _)| *outcome == Outcome::Led).count(), 1);
            assert_eq!((since(&before, &proxies), job.runs()), (bill(leading, following, n), 1), "{path}");
            let before = counts(&proxies);
            let responses = answers(all(&apps)).await;
            assert!(responses.iter().all(|(_, body)| *body == job.value(1)), "{responses:?}");
            let paid = since(&before, &proxies);
            assert!(paid.iter().all(|paid| is_a_hit(paid, known, 1)), "{path}: {paid:?}");
            assert_eq!(job.runs(), 1);
        }
    }
}

/// Keys do not share what they pay: a hundred flights in the air at once are a hundred begins.
#[tokio::test]
async fn flights_in_the_air_at_once_are_counted_one_by_one() {
    let server = Server::start();
    let (proxies, groups) = proxied(&server, 1, |group| group).await;
    warm(&groups[0], 0).await;
    let (before, job) = (counts(&proxies), Job::held());
    let calls: Vec<_> = (0..100).map(|n| callers(&groups[0], 10, format!("{n}"), &job)).collect();
    job.started(100).await;
    let begun = since(&before, &proxies).remove(0).1;
    assert_eq!(begun, ["EVALSHA"; 100].into_iter().chain(["GET"; 100]).collect::<Vec<_>>().join(" "));
    job.release();
    for calls in calls {
        answers(calls).await;
    }
    assert_eq!(job.runs(), 100);
}
