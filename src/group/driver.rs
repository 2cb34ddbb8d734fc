//! The only place where the protocol meets a backend, a clock and a task. It decides nothing.

use std::{
    any::Any,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    answer::{Alone, Announcement, Answer, Copy, Done, Source, Start, Work},
    calls::{Asked, Call, Calls},
    engine::{Engine, Options},
    table::{Cell, Chair, Seats},
    tally::Held,
};
use crate::{
    backend::{self, Lifetimes, Watch},
    protocol::flight::{Caller, Input, Notice, Origin, Outcome, Output, Reply, Verdict},
};

/// Flies one flight from its first caller until it is over.
///
/// A future written by hand: it is made once per flight, and stays several times smaller than what the compiler makes of
/// the same loop, small enough for the fast path of the allocator.
pub(super) struct Driver<T: Clone + Send + Sync + 'static> {
    engine: Engine<T>,
    cell: Arc<Cell<T>>,
    calls: Calls<T>,
    in_air: Vec<Call<T>>,
    watch: Option<Watch>,
    work: Option<JoinHandle<Done<T>>>,
    timer: Option<Pin<Box<Sleep>>>,
    started: Instant,
    /// What the work returned, and how long it may be used.
    computed: Option<(T, Lifetimes)>,
    cost: Duration,
    keep: Duration,
    /// What the store had, for everybody who waited.
    found: Option<Copy<T>>,
    /// What the store still has: what may be served while the work runs, and what it starts from.
    previous: Option<Copy<T>>,
    /// It was served, and the work is to replace it.
    refreshes: bool,
    /// The store has spoken since the last work ended.
    begun: bool,
    /// What is stored is to go with the lease.
    withdrawn: bool,
    panic: Option<Box<dyn Any + Send>>,
    /// Held while work runs that no caller waits for.
    detached: Option<Held>,
    max_detached: usize,
    retired: bool,
}

/// Nothing in it is pinned in place.
impl<T: Clone + Send + Sync + 'static> Unpin for Driver<T> {}

/// What the driver waits for.
enum Event<T> {
    Asked(Asked<T>),
    Worked(Result<Done<T>, JoinError>),
    Notice(backend::Notice),
    Timer,
}

/// How the flight stands when it has no more to say.
struct Next {
    due: Option<Instant>,
    detached: bool,
    over: bool,
}

/// An output with what it needs from the seats, taken out under their lock and done after it.
enum Action<T> {
    Tell(Vec<Chair<T>>, Verdict),
    Announce(Vec<Chair<T>>, Announcement),
    Work(Caller, Work<T>, Option<Alone>, u32),
    Other(Output),
}

impl<T: Clone + Send + Sync + 'static> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let next = this.perform(cx);
            let quiet = next.over && this.in_air.is_empty() && this.work.is_none();
            if quiet && this.engine.table.retire(&this.cell) {
                this.retired = true;
                return Poll::Ready(());
            }
            let Some(event) = this.event(cx, next.due) else { return Poll::Pending };
            match event {
                Event::Asked(asked) => this.asked(asked),
                Event::Worked(done) => this.worked(done),
                Event::Notice(notice) => this.noticed(notice),
                Event::Timer => {
                    let now = this.cell.now();
                    this.cell.seats().flight.handle_timeout(now);
                }
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Driver<T> {
    pub(super) fn new(engine: Engine<T>, cell: Arc<Cell<T>>, options: &Options) -> Self {
        let calls = Calls::new(&engine, &cell.key, options.lock_ttl);
        Self {
            engine,
            cell,
            calls,
            in_air: Vec::new(),
            watch: None,
            work: None,
            timer: None,
            started: Instant::now(),
            computed: None,
            cost: Duration::ZERO,
            keep: options.keep(),
            found: None,
            previous: None,
            refreshes: false,
            begun: false,
            withdrawn: false,
            panic: None,
            detached: None,
            max_detached: options.max_detached,
            retired: false,
        }
    }

    /// What has happened, in this order: an answer of the store or a result that is there goes before a timer that ran
    /// out. The bell needs no event: whoever rings it wakes this future, which then looks at the flight.
    fn event(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Option<Event<T>> {
        for (index, call) in self.in_air.iter_mut().enumerate() {
            if let Poll::Ready(asked) = call.as_mut().poll(cx) {
                drop(self.in_air.swap_remove(index));
                return Some(Event::Asked(asked));
            }
        }
        if let Some(work) = &mut self.work
            && let Poll::Ready(done) = Pin::new(work).poll(cx)
        {
            self.work = None;
            return Some(Event::Worked(done));
        }
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(notice) = watch.poll_next(cx)
        {
            return Some(Event::Notice(notice));
        }
        let due = due?;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).is_ready().then_some(Event::Timer)
    }

    fn handle(&self, input: Input) {
        let now = self.cell.now();
        self.cell.seats().flight.handle(now, input);
    }

    fn asked(&mut self, asked: Asked<T>) {
        match asked {
            Asked::Begun { attempt, reply, copy, watch } => {
                // The old watch goes only now: the new one was armed before the store was asked.
                self.watch = watch;
                match reply {
                    Reply::Hit { .. } => self.found = copy,
                    _ => self.previous = copy,
                }
                self.begun = true;
                self.refreshes = matches!(reply, Reply::Lead { stale: Some(_), .. });
                self.handle(Input::Begun(attempt, reply));
            }
            Asked::Renewed(attempt, renewed) => self.handle(Input::Renewed(attempt, renewed)),
            Asked::Completed(attempt, completed) => self.handle(Input::Completed(attempt, completed)),
            Asked::Aborted(attempt, done) => self.handle(Input::Aborted(attempt, done)),
        }
    }

    fn worked(&mut self, done: Result<Done<T>, JoinError>) {
        self.cost = self.started.elapsed();
        // The next work may begin without asking the store, where this may be gone by now. Whoever was given it in this
        // instant has yet to be told.
        (self.begun, self.withdrawn) = (false, false);
        let (keep, nobody) = (self.keep, self.for_waiters());
        let outcome = match done {
            Ok(Done::Value { value, fresh, stale, keep: longer }) => {
                let keep = keep.max(fresh.saturating_add(stale).saturating_add(longer));
                self.computed = Some((value, Lifetimes { fresh, stale, keep }));
                Outcome::Value
            }
            Ok(Done::Passing(value)) => {
                self.computed = Some((value, nobody));
                Outcome::Passing
            }
            Ok(Done::Failed(value)) => {
                let shareable = value.is_some();
                self.computed = value.map(|value| (value, nobody));
                Outcome::Failed { shareable }
            }
            Ok(Done::Unshareable(time)) => Outcome::Unshareable(time),
            Ok(Done::Withdrawn(time)) => {
                self.withdrawn = true;
                Outcome::Unshareable(time)
            }
            Ok(Done::Declined) => Outcome::Declined,
            Err(error) => {
                self.panic = error.try_into_panic().ok();
                Outcome::Failed { shareable: false }
            }
        };
        self.handle(Input::Worked(outcome));
    }

    /// The life of a result that is fresh for nobody.
    fn for_waiters(&self) -> Lifetimes {
        Lifetimes { keep: self.keep, ..Lifetimes::default() }
    }

    fn noticed(&mut self, notice: backend::Notice) {
        let notice = match notice {
            backend::Notice::Landed(fence, found) => {
                let copy = found.and_then(|found| self.calls.copy(&found));
                let with_record = copy.is_some();
                self.found = copy.or(self.found.take());
                Notice::Landed { fence, with_record }
            }
            backend::Notice::Retry => Notice::Retry,
            backend::Notice::Scatter(_) => Notice::Scatter,
            backend::Notice::Invalidated => Notice::Invalidated,
        };
        self.handle(Input::Notified(notice));
    }

    /// Does what the flight says until it says no more.
    fn perform(&mut self, cx: &Context<'_>) -> Next {
        loop {
            let (actions, next) = self.actions(cx);
            if actions.is_empty() && next.detached == self.detached.is_some() {
                return next;
            }
            actions.into_iter().for_each(|action| self.act(action));
            if !next.detached {
                self.detached = None;
            } else if self.detached.is_none() {
                self.detached = self.engine.table.detached.take(self.max_detached);
                if self.detached.is_none() {
                    self.handle(Input::Evict);
                }
            }
        }
    }

    fn actions(&self, cx: &Context<'_>) -> (Vec<Action<T>>, Next) {
        // Dropped after the lock.
        let _announced;
        let mut seats = self.cell.seats();
        // Under the lock: what a caller changes from now on wakes this task.
        seats.hear(cx.waker());
        let mut actions = Vec::new();
        while let Some(output) = seats.flight.poll_output() {
            actions.push(match output {
                Output::Answer { callers, verdict } => {
                    let chairs = callers.into_iter().filter_map(|caller| seats.chairs.remove(&caller)).collect();
                    match (verdict, &seats.announced) {
                        (Verdict::Announced, Some(announced)) => Action::Announce(chairs, Arc::clone(announced)),
                        _ => Action::Tell(chairs, verdict),
                    }
                }
                Output::Work { caller } => {
                    let work = seats.chairs.get_mut(&caller).and_then(|chair| chair.work.take());
                    let work = work.expect("a caller that waits has its work, and it is started once");
                    Action::Work(caller, work, seats.flight.alone(), seats.flight.failures())
                }
                output => Action::Other(output),
            });
        }
        _announced = if seats.flight.is_open() { None } else { seats.announced.take() };
        let Seats { flight, .. } = &*seats;
        let due = flight.poll_timeout().and_then(|due| self.cell.at(due));
        (actions, Next { due, detached: flight.is_detached(), over: flight.is_over() })
    }

    fn act(&mut self, action: Action<T>) {
        match action {
            Action::Tell(chairs, verdict) => chairs.into_iter().for_each(|chair| self.tell(chair, verdict)),
            Action::Announce(chairs, announced) => {
                for chair in chairs {
                    drop(chair.waits);
                    let _ = chair.tell.send(Answer::Announced(Arc::clone(&announced)));
                }
            }
            Action::Work(caller, work, alone, failures) => {
                self.started = Instant::now();
                let announce = self.cell.announce(caller);
                let previous = self.previous.clone().filter(|_| self.begun);
                let refreshes = self.refreshes && previous.is_some();
                let start = Start { previous, refreshes, alone, failures, announce };
                // A task of its own: neither a panic nor a busy thread of the work stops renewals and answers.
                self.work = Some(tokio::spawn(work(start)));
            }
            Action::Other(Output::Begin { attempt, followed }) => {
                self.in_air.push(self.calls.begin(attempt, followed, Arc::clone(&self.cell.asking)));
            }
            Action::Other(Output::Renew { attempt }) => self.in_air.push(self.calls.renew(attempt)),
            Action::Other(Output::Abort { attempt, reason }) => {
                self.in_air.push(self.calls.abort(attempt, reason, self.withdrawn));
            }
            Action::Other(Output::Complete { attempt, fence, for_waiters }) => {
                let (value, lifetimes) = self.computed.as_ref().expect("what is completed was computed");
                let lifetimes = if for_waiters { self.for_waiters() } else { *lifetimes };
                self.in_air.push(self.calls.complete(attempt, fence, value, lifetimes, self.cost));
            }
            Action::Other(Output::Cancel) => {
                if let Some(work) = self.work.take() {
                    work.abort();
                }
            }
            Action::Other(Output::Detach) => self.engine.table.detach(&self.cell),
            Action::Other(Output::Answer { .. } | Output::Work { .. }) => unreachable!("taken out with the seats"),
        }
    }

    fn tell(&mut self, chair: Chair<T>, verdict: Verdict) {
        let ran = chair.work.is_none();
        let stored = |copy: &Option<Copy<T>>| {
            let copy = copy.as_ref().expect("what is answered was found");
            (copy.value.clone(), copy.landed.elapsed())
        };
        let answer = match verdict {
            Verdict::Value(origin @ (Origin::Computed(_) | Origin::Landed | Origin::Alone(_))) => {
                let (value, _) = self.computed.as_ref().expect("what is answered was computed");
                let source = match origin {
                    Origin::Alone(why) => Source::Alone(why),
                    _ if ran => Source::Led,
                    _ => Source::JoinedHere,
                };
                Answer::Value(value.clone(), source)
            }
            Verdict::Value(Origin::Elsewhere) => Answer::Value(stored(&self.found).0, Source::JoinedElsewhere),
            Verdict::Value(Origin::Stored) => {
                let (value, age) = stored(&self.found);
                Answer::Value(value, Source::Hit { age })
            }
            Verdict::Stale => {
                let (value, age) = stored(&self.previous);
                Answer::Value(value, Source::Stale { age })
            }
            Verdict::Runs(why) => Answer::Runs(why),
            Verdict::Announced => unreachable!("told with what was announced"),
            Verdict::Ran => self.panic.take().map_or(Answer::Ran, Answer::Panicked),
            Verdict::Refused(why) => Answer::Refused(why),
            Verdict::Alone(why) => chair.work.map_or(Answer::Ran, |work| Answer::Alone(work, why)),
        };
        // Whoever is told and comes back finds his own seat free.
        drop(chair.waits);
        // Whoever left in this instant does not need it.
        let _ = chair.tell.send(answer);
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Driver<T> {
    /// After its run nobody waits. Else the runtime is shutting down, or a `Clone` or a codec of the user panicked:
    /// everybody who still has his work goes by himself.
    fn drop(&mut self) {
        if self.retired {
            return;
        }
        self.engine.table.detach(&self.cell);
        let chairs = mem::take(&mut self.cell.seats().chairs);
        for chair in chairs.into_values() {
            if let Some(work) = chair.work {
                let _ = chair.tell.send(Answer::Alone(work, Alone::Unavailable));
            }
        }
    }
}
