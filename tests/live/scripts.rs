//! The Lua scripts are the model once more.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use tower_singleflight::{
    Key,
    backend::{Backend, Completed, Owner, Reason, Redis},
};

use crate::{
    histories::{END, histories, on_backend, on_model},
    support::{
        Proxy, Server,
        calls::{LONG, ask, hit, key, lead, record, until_ok},
        forge,
    },
};

/// Whatever happens to a key, the scripts do what the model does.
#[test]
fn they_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let replicas: [Redis; 3] = runtime.block_on(async {
        let connect = async || Redis::connect(&server.url(), "history").await.unwrap();
        [connect().await, connect().await, connect().await]
    });
    let mut run = 0_u32;
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) });
    let mut run = |history: Vec<_>| {
        run += 1;
        let key = Key::builder("history").part(run.to_be_bytes()).finish();
        let expected = on_model(&history);
        let end = async || {
            let end = u64::try_from(END.as_micros()).unwrap();
            server.publish_to_all("history", &forge::message(3, key.digest(), end, b"")).await;
            true
        };
        let seen = runtime.block_on(on_backend(&replicas, &key, &history, &expected, end, async || {}));
        prop_assert_eq!(seen, expected);
        Ok(())
    };
    let run = RefCell::new(&mut run);
    runner.run(&histories(40), |history| (run.borrow_mut())(history)).unwrap();
}

/// A cluster refuses a script whose keys lie in two slots, so passing there proves that none does. The names themselves
/// are compared as well, for keys that try to move them.
#[tokio::test]
async fn none_touches_two_slots() {
    let server = Server::start_with(&["--cluster-enabled", "yes"]);
    let () = server.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let redis = Redis::connect(&server.url(), "slots").await.unwrap();
    for part in ["", "{x}", "}{", "{}", "\0"] {
        let key = key(part);
        let mut slots = Vec::new();
        for kind in ["r", "s", "t:0123"] {
            slots.push(server.run::<u16>(&["CLUSTER", "KEYSLOT", &forge::name("slots", &key, kind)]).await);
        }
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{part:?}: {slots:?}");
        // The cluster needs a moment to find itself complete.
        until_ok(async || redis.begin(&key, ask(1)).await).await;
        every_operation(&redis, &key, async |_| {}).await;
    }
}

/// Calls every operation, in all its forms, and reports each.
async fn every_operation(redis: &Redis, key: &Key, done: impl AsyncFn(&str)) {
    let (fence, _watch) = lead(redis, key, 1).await;
    done("begin").await;
    redis.renew(key, Owner(1), LONG).await.unwrap();
    done("renew").await;
    assert_eq!(redis.complete(key, Owner(1), fence, record("x", LONG)).await.unwrap(), Completed::Stored);
    done("complete").await;
    hit(redis, key).await;
    done("hit").await;
    redis.get(key).await.unwrap().unwrap();
    done("get").await;
    redis.put(key, record("y", LONG)).await.unwrap();
    done("put").await;
    redis.invalidate(key).await.unwrap();
    done("invalidate").await;
    redis.put(key, record(vec![7; 20_000], LONG)).await.unwrap();
    done("put of a large record").await;
    redis.invalidate(key).await.unwrap();
    done("invalidate").await;
    let (fence, _watch) = lead(redis, key, 3).await;
    done("begin").await;
    let large = record(vec![7; 20_000], Duration::ZERO);
    assert_eq!(redis.complete(key, Owner(3), fence, large).await.unwrap(), Completed::Stored);
    done("complete with a large record").await;
    lead(redis, key, 4).await;
    done("begin").await;
    redis.abort(key, Owner(4), Reason::Scatter(Duration::from_micros(1))).await.unwrap();
    done("abort").await;
}

/// Each operation is one exchange, once the server knows the scripts.
#[tokio::test]
async fn each_operation_is_one_exchange() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "exchanges").await.unwrap();
    every_operation(&redis, &key("first"), async |_| {}).await;
    let before = Cell::new(proxy.exchanges());
    every_operation(&redis, &key("second"), async |what| {
        let now = proxy.exchanges();
        assert_eq!(now - before.replace(now), 1, "exchanges of one {what}");
    })
    .await;
}

/// A record that is known to be fresh is read with one plain command, by the replica that stored it and by any other.
#[tokio::test]
async fn a_known_record_is_read_without_a_script() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "known").await.unwrap();
    let commands = || proxy.commands();
    let key = key("known");
    redis.put(&key, record("x", LONG)).await.unwrap();
    assert!(redis.recall(&key).is_none(), "nothing is known of a record that was put");
    hit(&redis, &key).await;
    let before = commands().len();
    for _ in 0..5 {
        let read = redis.recall(&key).expect("it is known").await.unwrap();
        assert_eq!(&read.expect("it is there").payload[..], b"x");
    }
    assert_eq!(commands()[before..], ["GET"; 5]);
    // Another replica replaces it: the plain read shows that, and the script takes over.
    let other = Redis::connect(&server.url(), "known").await.unwrap();
    other.put(&key, record("y", LONG)).await.unwrap();
    let before = commands().len();
    assert_eq!(redis.recall(&key).expect("it is known").await.unwrap(), None);
    assert!(redis.recall(&key).is_none(), "and forgotten");
    assert_eq!(&hit(&redis, &key).await.payload[..], b"y");
    assert_eq!(commands()[before..], ["GET", "EVALSHA", "GET"]);
    other.invalidate(&key).await.unwrap();
    lead(&redis, &key, 1).await;
}

/// A body above 64 KiB does not stand in the way of small commands.
#[tokio::test]
async fn large_bodies_have_a_connection_of_their_own() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "bulk").await.unwrap();
    let key = key("bulk");
    redis.put(&key, record(vec![7; 100_000], LONG)).await.unwrap();
    hit(&redis, &key).await;
    for _ in 0..5 {
        hit(&redis, &key).await;
    }
    let data = proxy.traffic().into_iter().filter(|traffic| !traffic.subscribed);
    let mut received: Vec<_> = data.map(|traffic| traffic.received).collect();
    received.sort_unstable();
    // Only the first read, which did not know how large the record is, went with the commands; twice, because it came
    // with a script that the server did not know.
    let [commands, bodies] = received[..] else { panic!("two connections carry data: {received:?}") };
    assert!(commands < 250_000 && bodies > 500_000, "{received:?}");
}
