//! What can happen in a world, and what becomes of it.

use super::{
    super::{
        explore::{Broken, Model},
        lock::{Acquire, Acquired},
        quorum::{Round, Verdict, Vote},
    },
    contender::Driver,
    event::{Event, Trail},
    node::{passes_on, process},
    world::{Asking, Fault, LINGER, LONG, Message, Op, Passed, Phase, Request, Setup, TICK, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start(usize),
    Extend(usize),
    Shorten(usize),
    Release(usize),
    /// Stops waiting.
    Leave(usize),
    /// A request arrives, and its answer at once.
    Deliver(usize),
    Lose(usize),
    DeliverAndLoseReply(usize),
    DeliverAndDelayReply(usize),
    /// A release arrives, and nobody hears the inbox of who waits.
    DeliverToTheDeaf(usize),
    Hear(usize),
    /// The message of a grant arrives.
    Call(usize),
    LoseCall(usize),
    GiveUp(usize, usize, u64),
    Crash(usize),
    StepBack(usize),
    /// Time passes, for one node faster. What is in the air is late from now on.
    Tick {
        fast: Option<usize>,
    },
}

impl Model for World {
    type Setup = Setup;
    type Action = Action;
    type Event = Event;
    const END: &'static str = "L6";

    fn actions(&self, setup: &Setup) -> Vec<Action> {
        actions(self, setup)
    }

    fn step(&mut self, setup: &Setup, trail: &mut Trail, action: Action) -> Result<(), Broken> {
        act(self, setup, trail, action)?;
        (0..2).try_for_each(|who| Driver { world: self, setup, trail, who }.look())?;
        Broken::unless(self.sure().count() < 2, "L1", "two are sure that they hold it")
    }

    fn rests(&self, setup: &Setup, next: &[Action]) -> Result<(), Broken> {
        if next.is_empty() { ended(self, setup) } else { Ok(()) }
    }
}

fn actions(world: &World, setup: &Setup) -> Vec<Action> {
    let mut actions = Vec::new();
    let may = |fault| world.budget(setup, fault) > 0;
    for (number, request) in world.requests.0.iter().enumerate().filter(|(_, request)| is_next(world, request)) {
        actions.push(Action::Deliver(number));
        actions.extend(may(Fault::Lose).then_some(Action::Lose(number)));
        if passes_on(world, request) {
            let is_gone = world.contenders.iter().any(|contender| contender.phase == Phase::Crashed);
            actions.extend((is_gone || may(Fault::Deaf)).then_some(Action::DeliverToTheDeaf(number)));
        }
        if !matches!(request.op, Op::Release { .. }) {
            actions.extend(may(Fault::LoseReply).then_some(Action::DeliverAndLoseReply(number)));
            actions.extend(may(Fault::LateReply).then_some(Action::DeliverAndDelayReply(number)));
        }
    }
    actions.extend((0..world.replies.0.len()).map(Action::Hear));
    for (number, message) in world.messages.0.iter().enumerate() {
        // During an attempt they lie there until it is decided.
        if !matches!(world.contenders[message.to].phase, Phase::Acquiring(_)) {
            actions.push(Action::Call(number));
        }
        actions.extend(may(Fault::Lose).then_some(Action::LoseCall(number)));
    }
    for (who, contender) in world.contenders.iter().enumerate() {
        let may_start = contender.attempts > 0 && world.ticks < setup.horizon;
        let asking = match contender.phase {
            Phase::Idle => {
                actions.extend(may_start.then_some(Action::Start(who)));
                None
            }
            Phase::Waiting(_) => {
                actions.extend(may_start.then_some(Action::Start(who)));
                actions.push(Action::Leave(who));
                None
            }
            Phase::Acquiring(asking) => {
                actions.extend((setup.waits && setup.cancels).then_some(Action::Leave(who)));
                Some(asking)
            }
            Phase::Holding(holding) => {
                let may = holding.asking.is_none() && holding.hold.is_sure(world.now());
                actions.push(Action::Release(who));
                actions.extend((may && contender.extensions > 0).then_some(Action::Extend(who)));
                actions.extend((may && contender.shortenings > 0).then_some(Action::Shorten(who)));
                holding.asking
            }
            Phase::Crashed => continue,
        };
        if let Some(asking) = asking {
            let hopeless = |node: &usize| is_open(&asking, *node) && !is_on_its_way(world, who, &asking, *node);
            let given_up = (0..setup.nodes.len()).filter(hopeless);
            actions.extend(given_up.map(|node| Action::GiveUp(who, node, asking.seq)));
        }
        actions.extend((may(Fault::Crash) && contender.phase != Phase::Idle).then_some(Action::Crash(who)));
    }
    actions.extend((0..setup.nodes.len()).filter(|_| may(Fault::StepBack)).map(Action::StepBack));
    let mut unheard = world.requests.0.iter().filter(|request| !request.late);
    let waits = unheard.clone().any(|request| setup.prompt[request.from])
        || unheard.by_ref().count() > world.budget(setup, Fault::Late).into();
    // Nobody can tell how long nothing has happened.
    let has_begun = world.contenders.iter().any(|contender| contender.seq > 0);
    if has_begun && !waits && world.ticks < setup.horizon {
        actions.push(Action::Tick { fast: None });
        let fast = (0..setup.nodes.len()).filter(|_| may(Fault::Fast));
        actions.extend(fast.map(|node| Action::Tick { fast: Some(node) }));
    }
    actions
}

/// A connection keeps the order, except for what it had taken on before it was replaced: that comes whenever it likes.
fn is_next(world: &World, request: &Request) -> bool {
    let order = |request: &Request| (request.seq, matches!(request.op, Op::Release { .. }));
    let is_before = |other: &Request| {
        !other.late && (other.from, other.node) == (request.from, request.node) && order(other) < order(request)
    };
    request.late || !world.requests.0.iter().any(is_before)
}

fn is_open(asking: &Asking, node: usize) -> bool {
    asking.open & 1 << node != 0
}

fn is_on_its_way(world: &World, who: usize, asking: &Asking, node: usize) -> bool {
    let requests = world.requests.0.iter().filter(|request| !request.late);
    requests.map(|request| (request.from, request.node, request.seq)).any(|sent| sent == (who, node, asking.seq))
}

fn act(world: &mut World, setup: &Setup, trail: &mut Trail, action: Action) -> Result<(), Broken> {
    let reply = match action {
        Action::Deliver(number) | Action::DeliverAndLoseReply(number) | Action::DeliverAndDelayReply(number) => {
            let request = world.requests.0.remove(number);
            process(world, setup, trail, request, false)?
        }
        Action::DeliverToTheDeaf(number) => {
            let request = world.requests.0.remove(number);
            trail.saw(Event::PassedOver);
            process(world, setup, trail, request, true)?
        }
        Action::Hear(number) => Some(world.replies.0.remove(number)),
        _ => None,
    };
    let who = match action {
        Action::Start(who) | Action::Extend(who) | Action::Shorten(who) | Action::Release(who) => who,
        Action::Leave(who) | Action::GiveUp(who, ..) => who,
        Action::Call(number) => world.messages.0[number].to,
        _ => reply.map_or(0, |reply| reply.to),
    };
    let mut driver = Driver { world, setup, trail, who };
    match action {
        Action::Start(_) => driver.start(),
        Action::Extend(_) => driver.extend(false),
        Action::Shorten(_) => driver.extend(true),
        Action::Release(_) => driver.release(),
        Action::Leave(_) => driver.leave(),
        Action::Call(number) => {
            let message = driver.world.messages.0.remove(number);
            driver.call(message)?;
        }
        Action::LoseCall(number) => {
            world.spend(setup, Fault::Lose, 1);
            let Message { to, node, grant } = world.messages.0.remove(number);
            if world.ghost.newest[node][to] == grant.seq {
                world.ghost.passed[node] = Passed::Lost;
            }
        }
        // Whoever is gone is deaf without a fault.
        Action::DeliverToTheDeaf(_) => {
            if world.contenders.iter().all(|contender| contender.phase != Phase::Crashed) {
                world.spend(setup, Fault::Deaf, 1);
            }
        }
        Action::GiveUp(_, node, seq) => driver.give_up(node, seq)?,
        Action::Deliver(_) | Action::Hear(_) => reply.into_iter().try_for_each(|reply| driver.hear(reply))?,
        Action::Lose(number) => {
            world.spend(setup, Fault::Lose, 1);
            world.requests.0.remove(number);
        }
        Action::DeliverAndLoseReply(_) => world.spend(setup, Fault::LoseReply, 1),
        Action::DeliverAndDelayReply(_) => {
            world.spend(setup, Fault::LateReply, 1);
            reply.into_iter().for_each(|reply| world.replies.push(reply));
        }
        Action::Crash(who) => {
            world.spend(setup, Fault::Crash, 1);
            world.contenders[who].phase = Phase::Crashed;
            world.replies.0.retain(|reply| reply.to != who);
            world.messages.0.retain(|message| message.to != who);
        }
        Action::StepBack(node) => {
            world.spend(setup, Fault::StepBack, 1);
            world.nodes[node].now = world.nodes[node].now.before(4 * TICK);
        }
        Action::Tick { fast } => tick(world, setup, fast),
    }
    Ok(())
}

fn tick(world: &mut World, setup: &Setup, fast: Option<usize>) {
    for mut request in std::mem::take(&mut world.requests.0) {
        if !request.late {
            world.spend(setup, Fault::Late, 1);
            request.late = true;
        }
        world.requests.push(request);
    }
    if fast.is_some() {
        world.spend(setup, Fault::Fast, 1);
    }
    world.ticks += 1;
    for (number, node) in world.nodes.iter_mut().enumerate() {
        node.now = node.now.after(if fast == Some(number) { 2 * TICK } else { TICK });
        node.lock.expire(node.now);
    }
}

/// Nothing can happen any more: nothing is left behind, or not for longer than its time.
fn ended(world: &World, setup: &Setup) -> Result<(), Broken> {
    let at_rest = |phase| matches!(phase, Phase::Idle | Phase::Crashed);
    Broken::unless(world.contenders.iter().all(|contender| at_rest(contender.phase)), "L6", "a contender is stuck")?;
    let mut round = Round::new(setup.nodes.len());
    for mut node in world.nodes.iter().cloned() {
        let is_held = node.lock.inspect(node.now).is_some();
        Broken::unless(
            !is_held || !world.is_unharmed(setup),
            "L6",
            "nobody holds it, nothing went wrong, it is not free",
        )?;
        // The rest of a lease that was granted before the clock stepped back as well.
        let later = node.now.after(LONG.ttl + 4 * TICK);
        let third = Acquire { token: 2, seq: 1, ttl: LONG.ttl, place: None, sole: false, linger: LINGER };
        let granted = matches!(node.lock.clone().acquire(later, third), Acquired::Granted(_));
        round.count(if granted { Vote::Yes } else { Vote::No });
        node.lock.expire(later.after(LINGER));
        Broken::unless(node.lock.is_empty(), "L6", "something stays for ever")?;
    }
    Broken::unless(round.verdict() == Some(Verdict::Reached), "L6", "nobody can have it any more")
}
