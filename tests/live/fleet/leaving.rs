//! Whoever leads goes away politely: its client closes the connection, or its process is told to end.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::{Fleet, ask, count, replies, within};

/// The work is a task of its own: it does not end with the request that brought it.
#[tokio::test]
async fn a_client_that_leaves_at_a_quarter_of_the_work_takes_nothing_from_the_others() {
    within(30, async {
        let work = Duration::from_millis(1200);
        let fleet = Fleet::start(2, &["--work-ms", "1200"]).await;
        let [leader, other] = &fleet.replicas[..] else { unreachable!() };
        let before = fleet.executions().await;
        let led = leader.stats().await.led;

        let mut client = leader.client().await;
        let start = tokio::time::Instant::now();
        let leading = client.ask("/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = other.clients(5).await;
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(1).await;
        // Not to wait for something: this is the moment at which it leaves.
        sleep_until(start + work / 4).await;
        drop(client);
        assert!(leading.await.unwrap().is_err(), "it left before it was answered");

        let replies = replies(following).await;
        // Its lease of five seconds has no part in this.
        let took = start.elapsed();
        println!("the leader's client left at a quarter of {work:?}: the others were answered after {took:?}");
        assert!(took >= work && took < work + Duration::from_secs(2), "the work went on to its end: {took:?}");
        assert_eq!(count(&replies, "joined elsewhere"), 5);
        assert!(replies.iter().all(|reply| reply.report().replica == leader.name));
        assert_eq!(fleet.executions().await - before, 1);
        // The replica saw it leave: nobody there was answered.
        assert_eq!(leader.stats().await.led, led);
    })
    .await;
}

/// A replica that is told to end answers its own clients first. What it still has to tell Redis then races with the end
/// of the process: the others get its report, or run the work once more when its lease is over.
#[tokio::test]
async fn a_replica_that_is_told_to_end_answers_its_clients_and_leaves_nobody_hanging() {
    within(30, async {
        let mut fleet = Fleet::start(3, &["--work-ms", "600", "--lock-ttl-ms", "1500"]).await;
        let mut own = fleet.replicas[0].clients(3).await;
        let leading = ask(&mut own, "/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = fleet.replicas[1].clients(3).await;
        clients.extend(fleet.replicas[2].clients(3).await);
        let before = fleet.replicas[1].executions().await + fleet.replicas[2].executions().await;
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(2).await;
        let start = Instant::now();
        fleet.replicas[0].terminate();

        let own = replies(leading).await;
        assert_eq!((count(&own, "led"), count(&own, "joined here")), (1, 2));
        assert!(fleet.replicas[0].ended().await.success());
        let ended = start.elapsed();
        let others = replies(following).await;
        let after = fleet.replicas[1].executions().await + fleet.replicas[2].executions().await - before;
        println!(
            "told to end: gone after {ended:?}, others answered after {:?}, {after} more executions",
            start.elapsed()
        );
        assert!(after <= 1);
        assert!(others.iter().all(|reply| reply.body == others[0].body));
        assert_eq!(others[0].body == own[0].body, after == 0, "the report of whoever ran the work last");
    })
    .await;
}

/// No client holds it back, and so the process ends in the middle of the work: the same as if it had been killed.
#[tokio::test]
async fn a_replica_that_ends_while_it_works_for_others_is_replaced_when_its_lease_is_over() {
    within(30, async {
        let mut fleet = Fleet::start(3, &["--work-ms", "1000", "--lock-ttl-ms", "1500"]).await;
        let before = fleet.replicas[1].executions().await + fleet.replicas[2].executions().await;
        let mut client = fleet.replicas[0].client().await;
        let leading = client.ask("/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = fleet.replicas[1].clients(3).await;
        clients.extend(fleet.replicas[2].clients(3).await);
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(2).await;
        drop(client);
        assert!(leading.await.unwrap().is_err());
        let start = Instant::now();
        fleet.replicas[0].terminate();
        assert!(fleet.replicas[0].ended().await.success());

        let others = replies(following).await;
        println!("ended while it worked for others: they are answered after {:?}", start.elapsed());
        // One leads and its two neighbours join it, those of the other replica join from elsewhere.
        assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&others, outcome)), [1, 2, 3]);
        assert!(others.iter().all(|reply| reply.body == others[0].body));
        let after = fleet.replicas[1].executions().await + fleet.replicas[2].executions().await;
        assert_eq!(after - before, 1);
    })
    .await;
}
