//! Leaders that fail, give up or die.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    super::{Backend, Begin, Begun, Notice, Reason},
    LONG, SHORT, ask, complete, follow, hit, key, lead, owner, record, told,
};

/// Only the owner ends its flight.
pub async fn an_abort_by_another_changes_nothing<B: Backend>([a, b]: [B; 2]) {
    let key = key("foreign abort");
    b.abort(&key, owner(2), Reason::Retry).await.unwrap();
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    b.abort(&key, owner(2), Reason::Scatter(LONG)).await.unwrap();
    assert_eq!(follow(&b, &key, ask(3)).await.0, fence);
}

/// When the work fails, the followers begin again, one of them leads, and it learns of the failure.
pub async fn a_failure_tells_those_who_wait_and_is_counted<B: Backend>([a, b]: [B; 2]) {
    let key = key("failure");
    let (first, ..) = lead(&a, &key, ask(1)).await;
    let (_, _, mut watch) = follow(&b, &key, ask(2)).await;
    a.abort(&key, owner(1), Reason::Retry).await.unwrap();
    assert_eq!(told(&mut watch).await, Notice::Retry);
    let (second, failures, ..) = lead(&b, &key, ask(2)).await;
    assert!(second > first && failures == 1);
    // A retried abort meets a flight of somebody else, and leaves it alone.
    a.abort(&key, owner(1), Reason::Retry).await.unwrap();
    assert_eq!(follow(&a, &key, ask(3)).await.0, second);
}

/// A leader that nobody waits for any more gives way without a mark.
pub async fn an_abandoned_flight_is_not_counted<B: Backend>([a, b]: [B; 2]) {
    let key = key("abandoned");
    lead(&a, &key, ask(1)).await;
    let (_, _, mut watch) = follow(&b, &key, ask(2)).await;
    a.abort(&key, owner(1), Reason::Abandon).await.unwrap();
    assert_eq!(told(&mut watch).await, Notice::Retry);
    assert_eq!(lead(&b, &key, ask(2)).await.1, 0);
}

/// An outcome that cannot be shared sends everyone alone, for a while.
pub async fn a_scattered_key_sends_everyone_alone<B: Backend>([a, b]: [B; 2]) {
    let key = key("scatter");
    lead(&a, &key, ask(1)).await;
    let (_, _, mut watch) = follow(&b, &key, ask(2)).await;
    a.abort(&key, owner(1), Reason::Scatter(SHORT)).await.unwrap();
    assert_eq!(told(&mut watch).await, Notice::Scatter(SHORT));
    match b.begin(&key, ask(3)).await.unwrap() {
        Begun::Scatter(left) => assert!(left <= SHORT),
        other => panic!("expected to scatter, got {other:?}"),
    }
    sleep(SHORT).await;
    lead(&b, &key, ask(4)).await;
}

/// A dead leader costs its followers what is left of its lease, and the next begin takes over.
pub async fn a_dead_leader_is_replaced_after_its_lease<B: Backend>([a, b]: [B; 2]) {
    let key = key("dead leader");
    let (fence, ..) = lead(&a, &key, Begin { lease: SHORT, ..ask(1) }).await;
    let (_, left, _watch) = follow(&b, &key, ask(2)).await;
    assert!(left <= SHORT);
    sleep(left + Duration::from_millis(1)).await;
    let (next, failures, ..) = lead(&b, &key, ask(2)).await;
    assert!(next > fence && failures == 1);
}

/// Work that kills its leaders is not given to a fourth one. A stored value lifts that.
pub async fn dead_leaders_poison_a_key<B: Backend>([a, b]: [B; 2]) {
    let key = key("poisoned");
    for number in 1..=3 {
        lead(&a, &key, Begin { lease: Duration::from_micros(1), ..ask(number) }).await;
        sleep(Duration::from_millis(2)).await;
    }
    for replica in [&a, &b] {
        assert!(matches!(replica.begin(&key, ask(9)).await.unwrap(), Begun::Poisoned));
    }
    b.put(&key, record("body", LONG, Duration::ZERO)).await.unwrap();
    assert_eq!(&hit(&a, &key, ask(10)).await.payload[..], b"body");
}

/// After two failures in a row, those who would follow run by themselves; a success makes them follow again.
pub async fn failures_poison_those_who_would_follow<B: Backend>([a, b]: [B; 2]) {
    let key = key("failures");
    for number in 1..=2 {
        lead(&a, &key, ask(number)).await;
        a.abort(&key, owner(number), Reason::Retry).await.unwrap();
    }
    let (fence, failures, ..) = lead(&a, &key, ask(3)).await;
    assert_eq!(failures, 2);
    assert!(matches!(b.begin(&key, ask(4)).await.unwrap(), Begun::Poisoned));
    complete(&a, &key, owner(3), fence, record("body", Duration::ZERO, Duration::ZERO)).await;
    let (next, failures, ..) = lead(&a, &key, ask(5)).await;
    assert_eq!(failures, 0);
    assert_eq!(follow(&b, &key, ask(6)).await.0, next);
}
