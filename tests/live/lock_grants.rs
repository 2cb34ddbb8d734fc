//! Locks in Redis that pass from one to the next: the message is the grant.

use std::time::Duration;

use tokio::time::timeout;
use tower_singleflight::{
    backend::{
        Redis,
        contract::{Grants, LockName, LockReplica},
    },
    protocol::lock::{Acquire, Acquired, Grant, PLACES, Release},
};

use crate::support::{
    Proxy, Server,
    calls::{LONG, PATIENCE},
    fleet::until,
    forge,
    locks::{Laid, acquire, ask, back, floor_of, grant, places, waiters, waiting},
};

/// The floors of these tests outlive their leases for so many milliseconds.
const LINGER: i64 = 60_000;

async fn connect(server: &Server) -> LockReplica {
    Redis::connect(&server.url(), "grants").await.unwrap().into()
}

async fn told(grants: &mut Grants) -> Grant {
    timeout(PATIENCE, grants.next()).await.expect("a message comes").expect("a grant")
}

/// How many replicas hear.
async fn inboxes(server: &Server) -> usize {
    server.run::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len()
}

/// All names, sorted.
async fn names(server: &Server) -> Vec<String> {
    let mut names: Vec<String> = server.run(&["KEYS", "*"]).await;
    names.sort();
    names
}

/// What lies there of a lock that is held.
async fn laid(server: &Server, name: &str) -> Laid {
    Laid::read(server, name).await.expect("it is held")
}

/// Who waits is granted the lock in the order of coming, where it hears, under the number of its request and a fence that
/// grows by one. What it asked for lies in its place until then, and is gone with it.
///
/// Fails if a grant goes to another replica, names another request, or leaves something behind.
#[tokio::test]
async fn it_passes_from_one_to_the_next() {
    let server = Server::start();
    let (a, b, c) = (connect(&server).await, connect(&server).await, connect(&server).await);
    let lock = LockName::new("pass");
    let [name, floor] = places("grants", "pass");
    let (mut at_b, mut at_c) = (b.grants(&lock), c.grants(&lock));
    let fence = grant(&a, &lock, ask("a", LONG)).await;
    let mut held = Laid { token: "a".to_owned(), seq: 1, first: true, about: None, places: Vec::new() };
    assert_eq!(laid(&server, &name).await, held);
    acquire(&b, &lock, Acquire { seq: 5, ..waiting("b", 0) }).await;
    acquire(&c, &lock, Acquire { seq: 9, ..waiting("c", u64::MAX) }).await;
    held.places = vec![(0, "b".to_owned()), (u64::MAX, "c".to_owned())];
    assert_eq!(laid(&server, &name).await, held);
    assert!(a.release(&lock, back("a")).await.unwrap());
    assert_eq!(told(&mut at_b).await, Grant { ticket: 0, seq: 5, fence: fence.next() });
    let places = held.places.split_off(1);
    assert_eq!(laid(&server, &name).await, Laid { token: "b".to_owned(), seq: 5, first: false, about: None, places });
    assert_eq!(floor_of(&server, &floor).await, Some(fence.next()));
    assert!(b.release(&lock, Release { seq: 6, ..back("b") }).await.unwrap());
    assert_eq!(told(&mut at_c).await, Grant { ticket: u64::MAX, seq: 9, fence: fence.next().next() });
    let held = Laid { token: "c".to_owned(), seq: 9, first: false, about: None, places: Vec::new() };
    assert_eq!(laid(&server, &name).await, held);
    assert!(c.release(&lock, Release { seq: 10, ..back("c") }).await.unwrap());
    assert_eq!(names(&server).await, [floor.as_str()]);
    // Neither of them hears of what is another's.
    for grants in [&mut at_b, &mut at_c] {
        assert!(timeout(Duration::ZERO, grants.next()).await.is_err());
    }
}

/// What is granted to who waited is what it asked for: its metadata, its lease, and whether and how long the floor stays.
/// Fails if anything of the holder before is left, or a place keeps less than its request.
#[tokio::test]
async fn it_is_granted_as_it_was_asked_for() {
    let server = Server::start();
    let a = connect(&server).await;
    let linger = Duration::from_secs(300);
    let b: LockReplica = Redis::builder("grants").linger(linger).connect(&server.url()).await.unwrap().into();
    for (number, sole) in [true, false].into_iter().enumerate() {
        for (metadata, before) in [(Some("b \u{0}\r\n"), Some("a")), (Some(""), None), (None, Some("a"))] {
            let lock = LockName::new("asked");
            let [name, floor] = places("grants", "asked");
            let mut grants = b.grants(&lock);
            a.acquire(&lock, Acquire { sole: false, ..ask("a", LONG) }, before).await.unwrap();
            let ttl = Duration::from_secs(7_000 + number as u64);
            b.acquire(&lock, Acquire { ttl, sole, ..waiting("b", 7) }, metadata).await.unwrap();
            let (_, seen) = a.inspect(&lock).await.unwrap().expect("it is held");
            assert_eq!(seen.as_deref(), before);
            a.release(&lock, back("a")).await.unwrap();
            let fence = told(&mut grants).await.fence;
            let (holder, seen) = a.inspect(&lock).await.unwrap().expect("it is held");
            assert_eq!((&*holder.token, holder.fence, seen.as_deref()), ("b", fence, metadata));
            let left: i64 = server.run(&["PTTL", &name]).await;
            let ms = i64::try_from(ttl.as_millis()).unwrap();
            assert!((ms - 500..=ms).contains(&left), "{left}");
            let after: i64 = server.run(&["PTTL", &floor]).await;
            if sole {
                assert!((left + 299_500..left + 300_500).contains(&after), "{left} {after}");
            } else {
                assert_eq!(after, -2);
            }
            // An undo is one of the attempt that waited: what was before it is not its to take away.
            b.release(&lock, Release { undo: true, ..back("b") }).await.unwrap();
            assert_eq!(names(&server).await, if sole { vec![floor] } else { vec![] });
            let () = server.run(&["FLUSHALL"]).await;
        }
    }
}

/// A place is passed over if nobody hears there, with all that it asked for: neither its metadata nor its lease nor a
/// floor of its own is left, and no fence is spent on it. If nobody hears at all, the lock is free.
#[tokio::test]
async fn who_is_gone_is_passed_over() {
    let server = Server::start();
    let (a, b) = (connect(&server).await, connect(&server).await);
    let lock = LockName::new("gone");
    let [name, floor] = places("grants", "gone");
    let mut grants = b.grants(&lock);
    let many = Acquire { sole: false, ..ask("a", LONG) };
    for hears in [true, false] {
        let fence = grant(&a, &lock, many).await;
        let gone = connect(&server).await;
        let asks = Acquire { ttl: LONG / 2, ..waiting("gone", 1) };
        gone.acquire(&lock, asks, Some("gone")).await.unwrap();
        gone.acquire(&lock, Acquire { place: waiting("", 2).place, ..asks }, Some("gone")).await.unwrap();
        if hears {
            acquire(&b, &lock, Acquire { sole: false, ..waiting("b", 3) }).await;
        }
        drop(gone);
        until(2, async || inboxes(&server).await).await;
        a.release(&lock, back("a")).await.unwrap();
        if hears {
            assert_eq!(told(&mut grants).await, Grant { ticket: 3, seq: 1, fence: fence.next() });
            let held = Laid { token: "b".to_owned(), seq: 1, first: false, about: None, places: Vec::new() };
            assert_eq!(laid(&server, &name).await, held);
            assert!(server.run::<i64>(&["PTTL", &name]).await > 3_000_000);
            b.release(&lock, back("b")).await.unwrap();
        }
        assert_eq!(names(&server).await, [""; 0], "{hears}");
    }
    // The floor of those before is left as it was.
    let fence = grant(&a, &lock, ask("a", LONG)).await;
    let gone = connect(&server).await;
    acquire(&gone, &lock, Acquire { ttl: 2 * LONG, ..waiting("gone", 1) }).await;
    drop(gone);
    until(2, async || inboxes(&server).await).await;
    a.release(&lock, back("a")).await.unwrap();
    assert_eq!(names(&server).await, [floor.as_str()]);
    assert_eq!(floor_of(&server, &floor).await, Some(fence));
    assert!(server.run::<i64>(&["PTTL", &floor]).await <= 3_600_000 + LINGER);
}

/// Many that are gone hold the server up no longer than it takes to see that nobody hears. Fails if the lock is written
/// anew for each of them.
#[tokio::test]
async fn many_that_are_gone_are_passed_over_at_once() {
    let server = Server::start();
    let (a, gone) = (connect(&server).await, connect(&server).await);
    let lock = LockName::new("many");
    let [_, floor] = places("grants", "many");
    grant(&a, &lock, ask("a", LONG)).await;
    for ticket in 1..=100 {
        acquire(&gone, &lock, waiting("gone", ticket)).await;
    }
    drop(gone);
    until(1, async || inboxes(&server).await).await;
    let () = server.run(&["CONFIG", "RESETSTAT"]).await;
    assert!(a.release(&lock, back("a")).await.unwrap());
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_publish:calls=100,"), "{stats}");
    assert!(!stats.contains("cmdstat_set:"), "{stats}");
    assert_eq!(names(&server).await, [floor.as_str()]);
}

/// A server that has no memory left takes no new locks, and gives those it has to who waits. Fails if it refuses to write
/// what was granted, for as long as the lease.
#[tokio::test]
async fn a_server_without_memory_passes_it_on() {
    let server = Server::start();
    let (a, b) = (connect(&server).await, connect(&server).await);
    let lock = LockName::new("full");
    let mut grants = b.grants(&lock);
    for undo in [true, false] {
        let fence = grant(&a, &lock, Acquire { sole: false, ..ask("a", LONG) }).await;
        acquire(&b, &lock, waiting("b", 1)).await;
        let () = server.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
        a.acquire(&LockName::new("another"), ask("a", LONG), None).await.unwrap_err();
        assert!(a.release(&lock, Release { undo, ..back("a") }).await.unwrap());
        assert_eq!(told(&mut grants).await, Grant { ticket: 1, seq: 1, fence: fence.next() });
        assert!(b.release(&lock, back("b")).await.unwrap());
        let () = server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }
}

/// A process that waits and is killed without a word closes its connection, and that is enough.
#[tokio::test]
async fn a_connection_that_is_cut_is_one_that_hears_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let dead: LockReplica = Redis::connect(&proxy.url(), "grants").await.unwrap().into();
    let lock = LockName::new("cut");
    let mut grants = b.grants(&lock);
    grant(&a, &lock, ask("a", LONG)).await;
    acquire(&dead, &lock, waiting("dead", 1)).await;
    acquire(&b, &lock, waiting("b", 2)).await;
    proxy.refuse(true);
    proxy.cut();
    until(2, async || inboxes(&server).await).await;
    a.release(&lock, back("a")).await.unwrap();
    assert_eq!(told(&mut grants).await.ticket, 2);
}

/// Who hears on a server that has become a replica is passed over like one that is gone, and hears nothing of the grant that
/// was not made: else it would believe to hold what another one does. Fails if the message is replicated.
#[tokio::test]
async fn a_grant_is_heard_where_it_was_made_or_nowhere() {
    let old = Server::start();
    let new = Server::start_with(&["--replicaof", "127.0.0.1", &old.port().to_string()]);
    until(true, async || old.run::<String>(&["INFO", "replication"]).await.contains("state=online")).await;
    let (before, waits) = (connect(&old).await, connect(&old).await);
    let lock = LockName::new("moved");
    let fence = grant(&before, &lock, ask("a", LONG)).await;
    let mut grants = waits.grants(&lock);
    acquire(&waits, &lock, waiting("b", 1)).await;
    let [name, _] = places("grants", "moved");
    until(1, async || waiters(&new, &name).await).await;
    let () = new.run(&["REPLICAOF", "NO", "ONE"]).await;
    let () = old.run(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await;
    until(true, async || new.run::<String>(&["INFO", "replication"]).await.contains("state=online")).await;
    let after = connect(&new).await;
    assert!(after.release(&lock, back("a")).await.unwrap());
    assert!(grant(&after, &lock, ask("c", LONG)).await > fence);
    // What was published before has come when this has.
    until("c".to_owned(), async || laid(&old, &name).await.token).await;
    assert_eq!(inboxes(&old).await, 2, "both still listen there");
    let digest = lock.digest();
    let last = [&7_u64.to_be_bytes()[..], b"000000000000002a"].concat();
    old.publish_to_all("grants", &forge::message(6, digest, 9, &last)).await;
    assert_eq!(told(&mut grants).await.ticket, 42, "the first that it hears");
}

/// All but the message is replicated: whom it was granted, and the floor. Fails if what is written behind a message is not.
#[tokio::test]
async fn replicas_have_what_was_granted() {
    let primary = Server::start();
    let follower = Server::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    until(true, async || primary.run::<String>(&["INFO", "replication"]).await.contains("state=online")).await;
    let (a, b, gone) = (connect(&primary).await, connect(&primary).await, connect(&primary).await);
    let lock = LockName::new("replicated");
    let [name, floor] = places("grants", "replicated");
    let mut grants = b.grants(&lock);
    grant(&a, &lock, ask("a", LONG)).await;
    acquire(&gone, &lock, waiting("gone", 1)).await;
    acquire(&b, &lock, waiting("b", 2)).await;
    drop(gone);
    until(2, async || inboxes(&primary).await).await;
    a.release(&lock, back("a")).await.unwrap();
    let fence = told(&mut grants).await.fence;
    until(Some(fence), async || floor_of(&follower, &floor).await).await;
    let held = Laid { token: "b".to_owned(), seq: 1, first: false, about: None, places: Vec::new() };
    assert_eq!(laid(&follower, &name).await, held);
}

/// A place that a younger request has noted stays when the one before is undone, and goes with the younger one; a late
/// request neither moves a place nor makes one for who holds the lock.
#[tokio::test]
async fn late_requests_change_no_place() {
    let server = Server::start();
    let (a, b, c) = (connect(&server).await, connect(&server).await, connect(&server).await);
    let lock = LockName::new("late");
    let [name, _] = places("grants", "late");
    let (mut at_b, mut at_c) = (b.grants(&lock), c.grants(&lock));
    let with = |seq, ticket| Acquire { seq, ..waiting("b", ticket) };
    grant(&a, &lock, Acquire { seq: 4, ..ask("a", LONG) }).await;
    acquire(&b, &lock, with(2, 1)).await;
    // Older: it stays where it was.
    acquire(&c, &lock, with(1, 1)).await;
    // Undone, but for the younger one.
    let give_up = |seq| Release { seq, undo: true, ticket: Some(1), ..back("b") };
    assert!(!b.release(&lock, give_up(1)).await.unwrap());
    assert_eq!(laid(&server, &name).await.places, [(1, "b".to_owned())]);
    // Of the holder, and older than what it holds by.
    let late = Acquire { seq: 3, ..waiting("a", 2) };
    assert!(matches!(acquire(&a, &lock, late).await, Acquired::Taken(_)));
    assert_eq!(laid(&server, &name).await.places, [(1, "b".to_owned())]);
    assert!(a.release(&lock, Release { seq: 4, ..back("a") }).await.unwrap());
    let Grant { ticket, seq, .. } = told(&mut at_b).await;
    assert_eq!((ticket, seq), (1, 2));
    assert!(timeout(Duration::ZERO, at_c.next()).await.is_err());
    // Younger: it moves, with all that it asks for.
    acquire(&b, &lock, Acquire { seq: 5, ..waiting("c", 3) }).await;
    acquire(&c, &lock, Acquire { seq: 5, ttl: 3 * LONG, ..waiting("c", 3) }).await;
    assert!(b.release(&lock, Release { seq: 2, ..back("b") }).await.unwrap());
    assert_eq!(told(&mut at_c).await.ticket, 3);
    assert!(server.run::<i64>(&["PTTL", &name]).await > 7_200_000);
    acquire(&b, &lock, with(7, 1)).await;
    assert!(!b.release(&lock, give_up(7)).await.unwrap());
    assert_eq!(laid(&server, &name).await.places, []);
}

/// A thousand and more may wait; each is granted it in its turn, wherever it waits, and those for whom there is no place are
/// told how long the lease is. All that they asked for goes with them.
///
/// Fails if the queue has no bound, or another order than that of coming, or a place without a request, or the reverse.
#[tokio::test]
async fn a_long_queue_is_bounded_and_in_order() {
    let server = Server::start();
    let (a, replicas) = (connect(&server).await, [connect(&server).await, connect(&server).await]);
    let lock = LockName::new("queue");
    let [name, floor] = places("grants", "queue");
    let mut grants = replicas.each_ref().map(|replica| replica.grants(&lock));
    grant(&a, &lock, ask("0", LONG)).await;
    let at = |ticket: u64| usize::try_from(ticket % 2).unwrap();
    let full = u64::try_from(PLACES).unwrap();
    for ticket in 1..=full + 10 {
        let token = ticket.to_string();
        let taken = acquire(&replicas[at(ticket)], &lock, waiting(&token, ticket)).await;
        assert!(matches!(taken, Acquired::Taken(left) if left > LONG / 2));
    }
    // Coming again takes no second place.
    acquire(&replicas[1], &lock, waiting("1", 1)).await;
    assert_eq!(laid(&server, &name).await.tickets(), (1..=full).collect::<Vec<_>>());
    // Who gives up makes room for one, at the end.
    a.release(&lock, Release { ticket: Some(7), ..back("7") }).await.unwrap();
    for ticket in [full + 11, full + 12] {
        acquire(&replicas[at(ticket)], &lock, waiting(&ticket.to_string(), ticket)).await;
    }
    let waiting: Vec<_> = (1..=full).filter(|ticket| *ticket != 7).chain([full + 11]).collect();
    assert_eq!(laid(&server, &name).await.tickets(), waiting);
    let mut holder = "0".to_owned();
    for ticket in waiting {
        a.release(&lock, back(&holder)).await.unwrap();
        assert_eq!(told(&mut grants[at(ticket)]).await.ticket, ticket);
        holder = ticket.to_string();
    }
    assert_eq!(laid(&server, &name).await.places, []);
    a.release(&lock, back(&holder)).await.unwrap();
    assert_eq!(names(&server).await, [floor.as_str()]);
}

/// A server that forgets its scripts passes a lock on all the same.
#[tokio::test]
async fn a_forgotten_script_passes_it_on() {
    let server = Server::start();
    let (a, b) = (connect(&server).await, connect(&server).await);
    let lock = LockName::new("flush");
    let mut grants = b.grants(&lock);
    grant(&a, &lock, ask("a", LONG)).await;
    let () = server.run(&["SCRIPT", "FLUSH"]).await;
    acquire(&b, &lock, waiting("b", 1)).await;
    let () = server.run(&["SCRIPT", "FLUSH"]).await;
    assert!(a.release(&lock, back("a")).await.unwrap());
    assert_eq!(told(&mut grants).await.ticket, 1);
}
