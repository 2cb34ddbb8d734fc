//! Many contenders, each in a process of its own, and a count that is right only if they never work at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use redis::aio::MultiplexedConnection;
use tokio::{sync::Barrier, task::JoinSet};

use super::*;
use crate::support::fleet::MS;

const CONTENDERS: usize = 10;

/// A number on a server of its own, which is read and then written.
#[derive(Clone)]
struct Counter(MultiplexedConnection);

impl Counter {
    async fn get(&mut self) -> usize {
        redis::cmd("GET").arg("counter").query_async::<Option<usize>>(&mut self.0).await.unwrap().unwrap_or(0)
    }

    /// Loses what others count between the two.
    async fn count(&mut self) -> usize {
        let counted = self.get().await + 1;
        let () = redis::cmd("SET").arg("counter").arg(counted).query_async(&mut self.0).await.unwrap();
        counted
    }
}

/// What one contender has waited.
#[derive(Clone, Copy, Default)]
struct Waits {
    longest: Duration,
    sum: Duration,
}

/// All contenders acquire so often, beginning at the same time. Returns how often each had acquired when the first of them
/// was done.
async fn contend(servers: &[Server], times: usize) -> Vec<usize> {
    let counts = Server::start();
    let done: Arc<[AtomicUsize]> = (0..CONTENDERS).map(|_| AtomicUsize::new(0)).collect();
    let start = Arc::new(Barrier::new(CONTENDERS));
    let mut contenders = JoinSet::new();
    for contender in 0..CONTENDERS {
        let (mutex, mut counter) = (process(servers).await, Counter(counts.connection().await));
        let (done, start) = (Arc::clone(&done), Arc::clone(&start));
        contenders.spawn(async move {
            start.wait().await;
            let (mut waits, mut last) = (Waits::default(), 0);
            for _ in 0..times {
                let asked = Instant::now();
                let guard = mutex.lock().await.unwrap();
                let waited = asked.elapsed();
                waits = Waits { longest: waits.longest.max(waited), sum: waits.sum + waited };
                let counted = counter.count().await;
                assert!(counted > last, "{counted} after {last}");
                last = counted;
                done[contender].fetch_add(1, SeqCst);
                guard.unlock().await.unwrap();
            }
            (waits, done.iter().map(|done| done.load(SeqCst)).collect::<Vec<_>>())
        });
    }
    let began = Instant::now();
    let (mut all, mut first) = (Vec::new(), None);
    while let Some(ended) = contenders.join_next().await {
        let (waits, done) = ended.unwrap();
        all.push(waits);
        first.get_or_insert(done);
    }
    let took = began.elapsed();
    let longest = all.iter().map(|waits| waits.longest).max().unwrap();
    let acquisitions = u32::try_from(CONTENDERS * times).unwrap();
    let mean = all.iter().map(|waits| waits.sum).sum::<Duration>() / acquisitions;
    println!(
        "{acquisitions} acquisitions, nodes: {}, in {took:?}: waited {mean:?} on average, {longest:?} at most ({:.1} times that)",
        servers.len(),
        longest.as_secs_f64() / mean.as_secs_f64()
    );
    assert_eq!(Counter(counts.connection().await).get().await, CONTENDERS * times, "each acquisition was alone");
    gone(servers, NAME).await;
    first.unwrap()
}

/// Nobody starves: when the first one is done, all others have had a fourth of that. In order they have had nearly all
/// of it; a busy machine may stop one of them for a while.
fn is_fair(times: usize, done: &[usize]) {
    println!("when one had {times}, they had {done:?}");
    assert!(done.iter().all(|&done| done >= times / 4), "{done:?}");
}

/// Fails if, for instance, a contender takes a grant that was told to another one for its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_contenders_with_a_thousand_acquisitions_each_on_one_node() {
    let done = contend(&servers::<1>(), 1_000).await;
    is_fair(1_000, &done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_contenders_with_twenty_acquisitions_each_on_three_nodes() {
    let done = contend(&servers::<3>(), 20).await;
    println!("when one had 20, they had {done:?}");
}

/// Some leave at any moment: while they wait, when they are granted the lock, while they hold it. The lock goes on to the
/// next one without a break.
///
/// Fails if what was granted to one who has left is not passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contenders_that_leave_do_not_stop_the_others() {
    for nodes in [1, 3] {
        let servers: Vec<_> = (0..nodes).map(|_| Server::start()).collect();
        let counts = Server::start();
        let mut contenders = JoinSet::new();
        for contender in 0..CONTENDERS {
            let (mutex, mut counter) = (process(&servers).await, Counter(counts.connection().await));
            let mut random = StdRng::seed_from_u64(u64::try_from(contender).unwrap());
            contenders.spawn(async move {
                let (mut counted, mut left) = (0, 0);
                for _ in 0..60 {
                    let moment = MS.mul_f64(random.random_range(0.0..20.0));
                    // Not to wait for something: this is the moment at which it leaves.
                    let Ok(guard) = timeout(moment, mutex.lock()).await else {
                        left += 1;
                        continue;
                    };
                    let guard = guard.unwrap();
                    counter.count().await;
                    counted += 1;
                    if random.random() {
                        guard.unlock().await.unwrap();
                    }
                }
                // Nobody leaves any more, and whoever left has no part in it.
                let guard = promptly("the last of each", mutex.lock()).await.unwrap();
                counter.count().await;
                guard.unlock().await.unwrap();
                (counted + 1, left)
            });
        }
        let (mut counted, mut left) = (0, 0);
        for (one, gone) in contenders.join_all().await {
            counted += one;
            left += gone;
        }
        println!("nodes: {nodes}; {counted} had it and {left} left");
        assert_eq!(Counter(counts.connection().await).get().await, counted, "each acquisition was alone");
        gone(&servers, NAME).await;
    }
}
