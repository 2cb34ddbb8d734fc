//! Ten contenders for one lock: how fast it goes round, and who has to wait how long.

mod counter;

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Barrier, task::JoinSet};

use self::counter::Counter;
use crate::{
    figures::{Table, Times},
    locks::{Kind, Lock},
    ping,
    process::{Process, orders},
};

const CONTENDERS: usize = 10;
const ROUNDS: usize = 4;
/// In each round, by each contender: 1 000 in all.
const ACQUISITIONS: usize = 250;
/// After so long the contenders of `rslock` begin no further acquisition in a round: with its defaults it may take very
/// long.
const LIMIT: Duration = Duration::from_secs(2);

/// How the contenders are spread.
struct Spread {
    what: &'static str,
    processes: usize,
    /// Whether the contenders of a process share a handle and its connections.
    shared: bool,
}

const SPREADS: [Spread; 3] = [
    Spread { what: "10 handles in one process", processes: 1, shared: false },
    Spread { what: "one handle in one process", processes: 1, shared: true },
    Spread { what: "one handle in each of 2 processes", processes: 2, shared: true },
];

pub async fn run(node: &str, table: &mut Table) {
    for spread in SPREADS {
        println!("{CONTENDERS} contenders, {}", spread.what);
        let mut crews = Vec::new();
        for kind in Kind::ALL {
            crews.push(Crew::start(kind, &spread, node).await);
        }
        for _ in 0..ROUNDS {
            for crew in &mut crews {
                crew.round(node).await;
            }
        }
        let tallies: Vec<Tally> = crews.into_iter().map(Crew::tally).collect();
        for (kind, tally) in Kind::ALL.into_iter().zip(&tallies) {
            println!("  {:<28} {tally}", kind.name());
        }
        let mut push = |what: &str, figure: fn(&Tally) -> f64| {
            let what = format!("{CONTENDERS} contenders, {}: {what}", spread.what);
            table.push(what, |kind| figure(&tallies[kind as usize]), None);
        };
        push("acquisitions per second", Tally::rate);
        push("hand-overs to another contender per second", Tally::changes_per_second);
        push("longest / mean wait", Tally::unfairness);
        push("server's CPU per acquisition, µs", Tally::server_micros);
    }
}

/// The processes that contend for one lock.
struct Crew {
    kind: Kind,
    processes: Vec<Process>,
    counter: Counter,
    waits: Vec<Duration>,
    time: Duration,
    server: Duration,
}

impl Crew {
    async fn start(kind: Kind, spread: &Spread, node: &str) -> Self {
        let counter = Counter::create();
        let each = CONTENDERS / spread.processes;
        let mut processes = Vec::new();
        for first in (0..CONTENDERS).step_by(each) {
            let (first, each) = (first.to_string(), each.to_string());
            let handles = if spread.shared { "shared" } else { "own" };
            let member = ["crew", kind.name(), handles, &first, &each, counter.path(), node];
            processes.push(Process::start(&member).await);
        }
        Self { kind, processes, counter, waits: Vec::new(), time: Duration::ZERO, server: Duration::ZERO }
    }

    async fn round(&mut self, node: &str) {
        let (before, started) = (server_time(node).await, Instant::now());
        for process in &mut self.processes {
            process.tell("go").await;
        }
        for process in &mut self.processes {
            let waits = process.hear().await;
            let waits = waits.split_whitespace().map(|wait| wait.parse().expect("the process sends its waits"));
            self.waits.extend(waits.map(Duration::from_nanos));
        }
        self.time += started.elapsed();
        self.server += server_time(node).await - before;
    }

    /// What came of it, if never two held the lock at once.
    fn tally(self) -> Tally {
        let (count, changes) = self.counter.read();
        assert_eq!(count, self.waits.len() as u64, "{}: two held it at once", self.kind.name());
        Tally { waits: Times::new(self.waits), changes, time: self.time, server: self.server }
    }
}

struct Tally {
    waits: Times,
    /// How many acquisitions were by another contender than the one before.
    changes: u64,
    time: Duration,
    server: Duration,
}

impl Tally {
    fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.time.as_secs_f64()
    }

    fn changes_per_second(&self) -> f64 {
        self.changes as f64 / self.time.as_secs_f64()
    }

    fn unfairness(&self) -> f64 {
        self.waits.max() / self.waits.mean()
    }

    fn server_micros(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.waits.len() as f64
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>6} in {:>5.2} s = {:>6.0} /s, {:>6.0} /s to another; wait: mean {:>6.2} ms, max {:>7.2} ms, max/mean {:>6.1}",
            self.waits.len(),
            self.time.as_secs_f64(),
            self.rate(),
            self.changes_per_second(),
            self.waits.mean() / 1e3,
            self.waits.max() / 1e3,
            self.unfairness()
        )
    }
}

/// The CPU that a server has used.
async fn server_time(node: &str) -> Duration {
    let mut connection = ping::client(node).get_multiplexed_async_connection().await.unwrap();
    let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut connection).await.unwrap();
    let used = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("the server tells its CPU");
        line.parse().expect("it is a number of seconds")
    };
    Duration::from_secs_f64(used("used_cpu_sys:") + used("used_cpu_user:"))
}

/// One process of a crew: at each order its contenders acquire the lock so often, and it says how long each had to wait.
pub async fn crew(member: &[&str]) {
    let &[kind, handles, first, each, counter, node] = member else { panic!("a crew is started by this program") };
    let (kind, first): (_, u64) = (Kind::parse(kind), first.parse().expect("a number"));
    let each: usize = each.parse().expect("a number");
    let mut locks = vec![kind.open(&[node]).await];
    while locks.len() < each {
        locks.push(if handles == "own" { kind.open(&[node]).await } else { locks[0].clone() });
    }
    let counter = Arc::new(counter::open(counter));
    let mut orders = orders();
    while orders.next_line().await.expect("orders can be read").is_some() {
        let start = Arc::new(Barrier::new(each));
        let mut contenders = JoinSet::new();
        for (lock, contender) in locks.iter().zip(first..) {
            contenders.spawn(contend(lock.clone(), contender, counter.clone(), start.clone()));
        }
        let waits: Vec<String> = contenders.join_all().await.iter().flatten().map(u128::to_string).collect();
        println!("{}", waits.join(" "));
    }
}

/// How long one contender had to wait each time, in nanoseconds.
async fn contend(lock: Lock, contender: u64, counter: Arc<File>, start: Arc<Barrier>) -> Vec<u128> {
    start.wait().await;
    let begun = Instant::now();
    let mut waits = Vec::new();
    while waits.len() < ACQUISITIONS && (lock.is_ours() || begun.elapsed() < LIMIT) {
        let asked = Instant::now();
        let held = lock.lock().await;
        waits.push(asked.elapsed().as_nanos());
        counter::count(&counter, contender).await;
        held.unlock().await;
    }
    waits
}
