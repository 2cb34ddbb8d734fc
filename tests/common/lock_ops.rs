//! What happens to a lock in a history.

use proptest::prelude::*;

/// Replicas that take part. What comes from one more is asked by a replica of its own, which is gone right after the answer.
pub const REPLICAS: usize = 3;

/// Who holds the lock, and who waits for it; anyone may do so from any replica, as if it had moved.
pub const TOKENS: [&str; 4] = ["", "one", "two: {}\r\n", "\u{1F512} three"];
pub const TICKETS: usize = 5;

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    Acquire {
        token: usize,
        seq: Seq,
        long: bool,
        ticket: Option<usize>,
        replica: usize,
        sole: bool,
        metadata: bool,
    },
    Extend {
        token: Option<usize>,
        seq: Option<Seq>,
        long: bool,
    },
    Release {
        token: Option<usize>,
        seq: Seq,
        undo: bool,
        ticket: Option<usize>,
    },
    Raise {
        token: Option<usize>,
        fence: Pick,
    },
    Inspect,
    /// The time passes for which a floor outlives a short lease.
    Linger,
}

/// Which request of a token: the next one, the last one once more, or one that arrives late.
#[derive(Clone, Copy, Debug)]
pub enum Seq {
    Next,
    Last,
    Late,
}

/// One of the fences seen so far.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Last,
    Earlier(u8),
    Ahead,
}

/// Any history.
pub fn histories(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    let seq = || prop_oneof![4 => Just(Seq::Next), 2 => Just(Seq::Last), 1 => Just(Seq::Late)];
    let fence = prop_oneof![2 => Just(Pick::Last), 1 => any::<u8>().prop_map(Pick::Earlier), 1 => Just(Pick::Ahead)];
    let long = || prop::bool::weighted(0.8);
    // One of them comes more often, so that others often wait for it.
    let token = || prop_oneof![1 => Just(0), 2 => 0..TOKENS.len()];
    let holder = || prop::option::weighted(0.4, 0..TOKENS.len());
    let replica = prop_oneof![3 => 0..REPLICAS, 1 => Just(REPLICAS)];
    let ticket = || prop::option::weighted(0.8, 0..TICKETS);
    let flag = any::<bool>;
    let op = prop_oneof![
        12 => (token(), seq(), long(), ticket(), replica, flag(), flag()).prop_map(
            |(token, seq, long, ticket, replica, sole, metadata)| {
                Op::Acquire { token, seq, long, ticket, replica, sole, metadata }
            }
        ),
        3 => (holder(), prop::option::weighted(0.8, seq()), long())
            .prop_map(|(token, seq, long)| Op::Extend { token, seq, long }),
        7 => (holder(), seq(), flag(), prop::option::weighted(0.3, 0..TICKETS))
            .prop_map(|(token, seq, undo, ticket)| Op::Release { token, seq, undo, ticket }),
        3 => (holder(), fence).prop_map(|(token, fence)| Op::Raise { token, fence }),
        1 => Just(Op::Inspect),
        1 => Just(Op::Linger),
    ];
    prop::collection::vec(op, 1..longest)
}
