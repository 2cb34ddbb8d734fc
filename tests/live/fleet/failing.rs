//! Work that fails.

use std::time::Instant;

use http::StatusCode;

use super::{Fleet, ask, count, replies, within};

/// The fault may lie with the first leader, so one of those who wait tries once more. When it fails as well, all others
/// are given that failure: two executions, however many wait.
#[tokio::test]
async fn a_failing_response_is_tried_once_more_and_then_given_to_all_who_wait() {
    within(30, async {
        let fleet = Fleet::start(4, &["--work-ms", "700"]).await;
        let target = "/report/1?mode=fail";
        let before = fleet.executions().await;
        let mut first = fleet.replicas[0].client().await;
        let start = Instant::now();
        let leading = first.ask(target).await;
        let mut flight = fleet.flight(target).await;
        flight.is_led().await;
        let mut clients = Vec::new();
        for replica in &fleet.replicas {
            clients.extend(replica.clients(5).await);
        }
        let waiting = ask(&mut clients, target).await;
        flight.is_followed_by(3).await;

        let first = leading.await.unwrap().unwrap();
        assert_eq!((&*first.outcome, first.status), ("led", StatusCode::INTERNAL_SERVER_ERROR));
        let others = replies(waiting).await;
        println!("21 requests for work of 700 ms that fails: two executions, all answered after {:?}", start.elapsed());
        assert!(others.iter().all(|reply| reply.status == StatusCode::INTERNAL_SERVER_ERROR));
        assert!(others.iter().all(|reply| reply.body == others[0].body), "all are given the same failure");
        assert_ne!(others[0].body, first.body, "that of the second try");
        // One of them tried, its four neighbours joined it, and the fifteen of the other replicas joined from elsewhere.
        assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&others, outcome)), [1, 4, 15]);
        assert_eq!(fleet.executions().await - before, 2);

        // It was for those who waited, and is not kept; nor does it count against whoever comes next.
        let next = fleet.replicas[1].client().await.get(target).await.unwrap();
        assert_eq!(next.outcome, "led");
        assert_eq!(fleet.executions().await - before, 3);
    })
    .await;
}

/// A panic goes to the one client whose request it was: its connection closes. It cannot be given to anybody else, so here,
/// where every execution panics, each request comes to run the work itself: as many executions as requests, not one more.
#[tokio::test]
async fn a_panic_costs_only_the_connection_of_its_own_client() {
    within(30, async {
        let fleet = Fleet::start(3, &["--work-ms", "150"]).await;
        let target = "/report/1?mode=panic";
        let before = fleet.executions().await;
        let mut first = fleet.replicas[0].client().await;
        let leading = first.ask(target).await;
        let mut flight = fleet.flight(target).await;
        flight.is_led().await;
        let mut clients = Vec::new();
        for replica in &fleet.replicas {
            clients.extend(replica.clients(4).await);
        }
        let waiting = ask(&mut clients, target).await;

        let broken = leading.await.unwrap().unwrap_err();
        assert!(broken.is_incomplete_message(), "the connection closes without an answer: {broken}");
        for broken in waiting {
            let broken = broken.await.unwrap().unwrap_err();
            assert!(broken.is_incomplete_message(), "the connection closes without an answer: {broken}");
        }
        assert_eq!(fleet.executions().await - before, 13);

        // The processes are as good as before.
        let mut clients = Vec::new();
        for replica in &fleet.replicas {
            clients.extend(replica.clients(4).await);
        }
        let pending = ask(&mut clients, "/report/2?work_ms=500").await;
        let replies = replies(pending).await;
        assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&replies, outcome)), [1, 3, 8]);
        assert_eq!(fleet.executions().await - before, 14);
    })
    .await;
}
