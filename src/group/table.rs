//! The flights of this process, by key, and the seats of those who wait.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    future::Future,
    hash::BuildHasher,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    answer::{Announce, Announcement, Answer, Work},
    engine::Options,
    tally::{Held, Tally},
};
use crate::{
    key::Key,
    protocol::{
        flight::{Caller, Flight, Input, Rules},
        time::{Instant, Local},
    },
};

/// The seat of who opens a flight.
const FIRST: Caller = 1;

/// Enough that two cores rarely meet at one lock.
const SHARDS: usize = 16;

/// The flights in the air. A cell is in the table from its first caller until its driver retires it.
///
/// Locks are taken in one order: shard, then cell.
pub(super) struct Table<T> {
    shards: [Mutex<HashMap<Key, Arc<Cell<T>>>>; SHARDS],
    hasher: RandomState,
    /// Callers that wait for a flight which another one opened.
    pub(super) waiters: Arc<Tally>,
    /// Flights whose work no caller waits for.
    pub(super) detached: Arc<Tally>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let shards = Default::default();
        Self { shards, hasher: RandomState::new(), waiters: Arc::default(), detached: Arc::default() }
    }
}

impl<T> Table<T> {
    /// The variants of a key share its shard: whoever looks for them looks there alone.
    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Arc<Cell<T>>>> {
        let shard = self.hasher.hash_one(key.primary()) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat in the flight of `key`. The second value says that the flight is new and wants a driver. If too many
    /// wait already, the work comes back.
    ///
    /// A driver that rides on the only caller so far gets a task of its own.
    pub(super) fn join(
        &self,
        key: Key,
        work: Work<T>,
        rules: Rules,
        options: &Options,
    ) -> Result<(Seat<T>, bool), Work<T>> {
        let mut shard = self.shard(&key);
        let mut opened = false;
        let cell = shard.entry(key).or_insert_with_key(|key| {
            opened = true;
            Arc::new(Cell::new(key.clone(), rules))
        });
        let cell = Arc::clone(cell);
        // Still under the shard's lock: a driver that finds nobody waiting cannot retire the cell in between.
        let (tell, answer) = oneshot::channel();
        let joined = cell.update(|seats| {
            let room = || seats.waiters() < options.max_waiters_per_key;
            // Whoever opens a flight waits for nobody here, and a hit counts nothing.
            let waits = if opened || !room() { None } else { self.waiters.take(options.max_waiters) };
            if !opened && waits.is_none() {
                return (Err(work), None);
            }
            seats.last += 1;
            let caller = seats.last;
            seats.chairs.insert(caller, Chair { work: Some(work), tell, waits });
            (Ok((caller, seats.rider.take())), Some(Input::Join { caller, strict: options.strict }))
        });
        // Not under the lock: a driver that cannot have a task is dropped, and takes its cell out of the table.
        drop(shard);
        let (caller, rider) = joined?;
        rider.into_iter().for_each(Rider::alight);
        Ok((Seat { cell, caller, answer }, opened))
    }

    /// The flights that end when `key` is invalidated: its own, and those of its variants.
    pub(super) fn family(&self, key: &Key) -> Vec<Arc<Cell<T>>> {
        let shard = self.shard(key);
        if key.is_variant() {
            return shard.get(key).cloned().into_iter().collect();
        }
        let mut family: Vec<_> = shard.values().filter(|cell| cell.key.primary() == key).cloned().collect();
        // A map has no order, and flights are told one after the other: a seed of a simulation is to stand for one run.
        family.sort_unstable_by(|one, other| one.key.canonical().cmp(other.key.canonical()));
        family
    }

    /// Removes the cell if its flight is over; whether it was.
    pub(super) fn retire(&self, cell: &Arc<Cell<T>>) -> bool {
        let mut shard = self.shard(&cell.key);
        if !cell.seats().flight.is_over() {
            return false;
        }
        Self::take_out(&mut shard, cell);
        true
    }

    /// Removes the cell although its flight goes on: later callers open another one.
    pub(super) fn detach(&self, cell: &Arc<Cell<T>>) {
        Self::take_out(&mut self.shard(&cell.key), cell);
    }

    /// By identity, not by key: another flight of the same key may have taken the place.
    fn take_out(shard: &mut HashMap<Key, Arc<Cell<T>>>, cell: &Arc<Cell<T>>) {
        if shard.get(&cell.key).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            shard.remove(&cell.key);
        }
    }

    /// How many flights are in the air.
    #[cfg(all(test, feature = "json"))]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// One flight: its pure state, the seats, and the bell that wakes its driver.
pub(super) struct Cell<T> {
    pub(super) key: Key,
    origin: tokio::time::Instant,
    seats: Mutex<Seats<T>>,
    /// Whether the flight has asked the store for more than to read a record that is known to be fresh.
    pub(super) asking: Arc<AtomicBool>,
}

pub(super) struct Seats<T> {
    pub(super) flight: Flight,
    pub(super) chairs: BTreeMap<Caller, Chair<T>>,
    last: Caller,
    /// What the work that runs has so far, for everybody.
    pub(super) announced: Option<Announcement>,
    /// Wakes the driver.
    bell: Option<Waker>,
    /// The driver, while it rides on the only caller.
    rider: Option<Rider>,
}

/// A driver without a task.
struct Rider {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who polls it, once somebody has.
    host: Option<Host>,
}

/// The caller on which a driver rides.
struct Host {
    waker: Waker,
    /// Where the driver's timers are.
    runtime: Option<Handle>,
}

/// What a caller left with the flight: its work, until it runs, and where to send the answer.
pub(super) struct Chair<T> {
    pub(super) work: Option<Work<T>>,
    pub(super) tell: oneshot::Sender<Answer<T>>,
    /// Counts it among those who wait, however it goes.
    pub(super) waits: Option<Held>,
}

impl<T> Cell<T> {
    fn new(key: Key, rules: Rules) -> Self {
        let seats = Seats {
            flight: Flight::new(rules),
            chairs: BTreeMap::new(),
            last: 0,
            announced: None,
            bell: None,
            rider: None,
        };
        Self { key, origin: tokio::time::Instant::now(), seats: Mutex::new(seats), asking: Arc::default() }
    }

    pub(super) fn now(&self) -> Instant<Local> {
        Instant::ZERO.after(self.origin.elapsed())
    }

    /// When the flight's clock shows `at`, or never.
    pub(super) fn at(&self, at: Instant<Local>) -> Option<tokio::time::Instant> {
        self.origin.checked_add(at.since(Instant::ZERO))
    }

    /// For the work of `caller`.
    pub(super) fn announce(self: &Arc<Self>, caller: Caller) -> Announce
    where
        T: Send + 'static,
    {
        let cell = Arc::clone(self);
        Box::new(move |announced| {
            let open = announced.is_some();
            let before = cell.update(|seats| {
                // Work that was given up may still be heard of, while somebody else's runs.
                if seats.flight.runner() != Some(caller) {
                    return (announced, None);
                }
                (mem::replace(&mut seats.announced, announced), Some(Input::Announced { open }))
            });
            drop(before);
        })
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, Seats<T>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the seats, passes the input on to the flight, and rings if that gives the driver something to do.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut Seats<T>) -> (R, Option<Input>)) -> R {
        let now = self.now();
        let mut seats = self.seats();
        let before = (seats.flight.poll_timeout(), seats.flight.is_detached());
        let (result, input) = change(&mut seats);
        if let Some(input) = input {
            seats.flight.handle(now, input);
        }
        let after = (seats.flight.poll_timeout(), seats.flight.is_detached());
        let ring = seats.flight.has_output() || after != before || seats.flight.is_over();
        let bell = if ring { seats.bell.take() } else { None };
        drop(seats);
        bell.into_iter().for_each(Waker::wake);
        result
    }
}

impl<T> Seats<T> {
    /// Everybody but the first caller, who opened the flight.
    fn waiters(&self) -> usize {
        self.chairs.len() - usize::from(self.chairs.contains_key(&FIRST))
    }

    /// Has this waker woken by the next change that gives the driver something to do.
    pub(super) fn hear(&mut self, waker: &Waker) {
        if !self.bell.as_ref().is_some_and(|bell| bell.will_wake(waker)) {
            self.bell = Some(waker.clone());
        }
    }
}

/// What a caller is told; an error if its driver is gone.
pub(super) type Told<T> = Result<Answer<T>, oneshot::error::RecvError>;

/// One caller's place in a flight. Dropping it leaves the flight to the others.
pub(crate) struct Seat<T> {
    pub(super) cell: Arc<Cell<T>>,
    caller: Caller,
    pub(super) answer: oneshot::Receiver<Answer<T>>,
}

impl<T> Seat<T> {
    /// Leaves with one's own work; `None` if it has been started, or an answer is on its way.
    pub(super) fn withdraw(&self) -> Option<Work<T>> {
        let caller = self.caller;
        self.cell.update(|seats| {
            let work = seats.chairs.get_mut(&caller).and_then(|chair| chair.work.take());
            let leave = work.is_some().then(|| {
                seats.chairs.remove(&caller);
                Input::Leave { caller }
            });
            (work, leave)
        })
    }

    /// Lets the driver ride on this caller, if he is alone in the flight; else gives it a task. Whether it rides.
    pub(super) fn carry(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>, host: Option<&Waker>) -> bool {
        let host = host.map(|waker| Host { waker: waker.clone(), runtime: Handle::try_current().ok() });
        let mut seats = self.cell.seats();
        let alone = seats.chairs.len() == 1 && seats.chairs.contains_key(&self.caller);
        if alone && seats.flight.is_beginning() && !self.cell.asking.load(Ordering::Relaxed) {
            seats.rider = Some(Rider { driver, host });
            return true;
        }
        drop(seats);
        Rider { driver, host: None }.alight();
        false
    }

    /// Polls the driver that rides on this caller, until there is an answer or it rides no more.
    pub(super) fn poll_ride(&mut self, cx: &mut Context<'_>) -> Poll<Option<Told<T>>> {
        let rider = self.cell.seats().rider.take();
        let Some(Rider { mut driver, .. }) = rider else { return Poll::Ready(None) };
        // A panic in it is a codec's or a `Clone`'s: in a task it would not be this caller's either.
        let polled = catch_unwind(AssertUnwindSafe(|| driver.as_mut().poll(cx).is_ready()));
        let over = polled.unwrap_or(true);
        // One that is over tells whoever is left as it goes.
        let driver = (!over).then_some(driver);
        let answer = Pin::new(&mut self.answer).poll(cx);
        let rides = driver.is_some_and(|driver| self.carry(driver, Some(cx.waker())));
        match answer {
            Poll::Ready(told) => Poll::Ready(Some(told)),
            Poll::Pending if rides => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        }
    }
}

impl Rider {
    /// Gives the driver a task of its own, where it was polled if it was. Without a runtime it is dropped, which sends its
    /// callers off alone.
    fn alight(self) {
        let (waker, runtime) = self.host.map(|host| (host.waker, host.runtime)).unzip();
        match runtime.flatten().or_else(|| Handle::try_current().ok()) {
            Some(runtime) => drop(runtime.spawn(self.driver)),
            None => drop(self.driver),
        }
        // Its host waits like everybody else from now on.
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let caller = self.caller;
        // The work is dropped outside the lock: it is the caller's code.
        let (_chair, rider) = self.cell.update(|seats| {
            let chair = seats.chairs.remove(&caller);
            let counts = chair.is_some() || seats.flight.is_audience(caller);
            let leave = counts.then_some(Input::Leave { caller });
            ((chair, seats.rider.take()), leave)
        });
        rider.into_iter().for_each(Rider::alight);
    }
}
