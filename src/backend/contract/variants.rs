//! Variants of a key: each on its own, and all of them gone with their primary.

use std::time::Duration;

use super::{
    super::{Backend, Begin, Completed, Fence, Notice, Reason, Renewed},
    LONG, ask, complete, follow, hit, key, lead, owner, record, told,
};
use crate::key::Key;

/// What makes a primary go.
async fn go<B: Backend>(backend: &B, primary: &Key, put: bool) {
    match put {
        true => backend.put(primary, record("primary", LONG, Duration::ZERO)).await.unwrap(),
        false => backend.invalidate(primary).await.unwrap(),
    }
}

/// A primary and its variants have records of their own, whichever of them is asked for first.
pub async fn records_of_variants_do_not_mix<B: Backend>([a, b]: [B; 2]) {
    let page = key("mixed");
    let keys = [page.clone(), page.variant("one"), page.variant("two"), page.variant("")];
    let bodies = ["primary", "one", "two", "none"];
    let (fence, ..) = lead(&a, &page, ask(1)).await;
    for (key, body) in keys.iter().zip(bodies).skip(1) {
        assert!(b.get(key).await.unwrap().is_none());
        let (fence, _, stale, _watch) = lead(&a, key, ask(1)).await;
        assert!(stale.is_none());
        // The flights of a family do not touch each other either.
        assert_eq!(follow(&b, key, ask(2)).await.0, fence);
        complete(&a, key, owner(1), fence, record(body, LONG, Duration::ZERO)).await;
    }
    complete(&a, &page, owner(1), fence, record("primary", LONG, Duration::ZERO)).await;
    for (key, body) in keys.iter().zip(bodies) {
        assert_eq!(hit(&b, key, ask(3)).await.payload, body);
        assert_eq!(a.get(key).await.unwrap().expect("it is stored").payload, body);
    }
}

/// With the primary go the records of all its variants, those that were put included, and new ones take their place.
pub async fn a_primary_takes_the_records_of_its_variants_along<B: Backend>([a, b]: [B; 2]) {
    for put in [false, true] {
        let page = key(&format!("family {put}"));
        let (led, given) = (page.variant("led"), page.variant("put"));
        let mut last = Fence::NONE;
        for round in 0..3 {
            let (fence, _, stale, _watch) = lead(&a, &led, ask(round)).await;
            assert!(stale.is_none() && fence > last);
            complete(&a, &led, owner(round), fence, record("led", LONG, LONG)).await;
            b.put(&given, record("put", LONG, LONG)).await.unwrap();
            for replica in [&a, &b] {
                assert_eq!(hit(replica, &led, ask(9)).await.fence, fence);
                assert_eq!(hit(replica, &given, ask(9)).await.payload, "put");
                assert!(replica.get(&given).await.unwrap().is_some());
            }
            go(&b, &page, put).await;
            for replica in [&a, &b] {
                for variant in [&led, &given] {
                    assert!(replica.get(variant).await.unwrap().is_none());
                    if let Some(read) = replica.recall(variant) {
                        assert!(read.await.unwrap().is_none(), "what was known of it is no longer true");
                    }
                }
                assert_eq!(replica.get(&page).await.unwrap().is_some(), put);
            }
            last = fence;
        }
        assert!(lead(&b, &given, ask(8)).await.2.is_none());
        // Whoever followed a flight of which the record has gone begins anew.
        let (fence, ..) = lead(&b, &led, Begin { followed: last, ..ask(8) }).await;
        assert!(fence > last);
    }
}

/// With the primary go the flights of all its variants: everybody is told, and none of them can do anything any more.
pub async fn a_primary_takes_the_flights_of_its_variants_along<B: Backend>([a, b]: [B; 2]) {
    for put in [false, true] {
        let page = key(&format!("flights {put}"));
        let (one, two) = (page.variant("one"), page.variant("two"));
        let (fence, _, _, mut leader) = lead(&a, &one, ask(1)).await;
        let (_, _, mut follower) = follow(&b, &one, ask(2)).await;
        let (other, _, _, mut sibling) = lead(&b, &two, ask(1)).await;
        let (_, _, _, mut primary) = lead(&b, &page, ask(1)).await;
        go(&a, &page, put).await;
        for watch in [&mut leader, &mut follower, &mut sibling, &mut primary] {
            assert_eq!(told(watch).await, Notice::Invalidated);
        }
        let body = || record("old", LONG, LONG);
        assert_eq!(a.renew(&one, owner(1), LONG).await.unwrap(), Renewed::Lost);
        assert_eq!(complete(&a, &one, owner(1), fence, body()).await, Completed::Superseded);
        // The next flight is a new one, of which the old leader knows nothing.
        let (next, failures, ..) = lead(&b, &one, ask(3)).await;
        assert!(next > fence && failures == 0);
        a.abort(&one, owner(1), Reason::Scatter(LONG)).await.unwrap();
        assert_eq!(complete(&a, &one, owner(1), fence, body()).await, Completed::Superseded);
        let (followed, _, mut watch) = follow(&a, &one, ask(4)).await;
        assert_eq!(followed, next);
        assert_eq!(complete(&b, &one, owner(3), next, record("new", LONG, LONG)).await, Completed::Stored);
        assert!(matches!(told(&mut watch).await, Notice::Landed(landed, _) if landed == next));
        assert_eq!(hit(&a, &one, ask(5)).await.payload, "new");
        // The leader of the other one tries only now.
        b.abort(&two, owner(1), Reason::Scatter(LONG)).await.unwrap();
        assert_eq!(complete(&b, &two, owner(1), other, body()).await, Completed::Superseded);
        assert!(a.get(&two).await.unwrap().is_none());
        let (last, failures, ..) = lead(&a, &two, ask(6)).await;
        assert!(last > other && failures == 0);
    }
}

/// A variant goes alone, whether it is invalidated or replaced.
pub async fn a_variant_goes_alone<B: Backend>([a, b]: [B; 2]) {
    for put in [false, true] {
        let page = key(&format!("alone {put}"));
        let [goes, stays, flies] = ["goes", "stays", "flies"].map(|value| page.variant(value));
        a.put(&page, record("primary", LONG, Duration::ZERO)).await.unwrap();
        a.put(&stays, record("stays", LONG, Duration::ZERO)).await.unwrap();
        let (fence, _, _, mut leader) = lead(&a, &goes, ask(1)).await;
        let (other, _, _, mut sibling) = lead(&a, &flies, ask(1)).await;
        go(&b, &goes, put).await;
        assert_eq!(told(&mut leader).await, Notice::Invalidated);
        let old = record("old", LONG, Duration::ZERO);
        assert_eq!(complete(&a, &goes, owner(1), fence, old).await, Completed::Superseded);
        assert_eq!(b.get(&goes).await.unwrap().is_some(), put);
        assert_eq!(hit(&b, &page, ask(2)).await.payload, "primary");
        assert_eq!(hit(&b, &stays, ask(2)).await.payload, "stays");
        assert_eq!(a.renew(&flies, owner(1), LONG).await.unwrap(), Renewed::Held);
        follow(&b, &flies, ask(2)).await;
        let body = record("flies", LONG, Duration::ZERO);
        assert_eq!(complete(&a, &flies, owner(1), other, body).await, Completed::Stored);
        // It was left alone: of all this it heard nothing, so what comes first is what is said last.
        b.invalidate(&flies).await.unwrap();
        lead(&b, &flies, ask(3)).await;
        follow(&a, &flies, ask(4)).await;
        b.abort(&flies, owner(3), Reason::Abandon).await.unwrap();
        assert_eq!(told(&mut sibling).await, Notice::Retry);
    }
}

/// Each flight and each record of a variant has a greater fence than those before it, whatever becomes of the primary.
pub async fn fences_of_variants_grow<B: Backend>([a, b]: [B; 2]) {
    let page = key("fences of variants");
    let variants = [page.variant("one"), page.variant("two")];
    let mut last = [Fence::NONE; 2];
    for round in 0..24_u128 {
        let replica = if round % 2 == 0 { &a } else { &b };
        for (variant, last) in variants.iter().zip(&mut last) {
            let (fence, ..) = lead(replica, variant, ask(round)).await;
            assert!(fence > *last);
            *last = fence;
            match round % 3 {
                0 => drop(complete(replica, variant, owner(round), fence, record("x", Duration::ZERO, LONG)).await),
                1 => a.abort(variant, owner(round), Reason::Abandon).await.unwrap(),
                _ => {
                    b.put(variant, record("x", Duration::ZERO, LONG)).await.unwrap();
                    let put = a.get(variant).await.unwrap().expect("it was put").fence;
                    assert!(put > *last);
                    *last = put;
                }
            }
        }
        match round % 4 {
            0 => a.invalidate(&page).await.unwrap(),
            1 => b.put(&page, record("x", Duration::ZERO, LONG)).await.unwrap(),
            2 => b.invalidate(&variants[0]).await.unwrap(),
            _ => {}
        }
    }
}
