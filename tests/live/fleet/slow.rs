//! Work that takes longer than the lock TTL.

use std::time::Instant;

use super::{Fleet, ask, count, replies, within};

/// The lease is renewed while the process lives; it bounds how long a dead leader is waited for, not the work.
#[tokio::test]
async fn work_of_three_lock_ttls_runs_once() {
    within(30, async {
        let fleet = Fleet::start(2, &["--work-ms", "2400", "--lock-ttl-ms", "800"]).await;
        let before = fleet.executions().await;
        let mut clients = fleet.replicas[0].clients(3).await;
        clients.extend(fleet.replicas[1].clients(3).await);
        let start = Instant::now();
        let pending = ask(&mut clients, "/report/1").await;
        let replies = replies(pending).await;
        println!("work of 2.4 s under a lock TTL of 0.8 s: once, 6 requests answered after {:?}", start.elapsed());
        assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&replies, outcome)), [1, 2, 3]);
        assert!(replies.iter().all(|reply| reply.body == replies[0].body));
        assert_eq!(fleet.executions().await - before, 1);
    })
    .await;
}
