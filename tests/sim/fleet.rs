//! A fleet of replicas, the callers that come and go, and what must hold for each of them.

use std::{
    collections::HashMap,
    ops::AddAssign,
    panic::{panic_any, resume_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tower_singleflight::{
    Group,
    backend::Memory,
    group::{Error, Flown, Keep, Source},
};

use crate::net::{Net, Remote};

/// What a run is made of.
#[derive(Debug)]
pub struct Plan {
    pub faults: bool,
    pub failures: bool,
    /// No message ever arrives.
    pub deaf: bool,
    pub ttl_ms: u64,
    pub warmup_ms: u64,
    pub replicas: u64,
    pub callers: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { faults: true, failures: true, deaf: false, ttl_ms: 0, warmup_ms: 0, replicas: 3, callers: 24 }
    }
}

/// What happened, to see that a run is not empty.
#[derive(Debug, Default)]
pub struct Tally {
    executions: u64,
    led: u64,
    joined: u64,
    elsewhere: u64,
    hits: u64,
    stale: u64,
    alone: u64,
    refused: u64,
    failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.executions += other.executions;
        self.led += other.led;
        self.joined += other.joined;
        self.elsewhere += other.elsewhere;
        self.hits += other.hits;
        self.stale += other.stale;
        self.alone += other.alone;
        self.refused += other.refused;
        self.failed += other.failed;
    }
}

impl Tally {
    pub fn assert_not_empty(&self, plan: &Plan) {
        let must = [
            (true, self.led, "led"),
            (true, self.joined, "joined"),
            (true, self.elsewhere, "joined elsewhere"),
            (plan.ttl_ms > 0, self.hits, "hits"),
            (plan.warmup_ms > 0, self.stale, "stale"),
            (plan.faults || plan.failures, self.alone, "alone"),
            (plan.faults || plan.failures, self.refused, "refused"),
            (plan.failures, self.failed, "failed"),
        ];
        for (expected, number, what) in must {
            assert!(!expected || number > 0, "nobody {what}: {self:?}");
        }
    }
}

/// The only panic there may be.
const EXPECTED: &str = "an expected panic";

/// A value says whose it is and when it was computed.
type Value = (u64, u64);

#[derive(Default)]
struct Ledger {
    running: HashMap<u64, u64>,
    most_at_once: u64,
    executions: u64,
}

struct Running(Arc<Mutex<Ledger>>, u64);

impl Running {
    fn new(ledger: &Arc<Mutex<Ledger>>, key: u64) -> Self {
        let mut open = ledger.lock().unwrap();
        open.executions += 1;
        let running = open.running.entry(key).or_default();
        *running += 1;
        let running = *running;
        open.most_at_once = open.most_at_once.max(running);
        drop(open);
        Self(Arc::clone(ledger), key)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.lock().unwrap().running.get_mut(&self.1).unwrap() -= 1;
    }
}

/// One run. Panics if something does not hold.
pub async fn run(plan: &Plan, seed: u64) -> Tally {
    let net = Net::new(seed, plan.faults, plan.deaf);
    let store = Memory::new();
    let groups: Vec<Group<Value>> = (0..plan.replicas)
        .map(|_| {
            Group::new(Remote::new(&store, &net), "sim")
                .result_ttl(Duration::from_millis(plan.ttl_ms))
                .warmup_window(Duration::from_millis(plan.warmup_ms))
                .lock_ttl(Duration::from_millis(500))
                .wait_timeout(Duration::from_secs(if plan.failures || plan.faults { 3 } else { 60 }))
                .keep(|(_, at)| if at % 7 == 6 { Keep::No(Duration::from_millis(50)) } else { Keep::Default })
        })
        .collect();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let origin = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..plan.callers {
        sleep(Duration::from_millis(net.below(60))).await;
        let group = groups[net.below(plan.replicas) as usize].clone();
        callers.push(tokio::spawn(caller(plan.failures, group, Arc::clone(&net), Arc::clone(&ledger), origin)));
        if plan.failures && net.below(20) == 0 {
            let _ = groups[0].forget(net.below(2).to_be_bytes()).await;
        }
    }
    sleep(Duration::from_millis(net.below(500))).await;
    net.heal();
    let mut tally = Tally::default();
    for caller in callers {
        let caller = timeout(Duration::from_secs(120), caller).await.expect("everybody ends");
        let caller = caller.unwrap_or_else(|error| {
            let panic = error.into_panic();
            if panic.downcast_ref() != Some(&EXPECTED) {
                resume_unwind(panic);
            }
            None
        });
        let Some((key, asked, outcome)) = caller else { continue };
        check(plan, key, asked, outcome, &mut tally);
    }
    let ledger = ledger.lock().unwrap();
    tally.executions += ledger.executions;
    if !plan.faults && !plan.failures {
        assert_eq!(ledger.most_at_once, 1, "a key was worked on twice at a time");
    }
    tally
}

type Outcome = Result<Flown<Value>, Error<()>>;

async fn caller(
    failures: bool,
    group: Group<Value>,
    net: Arc<Net>,
    ledger: Arc<Mutex<Ledger>>,
    origin: Instant,
) -> Option<(u64, u64, Outcome)> {
    let (key, ms) = (net.below(2), net.below(150));
    let fate = if failures { net.below(12) } else { 11 };
    let since = move || u64::try_from(origin.elapsed().as_millis()).unwrap();
    let work = move || async move {
        let _running = Running::new(&ledger, key);
        sleep(Duration::from_millis(ms)).await;
        match fate {
            0 => Err(()),
            1 => panic_any(EXPECTED),
            // Unshareable by the rule of `keep`.
            2 => Ok((key, since() / 7 * 7 + 6)),
            _ => Ok((key, since() / 7 * 7)),
        }
    };
    let asked = since();
    let call = async {
        if fate == 3 {
            let value = group.try_work(key.to_be_bytes(), work).await;
            value.map(|value| Flown { value, source: Source::Led })
        } else {
            group.fly(key.to_be_bytes(), work).await.map_err(Error::Work)
        }
    };
    let outcome = if fate == 4 { timeout(Duration::from_millis(net.below(200)), call).await.ok()? } else { call.await };
    Some((key, asked, outcome))
}

/// Nobody gets another key's value, nor one that is older than the promise.
fn check(plan: &Plan, key: u64, asked: u64, outcome: Outcome, tally: &mut Tally) {
    let Flown { value: (of, at), source } = match outcome {
        Ok(flown) => flown,
        Err(Error::Work(())) => return tally.failed += 1,
        Err(Error::Refused(_)) => return tally.refused += 1,
    };
    assert_eq!(of, key, "another key's value");
    // A value is rounded down to 7 ms; a reply or a message may be 300 ms late on a bad network.
    let late = if plan.faults { 1_000 } else { 20 };
    assert!(
        at + 7 + plan.ttl_ms + plan.warmup_ms + late >= asked,
        "a value of {at} for a caller of {asked}: {source:?}"
    );
    match source {
        Source::Led => tally.led += 1,
        Source::JoinedHere => tally.joined += 1,
        Source::JoinedElsewhere => tally.elsewhere += 1,
        Source::Hit { .. } => tally.hits += 1,
        Source::Stale { .. } => tally.stale += 1,
        Source::Alone(_) => tally.alone += 1,
        _ => unreachable!(),
    }
}
