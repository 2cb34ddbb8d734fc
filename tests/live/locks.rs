//! Locks in Redis: the scripts are the model once more.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        Fence, Redis,
        contract::{LockName, LockReplica},
    },
    protocol::lock::{Acquire, Acquired, Extended, Grant, Release},
};

use crate::{
    lock_histories::{END, Event, LINGERED, REPLICAS, histories, on_model, on_store},
    support::{
        Server,
        calls::{LONG, PATIENCE},
        fleet::until,
        forge,
        locks::{acquire, ask, back, floor_of, grant, places, waiting},
    },
};

/// Ends the floor under this name if it would be over after [`LINGERED`].
const LINGER: &str = "
    if redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[1]) then
        redis.call('DEL', KEYS[1])
    end
";

/// Whatever happens to a lock, the scripts do what the model does.
///
/// Fails if, for instance, a late request of the holder counts, or takes a place; a place that was given up is kept; a
/// place whose inbox nobody hears is granted the lock, or leaves a floor; what was granted is less than what the place
/// asked for; a floor is lowered, or lives longer than the last lease wants; an undo leaves the floor it made, or takes
/// one that it did not.
#[test]
fn they_agree_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let connect = async || LockReplica::from(Redis::connect(&server.url(), "history").await.unwrap());
    let (replicas, connection) =
        runtime.block_on(async { ([connect().await, connect().await, connect().await], server.connection().await) });
    let (runs, granted, deaf) = (Cell::new(0_u32), Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) });
    let run = |history: Vec<_>| {
        runs.set(runs.get() + 1);
        let name = runs.get().to_string();
        let (lock, [place, floor]) = (LockName::new(&name), places("history", &name));
        let expected = on_model(&history);
        granted.set(granted.get() + expected.iter().filter(|step| step.told.is_some()).count());
        deaf.set(deaf.get() + expected.iter().map(|step| step.after.deaf).sum::<usize>());
        let ask = async |command: &[&str]| -> redis::Value {
            let mut ask = redis::cmd(command[0]);
            ask.arg(&command[1..]).query_async(&mut connection.clone()).await.unwrap()
        };
        let help = async |event| {
            match event {
                // Each exchange takes longer than that.
                Event::Next => {}
                Event::Short => until(redis::Value::Int(-2), async || ask(&["PTTL", &place]).await).await,
                Event::Gone => {
                    let listening = async || match ask(&["PUBSUB", "CHANNELS"]).await {
                        redis::Value::Array(channels) => channels.len(),
                        other => panic!("no channels: {other:?}"),
                    };
                    until(REPLICAS, listening).await;
                }
                Event::Lingered => drop(ask(&["EVAL", LINGER, "1", &floor, &LINGERED.as_millis().to_string()]).await),
                Event::End => {
                    let behind = [&END.seq.to_be_bytes()[..], format!("{:016x}", END.ticket).as_bytes()].concat();
                    server.publish_to_all("history", &forge::message(6, lock.digest(), END.fence.0, &behind)).await;
                }
            }
            true
        };
        let seen = runtime.block_on(on_store(&replicas, &lock, &history, &expected, connect, help));
        prop_assert_eq!(seen, expected);
        Ok(())
    };
    runner.run(&histories(51), run).unwrap();
    let (granted, deaf) = (granted.get(), deaf.get());
    assert!(granted > 200 && deaf > 50, "{granted} were granted it by a release, and {deaf} were passed over");
}

/// One replica, and what lies in its server.
struct Fixture {
    server: Server,
    redis: LockReplica,
}

async fn fixture() -> Fixture {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "locks").await.unwrap().into();
    Fixture { server, redis }
}

impl Fixture {
    async fn pttl(&self, name: &str) -> i64 {
        self.server.run(&["PTTL", name]).await
    }

    /// All names, sorted.
    async fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.server.run(&["KEYS", "*"]).await;
        names.sort();
        names
    }

    async fn another(&self) -> LockReplica {
        Redis::connect(&self.server.url(), "locks").await.unwrap().into()
    }
}

/// The lease is the lifetime of the key, in whole milliseconds, and never less than was asked for. Fails if a fraction of
/// a millisecond is cut off: a lease below one would then be none.
#[tokio::test]
async fn the_lease_is_the_lifetime_of_the_key() {
    let at = fixture().await;
    let lock = LockName::new("lease");
    let [name, floor] = places("locks", "lease");
    for (nanos, ms) in [(3_600_000_000_000, 3_600_000), (3_599_999_000_001, 3_600_000), (7_200_000_000_000, 7_200_000)]
    {
        let ttl = Duration::from_nanos(nanos);
        grant(&at.redis, &lock, ask("a", ttl)).await;
        // Read in two exchanges, so some of it has passed. A lifetime cannot be read at the moment at which it is given.
        assert!((ms - 500..=ms).contains(&at.pttl(&name).await), "{ms}");
        at.redis.extend(&lock, "a", Some(1), 2 * ttl).await.unwrap();
        assert!((2 * ms - 501..=2 * ms).contains(&at.pttl(&name).await), "{ms}");
        assert!((2 * ms + 59_499..=2 * ms + 60_000).contains(&at.pttl(&floor).await), "{ms}");
        // A request that comes late changes nothing.
        at.redis.extend(&lock, "a", Some(0), ttl).await.unwrap();
        assert!(at.pttl(&name).await > ms, "{ms}");
        // The lease may be made shorter, and so is the life of the floor.
        at.redis.extend(&lock, "a", Some(1), ttl).await.unwrap();
        assert!((ms - 500..=ms).contains(&at.pttl(&name).await), "{ms}");
        assert!((ms + 59_499..=ms + 60_000).contains(&at.pttl(&floor).await), "{ms}");
        let () = at.server.run(&["FLUSHALL"]).await;
    }
    for nanos in [0, 1, 999_999] {
        grant(&at.redis, &lock, ask("a", Duration::from_nanos(nanos))).await;
        while at.pttl(&name).await != -2 {}
    }
    grant(&at.redis, &lock, ask("a", Duration::MAX)).await;
    let Acquired::Taken(left) = acquire(&at.redis, &lock, ask("b", LONG)).await else { panic!("it is taken") };
    assert!(left > LONG);
}

/// Nothing but the lock and its floor lies in redis, and after a release or an undo neither, or only the floor.
#[tokio::test]
async fn nothing_else_is_left() {
    let at = fixture().await;
    let lock = LockName::new("left");
    let [name, floor] = places("locks", "left");
    let many = Acquire { sole: false, ..ask("a", LONG) };
    grant(&at.redis, &lock, many).await;
    assert_eq!(at.names().await, [name.as_str()]);
    assert!(at.redis.release(&lock, back("a")).await.unwrap());
    assert_eq!(at.names().await, [""; 0]);
    let first = grant(&at.redis, &lock, ask("a", LONG)).await;
    assert_eq!(at.names().await, [&*name, &*floor]);
    let undo = Release { undo: true, ..back("a") };
    assert!(at.redis.release(&lock, undo).await.unwrap());
    assert_eq!(at.names().await, [""; 0]);
    let second = grant(&at.redis, &lock, ask("a", LONG)).await;
    assert!(at.redis.release(&lock, back("a")).await.unwrap());
    assert_eq!(at.names().await, [floor.as_str()]);
    // The floor of those who held it before is no trace of one who did not.
    let third = grant(&at.redis, &lock, ask("a", LONG)).await;
    assert!(at.redis.release(&lock, undo).await.unwrap());
    assert_eq!(at.names().await, [floor.as_str()]);
    assert!(first < second && second < third);
    // What undoes an attempt that was granted once more leaves the floor of the one before, which may have been held.
    let () = at.server.run(&["FLUSHALL"]).await;
    let again = grant(&at.redis, &lock, ask("a", LONG)).await;
    assert_eq!(grant(&at.redis, &lock, Acquire { seq: 2, ..ask("a", LONG) }).await, again);
    assert!(at.redis.release(&lock, Release { seq: 2, ..undo }).await.unwrap());
    assert_eq!(at.names().await, [floor.as_str()]);
    // Who gives up waiting leaves nothing either.
    grant(&at.redis, &lock, many).await;
    acquire(&at.redis, &lock, waiting("b", 7)).await;
    at.redis.release(&lock, Release { ticket: Some(7), undo: true, ..back("b") }).await.unwrap();
    at.redis.release(&lock, undo).await.unwrap();
    assert_eq!(at.names().await, [floor.as_str()]);
}

/// Whoever holds by a fence below the floor, because the lock is an older copy than that is, leaves it where it is. Fails
/// if anything lowers it.
#[tokio::test]
async fn a_floor_is_never_lowered() {
    let at = fixture().await;
    let lock = LockName::new("floor");
    let [_, floor] = places("locks", "floor");
    let fence = grant(&at.redis, &lock, ask("a", LONG)).await;
    let ahead = Fence(fence.0 + 1_000_000_000);
    at.server.set(&floor, ahead.0.to_be_bytes().to_vec(), Some(600_000)).await;
    assert_eq!(grant(&at.redis, &lock, Acquire { seq: 2, ..ask("a", LONG) }).await, fence);
    assert_eq!(floor_of(&at.server, &floor).await, Some(ahead));
    assert_eq!(at.redis.extend(&lock, "a", Some(3), LONG).await.unwrap(), Extended::Held(fence, 3));
    assert_eq!(floor_of(&at.server, &floor).await, Some(ahead));
    assert!(at.redis.raise(&lock, "a", fence.next()).await.unwrap());
    assert_eq!(floor_of(&at.server, &floor).await, Some(ahead));
    assert!(at.redis.release(&lock, Release { seq: 3, ..back("a") }).await.unwrap());
    assert_eq!(grant(&at.redis, &lock, ask("b", LONG)).await, ahead.next());
}

async fn micros(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = server.run(&["TIME"]).await;
    seconds * 1_000_000 + micros
}

/// Whatever a name holds, it is the name of one lock, and what others hear is theirs.
#[tokio::test]
async fn any_name_will_do() {
    let at = fixture().await;
    let other = at.another().await;
    let long = "x".repeat(1024);
    let names = ["", "}", "{", "a}b{c", "with spaces", "\u{1F512}\u{0}\r\n", "a", "a}:f", "a:f", &long];
    let mut fences = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let lock = LockName::new(name);
        let token = number.to_string();
        fences.push(grant(&at.redis, &lock, ask(&token, LONG)).await);
    }
    for (number, name) in names.iter().enumerate() {
        let lock = LockName::new(name);
        let (seen, _) = other.inspect(&lock).await.unwrap().expect("it is held");
        assert_eq!((seen.token, seen.fence), (number.to_string(), fences[number]), "{name:?}");
        assert!(seen.left > LONG / 2 && seen.left <= LONG);
        let mut grants = other.grants(&lock);
        acquire(&other, &lock, waiting("next", 1)).await;
        assert!(at.redis.release(&lock, back(&number.to_string())).await.unwrap());
        let told = timeout(PATIENCE, grants.next()).await.unwrap();
        assert_eq!(told, Some(Grant { ticket: 1, seq: 1, fence: fences[number].next() }), "{name:?}");
    }
    let expected: BTreeSet<_> = names.iter().flat_map(|name| places("locks", name)).collect();
    assert_eq!(at.names().await.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// What a holder tells of itself reaches others as it is, and goes with it.
#[tokio::test]
async fn metadata_is_any_text() {
    let at = fixture().await;
    let all: String = (0..=0x10_FFFF_u32).step_by(97).filter_map(char::from_u32).collect();
    for text in ["", "\u{0}", "\r\n$5\r\n", "{\"host\": \"a\"}", &all] {
        let lock = LockName::new("metadata");
        at.redis.acquire(&lock, ask("a", LONG), Some(text)).await.unwrap();
        let (_, taken) = at.redis.acquire(&lock, ask("b", LONG), Some("b")).await.unwrap();
        assert_eq!(taken.as_deref(), Some(text));
        let (_, seen) = at.redis.inspect(&lock).await.unwrap().expect("it is held");
        assert_eq!(seen.as_deref(), Some(text));
        at.redis.acquire(&lock, ask("a", LONG), None).await.unwrap();
        assert_eq!(at.redis.inspect(&lock).await.unwrap().expect("it is held").1, None);
        at.redis.release(&lock, back("a")).await.unwrap();
    }
}

/// What lies under our names and was put there by somebody else does not stand in the way for ever. Fails if a lock
/// without an end is believed, or a floor that would stop fences from growing.
#[tokio::test]
async fn what_others_put_there_is_removed() {
    let at = fixture().await;
    let lock = LockName::new("foreign");
    let [name, floor] = places("locks", "foreign");
    // Without an end, and one of which the end is missing.
    let endless = format!("sfl\u{1}{}", "\0".repeat(29));
    let cut = &endless[..32];
    let junk: [&[&str]; 9] = [
        &["SET", &name, "x"],
        &["SET", &name, "sfl\u{1}"],
        &["SET", &name, cut],
        &["SET", &name, &endless],
        &["RPUSH", &name, "x"],
        &["RPUSH", &floor, "x"],
        &["SET", &floor, "junk"],
        &["SET", &floor, "12345678"],
        &["SET", &floor, "9007199254740993"],
    ];
    for command in junk {
        let () = at.server.run(&["FLUSHALL"]).await;
        let _: redis::Value = at.server.run(command).await;
        assert_eq!(at.redis.inspect(&lock).await.unwrap(), None, "{command:?}");
        assert_eq!(at.redis.extend(&lock, "a", Some(1), LONG).await.unwrap() == Extended::Gone, command[2] != endless);
        assert!(!at.redis.raise(&lock, "a", Fence(1)).await.unwrap());
        assert!(!at.redis.release(&lock, back("a")).await.unwrap());
        let now = Fence(micros(&at.server).await);
        let fence = grant(&at.redis, &lock, ask("a", LONG)).await;
        assert!(fence >= now && fence < Fence(now.0 + 60_000_000), "{command:?}");
        assert!(at.redis.raise(&lock, "a", fence.next()).await.unwrap());
        assert!(at.redis.release(&lock, back("a")).await.unwrap());
        assert!(grant(&at.redis, &lock, ask("a", LONG)).await > fence.next());
    }
}

/// A server that forgot its scripts is told them again, in the same operation.
#[tokio::test]
async fn forgotten_scripts_come_back() {
    let at = fixture().await;
    let lock = LockName::new("flush");
    let forget = async || at.server.run::<()>(&["SCRIPT", "FLUSH"]).await;
    forget().await;
    let fence = grant(&at.redis, &lock, ask("a", LONG)).await;
    forget().await;
    assert_eq!(at.redis.extend(&lock, "a", Some(2), LONG).await.unwrap(), Extended::Held(fence, 2));
    forget().await;
    assert!(at.redis.raise(&lock, "a", Fence(fence.0 + 5)).await.unwrap());
    forget().await;
    assert_eq!(at.redis.extend(&lock, "a", Some(1), LONG).await.unwrap(), Extended::Held(Fence(fence.0 + 5), 2));
    forget().await;
    assert!(at.redis.release(&lock, Release { seq: 2, ..back("a") }).await.unwrap());
}
