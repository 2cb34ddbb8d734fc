//! Variants of a key in redis: what they share with their primary, and what becomes of it.

use std::time::Duration;

use tokio::time::sleep;
use tower_singleflight::{
    Key,
    backend::{Backend, Begin, Begun, Completed, Notice, Owner, Reason, Redis, Renewed},
};

use crate::support::{
    Proxy, Server,
    calls::{LONG, ask, follow, hit, key, lead, record, told},
    fleet::until,
    forge,
};

/// The field of the state of a key.
async fn field(server: &Server, prefix: &str, key: &Key, field: &str) -> String {
    server.run::<Option<String>>(&["HGET", &forge::name(prefix, key, "s"), field]).await.unwrap_or_default()
}

async fn recalled(redis: &Redis, key: &Key) -> bool {
    match redis.recall(key) {
        Some(read) => read.await.unwrap().is_some(),
        None => false,
    }
}

/// One exchange, however many variants there are, and each replica hears of it once, at once.
#[tokio::test]
async fn one_exchange_invalidates_a_family() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let connect = async |url: &str| Redis::connect(url, "family").await.unwrap();
    let (a, b) = (connect(&server.url()).await, connect(&server.url()).await);
    let (c, other) = (connect(&proxy.url()).await, connect(&server.url()).await);
    c.invalidate(&key("warm")).await.unwrap();
    let page = key("page");
    for round in 1..=3 {
        let variants: Vec<_> = (0..20).map(|number| page.variant(format!("{round} {number}"))).collect();
        let mut watches = Vec::new();
        for variant in &variants[..10] {
            watches.push(lead(&a, variant, 1).await.1);
            watches.push(follow(&b, variant, 2).await.1);
        }
        for variant in &variants[10..15] {
            watches.push(lead(&b, variant, 1).await.1);
            watches.push(follow(&a, variant, 2).await.1);
        }
        for variant in &variants[15..] {
            a.put(variant, record("x", LONG)).await.unwrap();
            hit(&b, variant).await;
            assert!(recalled(&b, variant).await);
        }
        let (_, mut apart) = lead(&other, &key("apart").variant("1"), round).await;
        assert_eq!(field(&server, "family", &page, "j").await.split_whitespace().count(), 2);
        let before = proxy.exchanges();
        c.invalidate(&page).await.unwrap();
        assert_eq!(proxy.exchanges() - before, 1);
        for watch in &mut watches {
            assert_eq!(told(watch).await, Notice::Invalidated);
        }
        assert_eq!(field(&server, "family", &page, "j").await, "");
        for (number, variant) in variants.iter().enumerate() {
            assert!(a.get(variant).await.unwrap().is_none() && !recalled(&b, variant).await);
            assert_eq!(a.renew(variant, Owner(1), LONG).await.unwrap(), Renewed::Lost, "{number}");
        }
        // Another family heard nothing of it, so what comes first is what is said last.
        follow(&other, &key("apart").variant("1"), 9).await;
        other.abort(&key("apart").variant("1"), Owner(round), Reason::Abandon).await.unwrap();
        assert_eq!(told(&mut apart).await, Notice::Retry);
    }
}

/// What a variant of a lost family holds or has in the air does not count, and is not revived by what comes after.
#[tokio::test]
async fn a_lost_family_revives_nothing() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "lost").await.unwrap();
    let page = key("page");
    let [led, given, flies, late] = ["led", "given", "flies", "late"].map(|value| page.variant(value));
    let fill = async |owner| {
        let (fence, _watch) = lead(&redis, &led, owner).await;
        redis.complete(&led, Owner(owner), fence, record("led", LONG)).await.unwrap();
        redis.put(&given, record("given", LONG)).await.unwrap();
        assert!(recalled(&redis, &led).await && redis.get(&given).await.unwrap().is_some());
        fence
    };
    let first = fill(1).await;
    let (fence, _watch) = lead(&redis, &flies, 1).await;
    let () = server.run(&["DEL", &forge::name("lost", &page, "s")]).await;
    let gone = async || {
        for variant in [&led, &given] {
            assert!(redis.get(variant).await.unwrap().is_none() && !recalled(&redis, variant).await);
        }
        let completed = redis.complete(&flies, Owner(1), fence, record("late", LONG)).await.unwrap();
        assert_eq!(completed, Completed::Superseded);
        assert_eq!(redis.renew(&flies, Owner(1), LONG).await.unwrap(), Renewed::Lost);
    };
    gone().await;
    // One of them founds the family anew, by a flight or a put.
    lead(&redis, &late, 2).await;
    gone().await;
    assert_eq!(server.run::<u32>(&["EXISTS", &forge::name("lost", &led, "r")]).await, 1, "it lies there still");
    let second = fill(3).await;
    assert!(second > first);
    let () = server.run(&["DEL", &forge::name("lost", &page, "s")]).await;
    redis.put(&late, record("late", LONG)).await.unwrap();
    gone().await;
    assert_eq!(hit(&redis, &late).await.payload, "late");
    assert!(fill(4).await > second);
}

/// What lies under the name of a family as another type was put there by nobody who speaks this protocol: the family is
/// lost, whoever comes first.
#[tokio::test]
async fn a_family_of_another_type_is_lost() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "types").await.unwrap();
    let at_first = [
        "get",
        "recall",
        "begin",
        "renew",
        "complete",
        "abort",
        "put",
        "invalidate",
        "put page",
        "invalidate page",
        "begin page",
    ];
    for first in at_first {
        let page = key(first);
        let [led, given] = ["led", "given"].map(|value| page.variant(value));
        redis.put(&given, record("given", LONG)).await.unwrap();
        hit(&redis, &given).await;
        let (fence, _watch) = lead(&redis, &led, 1).await;
        let state = forge::name("types", &page, "s");
        let () = server.run(&["SET", &state, "a string"]).await;
        match first {
            "get" => assert!(redis.get(&given).await.unwrap().is_none()),
            "recall" => assert!(!recalled(&redis, &given).await),
            "begin" => drop(lead(&redis, &given, 2).await),
            "renew" => assert_eq!(redis.renew(&led, Owner(1), LONG).await.unwrap(), Renewed::Lost),
            "complete" => {
                let completed = redis.complete(&led, Owner(1), fence, record("late", LONG)).await.unwrap();
                assert_eq!(completed, Completed::Superseded);
            }
            "abort" => redis.abort(&led, Owner(1), Reason::Retry).await.unwrap(),
            "put" => redis.put(&page.variant("new"), record("new", LONG)).await.unwrap(),
            "invalidate" => redis.invalidate(&led).await.unwrap(),
            "put page" => redis.put(&page, record("page", LONG)).await.unwrap(),
            "invalidate page" => redis.invalidate(&page).await.unwrap(),
            _ => drop(lead(&redis, &page, 2).await),
        }
        let kind: String = server.run(&["TYPE", &state]).await;
        assert_eq!(kind == "string", ["get", "recall"].contains(&first), "{first}: readers leave it as it is");
        assert_eq!(redis.renew(&led, Owner(1), LONG).await.unwrap(), Renewed::Lost, "{first}");
        if first != "begin" {
            lead(&redis, &given, 3).await;
        }
        redis.put(&led, record("led", LONG)).await.unwrap();
        assert_eq!(hit(&redis, &led).await.payload, "led", "{first}");
    }
}

/// A clock that stepped back leaves fences that lie ahead of it. They do not count after an invalidation either.
#[tokio::test]
async fn fences_ahead_of_the_clock_are_below_the_floor() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "ahead").await.unwrap();
    let page = key("page");
    let (one, two) = (page.variant("one"), page.variant("two"));
    lead(&redis, &one, 1).await;
    let ahead: u64 = field(&server, "ahead", &page, "g").await.parse::<u64>().unwrap() + 3_600_000_000;
    let () = server.run(&["HSET", &forge::name("ahead", &page, "s"), "g", &ahead.to_string()]).await;
    for put in [false, true] {
        let (fence, _watch) = lead(&redis, &two, 2 + u128::from(put)).await;
        assert!(fence.0 > ahead);
        redis.complete(&two, Owner(2 + u128::from(put)), fence, record("two", LONG)).await.unwrap();
        redis.put(&one, record("one", LONG)).await.unwrap();
        assert!(hit(&redis, &one).await.fence > fence && hit(&redis, &two).await.fence == fence);
        match put {
            true => redis.put(&page, record("page", LONG)).await.unwrap(),
            false => redis.invalidate(&page).await.unwrap(),
        }
        assert!(redis.get(&one).await.unwrap().is_none() && redis.get(&two).await.unwrap().is_none());
    }
}

/// What a family shares outlives each of its leases and records, and then ends; so does everything else.
#[tokio::test]
async fn a_family_ends_with_its_last_variant() {
    let server = Server::start();
    let linger = Duration::from_millis(40);
    let redis = Redis::builder("ends").linger(linger).connect(&server.url()).await.unwrap();
    let page = key("page");
    let ttl = async || server.run::<i64>(&["PTTL", &forge::name("ends", &page, "s")]).await;
    let short = |owner| Begin { lease: linger, ..ask(owner) };
    let begin = async |value: &str| {
        let variant = page.variant(value);
        let Begun::Lead { fence, .. } = redis.begin(&variant, short(1)).await.unwrap() else { panic!("nobody leads") };
        (variant, fence)
    };
    let (led, fence) = begin("led").await;
    assert!((50..=80).contains(&ttl().await), "lease and linger: {}", ttl().await);
    redis.renew(&led, Owner(1), 5 * linger).await.unwrap();
    assert!(ttl().await > 200, "a renewed lease and linger: {}", ttl().await);
    let lifetime = Duration::from_millis(600);
    redis.complete(&led, Owner(1), fence, record("x", lifetime)).await.unwrap();
    assert!(ttl().await > 500, "the record: {}", ttl().await);
    redis.put(&page.variant("put"), record("x", 2 * lifetime)).await.unwrap();
    assert!(ttl().await > 1100, "a record that was put: {}", ttl().await);
    begin("short").await;
    redis.invalidate(&page).await.unwrap();
    assert!(ttl().await > 1000, "never shortened: {}", ttl().await);
    let (large, fence) = begin("large").await;
    redis.complete(&large, Owner(1), fence, record(vec![7; 20_000], lifetime)).await.unwrap();
    until(0_usize, async || server.run(&["DBSIZE"]).await).await;
}

/// The inboxes of a family are bounded: the oldest are forgotten.
#[tokio::test]
async fn the_inboxes_of_a_family_are_bounded() {
    let server = Server::start();
    let connect = async || Redis::connect(&server.url(), "inboxes").await.unwrap();
    let (a, b) = (connect().await, connect().await);
    let page = key("page");
    let (_, mut leader) = lead(&a, &page.variant("1"), 1).await;
    let own = field(&server, "inboxes", &page, "j").await;
    assert_eq!(own.len(), 25);
    let others: String = (0..255).map(|number| format!("{number:024x} ")).collect();
    let () = server.run(&["HSET", &forge::name("inboxes", &page, "s"), "j", &(others.clone() + &own)]).await;
    let (_, mut follower) = follow(&b, &page.variant("1"), 2).await;
    follow(&b, &page.variant("1"), 3).await;
    let noted = field(&server, "inboxes", &page, "j").await;
    assert_eq!(noted.len(), 256 * 25);
    assert!(noted.starts_with(&others[25..]) && noted[254 * 25..].starts_with(&own));
    b.invalidate(&page).await.unwrap();
    assert_eq!(told(&mut leader).await, Notice::Invalidated);
    assert_eq!(told(&mut follower).await, Notice::Invalidated);
}

/// Variants keep the state of their primary alive; what it says of the flights of the primary itself is forgotten in
/// time all the same.
#[tokio::test]
async fn a_primary_forgets_its_failures_beside_its_variants() {
    let server = Server::start();
    let linger = Duration::from_millis(100);
    let redis = Redis::builder("forgets").linger(linger).connect(&server.url()).await.unwrap();
    let page = key("page");
    lead(&redis, &page.variant("lives"), 1).await;
    for dies in [false, true] {
        for owner in 1..=3 {
            let begin = Begin { lease: Duration::from_micros(1), ..ask(owner) };
            assert!(matches!(redis.begin(&page, begin).await.unwrap(), Begun::Lead { .. }));
            sleep(Duration::from_millis(2)).await;
        }
        if !dies {
            // The third one is found dead only after everything was forgotten.
            sleep(linger).await;
        } else {
            assert!(matches!(redis.begin(&page, ask(4)).await.unwrap(), Begun::Poisoned));
            sleep(linger).await;
        }
        match redis.begin(&page, Begin { lease: Duration::from_micros(1), ..ask(5) }).await.unwrap() {
            Begun::Lead { failures, .. } => assert_eq!(failures, 0),
            other => panic!("expected to lead, got {other:?}"),
        }
        sleep(linger).await;
    }
}
