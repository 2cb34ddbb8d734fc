//! What hard cases cost, counted exactly: executions of the handler, and rounds of it, each of which takes a second.

use axum::{Router, extract::Request, response::IntoResponse};
use http::StatusCode;
use tokio::time::{Instant, sleep};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, joined, led, outcome, secs, send, spawn, text, together};

const URI: &str = "http://a.test/report";

/// So many replicas of one application, which keeps nothing unless `set` says so.
fn fleet<R: IntoResponse>(
    replicas: usize,
    calls: &Calls,
    set: impl Fn(SingleflightLayer) -> SingleflightLayer,
    handler: impl Fn(&Request, usize) -> R + Clone + Send + Sync + 'static,
) -> Vec<Router> {
    let memory = Memory::new();
    (0..replicas).map(|_| app(&set(SingleflightLayer::new(memory.replica())), calls, handler.clone())).collect()
}

fn burst(fleet: &[Router], requests: usize) -> impl Iterator<Item = (Router, Request)> {
    fleet.iter().cycle().take(requests).map(|app| (app.clone(), get(URI)))
}

/// One finds out, then all that waited run at once; the next burst does not wait at all.
///
/// Fails if those who wait are let go one by one, or if the key does not scatter.
#[tokio::test(start_paused = true)]
async fn an_uncacheable_burst_takes_two_rounds_and_the_next_one() {
    for replicas in [1, 2] {
        let calls = Calls::default();
        let fleet =
            fleet(replicas, &calls, |layer| layer, |_, call| ([("cache-control", "private")], call.to_string()));
        for (rounds, executions) in [(2, 10), (1, 20), (1, 30)] {
            let start = Instant::now();
            let mut bodies = Vec::new();
            for response in together(burst(&fleet, 10)).await {
                let expected = [Outcome::Led, Outcome::Bypassed(Why::Unshareable)];
                assert!(expected.contains(&outcome(&response)), "{}", outcome(&response));
                bodies.push(text(response).await);
            }
            assert_eq!((start.elapsed(), calls.count()), (secs(rounds), executions), "on {replicas}");
            bodies.sort();
            bodies.dedup();
            assert_eq!(bodies.len(), 10, "each its own");
        }
    }
}

/// Fails if the second failure is not given to those who wait.
#[tokio::test(start_paused = true)]
async fn a_failing_handler_is_called_twice_however_many_wait() {
    for replicas in [1, 2] {
        for waiting in [2, 10, 1000] {
            let calls = Calls::default();
            let failing = |_: &Request, call: usize| (StatusCode::INTERNAL_SERVER_ERROR, call.to_string());
            let fleet = fleet(replicas, &calls, |layer| layer.result_ttl(secs(60)), failing);
            let start = Instant::now();
            let responses = together(burst(&fleet, waiting)).await;
            assert_eq!((calls.count(), start.elapsed()), (2, secs(2)), "{waiting} on {replicas}");
            assert_eq!((led(&responses), responses.iter().filter(|it| joined(it)).count()), (2, waiting - 2));
            let mut first = 0;
            for response in responses {
                assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
                first += usize::from(text(response).await == "1");
            }
            assert_eq!(first, 1, "the first failure is its own caller's alone");
        }
    }
}

/// Fails if the lease of a leader that works is not renewed.
#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_the_lock_ttl_runs_once() {
    for replicas in [1, 2] {
        let calls = Calls::default();
        let fleet = fleet(replicas, &calls, |layer| layer.lock_ttl(secs(1) / 10), |_, call| call.to_string());
        let start = Instant::now();
        let responses = together(burst(&fleet, 10)).await;
        assert_eq!((calls.count(), led(&responses), start.elapsed()), (1, 1, secs(1)), "on {replicas}");
        for response in responses {
            assert_eq!(text(response).await, "1");
        }
    }
}

/// Fails if the work ends with the request that brought it.
#[tokio::test(start_paused = true)]
async fn a_leaders_client_that_leaves_at_a_quarter_costs_nothing() {
    for replicas in [1, 2] {
        let calls = Calls::default();
        let fleet = fleet(replicas, &calls, |layer| layer.result_ttl(secs(60)), |_, call| call.to_string());
        let start = Instant::now();
        let leader = spawn(&fleet[0], get(URI));
        sleep(secs(1) / 8).await;
        let followers: Vec<_> = burst(&fleet, 10).map(|(app, request)| spawn(&app, request)).collect();
        sleep(secs(1) / 8).await;
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        for follower in followers {
            let response = follower.await.unwrap();
            assert!(joined(&response), "{}", outcome(&response));
            assert_eq!(text(response).await, "1");
        }
        assert_eq!((calls.count(), start.elapsed()), (1, secs(1)), "on {replicas}");
        assert!(matches!(outcome(&send(&fleet[replicas - 1], get(URI)).await), Outcome::Hit { .. }));
    }
}

/// Fails if a failure is given to those who wait although it is to be for its own caller, or if more than one of a replica
/// runs at a time.
#[tokio::test(start_paused = true)]
async fn errors_that_are_not_shared_are_had_one_by_one() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).share_errors(false).wait_timeout(secs(60));
    let app = app(&layer, &calls, |_, call| (StatusCode::INTERNAL_SERVER_ERROR, call.to_string()));
    let start = Instant::now();
    let mut bodies = Vec::new();
    for response in together((0..5).map(|_| (app.clone(), get("http://a.test/")))).await {
        bodies.push(text(response).await);
    }
    bodies.sort();
    assert_eq!(bodies, ["1", "2", "3", "4", "5"]);
    assert_eq!((calls.count(), start.elapsed()), (5, secs(5)));
}
