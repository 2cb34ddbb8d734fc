//! How long after one process lets go of a lock another one holds it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{
    figures::{Table, Times, line},
    locks::{Kind, Lock},
    ping::Ping,
    process::{Process, orders},
};

/// Between the waiter's question and the release. The question has long arrived by then.
const PAUSE: Duration = Duration::from_millis(3);

/// One in so many rounds has a hand-over of a lock that sleeps: it takes a hundred times as long as the others.
const SELDOM: usize = 8;

pub async fn run(nodes: &[&str], rounds: usize, table: &mut Table) {
    let what = format!("hand-over to another process, {} node(s)", nodes.len());
    println!("{what}: from before the release to the return of `lock`");
    let mut locks = Vec::new();
    for kind in Kind::ALL {
        locks.push(kind.open(nodes).await);
    }
    let mut waiter = Process::start(&[&["waiter"], nodes].concat()).await;
    let mut ping = Ping::connect(nodes).await;
    let (mut times, mut pings) = (Kind::ALL.map(|_| Vec::new()), Vec::new());
    for round in 0..rounds {
        for kind in Kind::ALL {
            let hold = match kind {
                Kind::Rslock if round % SELDOM != 0 => continue,
                // Let go at another moment of its sleep each time.
                Kind::Rslock => PAUSE + Duration::from_millis(round as u64 * 37 % 200),
                Kind::Ours | Kind::Eager => PAUSE,
            };
            times[kind as usize].push(once(&locks[kind as usize], kind, hold, &mut waiter).await);
        }
        // The yardstick after the same pause: a server and a core that slept answer later than ones that did not.
        tokio::time::sleep(PAUSE).await;
        pings.push(ping.once().await);
    }
    let (times, pings) = (times.map(Times::new), Times::new(pings));
    for kind in Kind::ALL {
        line(kind.name(), &times[kind as usize], &pings);
    }
    line("PING after the same pause", &pings, &pings);
    table.push(format!("{what}: p50, µs"), |kind| times[kind as usize].median(), Some(pings.median()));
}

/// From before this process lets go to when the waiter holds the lock.
async fn once(lock: &Lock, kind: Kind, hold: Duration, waiter: &mut Process) -> Duration {
    let held = lock.lock().await;
    waiter.tell(kind.name()).await;
    tokio::time::sleep(hold).await;
    let released = now();
    held.unlock().await;
    let acquired = Duration::from_nanos(waiter.hear().await.parse().expect("the waiter says when it held the lock"));
    // Again by itself: the lock is free.
    waiter.hear().await;
    acquired.checked_sub(released).unwrap_or_else(|| panic!("{}: two held it at once", kind.name()))
}

/// The other process: takes the lock that it is told to, says when it had it, and lets go of it.
pub async fn waiter(nodes: &[&str]) {
    let mut locks = Vec::new();
    for kind in Kind::ALL {
        locks.push(kind.open(nodes).await);
    }
    let mut orders = orders();
    while let Some(name) = orders.next_line().await.expect("orders can be read") {
        let held = locks[Kind::parse(&name) as usize].lock().await;
        println!("{}", now().as_nanos());
        held.unlock().await;
        println!("free");
    }
}

/// The one clock that means the same in two processes.
fn now() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().expect("it starts at the boot of the machine")
}
