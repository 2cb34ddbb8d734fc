//! Rounds over all outcomes in all orders; waits against brute force; beliefs rule by rule.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

const MS: Duration = Duration::from_millis(1);

const TERM: Term = Term { ttl: Duration::from_millis(100), drift: Duration::from_millis(10) };

const SHORT: Term = Term { ttl: Duration::from_millis(30), ..TERM };

const VOTES: [Vote; 3] = [Vote::Yes, Vote::No, Vote::Unknown];

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

/// All rounds of so many nodes: votes in the order in which they come. As a round does not know who voted, that is all
/// outcomes in all orders.
fn rounds(nodes: usize) -> impl Iterator<Item = Vec<Vote>> {
    (0..3_usize.pow(nodes as u32))
        .map(move |number| (0..nodes as u32).map(|node| VOTES[number / 3_usize.pow(node) % 3]).collect())
}

fn count(votes: &[Vote], vote: Vote) -> usize {
    votes.iter().filter(|cast| **cast == vote).count()
}

/// Whether it is reached, as far as all ways in which the rest may vote agree.
fn agreed(nodes: usize, votes: &[Vote]) -> Option<bool> {
    let rest = nodes - votes.len();
    let reached = |more| 2 * (count(votes, Vote::Yes) + more) > nodes;
    (0..=rest).all(|more| reached(more) == reached(0)).then(|| reached(0))
}

/// Fails if a quorum is half or all but one, if a round is decided a vote early or late, or if no and unknown are mixed up.
#[test]
fn a_round_is_decided_by_the_first_vote_after_which_none_can_change_it() {
    for nodes in 1..=7 {
        for votes in rounds(nodes) {
            let mut round = Round::new(nodes);
            for seen in 0..=nodes {
                let (seen, next) = (&votes[..seen], votes.get(seen));
                let reached = round.verdict().map(|verdict| verdict == Verdict::Reached);
                assert_eq!(reached, agreed(nodes, seen), "{seen:?} of {nodes}");
                // Why it is not: no answers, or none, of one kind would have been enough to prevent it.
                let hopeless = |vote| 2 * (nodes - count(seen, vote)) <= nodes;
                let why = match (hopeless(Vote::No), hopeless(Vote::Unknown)) {
                    (true, _) => Verdict::Refused,
                    (false, true) => Verdict::Failed,
                    (false, false) => Verdict::Divided,
                };
                assert!(reached != Some(false) || round.verdict() == Some(why), "{seen:?} of {nodes}");
                next.into_iter().for_each(|vote| round.count(*vote));
            }
        }
    }
}

/// What was decided stays decided as to whether it was reached, and a refusal is final. Later votes may tell why a
/// divided round was not reached; and where half of an even number failed, the other half may refuse. Fails if anything
/// else changes.
#[test]
fn only_why_a_round_was_not_reached_may_become_clearer() {
    let mut changes = BTreeSet::new();
    for nodes in 1..=7 {
        for votes in rounds(nodes) {
            let mut round = Round::new(nodes);
            let mut before = None;
            for vote in votes {
                round.count(vote);
                let now = round.verdict();
                if let (Some(before), Some(now)) = (before, now)
                    && before != now
                {
                    changes.insert(format!("{before:?} to {now:?}, even: {}", nodes % 2 == 0));
                }
                assert!(before.is_none() || now.is_some(), "what is decided is not open again");
                before = now;
            }
            assert!(before.is_some(), "{nodes} votes decide");
        }
    }
    let expected = [
        "Divided to Failed, even: false",
        "Divided to Failed, even: true",
        "Divided to Refused, even: false",
        "Divided to Refused, even: true",
        "Failed to Refused, even: true",
    ];
    assert_eq!(changes.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Fails if an even number of nodes is decided by a majority of failures only.
#[test]
fn half_of_an_even_number_decides_at_once() {
    for half in 1..=3 {
        for (vote, verdict) in [(Vote::No, Verdict::Refused), (Vote::Unknown, Verdict::Failed)] {
            let mut round = Round::new(2 * half);
            (1..half).for_each(|_| round.count(vote));
            assert_eq!(round.verdict(), None);
            round.count(vote);
            assert_eq!(round.verdict(), Some(verdict), "{half} of {}", 2 * half);
        }
    }
}

/// Any two quorums have a node in common: that is all that keeps two contenders apart.
#[test]
fn quorums_meet() {
    for nodes in 1..=7 {
        let quorum = Round::new(nodes).quorum();
        assert!(2 * quorum > nodes && 2 * (quorum - 1) <= nodes, "{quorum} of {nodes}");
    }
}

/// Fails if the 2 ms, or the share of the lease, stay on it.
#[test]
fn a_term_takes_off_the_share_for_drift_and_two_milliseconds() {
    let term = Term::new(1000 * MS, 0.01);
    assert_eq!((term.ttl, term.drift), (1000 * MS, 12 * MS));
    assert_eq!(term.until(at(500)), at(1488));
    assert_eq!(Term::new(MS, 0.01).until(at(500)), at(500), "shorter than its own drift: it never holds");
    assert_eq!(Term::new(Duration::MAX, 0.0).drift, 2 * MS);
}

/// Fails if the time is counted from the answer instead of the request, or if a hold may begin in its last instant.
#[test]
fn a_hold_begins_only_before_its_end() {
    let hold = Hold::begun(at(89), at(0), TERM).expect("there is a millisecond left");
    assert_eq!(hold.until(), at(90));
    assert!(hold.is_sure(at(89)) && !hold.is_sure(at(90)));
    assert_eq!(Hold::begun(at(90), at(0), TERM), None, "too late");
}

fn held() -> Hold {
    Hold::begun(at(5), at(0), TERM).unwrap()
}

fn extended(now: u64, sent: u64, term: Term, verdict: Verdict) -> Hold {
    let mut hold = held();
    hold.extending(at(sent), term);
    hold.extended(at(now), at(sent), term, verdict);
    hold
}

/// Fails if an extension counts from its decision, if one that failed counts, or if one that failed ends the hold.
#[test]
fn an_extension_counts_from_when_it_was_sent() {
    assert_eq!(extended(60, 50, TERM, Verdict::Reached).until(), at(140));
    for unknown in [Verdict::Failed, Verdict::Divided] {
        assert_eq!(extended(60, 50, TERM, unknown).until(), at(90), "what was granted before still is");
    }
    assert_eq!(extended(60, 50, TERM, Verdict::Refused).until(), at(60), "the end");
}

/// Fails if a shortened lease counts only once it is confirmed, or not at all if it failed.
#[test]
fn a_shortening_counts_from_when_it_is_sent_whatever_comes_of_it() {
    let mut hold = held();
    hold.extending(at(20), SHORT);
    assert_eq!(hold.until(), at(40));
    for verdict in [Verdict::Reached, Verdict::Failed, Verdict::Divided] {
        assert_eq!(extended(30, 20, SHORT, verdict).until(), at(40), "{verdict:?}");
    }
    assert_eq!(extended(30, 20, SHORT, Verdict::Refused).until(), at(30));
    assert_eq!(extended(60, 80, SHORT, Verdict::Failed).until(), at(90), "it shortens nothing that ends before");
}

/// Fails if good news revives a belief that had ended.
#[test]
fn late_good_news_does_not_revive() {
    assert_eq!(extended(90, 50, TERM, Verdict::Reached).until(), at(90));
    let mut hold = held();
    hold.end(at(30));
    hold.extended(at(31), at(20), TERM, Verdict::Reached);
    assert_eq!((hold.until(), hold.is_sure(at(31))), (at(30), false));
    hold.end(at(35));
    assert_eq!(hold.until(), at(30), "it ended when it ended");
}

/// Fails if what is left is not looked at, if the share is taken off the whole lease instead of its sure part, or if
/// the time is counted from the message.
#[test]
fn what_was_granted_to_one_who_waited_holds_only_if_nearly_all_of_it_is_left() {
    let term = Term { ttl: 90 * MS, ..TERM };
    let hold = Hold::granted(at(110), at(100), term).expect("seven of eight parts are left");
    assert_eq!(hold.until(), at(180), "from when it was sent");
    let late = Instant::from_micros(110_001);
    assert_eq!(Hold::granted(late, at(100), term), None, "another attempt is better");
    assert_eq!(Hold::granted(at(180), at(100), term), None, "over");
    let empty = Term { drift: 90 * MS, ..term };
    assert_eq!(Hold::granted(at(100), at(100), empty), None, "shorter than its own drift: it never holds");
}

/// Fails if less than a quorum is enough, if a node counts twice, or if patience makes anybody wait longer.
#[test]
fn a_waiter_holds_once_a_quorum_has_granted() {
    let mut wait = Wait::new(3, at(1000));
    assert!(!wait.granted(at(110), 0));
    assert_eq!(wait.due(), at(130), "a moment for the others");
    assert!(!wait.granted(at(115), 0), "the same node again");
    assert_eq!(wait.due(), at(130), "and no more patience");
    assert!(wait.granted(at(120), 2));
    assert!(Wait::new(1, at(1000)).granted(at(7), 0), "one node is a quorum of one");
    let mut even = Wait::new(4, at(1000));
    assert_eq!([0, 1, 2].map(|node| even.granted(at(5), node)), [false, false, true], "half is not enough");
    let mut soon = Wait::new(3, at(50));
    assert!(!soon.granted(at(45), 1));
    assert_eq!(soon.due(), at(50), "nothing makes it wait longer");
}

/// Fails if who has to ask again waits, or waits longer than before.
#[test]
fn who_may_have_missed_something_asks_at_once() {
    let mut wait = Wait::new(3, at(1000));
    wait.again(at(40));
    assert_eq!(wait.due(), at(40));
    wait.again(at(50));
    wait.granted(at(60), 1);
    assert_eq!(wait.due(), at(40));
}

proptest! {
    /// Against the definition: the first moment at which more than half of the nodes are free or unheard of.
    #[test]
    fn until_free_is_when_a_quorum_could_be_free(nodes in 1..8_usize, left in vec(0..6_u32, 0..8)) {
        let left = &left[..left.len().min(nodes)];
        let free = |then| 2 * (nodes - left.iter().filter(|left| **left > then).count()) > nodes;
        let told = 2 * (nodes - left.len()) <= nodes;
        let first = (0..6).find(|then| free(*then)).map(|then| then * MS);
        let expected = if told { first } else { None };
        prop_assert_eq!(Wait::until_free(nodes, left.iter().map(|left| *left * MS)), expected);
    }
}
