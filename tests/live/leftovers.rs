//! Whatever happens to a flight, nothing of it stays in redis, and no handle leaves a subscription.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use tokio::time::sleep;
use tower_singleflight::{
    Group,
    backend::Redis,
    group::{Keep, Source},
};

use crate::support::{
    Server,
    calls::PATIENCE,
    fleet::{
        APP, Job, MS, answers, assert_all, at_once, call, callers, group, group_key, parked, replicas, strict, until,
    },
    forge,
};

/// Replicas whose traces are short-lived.
async fn short_lived(server: &Server, n: usize) -> Vec<Group<String>> {
    let mut groups = Vec::new();
    for _ in 0..n {
        let redis = Redis::builder(APP).linger(50 * MS).connect(&server.url()).await.unwrap();
        groups.push(group(redis).lock_ttl(100 * MS).result_ttl(100 * MS));
    }
    groups
}

async fn channels(connection: &mut MultiplexedConnection) -> Vec<String> {
    redis::cmd("PUBSUB").arg("CHANNELS").query_async(connection).await.unwrap()
}

/// Each replica has one channel with one subscriber, nothing is left after the TTLs, and after the handles no channel.
async fn nothing_is_left(server: &Server, groups: Vec<Group<String>>) {
    let mut connection = server.connection().await;
    let channels_before = channels(&mut connection).await;
    assert_eq!(channels_before.len(), groups.len());
    for channel in channels_before {
        let (_, subscribers): (String, usize) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query_async(&mut connection).await.unwrap();
        assert_eq!(subscribers, 1);
    }
    until(0_usize, async || redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap()).await;
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    assert!(!stats.contains("expired_keys:0\r"), "there was something, and its time was over: {stats}");
    drop(groups);
    until(Vec::new(), async || channels(&mut connection).await).await;
}

async fn size(server: &Server) -> usize {
    server.run(&["DBSIZE"]).await
}

#[tokio::test]
async fn after_results() {
    let server = Server::start();
    let groups = short_lived(&server, 3).await;
    for bytes in [0, 20_000, 200_000] {
        let job = Job::sized(bytes);
        let key = format!("{bytes} bytes");
        let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 10, &key, &job)).collect();
        job.started(1).await;
        parked(&server, &group_key(&key), 2).await;
        job.release();
        assert_all(&answers(calls).await, &job.value(1));
    }
    nothing_is_left(&server, groups).await;
}

#[tokio::test]
async fn after_failures_and_panics() {
    let server = Server::start();
    let groups = short_lived(&server, 3).await;
    for key in ["fails", "panics"] {
        let calls: Vec<_> = groups
            .iter()
            .map(|group| {
                let group = group.clone();
                at_once(async move {
                    let work = move || async move { if key == "fails" { Err(7) } else { panic!("on purpose") } };
                    group.work(key, work).await
                })
            })
            .collect();
        for call in calls {
            let outcome = tokio::time::timeout(PATIENCE, call).await.expect("nobody hangs");
            assert!(matches!(outcome, Ok(Err(7)) if key == "fails") || outcome.is_err_and(|error| error.is_panic()));
        }
    }
    nothing_is_left(&server, groups).await;
}

#[tokio::test]
async fn after_scattering() {
    let server = Server::start();
    let groups = short_lived(&server, 3).await;
    let groups: Vec<_> = groups.into_iter().map(|group| group.keep(|_| Keep::No(100 * MS))).collect();
    let job = Job::held();
    let calls: Vec<_> = groups.iter().flat_map(|group| callers(group, 3, "key", &job)).collect();
    parked(&server, &group_key("key"), 2).await;
    job.release();
    assert_eq!(answers(calls).await.len(), 9);
    assert_eq!(job.runs(), 9, "each for himself");
    nothing_is_left(&server, groups).await;
}

/// Callers that leave: while they lead, while they follow, and before the store has answered.
#[tokio::test]
async fn after_callers_that_left() {
    let server = Server::start();
    let groups = short_lived(&server, 2).await;
    let job = Job::held();
    let leader = call(&groups[0], "key", &job);
    job.started(1).await;
    let follower = call(&groups[1], "key", &job);
    parked(&server, &group_key("key"), 1).await;
    leader.abort();
    follower.abort();
    for number in 0..100 {
        call(&groups[number % 2], format!("left at once {number}"), &Job::quick()).abort();
    }
    for call in [leader, follower] {
        assert!(call.await.is_err_and(|error| error.is_cancelled()));
    }
    job.release();
    until(0, async || size(&server).await).await;
    nothing_is_left(&server, groups).await;
}

/// Leaders that die without a word, with their connections and all.
#[test]
fn after_dead_leaders() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (dies, lives) = (runtime(), runtime());
    let server = Server::start();
    let job = Job::held();
    let gone = dies.block_on(short_lived(&server, 1));
    for key in ["one", "two"] {
        dies.block_on(async { drop(call(&gone[0], key, &job)) });
    }
    lives.block_on(job.started(2));
    dies.shutdown_background();
    drop(gone);
    lives.block_on(async {
        until(0, async || server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()).await;
        let groups = short_lived(&server, 2).await;
        let next = Job::quick();
        // One replica takes over one of the two flights, and nobody the other.
        assert_all(&answers(callers(&groups[0], 3, "one", &next)).await, "run 1");
        assert_eq!(next.runs(), 1);
        nothing_is_left(&server, groups).await;
    });
}

/// A result is a hit for its TTL and not a moment longer; what holds it is gone soon after.
#[tokio::test]
async fn a_ttl_is_kept() {
    let server = Server::start();
    let [tenth, one, one_and_a_half] = [100, 1000, 1500].map(|ttl| kept(&server, ttl * MS));
    tokio::join!(tenth, one, one_and_a_half);
}

async fn kept(server: &Server, ttl: Duration) {
    let groups = replicas(server, 2, |group| group.result_ttl(ttl).lock_ttl(10 * MS)).await;
    let (job, key) = (Job::quick(), format!("{ttl:?}"));
    let record = forge::name(APP, &group_key(&key), "r");
    let left = async || server.run::<i64>(&["PTTL", &record]).await;
    let start = Instant::now();
    // Strict: returns when the result has landed.
    assert_eq!(answers([strict(&groups[0], &key, &job)]).await.remove(0).unwrap(), "run 1");
    assert!(left().await > 0);
    let seen = answers([call(&groups[1], &key, &job)]).await.remove(0);
    match seen.source {
        Source::Hit { .. } => assert_eq!(seen.value, "run 1"),
        // A busy machine may take 100 ms for two calls.
        source => {
            assert!(source == Source::Led && start.elapsed() >= ttl, "within {ttl:?} there is a hit, not {seen:?}");
        }
    }
    let runs = job.runs();
    // Its age as the store tells it goes on until the result is gone.
    let mut oldest = Duration::ZERO;
    while let Some(seen) = groups[1].peek(&key).await.unwrap() {
        let Source::Hit { age } = seen.source else { panic!("there is no warm-up window: {seen:?}") };
        assert!(age >= oldest && age < ttl, "{age:?}");
        oldest = age;
        sleep(MS).await;
    }
    assert!(start.elapsed() + 2 * MS >= ttl, "gone after {:?}", start.elapsed());
    // Ages are told in whole milliseconds: two looks may differ by one about the moment.
    sleep(2 * MS).await;
    let seen = answers([call(&groups[1], &key, &job)]).await.remove(0);
    assert_eq!((seen.source, job.runs()), (Source::Led, runs + 1));
    // Each record has an end, which for the shortest lease comes a second later.
    until(-2, left).await;
}

/// Whatever bytes a key is made of, its result is its own, and found by other replicas.
#[tokio::test]
async fn any_bytes_are_a_key() {
    let server = Server::start();
    let groups = replicas(&server, 2, |group| group.result_ttl(PATIENCE)).await;
    let long = vec![b'x'; 10 * 1024];
    let keys: [&[u8]; 14] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"{}",
        b"{a}",
        b"a b",
        b"a\nb",
        b"a\r\nb",
        b"\0",
        b"\xff\xfe",
        b"\xc3\x28",
        b"ab",
        &long,
    ];
    let fly = async |replica: usize, number: usize| {
        let work = move || async move { Ok::<_, Infallible>(number.to_string()) };
        groups[replica].fly(keys[number], work).await.unwrap()
    };
    for number in 0..keys.len() {
        let led = fly(number % 2, number).await;
        assert_eq!((led.value, led.source), (number.to_string(), Source::Led));
    }
    until(keys.len() * 2, async || size(&server).await).await;
    for number in 0..keys.len() {
        for replica in [0, 1] {
            let hit = fly(replica, number).await;
            assert!(hit.value == number.to_string() && matches!(hit.source, Source::Hit { .. }), "{number}: {hit:?}");
        }
    }
}
