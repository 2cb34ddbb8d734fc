//! Leading, following and landing.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    super::{Backend, Begin, Begun, Completed, Fence, Notice, Reason, Renewed},
    LONG, ask, complete, follow, hit, key, lead, owner, record, told,
};

/// One leads, another follows, and the result reaches the follower with the message or by the next begin.
pub async fn a_flight_is_led_followed_and_landed<B: Backend>([a, b]: [B; 2]) {
    let key = key("flight");
    let (fence, failures, stale, _watch) = lead(&a, &key, ask(1)).await;
    assert!(fence > Fence::NONE && failures == 0 && stale.is_none());
    let (followed, left, mut watch) = follow(&b, &key, ask(2)).await;
    assert_eq!(followed, fence);
    assert!(left <= LONG && left > LONG / 2);
    let completed = complete(&a, &key, owner(1), fence, record("body", LONG, Duration::ZERO)).await;
    assert_eq!(completed, Completed::Stored);
    let Notice::Landed(landed, found) = told(&mut watch).await else { panic!("the flight landed") };
    assert_eq!(landed, fence);
    if let Some(found) = found {
        assert_eq!((found.fence, &found.payload[..]), (fence, &b"body"[..]));
    }
    assert_eq!(&hit(&b, &key, ask(3)).await.payload[..], b"body");
}

/// A fresh record is a hit for everybody, again and again.
pub async fn a_value_that_lives_is_a_hit<B: Backend>([a, b]: [B; 2]) {
    let key = key("hit");
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    complete(&a, &key, owner(1), fence, record("body", LONG, Duration::ZERO)).await;
    for number in 2..5 {
        for replica in [&a, &b] {
            let found = hit(replica, &key, ask(number)).await;
            assert_eq!((found.fence, &found.payload[..]), (fence, &b"body"[..]));
            assert!(found.is_fresh());
        }
    }
}

/// A record that is fresh for nobody still answers those who followed its flight, and nobody else.
pub async fn a_value_without_lifetime_reaches_those_who_followed_it<B: Backend>([a, b]: [B; 2]) {
    let key = key("followers");
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    let (followed, ..) = follow(&b, &key, ask(2)).await;
    complete(&a, &key, owner(1), fence, record("body", Duration::ZERO, Duration::ZERO)).await;
    let found = hit(&b, &key, Begin { followed, ..ask(3) }).await;
    assert_eq!(&found.payload[..], b"body");
    let (next, ..) = lead(&b, &key, ask(4)).await;
    assert!(next > fence);
}

/// In its second life a record is served at once, and exactly one caller refreshes it.
pub async fn a_stale_value_is_served_while_one_refreshes<B: Backend>([a, b]: [B; 2]) {
    let key = key("stale");
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    complete(&a, &key, owner(1), fence, record("old", Duration::ZERO, LONG)).await;
    let (next, _, stale, _watch) = lead(&a, &key, ask(2)).await;
    assert_eq!(&stale.expect("the old value comes with the lead").payload[..], b"old");
    match b.begin(&key, ask(3)).await.unwrap() {
        Begun::Stale(found) => assert_eq!((found.fence, &found.payload[..]), (fence, &b"old"[..])),
        other => panic!("expected the stale value, got {other:?}"),
    }
    // A failing refresh does not destroy the good value.
    a.abort(&key, owner(2), Reason::Retry).await.unwrap();
    let (last, _, stale, _watch) = lead(&b, &key, ask(4)).await;
    assert!(stale.is_some() && last > next);
    complete(&b, &key, owner(4), last, record("new", LONG, Duration::ZERO)).await;
    assert_eq!(&hit(&a, &key, ask(5)).await.payload[..], b"new");
}

/// A begin whose reply was lost is sent again, and gets the same answer.
pub async fn a_retried_begin_leads_again<B: Backend>([a, b]: [B; 2]) {
    let key = key("retried begin");
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    assert_eq!(lead(&a, &key, ask(1)).await.0, fence);
    assert_eq!(follow(&b, &key, ask(2)).await.0, fence);
}

/// A completion whose reply was lost is sent again: it is stored, and told to nobody a second time.
pub async fn a_retried_completion_is_stored_once<B: Backend>([a, b]: [B; 2]) {
    let key = key("retried completion");
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    let body = record("body", Duration::ZERO, Duration::ZERO);
    assert_eq!(complete(&a, &key, owner(1), fence, body.clone()).await, Completed::Stored);
    let (next, ..) = lead(&b, &key, ask(2)).await;
    let (_, _, mut watch) = follow(&a, &key, ask(3)).await;
    assert_eq!(complete(&a, &key, owner(1), fence, body.clone()).await, Completed::Stored);
    // The flight that came after it is untouched, and its end is the first thing its follower hears.
    assert_eq!(complete(&b, &key, owner(2), next, body).await, Completed::Stored);
    assert!(matches!(told(&mut watch).await, Notice::Landed(landed, _) if landed == next));
}

/// Who never began cannot store, and neither can the leader under another fence.
pub async fn a_completion_by_nobody_is_superseded<B: Backend>([a, b]: [B; 2]) {
    let key = key("nobody");
    let body = || record("body", LONG, Duration::ZERO);
    assert_eq!(complete(&a, &key, owner(1), Fence(9), body()).await, Completed::Superseded);
    let (fence, ..) = lead(&a, &key, ask(1)).await;
    assert_eq!(complete(&b, &key, owner(2), fence, body()).await, Completed::Superseded);
    assert_eq!(complete(&a, &key, owner(1), fence.next(), body()).await, Completed::Superseded);
    assert!(b.get(&key).await.unwrap().is_none());
    assert_eq!(complete(&a, &key, owner(1), fence, body()).await, Completed::Stored);
}

/// A leader that was replaced stores nothing, before and after its successor does.
pub async fn an_old_leader_is_superseded<B: Backend>([a, b]: [B; 2]) {
    let key = key("old leader");
    let (old, ..) = lead(&a, &key, Begin { lease: Duration::from_micros(1), ..ask(1) }).await;
    sleep(Duration::from_millis(2)).await;
    let (new, failures, ..) = lead(&b, &key, ask(2)).await;
    assert!(new > old && failures == 1);
    let stale = record("old", LONG, Duration::ZERO);
    assert_eq!(complete(&a, &key, owner(1), old, stale.clone()).await, Completed::Superseded);
    assert_eq!(complete(&b, &key, owner(2), new, record("new", LONG, Duration::ZERO)).await, Completed::Stored);
    assert_eq!(complete(&a, &key, owner(1), old, stale).await, Completed::Superseded);
    assert_eq!(&hit(&a, &key, ask(3)).await.payload[..], b"new");
}

/// Nobody was kept waiting, so the value is good.
pub async fn a_leader_past_its_deadline_may_still_store<B: Backend>([a, b]: [B; 2]) {
    let key = key("late leader");
    let (fence, ..) = lead(&a, &key, Begin { lease: Duration::from_micros(1), ..ask(1) }).await;
    sleep(Duration::from_millis(2)).await;
    assert_eq!(complete(&a, &key, owner(1), fence, record("late", LONG, Duration::ZERO)).await, Completed::Stored);
    assert_eq!(&hit(&b, &key, ask(2)).await.payload[..], b"late");
}

/// A renewed lease keeps others following; a lease of somebody else, or of a flight that ended, is lost.
pub async fn only_the_leader_renews<B: Backend>([a, b]: [B; 2]) {
    let key = key("renew");
    assert_eq!(a.renew(&key, owner(1), LONG).await.unwrap(), Renewed::Lost);
    let (fence, ..) = lead(&a, &key, Begin { lease: Duration::from_micros(1), ..ask(1) }).await;
    assert_eq!(a.renew(&key, owner(1), LONG).await.unwrap(), Renewed::Held);
    assert_eq!(b.renew(&key, owner(2), LONG).await.unwrap(), Renewed::Lost);
    let (followed, left, _watch) = follow(&b, &key, ask(2)).await;
    assert!(followed == fence && left > LONG / 2);
    a.abort(&key, owner(1), Reason::Abandon).await.unwrap();
    assert_eq!(a.renew(&key, owner(1), LONG).await.unwrap(), Renewed::Lost);
}
