//! Through `Group` and a real Redis, each figure beside its yardstick.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{AsyncCommands, IntoConnectionInfo};
use tokio::{sync::oneshot, task::JoinSet};
use tower_singleflight::{
    Group,
    backend::Redis,
    codec::Raw,
    group::{Flown, Source},
};

use crate::support::{Proxy, Server};

/// How many operations are in the air at a time where throughput is measured.
const CONCURRENCY: usize = 64;

/// Between the follower's question and the end of the work.
const PAUSE: Duration = Duration::from_millis(3);

async fn connect(url: &str) -> Redis {
    Redis::connect(url, "bench").await.unwrap()
}

fn group(redis: &Redis, ttl: Duration) -> Group<Bytes> {
    Group::with_codec(redis.clone(), "bench", Raw).result_ttl(ttl)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

pub async fn run(wanted: impl Fn(&str) -> bool) {
    let server = Server::start();
    if wanted("exchanges") {
        exchanges(&server).await;
    }
    if wanted("delay") {
        delay(&server, 500).await;
    }
    if std::env::args().any(|argument| argument == "profile") {
        profile(&server).await;
    }
    if wanted("hits") {
        hits(&server, 1024, Duration::from_secs(3)).await;
        hits(&server, 64 * 1024, Duration::from_secs(3)).await;
    }
}

/// What one flight of two replicas costs on the wire.
async fn exchanges(server: &Server) {
    println!("exchanges and bytes per flight (1 KiB, two replicas, each behind a counting proxy)");
    let (here, there) = (Proxy::start(server.port()).await, Proxy::start(server.port()).await);
    let groups = [connect(&here.url()).await, connect(&there.url()).await];
    let groups = groups.map(|redis| group(&redis, Duration::from_secs(60)));
    // The server learns the scripts.
    one_flight(&groups, "warm", 1024).await;
    settle().await;
    let bytes = |proxy: &Proxy| proxy.traffic().iter().map(|traffic| traffic.sent + traffic.received).sum::<usize>();
    let count = |proxy: &Proxy| (proxy.exchanges(), bytes(proxy));
    let before = (count(&here), count(&there));
    one_flight(&groups, "key", 1024).await;
    settle().await;
    let after = (count(&here), count(&there));
    println!("  {:<44} {:>9} exchanges {:>6} bytes", "lead", after.0.0 - before.0.0, after.0.1 - before.0.1);
    println!("  {:<44} {:>9} exchanges {:>6} bytes", "follow", after.1.0 - before.1.0, after.1.1 - before.1.1);
    let flown = groups[0].fly("key", || async { Ok::<_, Infallible>(Bytes::new()) }).await.unwrap();
    assert!(matches!(flown.source, Source::Hit { .. }));
    let hit = count(&here);
    println!("  {:<44} {:>9} exchanges {:>6} bytes", "hit", hit.0 - after.0.0, hit.1 - after.0.1);
}

/// Long enough for what follows a flight in the background.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The first group leads, the second follows; how long after the end of the work the follower had the value.
async fn one_flight(groups: &[Group<Bytes>; 2], key: &str, size: usize) -> Duration {
    let (started, start) = oneshot::channel();
    let (finish, finished) = oneshot::channel::<()>();
    let (ended, end) = oneshot::channel();
    let value = Bytes::from(vec![b'x'; size]);
    let lead = tokio::spawn({
        let (group, key) = (groups[0].clone(), key.to_owned());
        let work = move || async move {
            let _ = started.send(());
            let _ = finished.await;
            let _ = ended.send(Instant::now());
            Ok::<_, Infallible>(value)
        };
        async move { group.fly(key, work).await.unwrap() }
    });
    start.await.unwrap();
    let follow = tokio::spawn({
        let (group, key) = (groups[1].clone(), key.to_owned());
        async move {
            let flown = group.fly(key, || async { Ok::<_, Infallible>(Bytes::new()) }).await.unwrap();
            (flown, Instant::now())
        }
    });
    // The follower has asked: its begin is one exchange.
    tokio::time::sleep(PAUSE).await;
    finish.send(()).unwrap();
    let (flown, at) = follow.await.unwrap();
    assert_eq!(flown.source, Source::JoinedElsewhere);
    assert!(matches!(lead.await.unwrap(), Flown { source: Source::Led, .. }));
    at.duration_since(end.await.unwrap())
}

async fn delay(server: &Server, rounds: usize) {
    println!("follower's delay after the end of the work (1 KiB, {rounds} rounds)");
    let mut connection = bare(server).await;
    let mut ping = connection.clone();
    let mut ping = async || {
        let started = Instant::now();
        redis::cmd("PING").exec_async(&mut ping).await.unwrap();
        started.elapsed()
    };
    let mut hot = Vec::new();
    for _ in 0..rounds {
        hot.push(ping().await);
    }
    hot.sort_unstable();
    let mut pings = Vec::new();
    let groups = [connect(&server.url()).await, connect(&server.url()).await];
    let groups = groups.map(|redis| group(&redis, Duration::ZERO));
    let mut delays = Vec::new();
    for round in 0..rounds {
        delays.push(one_flight(&groups, &format!("delay {round}"), 1024).await);
        // The yardstick after the same pause: a server and a core that slept answer later than ones that did not.
        tokio::time::sleep(PAUSE).await;
        pings.push(ping().await);
    }
    pings.sort_unstable();
    delays.sort_unstable();
    let mut polled = Vec::new();
    for round in 0..rounds.min(60) {
        polled.push(one_poll(&mut connection, &format!("polled {round}"), round).await);
    }
    polled.sort_unstable();
    let ping = percentile(&pings, 50);
    let times = |delay: Duration| delay.as_secs_f64() / ping.as_secs_f64();
    for (what, sorted) in [
        ("PING, one after the other", &hot),
        ("PING, after the same pause", &pings),
        ("follower, woken", &delays),
        ("follower, polling every 50 ms", &polled),
    ] {
        let (p50, p99) = (percentile(sorted, 50), percentile(sorted, 99));
        println!("  {what:<44} p50 {p50:>9.1?}  p99 {p99:>9.1?}  p50 = {:.2} x PING", times(p50));
    }
    let ratio = percentile(&polled, 50).as_secs_f64() / percentile(&delays, 50).as_secs_f64();
    println!("  {:<44} {ratio:.0} times as long", "polling beside woken, p50");
}

/// A follower that asks every 50 ms, begun at another moment of its interval each time.
async fn one_poll(connection: &mut redis::aio::MultiplexedConnection, key: &str, round: usize) -> Duration {
    let mut follower = connection.clone();
    let name = key.to_owned();
    let follow = tokio::spawn(async move {
        while follower.get::<_, Option<Vec<u8>>>(&name).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Instant::now()
    });
    tokio::time::sleep(Duration::from_millis(50 + round as u64 * 7 % 50)).await;
    let ended = Instant::now();
    let _: () = connection.set(key, vec![b'x'; 1024]).await.unwrap();
    follow.await.unwrap().duration_since(ended)
}

/// Hits through a group beside bare `GET`s through the same client library, in turns.
async fn hits(server: &Server, size: usize, time: Duration) {
    println!("hits of {} KiB, {CONCURRENCY} at a time", size / 1024);
    let group = filled(server, size).await;
    let mut connection = bare(server).await;
    for caller in 0..CONCURRENCY {
        let _: () = connection.set(format!("bare {caller}"), vec![b'x'; size]).await.unwrap();
    }
    let usual = server.connection().await;
    let (mut bare, mut default, mut ours) = (0.0, 0.0, 0.0);
    const TURNS: u32 = 6;
    for _ in 0..TURNS {
        bare += gets_per_second(&connection, size, time / TURNS).await;
        default += gets_per_second(&usual, size, time / TURNS).await;
        ours += hits_per_second(&group, size, time / TURNS).await;
    }
    let [bare, default, ours] = [bare, default, ours].map(|sum| sum / f64::from(TURNS));
    println!("  {:<44} {bare:>9.0} /s", "bare GET, TCP_NODELAY like ours");
    println!("  {:<44} {default:>9.0} /s", "bare GET, the client's defaults (Nagle)");
    println!("  {:<44} {ours:>9.0} /s = {:.2} x bare", "hit through a group", ours / bare);
}

/// A connection of the same client library with the settings that the backend uses. `TCP_NODELAY` above all: without it
/// small requests travel together, which is cheap over the loopback interface and slow over a network.
async fn bare(server: &Server) -> redis::aio::MultiplexedConnection {
    let info = server.url().into_connection_info().unwrap();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = redis::Client::open(info.set_tcp_settings(tcp)).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_pipeline_buffer_size(512);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// Hits alone, for a profiler to look at.
async fn profile(server: &Server) {
    let group = filled(server, 1024).await;
    let rate = hits_per_second(&group, 1024, Duration::from_secs(10)).await;
    println!("hits of 1 KiB, {CONCURRENCY} at a time, alone: {rate:.0} /s");
}

async fn filled(server: &Server, size: usize) -> Group<Bytes> {
    let group = group(&connect(&server.url()).await, Duration::from_secs(3600));
    for caller in 0..CONCURRENCY {
        group.put(format!("hit {caller}"), &Bytes::from(vec![b'x'; size])).await.unwrap();
    }
    group
}

async fn gets_per_second(connection: &redis::aio::MultiplexedConnection, size: usize, time: Duration) -> f64 {
    let connection = connection.clone();
    per_second(time, move |caller| {
        let (mut connection, key) = (connection.clone(), format!("bare {caller}"));
        async move {
            let value: Bytes = connection.get(&key).await.unwrap();
            assert_eq!(value.len(), size);
        }
    })
    .await
}

async fn hits_per_second(group: &Group<Bytes>, size: usize, time: Duration) -> f64 {
    let group = group.clone();
    per_second(time, move |caller| {
        let (group, key) = (group.clone(), format!("hit {caller}"));
        async move {
            let flown = group.fly(&key, || async { Ok::<_, Infallible>(Bytes::new()) }).await.unwrap();
            assert_eq!((flown.value.len(), matches!(flown.source, Source::Hit { .. })), (size, true));
        }
    })
    .await
}

async fn per_second<F: Future<Output = ()> + Send>(
    time: Duration,
    operation: impl Fn(usize) -> F + Clone + Send + 'static,
) -> f64 {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..CONCURRENCY {
        let operation = operation.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            while started.elapsed() < time {
                operation(caller).await;
                done += 1;
            }
            done
        });
    }
    let done: u32 = tasks.join_all().await.iter().sum();
    f64::from(done) / started.elapsed().as_secs_f64()
}
