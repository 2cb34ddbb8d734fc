//! The rules of a node, one by one.
//!
//! Contenders are letters, and a letter's ticket and inbox are its own. Time is in milliseconds; a lease takes 1000 of
//! them, and the floor outlives it by 60 000.

use super::*;

mod history;

const LINGER: u64 = 60_000;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ticket(who: char) -> u64 {
    who as u64
}

fn place(who: char) -> Place {
    Place { ticket: ticket(who), inbox: Inbox([who as u8; 12]) }
}

fn fence(millis: u64) -> Fence {
    Fence(millis * 1000)
}

struct Node {
    lock: Lock<char>,
    now: u64,
    sole: bool,
}

impl Node {
    fn new() -> Self {
        Self { lock: Lock::default(), now: 1000, sole: true }
    }

    fn held_by(who: char, seq: u64) -> Self {
        let mut node = Self::new();
        assert_eq!(node.acquire(who, seq), Acquired::Granted(fence(1000)));
        node
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now * 1000)
    }

    fn ask(&mut self, who: char, seq: u64, place: Option<Place>) -> Acquired {
        let ask = Acquire { token: who, seq, ttl: ms(1000), place, sole: self.sole, linger: ms(LINGER) };
        self.lock.acquire(self.now(), ask)
    }

    fn acquire(&mut self, who: char, seq: u64) -> Acquired {
        self.ask(who, seq, None)
    }

    fn wait(&mut self, who: char, seq: u64) -> Acquired {
        self.ask(who, seq, Some(place(who)))
    }

    fn extend(&mut self, who: char, seq: Option<u64>, ttl: u64) -> Extended {
        self.lock.extend(self.now(), &who, seq, ms(ttl), ms(LINGER))
    }

    fn release(&mut self, who: char, seq: u64) -> (bool, Told) {
        self.lock.release(self.now(), &Release { token: who, seq, undo: false, ticket: None })
    }

    fn undo(&mut self, who: char, seq: u64) -> bool {
        self.lock.release(self.now(), &Release { token: who, seq, undo: true, ticket: None }).0
    }

    fn leave(&mut self, who: char) -> (bool, Told) {
        self.lock.release(self.now(), &Release { token: who, seq: 0, undo: false, ticket: Some(ticket(who)) })
    }

    fn raise(&mut self, who: char, to: Fence) -> bool {
        self.lock.raise(self.now(), &who, to, ms(LINGER))
    }

    /// Who holds it, and for how long.
    fn seen(&mut self) -> Option<(char, u64)> {
        let seen = self.lock.inspect(self.now())?;
        Some((seen.token, seen.left.as_millis() as u64))
    }

    fn granted(&mut self, who: char, seq: u64) -> Fence {
        match self.acquire(who, seq) {
            Acquired::Granted(fence) => fence,
            refused => panic!("{refused:?}"),
        }
    }
}

fn yours(who: char) -> (Inbox, Turn) {
    (place(who).inbox, Turn::Yours)
}

fn after(who: char) -> (Inbox, Turn) {
    (place(who).inbox, Turn::After(TURN))
}

/// Fails if a lease is taken from its holder, or outlives its end.
#[test]
fn a_lease_is_its_holders_until_it_is_over() {
    let mut node = Node::held_by('a', 1);
    node.now += 999;
    assert_eq!(node.acquire('b', 1), Acquired::Taken(ms(1)));
    node.now += 1;
    assert_eq!(node.seen(), None);
    assert_eq!(node.acquire('b', 1), Acquired::Granted(fence(2000)));
}

/// Fails if a retry is refused, or changes the fence.
#[test]
fn what_a_holder_asks_again_is_granted_again() {
    let mut node = Node::held_by('a', 1);
    node.now += 400;
    assert_eq!(node.acquire('a', 1), Acquired::Granted(fence(1000)), "the same request");
    assert_eq!(node.acquire('a', 2), Acquired::Granted(fence(1000)), "another attempt");
    assert_eq!(node.seen(), Some(('a', 1000)), "for its whole length");
}

/// Fails if `seq` is not looked at in any of the three requests that carry one.
#[test]
fn an_older_request_changes_nothing() {
    let mut node = Node::held_by('a', 5);
    node.now += 100;
    assert_eq!(node.acquire('a', 4), Acquired::Taken(ms(900)));
    assert_eq!(node.extend('a', Some(4), 10), Extended::Held(fence(1000), 5));
    assert_eq!(node.release('a', 4), (false, Vec::new()));
    assert!(!node.undo('a', 4));
    assert_eq!(node.seen(), Some(('a', 900)));
    assert_eq!(node.extend('a', Some(6), 500), Extended::Held(fence(1000), 6));
    assert_eq!(node.extend('a', Some(6), 500), Extended::Held(fence(1000), 6), "a retry");
    assert_eq!(node.extend('a', Some(5), 1000), Extended::Held(fence(1000), 6), "an extension counts as well");
    assert_eq!(node.seen(), Some(('a', 500)));
    assert!(node.release('a', 6).0);
    assert_eq!(node.extend('a', Some(7), 1000), Extended::Gone);
    assert_eq!(node.seen(), None, "nothing brings back what is gone");
}

/// Fails if anybody's release, extension or raise is taken for the holder's.
#[test]
fn only_the_holder_changes_a_lease() {
    let mut node = Node::held_by('a', 1);
    assert_eq!(node.release('b', 9), (false, Vec::new()));
    assert!(!node.undo('b', 9));
    assert_eq!(node.extend('b', Some(9), 10), Extended::Taken);
    assert_eq!(node.extend('b', None, 10), Extended::Taken);
    assert!(!node.raise('b', fence(9999)));
    assert_eq!(node.seen(), Some(('a', 1000)));
    assert!(node.release('a', 2).0);
    assert_eq!(node.granted('c', 1), Fence(fence(1000).0 + 1), "nothing was raised");
}

/// Fails if an extension needs a `seq`, or if the heir's own requests count as old.
#[test]
fn an_heir_extends_whatever_was_asked_before() {
    let mut node = Node::held_by('a', 77);
    assert_eq!(node.extend('a', None, 600), Extended::Held(fence(1000), 77));
    assert_eq!(node.seen(), Some(('a', 600)));
    assert_eq!(node.extend('a', Some(78), 700), Extended::Held(fence(1000), 78));
}

fn with_waiters() -> Node {
    let mut node = Node::held_by('a', 1);
    for who in ['b', 'c', 'd'] {
        assert!(matches!(node.wait(who, 1), Acquired::Taken(_)));
    }
    node
}

/// Fails if the queue is a stack, if who asks again loses its place, or if more than two are told.
#[test]
fn turns_go_round_in_the_order_of_arrival() {
    let mut node = with_waiters();
    node.wait('b', 2);
    assert_eq!(node.release('a', 2), (true, vec![yours('b'), after('c')]));
    assert_eq!(node.wait('b', 3), Acquired::Granted(Fence(fence(1000).0 + 1)));
    assert_eq!(node.release('b', 3), (true, vec![yours('c'), after('d')]));
    node.wait('c', 2);
    assert_eq!(node.release('c', 2), (true, vec![yours('d')]));
    node.wait('d', 2);
    assert_eq!(node.release('d', 2), (true, Vec::new()));
    assert_eq!(node.lock.state, None);
}

/// Fails if anybody may have a turn while it lasts, or if nobody may afterwards.
#[test]
fn a_turn_is_for_its_ticket_until_it_is_over() {
    let mut node = with_waiters();
    node.release('a', 2);
    node.now += 99;
    assert_eq!(node.acquire('a', 3), Acquired::Spoken(ms(1)), "who has just had it");
    assert_eq!(node.wait('c', 2), Acquired::Spoken(ms(1)), "the next but one");
    assert_eq!(node.extend('a', Some(4), 1000), Extended::Gone);
    let mut late = Node { lock: node.lock.clone(), ..node };
    late.now += 1;
    assert!(matches!(late.acquire('x', 1), Acquired::Granted(_)), "over: anybody");
    assert_eq!(late.release('x', 2).1, vec![yours('c'), after('d')], "the others keep their places");
    assert!(matches!(node.wait('b', 2), Acquired::Granted(_)), "in time");
}

/// Fails if one who comes during a turn gets no place, or a turn prolongs what is remembered.
#[test]
fn a_free_lock_remembers_who_waits_for_a_second() {
    let mut node = with_waiters();
    node.release('a', 2);
    assert_eq!(node.wait('e', 1), Acquired::Spoken(TURN));
    node.now += 999;
    assert_eq!(node.lock.expires(), Instant::from_micros(node.lock.floor.unwrap().expires.as_micros()));
    assert_eq!(node.lock.state.as_ref().map(|state| state.queue.len()), Some(3));
    node.now += 1;
    node.lock.expire(node.now());
    assert_eq!(node.lock.state, None);
}

/// Fails if a turn is lost with the one that leaves, or if who leaves out of turn passes it on.
#[test]
fn leaving_gives_up_a_place_and_passes_a_turn_on() {
    let mut node = with_waiters();
    assert_eq!(node.leave('c'), (false, Vec::new()));
    assert_eq!(node.seen(), Some(('a', 1000)), "a place is not a lock");
    assert_eq!(node.release('a', 2), (true, vec![yours('b'), after('d')]));
    assert_eq!(node.leave('x'), (false, Vec::new()));
    assert_eq!(node.leave('b'), (false, vec![yours('d')]));
    assert_eq!(node.leave('d'), (false, Vec::new()));
    assert_eq!(node.lock.state, None, "the last place");
    assert!(matches!(node.acquire('x', 1), Acquired::Granted(_)));
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
    assert_eq!((queue.len(), queue[7]), (PLACES, elsewhere), "and who waits may hear elsewhere");
}

/// Fails if a place outlives the grant that it waited for.
#[test]
fn a_grant_takes_the_place_along() {
    let mut node = with_waiters();
    node.now += 999;
    node.extend('a', Some(2), 500);
    node.now += 500;
    assert!(matches!(node.wait('b', 2), Acquired::Granted(_)), "the lease is over");
    assert_eq!(
        node.lock.state.as_ref().unwrap().queue.len(),
        0,
        "and with it the queue: nobody said that they still wait"
    );
    node.wait('c', 2);
    node.wait('d', 2);
    node.release('b', 3);
    node.now += 100;
    assert!(matches!(node.wait('d', 3), Acquired::Granted(_)), "c missed its turn");
    assert_eq!(node.release('d', 4), (true, Vec::new()), "neither waits any longer");
}

/// Fails if fences start over: after a release, an expiry, the loss of everything, or a clock that steps back.
#[test]
fn fences_grow() {
    let mut node = Node::new();
    let first = node.granted('a', 1);
    node.release('a', 2);
    let second = node.granted('b', 1);
    assert_eq!(second, first.next(), "in the same instant");
    node.now += 5000;
    let third = node.granted('c', 1);
    assert_eq!(third, fence(6000), "the lease was over");
    node.now -= 4000;
    node.release('c', 2);
    let fourth = node.granted('d', 1);
    assert_eq!(fourth, third.next(), "the clock stepped back");
    node.now += 4001;
    node.lock = Lock::default();
    assert!(node.granted('e', 1) > fourth, "all was lost, but time went on");
}

/// Fails if the floor ends with the lease, or before the linger of a lease that was extended.
#[test]
fn a_floor_outlives_the_lease_by_the_linger() {
    let mut node = Node::held_by('a', 1);
    node.now += 500;
    node.extend('a', Some(2), 1000);
    node.now += 1000 + LINGER - 1;
    assert_eq!(node.lock.expires(), Instant::from_micros((node.now + 1) * 1000));
    node.lock.expire(node.now());
    assert!(!node.lock.is_empty());
    node.now += 1;
    node.lock.expire(node.now());
    assert!(node.lock.is_empty());
}

/// Fails if an undo leaves the floor that the grant made, removes one that was there before, or goes by another's word.
#[test]
fn an_undo_removes_the_floor_that_the_grant_made_and_no_other() {
    let mut node = Node::held_by('a', 1);
    assert!(node.undo('a', 1));
    assert!(node.lock.is_empty(), "as if nothing had been");
    assert!(!node.undo('a', 1), "once");

    let first = node.granted('a', 1);
    node.release('a', 2);
    assert_eq!(node.granted('b', 1), first.next());
    assert!(node.undo('b', 1));
    assert_eq!(node.granted('c', 1), first.next().next(), "the floor of the first still stands, raised by the second");

    let mut node = Node::held_by('a', 1);
    assert!(node.release('a', 1).0);
    assert!(!node.lock.is_empty(), "a release keeps it");
}

/// Fails if what undoes a later attempt, granted again or never arrived, takes along the floor of a hold that was known.
#[test]
fn an_undo_keeps_the_floor_of_an_earlier_attempt() {
    let mut node = Node::held_by('a', 1);
    assert!(node.undo('a', 2), "the second attempt was lost");
    assert_eq!(node.granted('b', 1), fence(1000).next());

    let mut node = Node::held_by('a', 1);
    node.acquire('a', 2);
    assert!(node.undo('a', 2));
    assert_eq!(node.granted('b', 1), fence(1000).next());

    let mut node = Node::held_by('a', 1);
    node.extend('a', Some(2), 1000);
    assert!(node.undo('a', 3));
    assert_eq!(node.granted('b', 1), fence(1000).next());
}

/// Fails if one of several nodes raises a floor by a grant, or if a holder's raise does not outlive it.
#[test]
fn on_several_nodes_only_the_holder_raises_the_floor() {
    let mut node = Node { sole: false, ..Node::new() };
    node.granted('a', 1);
    assert!(node.lock.floor.is_none());
    node.extend('a', Some(2), 1000);
    assert!(node.lock.floor.is_none());
    assert!(node.raise('a', fence(5000)));
    assert_eq!(node.acquire('a', 3), Acquired::Granted(fence(5000)), "it becomes its own");
    assert!(node.raise('a', fence(400)));
    assert_eq!(node.acquire('a', 4), Acquired::Granted(fence(5000)), "the greater one stays");
    node.release('a', 5);
    assert!(!node.raise('a', fence(9000)), "who holds nothing raises nothing");
    assert_eq!(node.granted('b', 1), fence(5000).next());
}

/// Fails if an undo leaves the floor that was raised meanwhile.
#[test]
fn an_undo_removes_a_raised_floor() {
    let mut node = Node { sole: false, ..Node::new() };
    node.granted('a', 1);
    node.raise('a', fence(5000));
    assert!(node.undo('a', 1));
    assert!(node.lock.is_empty());
}
