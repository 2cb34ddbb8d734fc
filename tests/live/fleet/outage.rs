//! Redis is not there when replicas start, and comes later.

use std::time::Instant;

use super::{Fleet, ask, count, replies, until, within};
use crate::support::Server;

const ALONE: &str = "bypassed: store unavailable";

#[tokio::test]
async fn replicas_that_start_without_redis_coalesce_alone_and_then_together() {
    within(60, async {
        let mut server = Server::start();
        server.kill();
        let mut fleet = Fleet::on(server, 3, &["--work-ms", "400"]).await;
        let mut clients = Vec::new();
        for replica in &fleet.replicas {
            clients.extend(replica.clients(5).await);
        }

        // Each process for itself: one of its clients runs the work and is told so, the others join it there.
        for round in 1..=3 {
            let replies = replies(ask(&mut clients, &format!("/report/{round}")).await).await;
            assert_eq!((count(&replies, ALONE), count(&replies, "joined here")), (3, 12), "in round {round}");
            for own in replies.chunks(5) {
                assert!(own.iter().all(|reply| reply.body == own[0].body), "in round {round}");
            }
            assert_eq!(fleet.executions().await, 3 * round);
        }

        fleet.server.restart().await;
        let start = Instant::now();
        let mut round = 3;
        // Each replica finds it in its own time: a round to which all have come back costs one execution.
        until("a round of all processes runs once", async || {
            round += 1;
            let replies = replies(ask(&mut clients, &format!("/report/{round}")).await).await;
            let (led, alone) = (count(&replies, "led"), count(&replies, ALONE));
            assert!((1..=3).contains(&(led + alone)), "{led} and {alone} executions in round {round}");
            (led == 1 && alone == 0).then_some(())
        })
        .await;
        println!("redis is there: together again after {} rounds and {:?}", round - 3, start.elapsed());
        // And so do all that follow.
        let before = fleet.executions().await;
        for round in 1..=5 {
            let replies = replies(ask(&mut clients, &format!("/report/10{round}")).await).await;
            assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&replies, outcome)), [1, 4, 10]);
            assert_eq!(fleet.executions().await - before, round);
        }
    })
    .await;
}
