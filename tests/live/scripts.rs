//! The Lua scripts are the model once more.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower_singleflight::{
    Key,
    backend::{Backend, Completed, Owner, Reason, Redis},
};

use crate::{
    histories::{END, family, histories, on_backend, on_model},
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
    let (mut run, families) = (0_u32, Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) });
    let mut run = |history: Vec<_>| {
        run += 1;
        let keys = family(Key::builder("history").part(run.to_be_bytes()).finish());
        let expected = on_model(&history, true);
        let end = async || {
            let end = u64::try_from(END.as_micros()).unwrap();
            for key in &keys {
                server.publish_to_all("history", &forge::message(3, key.digest(), end, b"")).await;
            }
            true
        };
        let with =
            history.iter().zip(&expected).filter(|(on, (_, told))| told.iter().any(|(place, _)| place.1 != on.0));
        families.set(families.get() + with.count());
        let seen = runtime.block_on(on_backend(&replicas, &keys, &history, &expected, end, async || {}));
        prop_assert_eq!(seen, expected);
        Ok(())
    };
    let run = RefCell::new(&mut run);
    runner.run(&histories(60), |history| (run.borrow_mut())(history)).unwrap();
    assert!(families.get() > 100, "primaries took flights of variants along {} times", families.get());
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
        let variants = ["", "{x}", "}{"].map(|value| key.variant(value));
        let mut slots = Vec::new();
        for key in variants.iter().chain([&key]) {
            for kind in ["r", "s", "t:0123"] {
                slots.push(server.run::<u16>(&["CLUSTER", "KEYSLOT", &forge::name("slots", key, kind)]).await);
            }
        }
        assert!(slots.iter().all(|slot| *slot == slots[0]), "{part:?}: {slots:?}");
        // The cluster needs a moment to find itself complete.
        until_ok(async || redis.begin(&key, ask(1)).await).await;
        every_operation(&redis, &key, async |_| {}).await;
        every_operation(&redis, &variants[0], async |_| {}).await;
        redis.invalidate(&key).await.unwrap();
    }
}

/// What a script touches must be among its keys, or a cluster could not place it: redis itself tells, command by command.
#[tokio::test]
async fn each_touches_only_the_keys_it_declares() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "declared").await.unwrap();
    let counts = declared(&server, async || {
        let key = key("declared");
        for key in [&key, &key.variant("one")] {
            every_operation(&redis, key, async |_| {}).await;
        }
        lead(&redis, &key.variant("two"), 1).await;
        redis.put(&key, record("x", LONG)).await.unwrap();
    });
    // The state alone, with the record, and with a large one; for variants one more, and for no other key.
    let expected = BTreeSet::from([(false, 1), (false, 2), (false, 3), (true, 2), (true, 3), (true, 4)]);
    assert_eq!(counts.await, expected);
}

/// How many keys the scripts of these operations declare, and whether it is for a variant (or a lock); each touches no
/// other.
pub async fn declared(server: &Server, operations: impl AsyncFnOnce()) -> BTreeSet<(bool, usize)> {
    let mut monitor = BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).await.unwrap());
    monitor.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = monitor.lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK");
    operations().await;
    let () = server.run(&["ECHO", "the end"]).await;
    let (mut declared, mut counts) = (Vec::<String>::new(), BTreeSet::new());
    loop {
        let line = lines.next_line().await.unwrap().unwrap();
        let (from, words) = line.split_once("] ").unwrap();
        let words: Vec<&str> = words.trim_matches('"').split("\" \"").collect();
        match words[0].to_ascii_uppercase().as_str() {
            "ECHO" => break counts,
            "EVAL" | "EVALSHA" => {
                let count: usize = words[2].parse().unwrap();
                declared = words[3..3 + count].iter().map(|&name| name.to_owned()).collect();
                counts.insert((!declared[0].contains("}:"), count));
            }
            command if from.ends_with("lua") && !["TIME", "PUBLISH"].contains(&command) => {
                let names = if command == "RENAME" { &words[1..3] } else { &words[1..2] };
                for name in names {
                    assert!(declared.iter().any(|declared| declared == name), "{declared:?}: {line}");
                }
            }
            _ => {}
        }
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
    for key in [key("second"), key("second").variant("one"), key("second").variant("two")] {
        let before = Cell::new(proxy.exchanges());
        every_operation(&redis, &key, async |what| {
            let now = proxy.exchanges();
            assert_eq!(now - before.replace(now), 1, "exchanges of one {what}");
        })
        .await;
    }
}

/// A record that is known to be fresh is read with one plain command, by the replica that stored it and by any other.
#[tokio::test]
async fn a_known_record_is_read_without_a_script() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "known").await.unwrap();
    for (key, read) in [(key("known"), &["GET"][..]), (key("known").variant("one"), &["GET", "HGET"])] {
        known(&server, &proxy, &redis, &key, read).await;
    }
}

/// `plain` are the commands of the plain read: that of a variant asks for the floor of its family as well.
async fn known(server: &Server, proxy: &Proxy, redis: &Redis, key: &Key, plain: &[&str]) {
    let commands = || proxy.commands();
    redis.put(key, record("x", LONG)).await.unwrap();
    assert!(redis.recall(key).is_none(), "nothing is known of a record that was put");
    hit(redis, key).await;
    let (before, exchanges) = (commands().len(), proxy.exchanges());
    for _ in 0..5 {
        let read = redis.recall(key).expect("it is known").await.unwrap();
        assert_eq!(&read.expect("it is there").payload[..], b"x");
    }
    assert_eq!(commands()[before..], plain.repeat(5));
    assert_eq!(proxy.exchanges() - exchanges, 5);
    // Another replica replaces it: the plain read shows that, and the script takes over.
    let other = Redis::connect(&server.url(), "known").await.unwrap();
    other.put(key, record("y", LONG)).await.unwrap();
    let before = commands().len();
    assert_eq!(redis.recall(key).expect("it is known").await.unwrap(), None);
    assert!(redis.recall(key).is_none(), "and forgotten");
    assert_eq!(&hit(redis, key).await.payload[..], b"y");
    assert_eq!(commands()[before..], [plain, &["EVALSHA", "GET"]].concat());
    other.invalidate(key).await.unwrap();
    lead(redis, key, 1).await;
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
