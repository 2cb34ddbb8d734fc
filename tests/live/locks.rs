//! Locks in Redis: the scripts are the model once more.

use std::cell::Cell;

use proptest::{prelude::*, test_runner::TestRunner};
use tower_singleflight::backend::{
    Redis,
    contract::{LockName, LockReplica},
};

use crate::{
    lock_histories::{Event, Pass, Reply, histories, on_model, on_store},
    support::{Server, forge},
};

/// Lets time pass in redis for the lock under the first of these names and the floor under the second: what it would do
/// is done by hand, and a turn is made to last.
const HELP: &str = "
    local turn = redis.call('HEXISTS', KEYS[1], 'u') == 1
    if ARGV[1] == 'given' and turn then
        redis.call('HSET', KEYS[1], 'u', 2 ^ 52)
        redis.call('PEXPIRE', KEYS[1], 1000000000)
    elseif ARGV[1] == 'turn' and turn then
        redis.call('HSET', KEYS[1], 'u', 1)
    elseif (ARGV[1] == 'memory' or ARGV[1] == 'linger') and turn then
        redis.call('DEL', KEYS[1])
    end
    if ARGV[1] == 'linger' and redis.call('PTTL', KEYS[2]) <= 61000 then
        redis.call('DEL', KEYS[2])
    end
    return redis.call('PTTL', KEYS[1])
";

/// Where a lock and its floor lie.
fn places(app: &str, name: &str) -> [String; 2] {
    let lock = format!("sf1:{app}:lock:{{{name}}}");
    [lock.clone(), lock + ":f"]
}

/// Whatever happens to a lock, the scripts do what the model does.
///
/// Fails if, for instance, a late request of the holder counts, a turn is another's as well, a place that was given up
/// is kept, a floor is lowered or shortened, an undo leaves the floor it made, or takes one that it did not.
#[test]
fn they_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let (replicas, connection) = runtime.block_on(async {
        let connect = async || LockReplica::from(Redis::connect(&server.url(), "history").await.unwrap());
        ([connect().await, connect().await, connect().await], server.connection().await)
    });
    let (runs, turns) = (Cell::new(0_u32), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) });
    let run = |history: Vec<_>| {
        runs.set(runs.get() + 1);
        let name = runs.get().to_string();
        let (lock, places) = (LockName::new(&name), places("history", &name));
        let expected = on_model(&history);
        turns.set(turns.get() + expected.iter().filter(|(reply, _)| *reply == Reply::Spoken).count());
        let lapse = async |what: &str| -> i64 {
            let mut help = redis::cmd("EVAL");
            help.arg(HELP).arg(2).arg(&places).arg(what);
            help.query_async(&mut connection.clone()).await.unwrap()
        };
        let help = async |event| {
            match event {
                // Each exchange takes longer than that.
                Event::Next => {}
                Event::Short => while lapse("short").await != -2 {},
                Event::Given => drop(lapse("given").await),
                Event::Over(Pass::Turn) => drop(lapse("turn").await),
                Event::Over(Pass::Memory) => drop(lapse("memory").await),
                Event::Over(Pass::Linger) => drop(lapse("linger").await),
                Event::End => server.publish_to_all("history", &forge::message(6, lock.digest(), 424_242, b"")).await,
            }
            true
        };
        let seen = runtime.block_on(on_store(&replicas, &lock, &history, &expected, help));
        prop_assert_eq!(seen, expected);
        Ok(())
    };
    runner.run(&histories(31), run).unwrap();
    assert!(turns.get() > 50, "somebody came in another's turn {} times", turns.get());
}
