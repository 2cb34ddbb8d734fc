//! What a node does with a request, and whether it harmed anybody.

use super::{
    super::{
        lease::Fence,
        lock::{Acquire, Acquired, Extended, Lock, Release, Seen},
        quorum::Vote,
        time::{Instant, Store},
    },
    check::{Broken, Event, Trail},
    mutants::Mutation,
    world::{LINGER, LONG, Node, Op, Reply, Request, Setup, World},
};

pub(super) fn process(
    world: &mut World,
    setup: &Setup,
    trail: &mut Trail,
    request: Request,
) -> Result<Option<Reply>, Broken> {
    let Request { from, node, seq, op, .. } = request;
    let Node { lock, now } = &mut world.nodes[node];
    let (now, before) = (*now, lock.inspect(*now));
    let place = matches!(op, Op::Acquire { place: Some(_) });
    let spoken = before.is_none() && place && lock.expires() > now && !lock.is_empty();
    let (vote, fence) = do_it(lock, now, setup, request);
    let after = lock.inspect(now);

    let newest = &mut world.ghost.newest[node][from];
    let is_own = before.as_ref().is_some_and(|seen| seen.token == from);
    harmed(before.as_ref(), after.as_ref(), request, *newest)?;
    if is_own && seq < *newest {
        trail.saw(Event::ComesTooLate);
    }
    match (op, vote) {
        (Op::Acquire { .. }, Vote::Yes) if is_own => trail.saw(Event::RecognisedOwn),
        (Op::Acquire { .. }, Vote::Yes) if spoken => trail.saw(Event::TookItsTurn),
        (Op::Acquire { .. }, Vote::No) if before.is_none() => trail.saw(Event::Spoken),
        _ => {}
    }
    let is_held = after.is_some_and(|seen| seen.token == from);
    *newest = match vote {
        _ if !is_held => 0,
        // It carries none.
        Vote::Yes if matches!(op, Op::Raise(_)) => *newest,
        Vote::Yes if is_own => seq.max(*newest),
        Vote::Yes => seq,
        Vote::No | Vote::Unknown => *newest,
    };
    let reply = Reply { to: from, node, seq, op, vote, fence };
    Ok((!matches!(op, Op::Release { .. })).then_some(reply))
}

fn do_it(lock: &mut Lock<usize>, now: Instant<Store>, setup: &Setup, request: Request) -> (Vote, Fence) {
    let Request { from, seq, op, .. } = request;
    let is = |mutation| setup.mutation == Some(mutation);
    let sole = setup.nodes.len() == 1 && !is(Mutation::NoFloor);
    let holder = lock.inspect(now).map(|seen| seen.token);
    let ask = |place| Acquire { token: from, seq, ttl: LONG.ttl, place, sole, linger: LINGER };
    match op {
        Op::Acquire { place } => {
            let taken = holder
                .filter(|holder| is(Mutation::GrantsWhileLeased) || is(Mutation::AcquireIgnoresSeq) && *holder == from);
            if let Some(token) = taken {
                lock.release(now, &Release { token, seq: u64::MAX, undo: false, ticket: None });
            }
            match lock.acquire(now, ask(place)) {
                Acquired::Granted(fence) => (Vote::Yes, fence),
                Acquired::Taken(_) | Acquired::Spoken(_) => (Vote::No, Fence::NONE),
            }
        }
        Op::Extend(ttl) => {
            let counts = (!is(Mutation::ExtendIgnoresSeq)).then_some(seq);
            match lock.extend(now, &from, counts, ttl, LINGER) {
                Extended::Held(fence, last) if last <= seq => (Vote::Yes, fence),
                // A younger one was there before: what this one asked for was not done.
                Extended::Held(fence, _) => (Vote::Unknown, fence),
                Extended::Gone if is(Mutation::ExtendRevives) => {
                    lock.acquire(now, ask(None));
                    (Vote::Yes, Fence::NONE)
                }
                Extended::Gone | Extended::Taken => (Vote::No, Fence::NONE),
            }
        }
        Op::Raise(fence) => {
            let token = if is(Mutation::RaiseByAnyone) { holder.unwrap_or(from) } else { from };
            let raised = is(Mutation::NoFloor) || lock.raise(now, &token, fence, LINGER);
            (if raised { Vote::Yes } else { Vote::No }, fence)
        }
        Op::Release { undo, ticket } => {
            let token = if is(Mutation::ReleaseByAnyone) { holder.unwrap_or(from) } else { from };
            let seq = if is(Mutation::ReleaseIgnoresSeq) { u64::MAX } else { seq };
            lock.release(now, &Release { token, seq, undo, ticket });
            (Vote::Yes, Fence::NONE)
        }
    }
}

/// What was held is held as long as before, unless its holder asked for something else, and for nothing since. What was
/// free is free, unless somebody acquired it.
fn harmed(
    before: Option<&Seen<usize>>,
    after: Option<&Seen<usize>>,
    request: Request,
    newest: u64,
) -> Result<(), Broken> {
    let acquires = matches!(request.op, Op::Acquire { .. });
    let Some(before) = before else {
        return Broken::unless(after.is_none() || acquires, "L5", "what was gone came back by itself");
    };
    let is_less = after.is_none_or(|after| after.token != before.token || after.left < before.left);
    let is_foreign = before.token != request.from;
    Broken::unless(!is_less || !is_foreign || acquires, "L3", "it took from another what it held")?;
    Broken::unless(!is_less || is_foreign || request.seq >= newest, "L3", "a late request took what a newer one held")
}
