//! The process that leads is killed.

use std::time::{Duration, Instant};

use super::{Fleet, ask, count, replies, within};
use crate::support::Server;

/// With that many keys to expire, the server's own expiry runs late; nobody waits for it.
const OTHERS: usize = 100_000;

/// Keys that live between one second and a minute.
const FILL: &str = "
    for i = ARGV[1], ARGV[2] do
        redis.call('SET', 'other:' .. i, 'value', 'PX', 1000 + math.floor(i * 59000 / ARGV[3]))
    end
    return redis.call('DBSIZE')";

async fn fill(server: &Server) {
    let chunk = OTHERS / 20;
    for from in (0..OTHERS).step_by(chunk) {
        let args = [from, from + chunk - 1, OTHERS].map(|arg| arg.to_string());
        let keys: usize = server.run(&["EVAL", FILL, "0", &args[0], &args[1], &args[2]]).await;
        assert!(keys > 0);
    }
}

/// A follower was told how long the lease runs, and measures that by itself. The first to ask after that leads, and
/// everybody else follows it: one execution by the survivors.
#[tokio::test]
async fn a_killed_leader_is_replaced_when_its_lease_is_over_among_many_keys_that_expire() {
    within(60, async {
        let (lease, work) = (Duration::from_millis(2000), Duration::from_millis(800));
        let fleet = Fleet::start(4, &["--work-ms", "800", "--lock-ttl-ms", "2000"]).await;
        let [leader, survivors @ ..] = &fleet.replicas[..] else { unreachable!() };
        fill(&fleet.server).await;
        let mut before = 0;
        for survivor in survivors {
            before += survivor.executions().await;
        }

        let mut lost = leader.clients(3).await;
        let leading = ask(&mut lost, "/report/1").await;
        let mut flight = fleet.flight("/report/1").await;
        flight.is_led().await;
        let mut clients = Vec::new();
        for survivor in survivors {
            clients.extend(survivor.clients(10).await);
        }
        let following = ask(&mut clients, "/report/1").await;
        flight.is_followed_by(3).await;
        let keys: usize = fleet.server.run(&["DBSIZE"]).await;
        leader.kill();
        let killed = Instant::now();

        for lost in leading {
            assert!(lost.await.unwrap().is_err(), "a process that was killed in the middle of its work answers nobody");
        }
        let replies = replies(following).await;
        let took = killed.elapsed();
        println!("killed among {keys} keys: answered after {took:?}, with a lease of {lease:?} and work of {work:?}");
        assert!(keys > OTHERS / 2, "the other keys were there: {keys}");
        assert_eq!(["led", "joined here", "joined elsewhere"].map(|outcome| count(&replies, outcome)), [1, 9, 20]);
        assert!(replies.iter().all(|reply| reply.body == replies[0].body));
        let mut after = 0;
        for survivor in survivors {
            after += survivor.executions().await;
        }
        assert_eq!(after - before, 1);
        assert!(took < lease + work + Duration::from_secs(2), "{took:?}");
    })
    .await;
}
