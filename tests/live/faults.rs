//! What breaks comes back by itself, and until then nobody waits long.

use std::time::{Duration, Instant};

use tower_singleflight::backend::{
    Backend, Begin, Begun, Completed, ErrorKind, Lifetimes, Notice, Owner, Record, Redis,
};

use crate::support::{
    Proxy, Server,
    calls::{LONG, ask, follow, hit, key, lead, record, told, until_ok},
};

/// The names of all inboxes of an application.
async fn inboxes(server: &Server, prefix: &str) -> Vec<String> {
    server.run(&["PUBSUB", "CHANNELS", &format!("sf1:{prefix}:inbox:*")]).await
}

/// The inbox is made again under another name, and whoever waits begins again: what was said meanwhile is lost.
#[tokio::test]
async fn a_killed_inbox_is_made_again_and_wakes_those_who_wait() {
    let server = Server::start();
    let leader = Redis::connect(&server.url(), "inbox").await.unwrap();
    let redis = Redis::connect(&server.url(), "inbox").await.unwrap();
    let mut watches = Vec::new();
    for number in 0..200 {
        let key = key(&format!("parked {number}"));
        lead(&leader, &key, 1).await;
        watches.push(follow(&redis, &key, 2).await.1);
    }
    let before = inboxes(&server, "inbox").await;
    assert_eq!(before.len(), 2);
    let killed: u32 = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 2);
    for watch in &mut watches {
        assert_eq!(told(watch).await, Notice::Retry);
    }
    let after = inboxes(&server, "inbox").await;
    assert!(!after.is_empty() && after.iter().all(|name| !before.contains(name)), "a name is never used twice");
    // And it hears again.
    let key = key("after");
    let (fence, _watch) = lead(&leader, &key, 3).await;
    let (_, mut watch) = follow(&redis, &key, 4).await;
    leader.complete(&key, Owner(3), fence, record("x", LONG)).await.unwrap();
    assert!(matches!(told(&mut watch).await, Notice::Landed(landed, Some(_)) if landed == fence));
}

/// A connection that is silent but open is found out by its heartbeat.
#[tokio::test]
async fn a_hanging_inbox_is_made_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let leader = Redis::connect(&server.url(), "hang").await.unwrap();
    let redis = Redis::connect(&proxy.url(), "hang").await.unwrap();
    lead(&leader, &key("hang"), 1).await;
    let (_, mut watch) = follow(&redis, &key("hang"), 2).await;
    proxy.hang(true);
    let hanging = proxy.traffic().len();
    let start = Instant::now();
    // Its heartbeat fails, and it asks for a new connection, which hangs as well.
    while proxy.traffic().len() == hanging {
        assert!(start.elapsed() < Duration::from_secs(10), "the inbox was not given up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.hang(false);
    assert_eq!(told(&mut watch).await, Notice::Retry);
}

/// Nothing is sent before the inbox listens: with the inbox away, begin fails instead of following deaf.
#[tokio::test]
async fn nobody_begins_without_an_inbox() {
    let server = Server::start();
    let () = server.run(&["ACL", "SETUSER", "deaf", "on", "nopass", "~*", "&nothing", "+@all"]).await;
    let url = server.url().replace("redis://", "redis://deaf:x@");
    let redis = Redis::connect_lazy(&url, "deaf").unwrap();
    let error = redis.begin(&key("deaf"), ask(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("right"), "{error}");
    let names: Vec<String> = server.run(&["KEYS", "*"]).await;
    assert!(names.is_empty(), "{names:?}");
}

/// A server that forgot its scripts gets them again, inside the same operation.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "flush").await.unwrap();
    let flush = async || server.run::<()>(&["SCRIPT", "FLUSH"]).await;
    for (number, size) in [(1, 10), (2, 20_000), (3, 100_000)] {
        let key = key(&format!("flush {number}"));
        flush().await;
        let (fence, _watch) = lead(&redis, &key, number).await;
        flush().await;
        let completed = redis.complete(&key, Owner(number), fence, record(vec![1; size], LONG)).await.unwrap();
        assert_eq!(completed, Completed::Stored);
        assert_eq!(hit(&redis, &key).await.payload.len(), size);
        flush().await;
        redis.put(&key, record(vec![2; size], LONG)).await.unwrap();
        flush().await;
        assert_eq!(hit(&redis, &key).await.payload.len(), size);
        flush().await;
        redis.invalidate(&key).await.unwrap();
        flush().await;
        redis.renew(&key, Owner(number), LONG).await.unwrap();
    }
}

/// A flushed database costs the flight in the air its place, and nothing else.
#[tokio::test]
async fn a_flushed_database_is_begun_anew() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "flushall").await.unwrap();
    let key = key("flushall");
    redis.put(&key, record("x", LONG)).await.unwrap();
    hit(&redis, &key).await;
    let () = server.run(&["FLUSHALL"]).await;
    let (old, _watch) = lead(&redis, &key, 1).await;
    let () = server.run(&["FLUSHALL"]).await;
    let (new, _watch) = lead(&redis, &key, 2).await;
    assert!(new > old, "time goes on even if the state is gone");
    assert_eq!(redis.complete(&key, Owner(1), old, record("old", LONG)).await.unwrap(), Completed::Superseded);
    assert_eq!(redis.complete(&key, Owner(2), new, record("new", LONG)).await.unwrap(), Completed::Stored);
}

/// While the server is away operations fail at once, and soon after it is back they succeed.
#[tokio::test]
async fn a_killed_server_is_found_again() {
    let mut server = Server::start();
    let redis = Redis::connect(&server.url(), "kill").await.unwrap();
    let leader = Redis::connect(&server.url(), "kill").await.unwrap();
    lead(&leader, &key("kill"), 1).await;
    let (_, mut watch) = follow(&redis, &key("kill"), 2).await;
    for _ in 0..3 {
        server.kill();
        let start = Instant::now();
        for number in 0..20 {
            let error = redis.begin(&key(&format!("kill {number}")), ask(9)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        server.restart().await;
        until_ok(async || redis.put(&key("kill"), record("x", LONG)).await).await;
        assert_eq!(told(&mut watch).await, Notice::Retry);
        until_ok(async || redis.begin(&key("kill"), ask(9)).await).await;
    }
}

/// An idle handle notices a restart by itself: not even the first operation afterwards fails.
#[tokio::test]
async fn a_restart_between_operations_is_not_noticed() {
    let mut server = Server::start();
    let redis = Redis::connect(&server.url(), "idle").await.unwrap();
    let before = inboxes(&server, "idle").await;
    server.kill();
    server.restart().await;
    let start = Instant::now();
    // The test's own look at the server is what tells that the handle is back.
    while inboxes(&server, "idle").await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(inboxes(&server, "idle").await, before);
    lead(&redis, &key("idle"), 1).await;
}

/// A server that hangs costs three operations their timeout; the others fail at once, until it goes on.
#[tokio::test]
async fn a_hanging_server_costs_a_bounded_time() {
    let server = Server::start();
    let timeout = Duration::from_millis(500);
    let redis = Redis::builder("hung").command_timeout(timeout).connect(&server.url()).await.unwrap();
    redis.put(&key("hung"), record("x", LONG)).await.unwrap();
    server.pause();
    let start = Instant::now();
    for number in 0..50 {
        let error = redis.put(&key("hung"), record("y", LONG)).await.unwrap_err();
        let expected = if number < 3 { ErrorKind::Unknown } else { ErrorKind::Unavailable };
        assert_eq!(error.kind(), expected, "operation {number}: {error}");
        assert!(error.to_string().contains("redis did not answer in time"), "also why it is not asked: {error}");
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    server.resume();
    until_ok(async || redis.put(&key("hung"), record("z", LONG)).await).await;
    assert_eq!(&until_ok(async || redis.get(&key("hung")).await).await.unwrap().payload[..], b"z");
}

/// Out of memory is a refusal, changes nothing, and says what to do.
#[tokio::test]
async fn a_full_server_refuses() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "oom").await.unwrap();
    let (fence, _watch) = lead(&redis, &key("oom"), 1).await;
    let () = server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for size in [10, 20_000] {
        let error = redis.complete(&key("oom"), Owner(1), fence, record(vec![1; size], LONG)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
        let error = redis.put(&key("oom"), record(vec![1; size], LONG)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    let () = server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let completed = redis.complete(&key("oom"), Owner(1), fence, record("x", LONG)).await.unwrap();
    assert_eq!(completed, Completed::Stored, "the refused attempts changed nothing");
}

/// A primary that becomes a replica refuses writes; the connection is replaced, in case the name now leads elsewhere.
#[tokio::test]
async fn a_demoted_primary_is_left() {
    let (server, primary) = (Server::start(), Server::start());
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "demoted").await.unwrap();
    redis.put(&key("demoted"), record("x", LONG)).await.unwrap();
    let connections = proxy.traffic().len();
    let () = server.run(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
    let error = redis.put(&key("demoted"), record("y", LONG)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let () = server.run(&["REPLICAOF", "NO", "ONE"]).await;
    until_ok(async || redis.put(&key("demoted"), record("z", LONG)).await).await;
    assert!(proxy.traffic().len() > connections, "on a connection made since");
}

/// Lost messages cost time, never the outcome: the next begin finds what landed.
#[tokio::test]
async fn lost_messages_do_not_change_the_outcome() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let leader = Redis::connect(&server.url(), "lost").await.unwrap();
    let redis = Redis::connect(&proxy.url(), "lost").await.unwrap();
    proxy.drop_messages(true);
    let (fence, _watch) = lead(&leader, &key("lost"), 1).await;
    let (followed, mut watch) = follow(&redis, &key("lost"), 2).await;
    let lifetimes = Lifetimes { keep: LONG, ..Lifetimes::default() };
    let kept = Record { lifetimes, ..record("x", Duration::ZERO) };
    leader.complete(&key("lost"), Owner(1), fence, kept).await.unwrap();
    match redis.begin(&key("lost"), Begin { followed, ..ask(3) }).await.unwrap() {
        Begun::Hit(found) => assert_eq!((found.fence, &found.payload[..]), (fence, &b"x"[..])),
        other => panic!("expected what landed, got {other:?}"),
    }
    // The message was lost indeed: the first one to come is the next flight's.
    proxy.drop_messages(false);
    let (next, _watch) = lead(&leader, &key("lost"), 4).await;
    follow(&redis, &key("lost"), 5).await;
    leader.complete(&key("lost"), Owner(4), next, record("y", LONG)).await.unwrap();
    assert!(matches!(told(&mut watch).await, Notice::Landed(landed, _) if landed == next));
}

/// Cut connections, and a server that takes no new ones, are an error at once and forgotten afterwards.
#[tokio::test]
async fn a_refusing_network_is_survived() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "network").await.unwrap();
    redis.put(&key("network"), record("x", LONG)).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    let start = Instant::now();
    for _ in 0..20 {
        let error = redis.get(&key("network")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    proxy.refuse(false);
    assert!(until_ok(async || redis.get(&key("network")).await).await.is_some());
}

/// Whoever stops waiting takes nothing from the others, and the handle stays in step with the server.
#[tokio::test]
async fn dropped_operations_do_no_harm() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "dropped").await.unwrap();
    for number in 0..50 {
        redis.put(&key(&format!("dropped {number}")), record(format!("{number}"), LONG)).await.unwrap();
    }
    for round in 0..20_u128 {
        for number in 0..50 {
            let key = key(&format!("dropped {number}"));
            // Polled so often, then dropped: before it was sent, while it was under way, or just before its end.
            let mut begin = Box::pin(redis.begin(&key, ask(round)));
            for _ in 0..round % 5 {
                tokio::select! {
                    biased;
                    _ = &mut begin => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        let number = round * 2;
        assert_eq!(hit(&redis, &key(&format!("dropped {number}"))).await.payload, format!("{number}"));
    }
}
