//! How operations on locks travel, and what is lost on the way.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        ErrorKind, Fence, Redis,
        contract::{LockName, LockReplica},
    },
    protocol::lock::{Acquired, Extended, Grant, Release},
};

use crate::{
    scripts::declared,
    support::{
        Proxy, Server,
        calls::{LONG, PATIENCE},
        fleet::until,
        locks::{Laid, acquire, ask, back, grant, places, waiting},
        proxy::Traffic,
    },
};

/// Calls every operation, in all its forms, and reports each.
async fn every_operation(redis: &LockReplica, lock: &LockName, done: impl AsyncFn(&str)) {
    let fence = grant(redis, lock, ask("a", LONG)).await;
    done("acquire").await;
    for ticket in [1, 2] {
        acquire(redis, lock, waiting("b", ticket)).await;
        done("acquire of what is taken").await;
    }
    redis.extend(lock, "a", Some(1), LONG).await.unwrap();
    done("extend").await;
    redis.extend(lock, "a", Some(0), LONG).await.unwrap();
    done("late extend").await;
    redis.raise(lock, "a", fence.next()).await.unwrap();
    done("raise").await;
    redis.inspect(lock).await.unwrap();
    done("inspect").await;
    redis.release(lock, Release { ticket: Some(1), ..back("b") }).await.unwrap();
    done("release of a place").await;
    redis.release(lock, back("a")).await.unwrap();
    done("release to the next").await;
    redis.release(lock, back("b")).await.unwrap();
    done("release to nobody").await;
    grant(redis, lock, ask("c", LONG)).await;
    done("acquire once more").await;
    redis.release(lock, Release { undo: true, ..back("c") }).await.unwrap();
    done("undo").await;
}

/// Each operation is one exchange, once the server knows the scripts. A hand-over is as fast as that allows.
#[tokio::test]
async fn each_operation_is_one_exchange() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::connect(&proxy.url(), "exchanges").await.unwrap().into();
    every_operation(&redis, &LockName::new("first"), async |_| {}).await;
    let before = Cell::new(proxy.exchanges());
    every_operation(&redis, &LockName::new("second"), async |what| {
        let now = proxy.exchanges();
        assert_eq!(now - before.replace(now), 1, "exchanges of one {what}");
    })
    .await;
}

/// A lock and its floor are all that a script touches, and it says so before.
#[tokio::test]
async fn each_touches_only_the_keys_it_declares() {
    let server = Server::start();
    let redis = Redis::connect(&server.url(), "declared").await.unwrap().into();
    let counts = declared(&server, async || every_operation(&redis, &LockName::new("a"), async |_| {}).await).await;
    assert_eq!(counts, BTreeSet::from([(true, 2)]));
}

/// Who waits when the connection is lost is told to ask again: its place hears where it hears then, and the one that nobody
/// hears any more is passed over. Fails if a lost connection tells those who wait for a lock nothing, or if asking again
/// leaves the place where it was.
#[tokio::test]
async fn a_lost_inbox_has_everyone_ask_again() {
    let server = Server::start();
    let connect = async || LockReplica::from(Redis::connect(&server.url(), "lost").await.unwrap());
    let (a, b) = (connect().await, connect().await);
    let locks = ["one", "two"].map(LockName::new);
    let mut grants = locks.each_ref().map(|lock| b.grants(lock));
    let mut fences = Vec::new();
    for lock in &locks {
        fences.push(grant(&a, lock, ask("a", LONG)).await);
        for ticket in [1, 2] {
            acquire(&b, lock, waiting("b", ticket)).await;
        }
    }
    let killed: usize = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(killed, 2);
    for ((lock, grants), fence) in locks.iter().zip(&mut grants).zip(fences) {
        assert_eq!(timeout(PATIENCE, grants.next()).await.unwrap(), None);
        // The other one does not come again.
        assert!(matches!(acquire(&b, lock, waiting("b", 2)).await, Acquired::Taken(_)));
        assert!(a.release(lock, back("a")).await.unwrap());
        let told = timeout(PATIENCE, grants.next()).await.unwrap();
        assert_eq!(told, Some(Grant { ticket: 2, seq: 1, fence: fence.next() }));
        assert!(b.release(lock, back("b")).await.unwrap());
        assert_eq!(b.inspect(lock).await.unwrap(), None);
    }
}

/// A try that does not wait needs no inbox, nor does anything that a holder does.
#[tokio::test]
async fn who_does_not_wait_needs_no_inbox() {
    let server = Server::start();
    let redis: LockReplica = Redis::connect(&server.url(), "mute").await.unwrap().into();
    let lock = LockName::new("mute");
    grant(&redis, &lock, ask("a", LONG)).await;
    // No new one can subscribe.
    let () = server.run(&["ACL", "SETUSER", "default", "-subscribe"]).await;
    let _: usize = server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    until(true, async || redis.acquire(&lock, waiting("b", 1), None).await.is_err()).await;
    assert!(matches!(acquire(&redis, &lock, ask("b", LONG)).await, Acquired::Taken(_)));
    assert!(matches!(redis.extend(&lock, "a", Some(1), LONG).await.unwrap(), Extended::Held(..)));
    assert!(redis.release(&lock, back("a")).await.unwrap());
    grant(&redis, &lock, ask("b", LONG)).await;
}

/// What replicas must acknowledge is granted once they have; too few are an error that says how many, and leave what can
/// be undone. Fails if the answer to WAIT is not looked at.
#[tokio::test]
async fn replicas_acknowledge_a_grant() {
    let primary = Server::start();
    let follower = Server::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    until(true, async || primary.run::<String>(&["INFO", "replication"]).await.contains("state=online")).await;
    let redis: LockReplica = Redis::connect(&primary.url(), "replicas").await.unwrap().into();
    let [name, _] = places("replicas", "a");
    let plain = LockName::new("a");
    let one = plain.clone().acknowledged_by(1, PATIENCE);
    let laid = async || Laid::read(&follower, &name).await.expect("the replica has it");
    let fence = grant(&redis, &one, ask("a", LONG)).await;
    assert_eq!(laid().await.token, "a");
    assert_eq!(redis.extend(&one, "a", Some(2), LONG).await.unwrap(), Extended::Held(fence, 2));
    assert_eq!(laid().await.seq, 2);
    let two = plain.clone().acknowledged_by(2, Duration::from_secs(2));
    let few = redis.extend(&two, "a", Some(3), LONG).await.unwrap_err();
    assert_eq!(few.kind(), ErrorKind::Unknown);
    assert!(few.to_string().contains("1 of 2 replicas"), "{few}");
    // Nobody need acknowledge that it is taken.
    assert!(matches!(acquire(&redis, &two, ask("b", LONG)).await, Acquired::Taken(_)));
    assert!(redis.release(&two, Release { seq: 3, ..back("a") }).await.unwrap());
    let few = redis.acquire(&two, ask("b", LONG), None).await.unwrap_err();
    assert_eq!((few.kind(), few.may_have_run()), (ErrorKind::Unknown, true));
    assert_eq!(redis.inspect(&two).await.unwrap().expect("it was granted").0.token, "b");
    assert!(redis.release(&two, Release { undo: true, ..back("b") }).await.unwrap());
    assert_eq!(redis.inspect(&two).await.unwrap(), None);
    // A replica that hangs acknowledges nothing.
    follower.pause();
    let patient = plain.acknowledged_by(1, Duration::from_millis(20));
    let none = redis.acquire(&patient, ask("c", LONG), None).await.unwrap_err();
    assert!(none.to_string().contains("0 of 1 replicas"), "{none}");
    // Whatever patience there is, it ends before the server would pass for one that hangs.
    let body = Duration::from_secs(2);
    let redis: LockReplica = Redis::builder("r").body_timeout(body).connect(&primary.url()).await.unwrap().into();
    let none = redis.acquire(&one, ask("c", LONG), None).await.unwrap_err();
    assert!(none.to_string().contains("0 of 1 replicas"), "{none}");
    follower.resume();
}

/// All operations of a lock that waits for replicas share one connection, on which nothing small travels: what undoes an
/// acquisition never overtakes it, and nobody else waits for the replicas.
#[tokio::test]
async fn an_undo_cannot_overtake() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let redis: LockReplica = Redis::connect(&proxy.url(), "order").await.unwrap().into();
    let (plain, patience) = (LockName::new("plain"), Duration::from_secs(2));
    let lock = LockName::new("a").acknowledged_by(1, patience);
    grant(&redis, &plain, ask("a", LONG)).await;
    let undo = Release { undo: true, ..back("a") };
    // The acquisition is sent, and then given up while redis waits for replicas that do not exist.
    tokio::select! {
        biased;
        _ = redis.acquire(&lock, ask("a", LONG), None) => panic!("nobody acknowledges"),
        () = until(1, async || server.run::<i64>(&["EXISTS", &places("order", "a")[0]]).await) => {}
    }
    // Meanwhile other locks are served, well before its patience is over.
    let inspected = timeout(patience / 2, redis.inspect(&plain)).await.expect("nobody else waits");
    assert!(inspected.unwrap().is_some());
    assert!(redis.release(&lock, undo).await.unwrap());
    let lock = lock.acknowledged_by(1, Duration::ZERO);
    assert!(!redis.raise(&lock, "a", Fence(1)).await.unwrap());
    assert_eq!(redis.extend(&lock, "a", Some(1), LONG).await.unwrap(), Extended::Gone);
    assert_eq!(redis.inspect(&lock).await.unwrap(), None);
    // Four scripts, of which the server did not know three, and one read.
    let waits = |on: &Traffic| on.commands.iter().any(|name| name == "WAIT");
    let waited: Vec<_> = proxy.traffic().into_iter().filter(waits).collect();
    let [on] = &waited[..] else { panic!("one connection waits: {waited:?}") };
    let count = |wanted: &str| on.commands.iter().filter(|name| *name == wanted).count();
    assert_eq!(["EVALSHA", "EVAL", "GET"].map(count), [4, 3, 1], "{on:?}");
}
