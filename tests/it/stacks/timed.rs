//! Deadlines. Inside, one is on the work of all; outside, on the patience of one caller.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::time::sleep;
use tower::{BoxError, ServiceBuilder};

use super::{Slow, burst, failed, keeping, layer, shares, told};
use crate::http_support::secs;

const LATE: &str = "request timed out";

/// Fails if the work ends with the patience of the caller that leads.
#[tokio::test(start_paused = true)]
async fn outside_it_ends_the_wait_of_one_caller() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().timeout(secs(3)).layer(keeping()).service(slow.clone());
    let leader = tokio::spawn({
        let stack = stack.clone();
        async move { burst(&stack, &["/x"]).await }
    });
    sleep(secs(2)).await;
    // Two of the four seconds are left.
    assert_eq!(burst(&stack, &["/x", "/x"]).await, [told("/x #1", 2), told("/x #1", 2)]);
    assert_eq!(leader.await.unwrap(), [failed(LATE, 3)]);
    // Nobody waits for this one when it lands, and it is kept all the same.
    assert_eq!(burst(&stack, &["/y", "/y"]).await, [failed(LATE, 3), failed(LATE, 3)]);
    sleep(secs(1)).await;
    assert_eq!(burst(&stack, &["/y"]).await, [told("/y #2", 0)]);
    assert_eq!(slow.0.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_holds_is_not_noticed() {
    let slow = Slow::default();
    shares(&ServiceBuilder::new().timeout(secs(5)).layer(layer()).service(slow.clone()), &slow.0).await;
    let slow = Slow::default();
    shares(&ServiceBuilder::new().layer(layer()).timeout(secs(5)).service(slow.clone()), &slow.0).await;
}

/// The trap: the error of a call belongs to its caller, and each of the others tries again, one after the other.
#[tokio::test(start_paused = true)]
async fn inside_it_ends_the_work_and_everybody_tries() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().layer(layer()).timeout(secs(2)).service(slow.clone());
    assert_eq!(burst(&stack, &["/x"; 3]).await, [failed(LATE, 2), failed(LATE, 4), failed(LATE, 6)]);
    assert_eq!(slow.0.count(), 3);
}

/// Made a response, the failure is shared like any: after one more try all who wait have it. Fails if each tries.
#[tokio::test(start_paused = true)]
async fn inside_it_is_better_a_response() {
    let slow = Slow::default();
    let late = async |result: Result<Response<Full<Bytes>>, BoxError>| {
        Ok::<_, BoxError>(result.unwrap_or_else(|error| {
            let mut response = Response::new(Full::from(error.to_string()));
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            response
        }))
    };
    let inner = ServiceBuilder::new().then(late).timeout(secs(2)).service(slow.clone());
    let stack = ServiceBuilder::new().layer(layer()).service(inner);
    let second = told(LATE, 4);
    assert_eq!(burst(&stack, &["/x"; 4]).await, [told(LATE, 2), second.clone(), second.clone(), second]);
    assert_eq!(slow.0.count(), 2);
}
