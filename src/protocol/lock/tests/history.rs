//! What holds over any history of one node.

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Copy, Debug)]
enum Request {
    Acquire {
        waits: bool,
        sole: bool,
    },
    Extend(u64),
    Adopt,
    Release,
    Leave,
    Raise(u64),
    Pass(u64),
    /// The clock steps back.
    Back(u64),
}

fn requests() -> impl Strategy<Value = Vec<(char, u64, Request)>> {
    let request = prop_oneof![
        4 => any::<bool>().prop_map(|waits| Request::Acquire { waits, sole: true }),
        1 => any::<bool>().prop_map(|waits| Request::Acquire { waits, sole: false }),
        1 => (1..1500_u64).prop_map(Request::Extend),
        1 => Just(Request::Adopt),
        2 => Just(Request::Release),
        1 => Just(Request::Leave),
        1 => (0..3000_u64).prop_map(Request::Raise),
        2 => (0..700_u64).prop_map(Request::Pass),
        1 => (0..300_u64).prop_map(Request::Back),
    ];
    vec((prop_oneof![Just('a'), Just('b'), Just('c')], 0..9_u64, request), 0..60)
}

proptest! {
    /// Fails if any request lets another one in while a lease runs, or if a fence is handed out twice.
    #[test]
    fn over_any_history_one_holds_and_fences_grow(history in requests()) {
        let mut node = Node::new();
        // Who was told that it holds, and until when, as it would write it down; the greatest fence with a floor.
        let mut book: Option<(char, u64)> = None;
        let mut greatest = Fence::NONE;
        for (who, seq, request) in history {
            let before = book.take_if(|(_, until)| *until <= node.now).map_or(book, |_| None);
            match request {
                Request::Acquire { waits, sole } => {
                    node.sole = sole;
                    match if waits { node.wait(who, seq) } else { node.acquire(who, seq) } {
                        Acquired::Granted(granted) => {
                            prop_assert!(before.is_none_or(|(holder, _)| holder == who), "{before:?} still holds it");
                            let above = if before.is_some() { greatest } else { greatest.next() };
                            prop_assert!(granted >= above, "{granted:?} after {greatest:?}");
                            book = Some((who, node.now + 1000));
                            greatest = if sole { greatest.max(granted) } else { greatest };
                        }
                        Acquired::Taken(left) => prop_assert_eq!(before.map(|(_, until)| ms(until - node.now)), Some(left)),
                        Acquired::Spoken(_) => prop_assert!(before.is_none()),
                    }
                }
                Request::Extend(ttl) => {
                    if let Extended::Held(_, counted) = node.extend(who, Some(seq), ttl) {
                        prop_assert_eq!(before.map(|(holder, _)| holder), Some(who));
                        book = if counted == seq { Some((who, node.now + ttl)) } else { before };
                    }
                }
                Request::Adopt => {
                    if let Extended::Held(..) = node.extend(who, None, 1000) {
                        book = Some((who, node.now + 1000));
                    }
                }
                Request::Release => {
                    if node.release(who, seq).0 {
                        prop_assert_eq!(before.map(|(holder, _)| holder), Some(who));
                        book = None;
                    }
                }
                Request::Leave => prop_assert!(!node.leave(who).0 || before.is_some_and(|(holder, _)| holder == who)),
                Request::Raise(to) => {
                    let raised = node.raise(who, fence(to));
                    prop_assert_eq!(raised, before.is_some_and(|(holder, _)| holder == who));
                    greatest = if raised { greatest.max(fence(to)) } else { greatest };
                }
                Request::Pass(time) => node.now += time,
                Request::Back(time) => node.now = node.now.saturating_sub(time).max(1),
            }
            let seen = node.seen().map(|(holder, left)| (holder, node.now + left));
            if matches!(request, Request::Leave) { book = seen; }
            prop_assert_eq!(seen, book.filter(|(_, until)| *until > node.now), "after {:?}", request);
        }
    }
}
