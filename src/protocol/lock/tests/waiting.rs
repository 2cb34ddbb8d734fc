//! Places, and what is granted to those who wait.

use super::*;

/// `a` holds it, and `b`, `c` and `d` wait with their requests number 1.
fn with_waiters() -> Node {
    let mut node = Node::held_by('a', 1);
    for who in ['b', 'c', 'd'] {
        assert!(matches!(node.wait(who, 1), Acquired::Taken(_)));
    }
    node
}

fn after(millis: u64, places: u64) -> Fence {
    Fence(fence(millis).0 + places)
}

impl Node {
    /// Who waits, the first one first.
    fn queue(&self) -> String {
        let queue = self.lock.state.iter().flat_map(|state| &state.queue);
        queue.map(|waiter| waiter.token).collect()
    }
}

/// Fails if the queue is a stack, if it does not survive the grant, if who asks again loses its place or is granted an older
/// request, or if whoever releases and asks again comes first.
#[test]
fn a_release_grants_in_the_order_of_arrival() {
    let mut node = with_waiters();
    node.wait('b', 2);
    assert_eq!(node.release('a', 2), (true, told('b', 2, after(1000, 1))));
    assert_eq!((node.seen(), node.queue()), (Some(('b', 1000)), "cd".into()));
    assert_eq!(node.wait('a', 3), Acquired::Taken(ms(1000)), "behind those who wait");
    assert_eq!(node.release('b', 3), (true, told('c', 1, after(1000, 2))));
    assert_eq!(node.release('c', 2), (true, told('d', 1, after(1000, 3))));
    assert_eq!(node.release('d', 2), (true, told('a', 3, after(1000, 4))));
    assert_eq!(node.release('a', 4), (true, None));
    assert_eq!(node.lock.state, None, "nobody waits");
}

/// Fails if what was granted to one who waited is less than what an attempt is granted: a lease of its own length from
/// now, that only it may extend, be granted again, and give back.
#[test]
fn what_a_release_grants_is_a_lease_like_any_other() {
    let mut node = Node::held_by('a', 1);
    let ask = Acquire { token: 'b', seq: 7, ttl: ms(300), place: Some(place('b')), sole: true, linger: ms(5) };
    node.lock.acquire(node.now(), ask);
    node.now += 900;
    assert_eq!(node.release('a', 2), (true, told('b', 7, after(1000, 1))));
    assert_eq!(node.seen(), Some(('b', 300)), "as long as it asked for, from now on");
    assert_eq!(node.acquire('c', 9), Acquired::Taken(ms(300)));
    assert_eq!(node.extend('a', Some(9), 10), Extended::Taken);
    assert_eq!(node.extend('b', Some(6), 10), Extended::Held(after(1000, 1), 7), "an older request changes nothing");
    assert!(!node.undo('b', 6), "nor does the undo of an older attempt");
    let mut again = Node { lock: node.lock.clone(), now: node.now, ..Node::new() };
    assert_eq!(again.acquire('b', 8), Acquired::Granted(after(1000, 1)), "it was its own");
    node.now += 300;
    assert_eq!(node.seen(), None, "over");
}

/// Fails if the linger of the waiter does not apply, or the one of who released does.
#[test]
fn the_floor_of_a_grant_lingers_as_the_waiter_asked() {
    for sole in [true, false] {
        let mut node = Node { sole: false, ..Node::new() };
        node.acquire('a', 1);
        let ask = Acquire { token: 'b', seq: 1, ttl: ms(300), place: Some(place('b')), sole, linger: ms(5) };
        node.lock.acquire(node.now(), ask);
        node.release('a', 2);
        let expires = node.lock.floor.map(|floor| (floor.fence, floor.expires));
        let floor = (after(1000, 1), Instant::from_micros((node.now + 305) * 1000));
        assert_eq!(expires, sole.then_some(floor), "sole: {sole}");
    }
}

/// Fails if a grant is not above the last one: in the same instant, when the clock has stepped back, and when time has
/// passed; or if it has to be above a floor for that, which there is none of on several nodes.
#[test]
fn a_grant_has_a_fence_above_the_last_one() {
    for sole in [true, false] {
        let mut node = Node { sole, ..Node::new() };
        node.wait('a', 1);
        node.wait('b', 1);
        node.wait('c', 1);
        node.now -= 900;
        assert_eq!(node.release('a', 2), (true, told('b', 1, after(1000, 1))), "sole: {sole}");
        node.now += 950;
        assert_eq!(node.release('b', 2), (true, told('c', 1, after(1000, 2))), "sole: {sole}");
    }
}

/// Fails if a grant may be below a floor that is above the holder's own fence.
#[test]
fn a_grant_has_a_fence_above_the_floor() {
    let mut node = Node { sole: false, ..Node::new() };
    node.wait('a', 1);
    node.raise('a', fence(5000));
    node.release('a', 2);
    node.wait('b', 1);
    node.wait('c', 1);
    assert_eq!(node.release('b', 2), (true, told('c', 1, after(5000, 2))));
}

/// Fails if one whose inbox nobody hears is granted the lock, keeps its place, or takes those behind it along.
#[test]
fn whom_nobody_hears_is_passed_over() {
    let mut node = Node { deaf: vec!['b', 'c'], ..with_waiters() };
    assert_eq!(node.release('a', 2), (true, told('d', 1, after(1000, 1))));
    assert_eq!(node.queue(), "");
    let mut node = Node { deaf: vec!['c', 'd'], ..with_waiters() };
    assert_eq!(node.release('a', 2), (true, told('b', 1, after(1000, 1))));
    assert_eq!(node.queue(), "cd", "only those before the one that hears");
    assert_eq!(node.release('b', 2), (true, None));
    assert_eq!(node.lock.state, None, "nobody hears: it is free");
}

/// Fails if who leaves keeps its place, takes that of another, gives back what others hold, or is missed in the queue.
#[test]
fn who_leaves_gives_up_its_place() {
    let mut node = with_waiters();
    assert_eq!(node.leave('c', 1), (false, None));
    assert_eq!((node.seen(), node.queue()), (Some(('a', 1000)), "bd".into()), "a place is not a lock");
    assert_eq!(node.leave('x', 9), (false, None));
    assert_eq!(node.release('a', 2).1, told('b', 1, after(1000, 1)));
    assert_eq!(node.release('b', 2).1, told('d', 1, after(1000, 2)));
}

/// Fails if what was granted to one who leaves stays, is not passed on, or leaves the floor that only it made.
#[test]
fn who_leaves_gives_back_what_was_granted_meanwhile() {
    let mut node = with_waiters();
    node.release('a', 2);
    assert_eq!(node.leave('b', 1), (true, told('c', 1, after(1000, 2))));
    assert_eq!(node.leave('b', 1), (false, None), "once");
    assert_eq!(node.leave('d', 1), (false, None));
    assert_eq!(node.leave('c', 1), (true, None));
    assert_eq!(node.granted('x', 1), after(1000, 3), "the floor was there before them");

    let mut node = Node::held_by('a', 1);
    node.wait('b', 1);
    assert!(node.undo('a', 1), "with its floor");
    assert!(node.leave('b', 1).0);
    assert!(node.lock.is_empty(), "as if nothing had been");
}

/// Fails if the undo of an earlier attempt, which comes late, takes the place that a younger request has noted, or what
/// was granted to that.
#[test]
fn the_place_of_a_younger_request_is_kept() {
    let mut node = with_waiters();
    node.wait('b', 3);
    assert_eq!(node.leave('b', 2), (false, None));
    assert_eq!(node.queue(), "bcd");
    assert_eq!(node.release('a', 2).1, told('b', 3, after(1000, 1)));
    assert_eq!(node.leave('b', 2), (false, None));
    assert_eq!(node.seen(), Some(('b', 1000)));
}

/// Fails if a request that comes late takes a younger one's place, or makes a place for one who holds the lock.
#[test]
fn a_late_request_notes_nothing_for_who_has_asked_since() {
    let mut node = with_waiters();
    node.wait('b', 3);
    node.wait('b', 2);
    assert_eq!(node.release('a', 2).1, told('b', 3, after(1000, 1)));
    assert_eq!(node.wait('b', 2), Acquired::Taken(ms(1000)));
    assert_eq!(node.queue(), "cd", "it would wait for itself");
}

/// Fails if who asks again does not hear elsewhere from then on.
#[test]
fn who_asks_again_may_hear_elsewhere() {
    let mut node = with_waiters();
    let elsewhere = Place { ticket: ticket('b'), inbox: Inbox([7; 12]) };
    node.ask('b', 2, Some(elsewhere));
    let (inbox, _) = node.release('a', 2).1.expect("it waits");
    assert_eq!(inbox, elsewhere.inbox);
}

/// Fails if a place outlives what its holder was granted: by a release or by an attempt of its own.
#[test]
fn a_grant_takes_the_place_along() {
    let mut node = with_waiters();
    node.release('a', 2);
    assert_eq!(node.wait('b', 2), Acquired::Granted(after(1000, 1)), "what it was granted, once more");
    assert_eq!(node.queue(), "cd");
    // A place under another ticket was noted before the token came to hold the lock.
    node.ask('c', 2, Some(place('x')));
    node.release('b', 3);
    assert_eq!(node.queue(), "dc");
    node.ask('c', 3, Some(place('x')));
    assert_eq!(node.queue(), "d");
}

/// Fails if who waits is remembered for longer than the lease that it waits for: nobody would say that it still waits.
#[test]
fn the_end_of_a_lease_forgets_who_waits() {
    let mut node = with_waiters();
    node.now += 999;
    assert_eq!(node.extend('a', Some(2), 500), Extended::Held(fence(1000), 2));
    node.now += 499;
    assert_eq!(node.queue(), "bcd", "it was extended");
    node.now += 1;
    assert_eq!(node.release('a', 3), (false, None), "too late for a release");
    assert_eq!(node.lock.state, None);
    assert!(matches!(node.wait('d', 2), Acquired::Granted(_)), "whoever comes first");
    assert_eq!(node.queue(), "");
}

/// Fails if there is no limit, or if one who has a place already loses it to the limit.
#[test]
fn there_is_room_for_so_many_places() {
    let mut node = Node::held_by('a', 1);
    let inbox = Inbox([0; 12]);
    for ticket in 0..PLACES as u64 + 5 {
        node.ask('b', 1, Some(Place { ticket, inbox }));
    }
    let elsewhere = Place { ticket: 7, inbox: Inbox([7; 12]) };
    node.ask('b', 1, Some(elsewhere));
    let queue = &node.lock.state.as_ref().unwrap().queue;
    assert_eq!((queue.len(), queue[7].place), (PLACES, elsewhere), "and who waits may hear elsewhere");
}
