//! The process that leads is stopped for longer than its lease, and comes back without knowing.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Fleet, ask, count, replies, within};
use crate::support::replica::Reply;

/// One of them ran the work, the others joined it where they were.
fn assert_from(replies: &[Reply], replica: &str, ran: &str) {
    assert_eq!((count(replies, ran), count(replies, "joined here")), (1, replies.len() - 1));
    assert!(replies.iter().all(|reply| reply.report().replica == replica && reply.body == replies[0].body));
}

/// It finishes last, and what it has is older than what is stored: the fence of its lease says so.
#[tokio::test]
async fn a_leader_that_comes_back_after_its_successor_keeps_its_result_to_its_own_clients() {
    within(60, async {
        let lease = Duration::from_millis(700);
        let args = ["--work-ms", "1000", "--lock-ttl-ms", "700", "--result-ttl-ms", "600000"];
        let fleet = Fleet::start(2, &args).await;
        let [paused, other] = &fleet.replicas[..] else { unreachable!() };
        let before = fleet.executions().await;
        let mut own = paused.clients(3).await;
        let leading = ask(&mut own, "/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = other.clients(3).await;
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(1).await;
        paused.pause();
        let since = Instant::now();

        let second = replies(following).await;
        assert_from(&second, &other.name, "led");
        assert!(leading.iter().all(|pending| !pending.is_finished()), "who is stopped answers nobody");
        // Not to wait for something: this is how long it is stopped, at least.
        sleep_until(since + lease * 3).await;
        paused.resume();

        let first = replies(leading).await;
        assert_from(&first, &paused.name, "led");
        // Asked first: a replica lets nobody begin before what it has to tell about its last flight is settled.
        for replica in [paused, other] {
            let later = replica.client().await.get("/report/1").await.unwrap();
            assert_eq!((&*later.outcome, &later.body), ("hit", &second[0].body), "from {}", replica.name);
        }
        assert_eq!(fleet.executions().await - before, 2);
    })
    .await;
}

/// It finishes first, and yet another one leads: who asks now waits for that one.
#[tokio::test]
async fn a_leader_that_comes_back_beside_its_successor_keeps_its_result_to_its_own_clients() {
    within(60, async {
        // Stopped for three leases, it has still some work to do. The successor starts a lease later and works as long.
        let lease = Duration::from_millis(900);
        let args = ["--work-ms", "3300", "--lock-ttl-ms", "900", "--result-ttl-ms", "600000"];
        let fleet = Fleet::start(2, &args).await;
        let [paused, other] = &fleet.replicas[..] else { unreachable!() };
        let before = fleet.executions().await;
        let mut own = paused.clients(3).await;
        let leading = ask(&mut own, "/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = other.clients(3).await;
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(1).await;
        paused.pause();
        sleep_until(Instant::now() + lease * 3).await;
        paused.resume();

        let first = replies(leading).await;
        // Its first renewal told it that somebody else leads.
        assert_from(&first, &paused.name, "bypassed: superseded");
        assert!(following.iter().all(|pending| !pending.is_finished()), "the successor works");
        let later = own[0].ask("/report/1").await;
        let second = replies(following).await;
        assert_from(&second, &other.name, "led");
        let later = later.await.unwrap().unwrap();
        assert_eq!((&*later.outcome, &later.body), ("joined elsewhere", &second[0].body));
        for replica in [paused, other] {
            let later = replica.client().await.get("/report/1").await.unwrap();
            assert_eq!((&*later.outcome, &later.body), ("hit", &second[0].body), "from {}", replica.name);
        }
        assert_eq!(fleet.executions().await - before, 2);
    })
    .await;
}
