//! What holds over any history of one node.

use proptest::{collection::vec, option, prelude::*};

use super::*;

#[derive(Clone, Copy, Debug)]
enum Request {
    Acquire {
        waits: bool,
        sole: bool,
    },
    Extend(u64),
    Adopt,
    /// The inbox of one of the others may be deaf.
    Release(Option<char>),
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
        3 => option::of(prop_oneof![Just('a'), Just('b'), Just('c')]).prop_map(Request::Release),
        1 => Just(Request::Leave),
        1 => (0..3000_u64).prop_map(Request::Raise),
        2 => (0..700_u64).prop_map(Request::Pass),
        1 => (0..300_u64).prop_map(Request::Back),
    ];
    vec((prop_oneof![Just('a'), Just('b'), Just('c')], 0..9_u64, request), 0..60)
}

/// Who was told that it holds, and until when, and who was told that it waits, as they would write it down.
#[derive(Clone, Debug, Default)]
struct Book {
    held: Option<(char, u64)>,
    /// Who, with which request, and whether the node alone decides.
    places: Vec<(char, u64, bool)>,
    /// The greatest fence with a floor, or that is held.
    fence: Fence,
}

impl Book {
    fn waits(&mut self, who: char, seq: u64, sole: bool) {
        match self.places.iter_mut().find(|place| place.0 == who) {
            Some(place) if place.1 <= seq => *place = (who, seq, sole),
            Some(_) => {}
            None => self.places.push((who, seq, sole)),
        }
    }

    /// Whoever is first, but for the deaf.
    fn passes_on(&mut self, deaf: Option<char>) -> Option<(char, u64, bool)> {
        let first = self.places.iter().position(|place| Some(place.0) != deaf).unwrap_or(self.places.len());
        let next = self.places.get(first).copied();
        self.places.drain(..self.places.len().min(first + 1));
        next
    }
}

proptest! {
    /// Fails if any request lets another one in while a lease runs, if a fence is handed out twice, or if a release
    /// grants the lock to another than the first who waits.
    #[test]
    fn over_any_history_one_holds_and_fences_grow_and_waiters_come_in_order(history in requests()) {
        let mut node = Node::new();
        let mut book = Book::default();
        for (who, seq, request) in history {
            if book.held.take_if(|(_, until)| *until <= node.now).is_some() {
                book.places.clear();
            }
            let before = book.held;
            let holds = before.is_some_and(|(holder, _)| holder == who);
            match request {
                Request::Acquire { waits, sole } => {
                    node.sole = sole;
                    match if waits { node.wait(who, seq) } else { node.acquire(who, seq) } {
                        Acquired::Granted(granted) => {
                            prop_assert!(before.is_none() || holds, "{before:?} still holds it");
                            let above = if before.is_some() { book.fence } else { book.fence.next() };
                            prop_assert!(granted >= above, "{granted:?} after {:?}", book.fence);
                            book.held = Some((who, node.now + 1000));
                            book.places.retain(|place| !(waits && place.0 == who));
                            book.fence = if sole { book.fence.max(granted) } else { book.fence };
                        }
                        Acquired::Taken(left) => {
                            prop_assert_eq!(before.map(|(_, until)| ms(until - node.now)), Some(left));
                            if waits && !holds {
                                book.waits(who, seq, sole);
                            }
                        }
                    }
                }
                Request::Extend(ttl) => {
                    if let Extended::Held(_, counted) = node.extend(who, Some(seq), ttl) {
                        prop_assert!(holds);
                        book.held = if counted == seq { Some((who, node.now + ttl)) } else { before };
                    }
                }
                Request::Adopt => {
                    if let Extended::Held(..) = node.extend(who, None, 1000) {
                        book.held = Some((who, node.now + 1000));
                    }
                }
                Request::Release(_) | Request::Leave => {
                    let (deaf, leaves) = match request {
                        Request::Release(deaf) => (deaf, None),
                        _ => (None, Some(ticket(who))),
                    };
                    node.deaf = deaf.into_iter().collect();
                    let (released, told) = node.give(Release { token: who, seq, undo: false, ticket: leaves });
                    prop_assert!(holds || !released && told.is_none());
                    book.places.retain(|place| leaves.is_none() || place.0 != who || place.1 > seq);
                    if released {
                        let next = book.passes_on(deaf);
                        prop_assert_eq!(
                            next.map(|(next, seq, _)| (place(next).inbox, ticket(next), seq)),
                            told.map(|(inbox, grant)| (inbox, grant.ticket, grant.seq))
                        );
                        book.held = next.map(|(next, ..)| (next, node.now + 1000));
                        let fence = told.map_or(book.fence.next(), |(_, grant)| grant.fence);
                        prop_assert!(fence > book.fence, "{fence:?} after {:?}", book.fence);
                        book.fence = if next.is_some_and(|next| next.2) { fence } else { book.fence };
                    }
                }
                Request::Raise(to) => {
                    let raised = node.raise(who, fence(to));
                    prop_assert_eq!(raised, holds);
                    book.fence = if raised { book.fence.max(fence(to)) } else { book.fence };
                }
                Request::Pass(time) => node.now += time,
                Request::Back(time) => node.now = node.now.saturating_sub(time).max(1),
            }
            let seen = node.seen().map(|(holder, left)| (holder, node.now + left));
            prop_assert_eq!(seen, book.held.filter(|(_, until)| *until > node.now), "after {:?}", request);
        }
    }
}
