//! Responses that are for one client each.

use std::time::{Duration, Instant};

use super::{Fleet, ask, count, replies, within};

/// One finds out, and then all that waited run at once, wherever they are; the next burst does not wait at all. However many
/// ask, the handler runs once for each of them.
///
/// Fails if those who wait are let go one by one, or if other replicas are not told that a key scatters.
#[tokio::test]
async fn an_uncacheable_burst_takes_two_rounds_and_the_next_one() {
    within(30, async {
        let work = Duration::from_millis(500);
        let fleet = Fleet::start(2, &["--work-ms", "500", "--redis-budget-ms", "10000"]).await;
        let target = "/report/1?mode=private";
        let before = fleet.executions().await;
        let mut clients = fleet.replicas[0].clients(5).await;
        clients.extend(fleet.replicas[1].clients(5).await);
        let mut flight = fleet.flight(target).await;

        let start = Instant::now();
        let mut pending = ask(&mut clients[..1], target).await;
        flight.is_led().await;
        pending.extend(ask(&mut clients[1..], target).await);
        flight.is_followed_by(1).await;
        let first = replies(pending).await;
        let took = start.elapsed();
        assert_eq!((count(&first, "led"), count(&first, "bypassed: unshareable")), (1, 9));
        assert_eq!(fleet.executions().await - before, 10);
        println!("an uncacheable burst of 10, work of {work:?}: {took:?} the first time, in two rounds");
        assert!(took >= work * 2, "those who waited began when the first response was there");

        for burst in 2..=3 {
            let start = Instant::now();
            let replies = replies(ask(&mut clients, target).await).await;
            println!("and {:?} in burst {burst}, in one round", start.elapsed());
            assert_eq!(count(&replies, "bypassed: unshareable"), 10, "in burst {burst}");
            assert_eq!(fleet.executions().await - before, burst * 10);
            let mut reports: Vec<_> = replies.iter().map(|reply| &reply.body).collect();
            reports.sort();
            reports.dedup();
            assert_eq!(reports.len(), 10, "each its own");
        }
    })
    .await;
}
