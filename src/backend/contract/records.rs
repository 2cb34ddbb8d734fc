//! What is stored, for how long, and under which key.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{
    super::{Backend, Begin, Completed, Fence, Lifetimes, Notice, Reason, Record},
    LONG, PATIENCE, SHORT, ask, complete, follow, hit, key, lead, owner, record, told,
};
use crate::key::Key;

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

/// The store forgets a record when its lifetime ends, however short; one kept longer stays without being a hit, and comes
/// with the lead.
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
    // Not to be served: for the work to start from.
    assert_eq!(&lead(&b, &kept, ask(2)).await.2.expect("it is kept").payload[..], b"body");
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
    // The flight had ended: of all this it heard nothing, so what comes first is what is said last.
    lead(&a, &other, ask(3)).await;
    follow(&b, &other, ask(4)).await;
    a.abort(&other, owner(3), Reason::Abandon).await.unwrap();
    assert_eq!(told(&mut watch).await, Notice::Retry);
}
