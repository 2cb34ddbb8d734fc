//! What lies in Redis: lifetimes, and what others may have put there.

use std::time::Duration;

use tokio::time::sleep;
use tower_singleflight::{
    Key,
    backend::{Backend, Begin, Begun, Completed, Fence, Found, Lifetimes, Notice, Owner, Reason, Record, Redis},
};

use crate::support::{
    Server,
    calls::{LONG, ask, follow, hit, key, lead, record, told},
    forge,
};

/// A record and a state each have a lifetime at all times, to the millisecond, and are gone when it ends.
#[tokio::test]
async fn lifetimes_are_exact() {
    let server = Server::start();
    let linger = Duration::from_millis(50);
    let redis = Redis::builder("ttl").linger(linger).connect(&server.url()).await.unwrap();
    for ms in [1_i64, 100, 1000, 1500] {
        let key = key(&format!("ttl {ms}"));
        let ttl = async |kind: &str| server.run::<i64>(&["PTTL", &forge::name("ttl", &key, kind)]).await;
        let (fence, _watch) = lead(&redis, &key, 1).await;
        let lease = i64::try_from(LONG.as_millis()).unwrap();
        assert!(ttl("s").await > lease - 1000 && ttl("s").await <= lease + 50);
        let fresh = Duration::from_millis(ms.unsigned_abs());
        redis.complete(&key, Owner(1), fence, record("x", fresh)).await.unwrap();
        let left = ttl("r").await;
        assert!(left <= ms && (left > 0 || ms == 1), "{left} of {ms} ms");
        sleep(fresh + Duration::from_millis(1)).await;
        assert_eq!(ttl("r").await, -2, "the record of {ms} ms is gone");
        assert!(redis.get(&key).await.unwrap().is_none());
    }
}

/// The lifetime of a record on its way is not the one it ends up with.
#[tokio::test]
async fn a_large_record_has_a_lifetime_of_its_own() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "large").await.unwrap();
    for (owner, lifetime) in [(1, LONG), (2, Duration::from_secs(5))] {
        let ttl = async || server.run::<u64>(&["PTTL", &forge::name("large", &key("large"), "r")]).await;
        let whole = u64::try_from(lifetime.as_millis()).unwrap();
        let large = || record(vec![7; 20_000], lifetime);
        let (fence, _watch) = lead(&redis, &key("large"), owner).await;
        redis.complete(&key("large"), Owner(owner), fence, large()).await.unwrap();
        assert!(ttl().await <= whole && ttl().await > whole - 4000);
        redis.put(&key("large"), large()).await.unwrap();
        assert!(ttl().await <= whole && ttl().await > whole - 4000);
        redis.invalidate(&key("large")).await.unwrap();
    }
}

/// A lifetime below a millisecond is one, not none: zero would be refused, or would delete.
#[tokio::test]
async fn the_shortest_lifetime_is_stored() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "short").await.unwrap();
    for nanos in [0, 1, 999_999] {
        let record = record("x", Duration::from_nanos(nanos));
        redis.put(&key("short"), record.clone()).await.unwrap();
        let (fence, _watch) = lead(&redis, &key("led"), nanos.into()).await;
        assert_eq!(redis.complete(&key("led"), Owner(nanos.into()), fence, record).await.unwrap(), Completed::Stored);
        sleep(Duration::from_millis(3)).await;
    }
    let endless = Lifetimes { fresh: Duration::MAX, stale: Duration::MAX, keep: Duration::MAX };
    let endless = Record { lifetimes: endless, cost: Duration::MAX, payload: "x".into() };
    redis.put(&key("endless"), endless).await.unwrap();
    assert!(hit(&redis, &key("endless")).await.is_fresh());
}

/// The state outlives what it speaks of, is never shortened, and ends.
#[tokio::test]
async fn the_state_ends_by_itself() {
    let server = Server::start();
    let linger = Duration::from_millis(40);
    let redis = Redis::builder("state").linger(linger).connect(&server.url()).await.unwrap();
    let name = forge::name("state", &key("state"), "s");
    let begin = Begin { lease: 2 * linger, ..ask(1) };
    redis.begin(&key("state"), begin).await.unwrap();
    redis.renew(&key("state"), Owner(1), Duration::from_micros(1)).await.unwrap();
    let left: i64 = server.run(&["PTTL", &name]).await;
    assert!(left > 60, "a shorter lease does not shorten it: {left}");
    redis.abort(&key("state"), Owner(1), Reason::Scatter(Duration::from_micros(1))).await.unwrap();
    let left: i64 = server.run(&["PTTL", &name]).await;
    assert!(left > 60, "an abort does not shorten it: {left}");
    sleep(4 * linger).await;
    assert_eq!(server.run::<i64>(&["EXISTS", &name]).await, 0);
}

/// A large record on its way is not left behind, whether it was wanted or not.
#[tokio::test]
async fn nothing_is_left_on_its_way() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "way").await.unwrap();
    let large = || record(vec![7; 20_000], LONG);
    let (fence, _watch) = lead(&redis, &key("way"), 1).await;
    let complete = async |owner| redis.complete(&key("way"), Owner(owner), fence, large()).await.unwrap();
    assert_eq!(complete(2).await, Completed::Superseded);
    assert_eq!(complete(1).await, Completed::Stored);
    assert_eq!(complete(1).await, Completed::Stored, "a retry");
    redis.put(&key("way"), large()).await.unwrap();
    let names: Vec<String> = server.run(&["KEYS", "*:t:*"]).await;
    assert_eq!(names, Vec::<String>::new());
}

/// What this version did not write, under this key, is no record: the work runs, and its result replaces it.
#[tokio::test]
async fn crafted_records_are_misses() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "crafted").await.unwrap();
    let times = [3_600_000, 3_600_000, 0];
    let whole = |of: &Key| forge::record(of, 7, times, b"forged");
    type Forge<'a> = &'a dyn Fn(&Key) -> Vec<u8>;
    let broken: [(&str, Forge<'_>); 16] = [
        ("empty", &|_| vec![]),
        ("text", &|_| b"hello".to_vec()),
        ("of another key", &|_| whole(&key("another"))),
        ("another version", &|of| [b"sfr\x02", &whole(of)[4..]].concat()),
        ("cut in the header", &|of| whole(of)[..40].to_vec()),
        ("cut in the key", &|of| whole(of)[..50].to_vec()),
        ("a key beyond the end", &|of| {
            let mut bytes = whole(of);
            bytes[44..48].copy_from_slice(&[0xff; 4]);
            bytes
        }),
        ("a fence of zero", &|of| forge::record(of, 0, times, b"forged")),
        ("a fence beyond all", &|of| forge::record(of, u64::MAX, times, b"forged")),
        ("the last fence", &|of| forge::record(of, (1 << 53) - 1, times, b"forged")),
        ("a fence that leaves no room", &|of| forge::record(of, (1 << 52) + 1, times, b"forged")),
        ("endless", &|of| forge::record(of, 7, [u64::MAX; 3], b"forged")),
        ("kept for an age", &|of| forge::record(of, 7, [(1 << 41) + 1, 3_600_000, 0], b"forged")),
        ("fresh for an age", &|of| forge::record(of, 7, [3_600_000, 1 << 63, 0], b"forged")),
        ("stale for an age", &|of| forge::record(of, 7, [3_600_000, 0, 1 << 60], b"forged")),
        ("with more left than its whole lifetime", &|of| forge::record(of, 7, [1000, 3_600_000, 0], b"forged")),
    ];
    for (number, (what, bytes)) in (1..).zip(broken) {
        for px in [Some(3_600_000), None] {
            let key = key(&format!("{what} {px:?}"));
            server.set(&forge::name("crafted", &key, "r"), bytes(&key), px).await;
            assert!(redis.get(&key).await.unwrap().is_none(), "{what}");
            let (fence, _watch) = lead(&redis, &key, number).await;
            let completed = redis.complete(&key, Owner(number), fence, record("good", LONG)).await.unwrap();
            assert_eq!(completed, Completed::Stored, "{what}");
            assert_eq!(&hit(&redis, &key).await.payload[..], b"good", "{what}");
        }
    }
    // Well-formed, but without an end, as no version of this crate stores anything.
    let endless = key("endless");
    let forged = forge::record(&endless, 7, [1000, 3_600_000, 3_600_000], b"forged");
    server.set(&forge::name("crafted", &endless, "r"), forged, None).await;
    assert!(redis.get(&endless).await.unwrap().is_none());
    lead(&redis, &endless, 1).await;
}

/// Keys of another type than this version uses are in nobody's way.
#[tokio::test]
async fn foreign_types_are_replaced() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "types").await.unwrap();
    let foreign: [&[&str]; 4] =
        [&["LPUSH", "r", "x"], &["HSET", "r", "a", "b"], &["SET", "s", "x"], &["HSET", "s", "o", "me", "f", "7"]];
    for (number, command) in foreign.iter().enumerate() {
        let plant = async |what: &str| {
            let key = key(&format!("{what} {number}"));
            let name = forge::name("types", &key, command[1]);
            let command: Vec<&str> = [&[command[0], &name], &command[2..]].concat();
            let () = server.run(&command).await;
            key
        };
        let begun = plant("begin").await;
        assert!(redis.get(&begun).await.unwrap().is_none());
        let (fence, _watch) = lead(&redis, &begun, 1).await;
        redis.complete(&begun, Owner(1), fence, record("begun", LONG)).await.unwrap();
        assert_eq!(&hit(&redis, &begun).await.payload[..], b"begun");
        let put = plant("put").await;
        redis.put(&put, record("put", LONG)).await.unwrap();
        assert_eq!(&hit(&redis, &put).await.payload[..], b"put");
        let invalidated = plant("invalidate").await;
        redis.invalidate(&invalidated).await.unwrap();
        lead(&redis, &invalidated, 1).await;
    }
}

/// A record from the future of this server's clock: what comes next is above it all the same.
#[tokio::test]
async fn fences_rise_above_a_record_from_the_future() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "future").await.unwrap();
    let future = Fence(4_000_000_000_000_000);
    let plant = async |name: &str| {
        let key = key(name);
        let forged = forge::record(&key, future.0, [3_600_000, 0, 0], b"future");
        server.set(&forge::name("future", &key, "r"), forged, Some(3_600_000)).await;
        key
    };
    let begun = plant("begin").await;
    let (fence, _watch) = lead(&redis, &begun, 1).await;
    assert!(fence > future);
    redis.invalidate(&begun).await.unwrap();
    assert!(lead(&redis, &begun, 2).await.0 > fence);
    let put = plant("put").await;
    redis.put(&put, record("x", LONG)).await.unwrap();
    assert!(hit(&redis, &put).await.fence > future);
}

/// Leases, scattering and records that are younger than the state prolong its life.
#[tokio::test]
async fn the_state_is_kept() {
    let server = Server::start();
    let redis = Redis::builder("kept").linger(Duration::from_millis(20)).connect(&server.url()).await.unwrap();
    let short = |owner| Begin { lease: Duration::from_secs(60), ..ask(owner) };
    let is_kept = async |key: &Key| {
        let left: i64 = server.run(&["PTTL", &forge::name("kept", key, "s")]).await;
        assert!(left > 3_000_000, "{left} ms");
    };
    let [renewed, scattered, put, found] = ["renewed", "scattered", "put", "found"].map(key);
    redis.begin(&renewed, short(1)).await.unwrap();
    redis.renew(&renewed, Owner(1), LONG).await.unwrap();
    is_kept(&renewed).await;
    redis.begin(&scattered, short(1)).await.unwrap();
    redis.abort(&scattered, Owner(1), Reason::Scatter(LONG)).await.unwrap();
    is_kept(&scattered).await;
    redis.begin(&put, short(1)).await.unwrap();
    redis.put(&put, record("x", LONG)).await.unwrap();
    is_kept(&put).await;
    let lifetimes = Lifetimes { keep: LONG, ..Lifetimes::default() };
    redis.put(&found, Record { lifetimes, ..record("x", Duration::ZERO) }).await.unwrap();
    redis.begin(&found, short(1)).await.unwrap();
    is_kept(&found).await;
}

/// A success makes dead leaders count from zero.
#[tokio::test]
async fn a_success_forgets_the_dead() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "dead").await.unwrap();
    let key = key("dead");
    let dies = async |owner| {
        let begin = Begin { lease: Duration::from_micros(1), ..ask(owner) };
        assert!(matches!(redis.begin(&key, begin).await.unwrap(), Begun::Lead { .. }));
        // Its lease, and more.
        sleep(Duration::from_millis(2)).await;
    };
    dies(1).await;
    dies(2).await;
    let (fence, _watch) = lead(&redis, &key, 3).await;
    redis.complete(&key, Owner(3), fence, record("x", Duration::ZERO)).await.unwrap();
    // The shortest lifetime there is.
    sleep(Duration::from_millis(2)).await;
    dies(4).await;
    lead(&redis, &key, 5).await;
}

/// A large record that is gone before the script runs, as the store may evict it: nothing is done, and it is said.
#[tokio::test]
async fn a_large_record_that_is_gone_changes_nothing() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "gone").await.unwrap();
    let key = key("gone");
    redis.put(&key, record("old", Duration::ZERO)).await.unwrap();
    let (fence, _watch) = lead(&redis, &key, 1).await;
    let [record, state, ready] = ["r", "s", "t:1"].map(|kind| forge::name("gone", &key, kind));
    let run = async |script: &str, args: &[&str]| -> u64 {
        let source = [include_str!("../../src/backend/redis/scripts/lib.lua"), script].concat();
        server.run(&[&["EVAL", &source, "3", &record, &state, &ready], args].concat()).await
    };
    let digest = key.digest().to_string();
    let before: Vec<String> = server.run(&["HGETALL", &state]).await;
    let put = include_str!("../../src/backend/redis/scripts/put.lua");
    assert_eq!(run(put, &["1", "1000", &digest, "channel"]).await, 0);
    let complete = include_str!("../../src/backend/redis/scripts/complete.lua");
    let (owner, fence) = (format!("{:032x}", 1), fence.0.to_string());
    assert_eq!(run(complete, &[&owner, &fence, "1000", &digest, "channel"]).await, 2);
    assert_eq!(server.run::<Vec<String>>(&["HGETALL", &state]).await, before);
}

/// A record of another key under this key's name is not used even by those who follow, however fresh it claims to be.
#[tokio::test]
async fn the_key_in_a_record_decides() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "foreign").await.unwrap();
    let (mine, other) = (key("mine"), key("other"));
    let (fence, _watch) = lead(&redis, &mine, 1).await;
    redis.complete(&mine, Owner(1), fence, record("mine", LONG)).await.unwrap();
    // Same fence, other key: the fast path reads it first, then the script says that it is a hit.
    let foreign = forge::record(&other, fence.0, [3_600_000, 3_600_000, 0], b"foreign");
    server.set(&forge::name("foreign", &mine, "r"), foreign, Some(3_600_000)).await;
    let (next, _watch) = lead(&redis, &mine, 2).await;
    assert!(next > fence);
}

/// Whoever may publish can lie, but only about what is worth a look.
#[tokio::test]
async fn forged_messages_are_harmless() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "forged").await.unwrap();
    let leader = Redis::connect(&server.url(), "forged").await.unwrap();
    let (mine, other) = (key("mine"), key("other"));
    let digest = mine.digest();
    let (fence, _leading) = lead(&leader, &mine, 1).await;
    let (_, mut watch) = follow(&redis, &mine, 2).await;
    let times = [3_600_000, 3_600_000, 0];
    let foreign = forge::record(&other, fence.0, times, b"foreign");
    let mut lies: Vec<Vec<u8>> = vec![vec![], b"\x01".to_vec(), b"hello".to_vec(), vec![0xff; 100]];
    lies.push(forge::message(9, digest, 1, b""));
    lies.push(forge::message(2, other.digest(), 0, b""));
    lies.push(forge::message(1, digest, fence.0, &foreign));
    lies.push(forge::message(1, digest, fence.0, &foreign[..30]));
    for lie in lies {
        server.publish_to_all("forged", &lie).await;
    }
    // Only the two that speak of this key arrive, and without what is not its record.
    assert_eq!(told(&mut watch).await, Notice::Landed(fence, None));
    assert_eq!(told(&mut watch).await, Notice::Landed(fence, None));
    // The flight was never over: whoever looks still follows it.
    assert_eq!(follow(&redis, &mine, 3).await.0, fence);
    leader.complete(&mine, Owner(1), fence, record("true", LONG)).await.unwrap();
    match told(&mut watch).await {
        Notice::Landed(landed, Some(found)) => assert_eq!((landed, &found.payload[..]), (fence, &b"true"[..])),
        other => panic!("expected the true record, got {other:?}"),
    }
}

/// A record is inline in the message up to the limit, head and key included, and fetched above it.
#[tokio::test]
async fn the_inline_limit_decides_what_travels_with_the_message() {
    let server = Server::start();
    let connect = async || Redis::builder("inline").inline_limit(1000).connect(&server.url()).await.unwrap();
    let (a, b) = (connect().await, connect().await);
    let head = 48 + key("inline 0").canonical().len();
    for (number, size, inline) in [(0, 1000 - head, true), (1, 1001 - head, false)] {
        let key = key(&format!("inline {number}"));
        let (fence, _watch) = lead(&a, &key, 1).await;
        let (_, mut watch) = follow(&b, &key, 2).await;
        a.complete(&key, Owner(1), fence, record(vec![7; size], LONG)).await.unwrap();
        let Notice::Landed(_, found) = told(&mut watch).await else { panic!("the flight landed") };
        assert_eq!(found.is_some(), inline, "{size} bytes");
        assert_eq!(hit(&b, &key).await.payload.len(), size);
    }
}

/// Script and read are two commands, and a record may be replaced between them: what comes is never a mixture.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hit_is_never_a_mixture_of_two_records() {
    let server = Server::start();
    let connect = async || Redis::connect(&server.url(), "mixture").await.unwrap();
    let key = key("mixture");
    let writer = connect().await;
    let put = async |number: u32| writer.put(&key, record(number.to_be_bytes().to_vec(), LONG)).await.unwrap();
    put(0).await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..3 {
        let (redis, key) = (connect().await, key.clone());
        readers.spawn(async move {
            let seen = |found: &Found| (found.fence, u32::from_be_bytes(found.payload[..].try_into().unwrap()));
            let mut last = seen(&hit(&redis, &key).await);
            let (mut replaced, mut round) = (0, 0);
            while last.1 < 500 {
                round += 1;
                let found = match round % 2 {
                    0 => redis.get(&key).await.unwrap().expect("there is always a record"),
                    _ => hit(&redis, &key).await,
                };
                let seen = seen(&found);
                assert!(found.age < LONG / 2);
                assert_eq!(seen.0 > last.0, seen.1 > last.1, "reader {reader}: {last:?}, then {seen:?}");
                assert!(seen >= last, "reader {reader}: {last:?}, then {seen:?}");
                replaced += u32::from(seen > last);
                last = seen;
            }
            replaced
        });
    }
    for number in 1..=500 {
        put(number).await;
    }
    while let Some(replaced) = readers.join_next().await {
        assert!(replaced.unwrap() > 10, "reads and writes were interleaved");
    }
}
