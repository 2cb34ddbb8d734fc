//! Queues, and what lets through so many calls in a while. The latter cannot be cloned, and stands behind the former.

use tower::ServiceBuilder;

use super::{Request, Slow, burst, keeping, layer, shares, told};
use crate::http_support::secs;

#[tokio::test(start_paused = true)]
async fn a_buffer_inside() {
    let slow = Slow::default();
    shares(&ServiceBuilder::new().layer(layer()).buffer::<Request>(1).service(slow.clone()), &slow.0).await;

    // With room for one, those who wait for a place in it are leaders. Fails if a follower takes a place.
    let slow = Slow::default();
    let inner = ServiceBuilder::new().buffer::<Request>(1).concurrency_limit(1).service(slow.clone());
    let stack = ServiceBuilder::new().layer(layer()).service(inner);
    let all = burst(&stack, &["/x", "/x", "/x", "/y", "/y", "/x"]).await;
    let (x, y) = (told("/x #1", 4), told("/y #2", 8));
    assert_eq!(all, [x.clone(), x.clone(), x.clone(), y.clone(), y, x]);
}

/// Its worker waits until the layer is ready, which it always is: a place for one is enough.
#[tokio::test(start_paused = true)]
async fn a_buffer_outside() {
    let slow = Slow::default();
    shares(&ServiceBuilder::new().buffer::<Request>(1).layer(layer()).service(slow.clone()), &slow.0).await;
}

/// Fails if followers or hits are counted.
#[tokio::test(start_paused = true)]
async fn a_rate_inside_is_on_the_calls() {
    let slow = Slow::default();
    let inner = ServiceBuilder::new().buffer::<Request>(8).rate_limit(1, secs(6)).service(slow.clone());
    let stack = ServiceBuilder::new().layer(keeping()).service(inner);
    let all = burst(&stack, &["/x", "/x", "/y", "/x"]).await;
    assert_eq!(all, [told("/x #1", 4), told("/x #1", 4), told("/y #2", 10), told("/x #1", 4)]);
    assert_eq!(burst(&stack, &["/x", "/y", "/z"]).await, [told("/x #1", 0), told("/y #2", 0), told("/z #3", 6)]);
}

/// As it must where it is a caller who has a rate: everybody is counted, hits too.
#[tokio::test(start_paused = true)]
async fn a_rate_outside_is_on_the_callers() {
    let slow = Slow::default();
    let inner = ServiceBuilder::new().rate_limit(1, secs(6)).layer(keeping()).service(slow.clone());
    let stack = ServiceBuilder::new().buffer::<Request>(8).service(inner);
    assert_eq!(burst(&stack, &["/x"; 3]).await, [told("/x #1", 4), told("/x #1", 6), told("/x #1", 12)]);
    assert_eq!(slow.0.count(), 1);
}
