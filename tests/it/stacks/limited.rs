//! What limits how many calls run at a time, and what sheds the rest.

use tokio::time::sleep;
use tower::ServiceBuilder;

use super::{Slow, burst, failed, keeping, layer, shares, told};
use crate::http_support::secs;

const SHED: &str = "service overloaded";

/// Fails if those who wait for another's call, or take what is kept, need a permit.
#[tokio::test(start_paused = true)]
async fn a_limit_inside_is_on_the_calls() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().layer(keeping()).concurrency_limit(1).service(slow.clone());
    let all = burst(&stack, &["/x", "/x", "/y", "/x"]).await;
    assert_eq!(all, [told("/x #1", 4), told("/x #1", 4), told("/y #2", 8), told("/x #1", 4)]);

    let busy = tokio::spawn({
        let stack = stack.clone();
        async move { burst(&stack, &["/z"]).await }
    });
    sleep(secs(1)).await;
    assert_eq!(burst(&stack, &["/x", "/y"]).await, [told("/x #1", 0), told("/y #2", 0)]);
    assert_eq!(busy.await.unwrap(), [told("/z #3", 4)]);
    assert_eq!(slow.0.count(), 3);
}

/// The trap: callers come to the layer one after the other, and nobody ever waits for the same as another.
#[tokio::test(start_paused = true)]
async fn a_limit_outside_is_on_the_callers() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().concurrency_limit(1).layer(layer()).service(slow.clone());
    assert_eq!(burst(&stack, &["/x"; 3]).await, [told("/x #1", 4), told("/x #2", 8), told("/x #3", 12)]);

    // What is kept saves the calls, but a hit waits for whoever is there before it.
    let slow = Slow::default();
    let stack = ServiceBuilder::new().concurrency_limit(1).layer(keeping()).service(slow.clone());
    assert_eq!(
        burst(&stack, &["/x", "/x", "/y", "/x"]).await,
        [told("/x #1", 4), told("/x #1", 4), told("/y #2", 8), told("/x #1", 8)]
    );
    assert_eq!(slow.0.count(), 2);
}

/// Fails if a follower or a hit is shed, or if the error of one is shared.
#[tokio::test(start_paused = true)]
async fn what_sheds_inside_sheds_calls() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().layer(keeping()).load_shed().concurrency_limit(1).service(slow.clone());
    let all = burst(&stack, &["/x", "/x", "/y", "/x"]).await;
    assert_eq!(all, [told("/x #1", 4), told("/x #1", 4), failed(SHED, 0), told("/x #1", 4)]);

    let busy = tokio::spawn({
        let stack = stack.clone();
        async move { burst(&stack, &["/y"]).await }
    });
    sleep(secs(1)).await;
    // Each of those who want something new tries for itself, and is told so at once.
    let all = burst(&stack, &["/x", "/z", "/z", "/z"]).await;
    assert_eq!(all, [told("/x #1", 0), failed(SHED, 0), failed(SHED, 0), failed(SHED, 0)]);
    assert_eq!(busy.await.unwrap(), [told("/y #2", 4)]);
    assert_eq!(slow.0.count(), 2);
}

/// The trap: a burst of identical requests is what it sheds.
#[tokio::test(start_paused = true)]
async fn what_sheds_outside_sheds_callers() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().load_shed().concurrency_limit(1).layer(layer()).service(slow.clone());
    assert_eq!(burst(&stack, &["/x"; 3]).await, [told("/x #1", 4), failed(SHED, 0), failed(SHED, 0)]);
    assert_eq!(slow.0.count(), 1);
}

/// The layer is always ready: behind it nobody sees that the inner service is not, so that nothing is shed.
#[tokio::test(start_paused = true)]
async fn what_sheds_outside_does_not_see_a_limit_inside() {
    let slow = Slow::default();
    let stack = ServiceBuilder::new().load_shed().layer(layer()).concurrency_limit(1).service(slow.clone());
    assert_eq!(burst(&stack, &["/x", "/y", "/x"]).await, [told("/x #1", 4), told("/y #2", 8), told("/x #1", 4)]);

    let slow = Slow::default();
    shares(&ServiceBuilder::new().load_shed().layer(layer()).service(slow.clone()), &slow.0).await;
}
