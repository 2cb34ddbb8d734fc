//! What may happen next, and what happens then.

use super::{
    super::{
        explore::{Broken, Model},
        flight::{Input, Outcome, Reply},
    },
    driver::Driver,
    event::{Event, Trail},
    store,
    world::{Address, Fault, LOCAL_OFFSET, Message, Op, Person, Request, Response, S, Setup, World, inbox},
};

/// Seconds after which everything has ended, once nobody comes any more and nothing goes wrong.
const PATIENCE: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Join(usize),
    Work(Address, Outcome),
    Fire(Address),
    /// The store gets the request of this number.
    Execute(usize),
    /// A replica gets the answer, or the message, of this number.
    Answer(usize),
    Notify(usize),
    /// Time goes on until then.
    Wait(u64),
    /// A fault, to the request, message, replica or caller of this number.
    Fault(Fault, usize),
    NoRoom(Address),
}

impl Action {
    /// Whether it brings the end nearer: neither a fault nor somebody new.
    fn is_progress(self) -> bool {
        !matches!(self, Self::Join(_) | Self::Fault(..) | Self::NoRoom(_))
    }
}

impl Model for World {
    type Setup = Setup;
    type Action = Action;
    type Event = Event;
    const END: &'static str = "I4";

    fn actions(&self, setup: &Setup) -> Vec<Action> {
        actions(self, setup)
    }

    fn step(&mut self, setup: &Setup, trail: &mut Trail, action: Action) -> Result<(), Broken> {
        step(self, setup, trail, action)
    }

    /// Where nothing brings the end nearer, it has been reached: everybody has an answer, no flight is in the air.
    fn rests(&self, setup: &Setup, next: &[Action]) -> Result<(), Broken> {
        Broken::unless(self.now < (setup.horizon + PATIENCE) * S, "I4", "there is no end to it")?;
        if next.iter().any(|action| action.is_progress()) {
            return Ok(());
        }
        let waits = self.callers.iter().any(|person| matches!(person, Person::Waiting { .. }));
        Broken::unless(!waits, "I4", "a caller waits for ever")?;
        let flies = self.replicas.iter().any(|replica| !replica.holders.is_empty());
        Broken::unless(!flies, "I4", "a flight is never over")
    }
}

fn actions(world: &World, setup: &Setup) -> Vec<Action> {
    let mut actions = Vec::new();
    let late = world.past_horizon(setup);
    let flights = || {
        world.replicas.iter().enumerate().flat_map(|(replica, side)| {
            let address = move |flight| Address { replica, life: side.life, flight };
            side.holders.iter().map(move |holder| (address(holder.id), holder))
        })
    };
    for (at, holder) in flights() {
        if holder.work.is_some() {
            actions.extend(setup.outcomes.iter().map(|outcome| Action::Work(at, *outcome)));
        }
    }
    actions.extend((0..world.requests.0.len()).map(Action::Execute));
    actions.extend((0..world.responses.0.len()).map(Action::Answer));
    actions.extend((0..world.messages.0.len()).map(Action::Notify));
    let busy = !actions.is_empty();
    let due = |timer: u64| timer <= world.now;
    let timers = flights().filter_map(|(at, holder)| {
        let timer = holder.flight.poll_timeout()?.as_micros() - LOCAL_OFFSET;
        (timer < 1000 * S).then_some((at, timer))
    });
    let timers: Vec<_> = timers.collect();
    actions.extend(timers.iter().filter(|(_, timer)| due(*timer)).map(|(at, _)| Action::Fire(*at)));
    if !late {
        actions.extend(arrivals(world, setup).map(Action::Join));
    }
    let expected = world.requests.0.iter().any(|request| !request.orphan) || !world.responses.0.is_empty();
    let waits = if late { !busy } else { !(setup.prompt && expected) };
    let lively = flights().next().is_some() || (!late && arrivals(world, setup).next().is_some());
    let overdue = timers.iter().any(|(_, timer)| due(*timer));
    let next = waits.then(|| next_instant(world, setup, timers.iter().map(|(_, timer)| *timer))).flatten();
    if let Some(next) = next.filter(|_| lively && !overdue) {
        actions.push(Action::Wait(next));
    }
    if !late {
        for ((kinds, _), left) in setup.faults.iter().zip(&world.faults) {
            if *left > 0 {
                kinds.iter().for_each(|kind| faults(world, *kind, overdue && next.is_some(), &mut actions));
            }
        }
    }
    actions
}

/// Who may come. Callers that differ in nothing come in order.
fn arrivals<'a>(world: &'a World, setup: &'a Setup) -> impl Iterator<Item = usize> + 'a {
    let away = move |caller: &usize| world.callers[*caller] == Person::Away;
    (0..setup.callers.len()).filter(away).filter(move |caller| {
        let twin = (0..*caller).rfind(|other| setup.callers[*other] == setup.callers[*caller]);
        twin.is_none_or(|twin| world.callers[twin] != Person::Away)
    })
}

/// The next instant at which something may be different.
fn next_instant(world: &World, setup: &Setup, timers: impl Iterator<Item = u64>) -> Option<u64> {
    let record = world.payload.into_iter().flat_map(|(found, lifetimes)| {
        let ends = [lifetimes.fresh, lifetimes.fresh + lifetimes.stale, lifetimes.total()];
        ends.map(|end| found.landed + end.as_micros() as u64)
    });
    let beat = setup.beat * S;
    let beats = (!world.past_horizon(setup)).then_some(world.now / beat * beat + beat);
    let store = world.ghost.lease.map(|book| book.until).into_iter().chain([world.ghost.scattered]);
    timers.chain(record).chain(beats).chain(store).filter(|at| *at > world.now).min()
}

fn faults(world: &World, kind: Fault, overdue: bool, actions: &mut Vec<Action>) {
    let fault = |number| Action::Fault(kind, number);
    match kind {
        Fault::Refuse | Fault::Lose | Fault::GiveUp => {
            let requests = world.requests.0.iter().enumerate().filter(|(_, request)| !request.orphan);
            actions.extend(requests.map(|(number, _)| fault(number)));
        }
        Fault::LoseNotice | Fault::CopyNotice => actions.extend((0..world.messages.0.len()).map(fault)),
        Fault::Crash => {
            let living = (0..2).filter(|at| !world.replicas[*at].holders.is_empty());
            actions.extend(living.map(fault));
        }
        Fault::Oversleep => actions.extend(overdue.then(|| fault(0))),
        Fault::EvictState | Fault::EvictRecord | Fault::Flush | Fault::Invalidate => {
            actions.extend((!world.slot.is_empty()).then(|| fault(0)));
        }
        Fault::Leave => {
            let waiting = |caller: &usize| matches!(world.callers[*caller], Person::Waiting { .. });
            actions.extend((0..world.callers.len()).filter(waiting).map(fault));
        }
        Fault::NoRoom => {
            for (replica, side) in world.replicas.iter().enumerate() {
                let detached = side.holders.iter().filter(|holder| holder.flight.is_detached());
                let address = |flight| Address { replica, life: side.life, flight };
                actions.extend(detached.map(|holder| Action::NoRoom(address(holder.id))));
            }
        }
    }
}

/// What the world is after `action`.
fn step(world: &mut World, setup: &Setup, trail: &mut Trail, action: Action) -> Result<(), Broken> {
    match action {
        Action::Execute(number) => {
            let request = world.requests.0.remove(number);
            return store::execute(world, setup, trail, request);
        }
        Action::Wait(until) => {
            world.now = until;
            return Ok(());
        }
        Action::Fault(kind, number) => {
            spend(world, setup, kind);
            if kind != Fault::Leave {
                return suffer(world, setup, kind, number);
            }
        }
        Action::NoRoom(_) => spend(world, setup, Fault::NoRoom),
        _ => {}
    }
    let mut driver = Driver { world, setup, trail };
    match action {
        Action::Join(caller) => driver.join(caller),
        Action::Work(at, outcome) => driver.worked(at, outcome),
        Action::Fire(at) => driver.fire(at),
        Action::Answer(number) => {
            let response = driver.world.responses.0.remove(number);
            driver.answered(response)
        }
        Action::Notify(number) => {
            let message = driver.world.messages.0.remove(number);
            driver.notified(&message)
        }
        Action::Fault(_, caller) => driver.leave(caller),
        Action::NoRoom(at) => driver.no_room(at),
        Action::Execute(_) | Action::Wait(_) => Ok(()),
    }
}

fn spend(world: &mut World, setup: &Setup, kind: Fault) {
    let groups = setup.faults.iter().zip(&mut world.faults);
    if let Some((_, left)) = groups.into_iter().find(|((kinds, _), left)| kinds.contains(&kind) && **left > 0) {
        *left -= 1;
    }
}

fn suffer(world: &mut World, setup: &Setup, kind: Fault, number: usize) -> Result<(), Broken> {
    match kind {
        Fault::Refuse | Fault::Lose => {
            let request = world.requests.0.remove(number);
            world.responses.push(no_answer(&request, kind == Fault::Lose));
        }
        Fault::GiveUp => {
            let request = world.requests.0.remove(number);
            world.responses.push(no_answer(&request, true));
            world.requests.push(Request { orphan: true, ..request });
        }
        Fault::LoseNotice => {
            world.messages.0.remove(number);
        }
        Fault::CopyNotice => {
            let copy: Message = world.messages.0[number].clone();
            world.messages.push(copy);
        }
        Fault::Crash => crash(world, number),
        Fault::Oversleep => {
            let next = next_instant(world, setup, core::iter::empty());
            world.now = next.unwrap_or(world.now + setup.beat * S);
        }
        Fault::EvictState => store::evict(world, true, false),
        Fault::EvictRecord => store::evict(world, false, true),
        Fault::Flush => store::evict(world, true, true),
        Fault::Invalidate => return store::invalidate(world, setup),
        Fault::Leave | Fault::NoRoom => {}
    }
    Ok(())
}

/// What the sender of a request makes of silence.
fn no_answer(request: &Request, may_have_run: bool) -> Response {
    let input = match request.op {
        Op::Begin { attempt, .. } => Input::Begun(attempt, Reply::Failed { may_have_run }),
        Op::Renew { attempt } => Input::Renewed(attempt, None),
        Op::Complete { attempt, .. } => Input::Completed(attempt, None),
        Op::Abort { attempt, .. } => Input::Aborted(attempt, false),
    };
    Response { to: request.from, input, found: None }
}

/// All that the replica knew is gone; what it sent is not.
fn crash(world: &mut World, number: usize) {
    let replica = &mut world.replicas[number];
    let dead = inbox(number, replica.life);
    replica.life += 1;
    (replica.opened, replica.table, replica.epoch) = (0, None, 0);
    replica.holders.clear();
    world.messages.0.retain(|message| message.to != dead);
    world.responses.0.retain(|response| response.to.inbox() != dead);
    for request in core::mem::take(&mut world.requests.0) {
        let orphan = request.orphan || request.from.inbox() == dead;
        world.requests.push(Request { orphan, ..request });
    }
    for person in &mut world.callers {
        if matches!(person, Person::Waiting { at, .. } if at.inbox() == dead) {
            *person = Person::Gone;
        }
    }
}
