//! The rules of a node, one by one.
//!
//! Contenders are letters, and a letter's ticket and inbox are its own. Time is in milliseconds; a lease takes 1000 of
//! them, and the floor outlives it by 60 000.

use super::*;

mod history;
mod waiting;

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

/// Who has to be told.
type Told = Option<(Inbox, Grant)>;

struct Node {
    lock: Lock<char>,
    now: u64,
    sole: bool,
    /// Whose inboxes nobody hears.
    deaf: Vec<char>,
}

impl Node {
    fn new() -> Self {
        Self { lock: Lock::default(), now: 1000, sole: true, deaf: Vec::new() }
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

    fn give(&mut self, release: Release<char>) -> (bool, Told) {
        let deaf = |inbox| self.deaf.iter().any(|who| place(*who).inbox == inbox);
        self.lock.release(Instant::from_micros(self.now * 1000), &release, |inbox| !deaf(inbox))
    }

    fn release(&mut self, who: char, seq: u64) -> (bool, Told) {
        self.give(Release { token: who, seq, undo: false, ticket: None })
    }

    fn undo(&mut self, who: char, seq: u64) -> bool {
        self.give(Release { token: who, seq, undo: true, ticket: None }).0
    }

    /// Stops waiting: the attempt is undone, and the place given up.
    fn leave(&mut self, who: char, seq: u64) -> (bool, Told) {
        self.give(Release { token: who, seq, undo: true, ticket: Some(ticket(who)) })
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

fn told(who: char, seq: u64, fence: Fence) -> Told {
    Some((place(who).inbox, Grant { ticket: ticket(who), seq, fence }))
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
    assert_eq!(node.release('a', 4), (false, None));
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
    assert_eq!(node.release('b', 9), (false, None));
    assert!(!node.undo('b', 9));
    assert_eq!(node.extend('b', Some(9), 10), Extended::Taken);
    assert_eq!(node.extend('b', None, 10), Extended::Taken);
    assert!(!node.raise('b', fence(9999)));
    assert_eq!(node.seen(), Some(('a', 1000)));
    assert!(node.release('a', 2).0);
    assert_eq!(node.granted('c', 1), Fence(fence(1000).0 + 1), "nothing was raised");
}

/// Fails if an extension needs a `seq`, if the heir's own requests count as old, or if those of the one before it do not.
#[test]
fn an_heir_extends_whatever_was_asked_before() {
    let mut node = Node::held_by('a', 77);
    let heir = 77 + LEAP;
    assert_eq!(node.extend('a', None, 600), Extended::Held(fence(1000), heir));
    assert_eq!(node.seen(), Some(('a', 600)));
    assert_eq!(node.extend('a', Some(78), 10), Extended::Held(fence(1000), heir), "it was sent before");
    assert!(!node.release('a', 79).0);
    assert_eq!(node.seen(), Some(('a', 600)));
    assert_eq!(node.extend('a', Some(heir + 1), 700), Extended::Held(fence(1000), heir + 1));
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
