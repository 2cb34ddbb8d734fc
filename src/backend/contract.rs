//! What every backend must do, as tests that a backend of your own can run.
//!
//! [`backend_contract_tests!`](crate::backend_contract_tests) makes one `#[tokio::test]` of each function here. It takes
//! an async closure that returns two replicas on one empty store, and whatever must live as long as they do (`()` if
//! there is nothing):
//!
//! ```
//! # #[cfg(test)]
//! mod contract {
//!     use tower_singleflight::backend::Memory;
//!
//!     tower_singleflight::backend_contract_tests!(async || {
//!         let memory = Memory::new();
//!         ([memory.replica(), memory], ())
//!     });
//! }
//! ```
//!
//! Time passes for real in a few of them: only where a lifetime itself is the subject.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{Backend, Begin, Begun, Completed, Fence, Found, Lifetimes, Notice, Owner, Reason, Record, Renewed, Watch};
use crate::key::Key;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3600);

/// Long enough to be measured, short enough to wait for.
const SHORT: Duration = Duration::from_millis(120);

/// A message that does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes one test of each function in [`backend::contract`](crate::backend::contract).
///
/// The argument is an async closure that returns `([replica, replica], keep_alive)`.
#[macro_export]
macro_rules! backend_contract_tests {
    ($make:expr) => {
        $crate::backend_contract_tests! { @tests $make;
            a_flight_is_led_followed_and_landed
            a_value_that_lives_is_a_hit
            a_value_without_lifetime_reaches_those_who_followed_it
            a_stale_value_is_served_while_one_refreshes
            a_large_record_travels_whole
            a_retried_begin_leads_again
            a_retried_completion_is_stored_once
            a_completion_by_nobody_is_superseded
            an_old_leader_is_superseded
            a_leader_past_its_deadline_may_still_store
            only_the_leader_renews
            an_abort_by_another_changes_nothing
            a_failure_tells_those_who_wait_and_is_counted
            an_abandoned_flight_is_not_counted
            a_scattered_key_sends_everyone_alone
            a_dead_leader_is_replaced_after_its_lease
            dead_leaders_poison_a_key
            failures_poison_those_who_would_follow
            an_invalidation_tells_everyone_and_stops_the_flight
            a_put_value_is_found_and_outlives_the_flight
            a_record_ends_with_its_lifetime
            ages_and_lifetimes_are_told
            fences_grow_whatever_happens
            any_bytes_make_a_key
            keys_do_not_touch_each_other
        }
    };
    (@tests $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (replicas, _keep_alive) = ($make)().await;
                $crate::backend::contract::$name(replicas).await;
            }
        )*
    };
}

fn key(name: &str) -> Key {
    Key::builder("contract").part(name).finish()
}

fn owner(number: u128) -> Owner {
    Owner(number << 64 | 0xdead_beef)
}

fn ask(number: u128) -> Begin {
    Begin { owner: owner(number), lease: LONG, followed: Fence::NONE }
}

fn record(payload: &'static str, fresh: Duration, stale: Duration) -> Record {
    let lifetimes = Lifetimes { fresh, stale, keep: LONG };
    Record { lifetimes, cost: Duration::from_millis(7), payload: Bytes::from_static(payload.as_bytes()) }
}

async fn lead<B: Backend>(backend: &B, key: &Key, begin: Begin) -> (Fence, u32, Option<Found>, Watch) {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Lead { fence, failures, stale, watch } => (fence, failures, stale, watch),
        other => panic!("expected to lead, got {other:?}"),
    }
}

async fn follow<B: Backend>(backend: &B, key: &Key, begin: Begin) -> (Fence, Duration, Watch) {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Follow { fence, left, watch } => (fence, left, watch),
        other => panic!("expected to follow, got {other:?}"),
    }
}

async fn hit<B: Backend>(backend: &B, key: &Key, begin: Begin) -> Found {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Hit(found) => found,
        other => panic!("expected a hit, got {other:?}"),
    }
}

async fn complete<B: Backend>(backend: &B, key: &Key, owner: Owner, fence: Fence, record: Record) -> Completed {
    backend.complete(key, owner, fence, record).await.expect("complete is answered")
}

async fn told(watch: &mut Watch) -> Notice {
    timeout(PATIENCE, watch.next()).await.expect("a message comes")
}

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

/// A body of any size comes back as it was, to followers and to later callers.
pub async fn a_large_record_travels_whole<B: Backend>([a, b]: [B; 2]) {
    for size in [0, 1, 8 * 1024, 9 * 1024, 300_000] {
        let key = key(&format!("large {size}"));
        let payload: Bytes = (0..size).map(|index| (index % 251) as u8).collect::<Vec<_>>().into();
        let (fence, ..) = lead(&a, &key, ask(1)).await;
        let (followed, _, mut watch) = follow(&b, &key, ask(2)).await;
        let sent = Record { payload: payload.clone(), ..record("", LONG, Duration::ZERO) };
        assert_eq!(complete(&a, &key, owner(1), fence, sent.clone()).await, Completed::Stored);
        assert!(matches!(told(&mut watch).await, Notice::Landed(landed, _) if landed == fence));
        assert!(hit(&b, &key, Begin { followed, ..ask(3) }).await.payload == payload);
        assert!(hit(&a, &key, ask(4)).await.payload == payload);
        b.put(&key, sent).await.unwrap();
        assert!(hit(&a, &key, ask(5)).await.payload == payload);
        assert!(a.get(&key).await.unwrap().expect("it is stored").payload == payload);
    }
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

/// An outcome that cannot be shared sends everyone alone, for a while; an invalidation does not shorten it.
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

/// Leader and followers are told, and the flight in the air stores nothing.
pub async fn an_invalidation_tells_everyone_and_stops_the_flight<B: Backend>([a, b]: [B; 2]) {
    let key = key("invalidated");
    let (fence, _, _, mut leader) = lead(&a, &key, ask(1)).await;
    let (_, _, mut follower) = follow(&b, &key, ask(2)).await;
    b.invalidate(&key).await.unwrap();
    assert_eq!(told(&mut leader).await, Notice::Invalidated);
    assert_eq!(told(&mut follower).await, Notice::Invalidated);
    assert_eq!(complete(&a, &key, owner(1), fence, record("old", LONG, LONG)).await, Completed::Superseded);
    assert!(a.get(&key).await.unwrap().is_none());
    let (next, ..) = lead(&b, &key, ask(3)).await;
    assert!(next > fence);
    complete(&b, &key, owner(3), next, record("new", LONG, Duration::ZERO)).await;
    assert_eq!(&hit(&a, &key, ask(4)).await.payload[..], b"new");
    a.invalidate(&key).await.unwrap();
    assert!(b.get(&key).await.unwrap().is_none());
    assert!(lead(&b, &key, ask(5)).await.2.is_none());
}

/// A value that was put is a hit at once, and a flight that began before does not overwrite it.
pub async fn a_put_value_is_found_and_outlives_the_flight<B: Backend>([a, b]: [B; 2]) {
    let key = key("put");
    let (fence, _, _, mut watch) = lead(&a, &key, ask(1)).await;
    b.put(&key, record("put", LONG, Duration::ZERO)).await.unwrap();
    assert_eq!(told(&mut watch).await, Notice::Invalidated);
    let found = hit(&a, &key, ask(2)).await;
    assert!(found.fence > fence && &found.payload[..] == b"put");
    assert_eq!(complete(&a, &key, owner(1), fence, record("old", LONG, LONG)).await, Completed::Superseded);
    b.put(&key, record("again", LONG, Duration::ZERO)).await.unwrap();
    let again = hit(&b, &key, ask(3)).await;
    assert!(again.fence > found.fence && &again.payload[..] == b"again");
}

/// The store forgets a record when its lifetime ends, however short; one kept longer stays without being a hit.
pub async fn a_record_ends_with_its_lifetime<B: Backend>([a, b]: [B; 2]) {
    let (gone, kept) = (key("gone"), key("kept"));
    let whole = |keep| Lifetimes { fresh: SHORT, stale: Duration::ZERO, keep };
    let sent = record("body", SHORT, Duration::ZERO);
    a.put(&gone, Record { lifetimes: whole(Duration::ZERO), ..sent.clone() }).await.unwrap();
    a.put(&kept, Record { lifetimes: whole(LONG), ..sent }).await.unwrap();
    hit(&b, &gone, ask(1)).await;
    hit(&b, &kept, ask(1)).await;
    sleep(SHORT + Duration::from_millis(5)).await;
    for replica in [&a, &b] {
        assert!(replica.get(&gone).await.unwrap().is_none());
        let found = replica.get(&kept).await.unwrap().expect("it is kept");
        assert!(!found.is_fresh() && !found.is_usable());
    }
    assert!(lead(&b, &gone, ask(2)).await.2.is_none());
    assert!(lead(&b, &kept, ask(2)).await.2.is_none());
}

/// What was stored comes back with its times, and its age is the time since it landed.
pub async fn ages_and_lifetimes_are_told<B: Backend>([a, b]: [B; 2]) {
    let key = key("times");
    let sent = record("body", LONG, 2 * LONG);
    a.put(&key, sent.clone()).await.unwrap();
    sleep(SHORT).await;
    let hits = [hit(&b, &key, ask(1)).await, hit(&b, &key, ask(2)).await, b.get(&key).await.unwrap().unwrap()];
    for found in hits {
        assert!(found.age >= SHORT - Duration::from_millis(2) && found.age < PATIENCE, "{:?}", found.age);
        assert_eq!((found.lifetimes.fresh, found.lifetimes.stale), (LONG, 2 * LONG));
        assert_eq!((found.lifetimes.keep, found.cost), (3 * LONG, sent.cost));
    }
}

/// Each flight and each put has a greater fence than everything before it.
pub async fn fences_grow_whatever_happens<B: Backend>([a, b]: [B; 2]) {
    let key = key("fences");
    let mut last = Fence::NONE;
    for round in 0..20 {
        let replica = if round % 2 == 0 { &a } else { &b };
        let (fence, ..) = lead(replica, &key, ask(round)).await;
        assert!(fence > last);
        last = fence;
        match round % 4 {
            0 => assert_eq!(
                complete(replica, &key, owner(round), fence, record("x", Duration::ZERO, Duration::ZERO)).await,
                Completed::Stored
            ),
            1 => a.abort(&key, owner(round), Reason::Abandon).await.unwrap(),
            2 => b.invalidate(&key).await.unwrap(),
            _ => {
                a.put(&key, record("x", Duration::ZERO, LONG)).await.unwrap();
                let put = a.get(&key).await.unwrap().expect("it was put").fence;
                assert!(put > last);
                last = put;
            }
        }
    }
}

/// Braces, spaces, line ends, nothing, much, and bytes that are no text.
pub async fn any_bytes_make_a_key<B: Backend>([a, b]: [B; 2]) {
    let long = vec![b'x'; 10 * 1024];
    let parts: [&[u8]; 9] =
        [b"", b"{", b"}{", b"{a}", b" a b ", b"\r\n*1\r\n$4\r\nQUIT\r\n", b"\0\xff\xfe", "\u{1f6eb}".as_bytes(), &long];
    for (number, part) in (1..).zip(parts) {
        for key in [Key::builder("").part(part).finish(), Key::builder(part).part("").part("").finish()] {
            let (fence, ..) = lead(&a, &key, ask(number)).await;
            let (_, _, mut watch) = follow(&b, &key, ask(number + 100)).await;
            complete(&a, &key, owner(number), fence, record("body", LONG, Duration::ZERO)).await;
            assert!(matches!(told(&mut watch).await, Notice::Landed(landed, _) if landed == fence));
            assert_eq!(&hit(&b, &key, ask(number + 200)).await.payload[..], b"body");
        }
    }
}

/// Keys whose parts run together are different keys, and one does not hear of the other.
pub async fn keys_do_not_touch_each_other<B: Backend>([a, b]: [B; 2]) {
    let one = Key::builder("d").part("ab").part("c").finish();
    let other = Key::builder("d").part("a").part("bc").finish();
    let (fence, ..) = lead(&a, &one, ask(1)).await;
    let (second, _, _, mut watch) = lead(&b, &other, ask(1)).await;
    complete(&a, &one, owner(1), fence, record("one", LONG, Duration::ZERO)).await;
    assert!(b.get(&other).await.unwrap().is_none());
    a.invalidate(&one).await.unwrap();
    complete(&b, &other, owner(1), second, record("other", LONG, Duration::ZERO)).await;
    assert_eq!(&hit(&a, &other, ask(2)).await.payload[..], b"other");
    a.invalidate(&other).await.unwrap();
    assert!(timeout(Duration::ZERO, watch.next()).await.is_err(), "the flight had ended");
}
