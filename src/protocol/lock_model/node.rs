//! What a node does with a request, and whether it harmed anybody.

use super::{
    super::{
        explore::Broken,
        lease::Fence,
        lock::{Acquire, Acquired, Extended, Grant, Lock, Release, Seen},
        quorum::Vote,
        time::{Instant, Store},
    },
    event::{Event, Trail},
    mutants::Mutation,
    world::{Ghost, LINGER, LONG, Message, Node, Op, Passed, Reply, Request, Setup, World, owner},
};

/// `deaf`: nobody hears the inboxes of those who wait.
pub(super) fn process(
    world: &mut World,
    setup: &Setup,
    trail: &mut Trail,
    request: Request,
    deaf: bool,
) -> Result<Option<Reply>, Broken> {
    let Request { from, node, seq, op, .. } = request;
    let Node { lock, now } = &mut world.nodes[node];
    let before = lock.inspect(*now);
    let Done { vote, fence, grant } = do_it(lock, *now, setup, request, deaf);
    let after = lock.inspect(*now);

    let Ghost { newest, passed, .. } = &mut world.ghost;
    let (newest, passed) = (&mut newest[node], &mut passed[node]);
    let (was_own, is_own) = (is_of(before.as_ref(), from), is_of(after.as_ref(), from));
    harmed(before.as_ref(), after.as_ref(), request, newest[from])?;
    if was_own && seq < newest[from] {
        trail.saw(Event::ComesTooLate);
    }
    match (op, vote) {
        (Op::Acquire { .. }, Vote::Yes) if was_own && *passed == Passed::Lost => trail.saw(Event::FoundByAsking),
        (Op::Acquire { .. }, Vote::Yes) if was_own => trail.saw(Event::RecognisedOwn),
        (Op::Release { undo: true, .. }, _) if was_own && !is_own && *passed != Passed::Not => {
            trail.saw(Event::GaveBack);
        }
        _ => {}
    }
    newest[from] = match vote {
        _ if !is_own => 0,
        // It carries none.
        Vote::Yes if matches!(op, Op::Raise(_)) => newest[from],
        Vote::Yes if was_own => seq.max(newest[from]),
        Vote::Yes => seq,
        Vote::No | Vote::Unknown => newest[from],
    };
    if was_own != is_own || after.is_none() {
        *passed = Passed::Not;
    }
    if let Some(grant) = grant {
        let to = owner(grant.ticket);
        (newest[to], *passed) = (grant.seq, Passed::Told);
        let fence = before.filter(|_| setup.mutation == Some(Mutation::GrantsUnderOldFence));
        let grant = Grant { fence: fence.map_or(grant.fence, |before| before.fence), ..grant };
        world.messages.push(Message { to, node, grant });
    }
    let reply = Reply { to: from, node, seq, op, vote, fence };
    Ok((!matches!(op, Op::Release { .. })).then_some(reply))
}

fn is_of(seen: Option<&Seen<usize>>, who: usize) -> bool {
    seen.is_some_and(|seen| seen.token == who)
}

/// What was done, and to whom the lock was passed on.
struct Done {
    vote: Vote,
    fence: Fence,
    grant: Option<Grant>,
}

/// Whether what it gives back would be granted to one who waits.
pub(super) fn passes_on(world: &World, request: &Request) -> bool {
    let Node { mut lock, now } = world.nodes[request.node].clone();
    let Request { from: token, seq, op: Op::Release { undo, ticket }, .. } = *request else { return false };
    lock.release(now, &Release { token, seq, undo, ticket }, |_| true).1.is_some()
}

fn do_it(lock: &mut Lock<usize>, now: Instant<Store>, setup: &Setup, request: Request, deaf: bool) -> Done {
    let Request { from, seq, op, .. } = request;
    let is = |mutation| setup.mutation == Some(mutation);
    let sole = setup.nodes.len() == 1 && !is(Mutation::NoFloor);
    let holder = lock.inspect(now).map(|seen| seen.token);
    let ask = |place| Acquire { token: from, seq, ttl: LONG.ttl, place, sole, linger: LINGER };
    let mut grant = None;
    let (vote, fence) = match op {
        Op::Acquire { place } => {
            let taken = holder
                .filter(|holder| is(Mutation::GrantsWhileLeased) || is(Mutation::AcquireIgnoresSeq) && *holder == from);
            if let Some(token) = taken {
                lock.release(now, &Release { token, seq: u64::MAX, undo: false, ticket: None }, |_| false);
            }
            match lock.acquire(now, ask(place)) {
                Acquired::Granted(fence) => (Vote::Yes, fence),
                Acquired::Taken(_) => (Vote::No, Fence::NONE),
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
            let ticket = ticket.filter(|_| !is(Mutation::ReleaseLeavesPlace));
            let (_, told) = lock.release(now, &Release { token, seq, undo, ticket }, |_| !deaf);
            grant = told.map(|(_, grant)| grant);
            (Vote::Yes, Fence::NONE)
        }
    };
    Done { vote, fence, grant }
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
