//! Who waits is served in the order of coming.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::*;
use crate::support::calls::PATIENCE;

const CONTENDERS: usize = 10;

/// Contenders that come to wait when they are told to, each in a process of its own, and tell when they hold it.
struct Contenders {
    mutexes: Vec<Mutex>,
    tell: UnboundedSender<(usize, MutexGuard)>,
    told: UnboundedReceiver<(usize, MutexGuard)>,
}

impl Contenders {
    async fn new(servers: &[Server]) -> Self {
        let mut mutexes = Vec::new();
        for _ in 0..CONTENDERS {
            mutexes.push(process(servers).await);
        }
        let (tell, told) = unbounded_channel();
        Self { mutexes, tell, told }
    }

    fn wait(&self, contender: usize) {
        let (mutex, tell) = (self.mutexes[contender].clone(), self.tell.clone());
        tokio::spawn(async move { tell.send((contender, mutex.lock().await.unwrap())) });
    }

    async fn next(&mut self) -> (usize, MutexGuard) {
        timeout(PATIENCE, self.told.recv()).await.expect("the next one is served").unwrap()
    }
}

/// Nobody is overtaken, not once: who releases and comes again is behind all who wait.
///
/// Fails if a release sets the lock free for whoever comes first, or places are taken from the other end.
#[tokio::test]
async fn nobody_is_overtaken() {
    let servers = servers::<1>();
    let mut contenders = Contenders::new(&servers).await;
    let mut line: VecDeque<_> = (0..CONTENDERS).collect();
    contenders.wait(0);
    let (first, mut guard) = contenders.next().await;
    assert_eq!(line.pop_front(), Some(first));
    for (place, contender) in line.iter().enumerate() {
        contenders.wait(*contender);
        in_line(&servers, NAME, place + 1).await;
    }
    let (mut longest, mut all, mut last) = (Duration::ZERO, Duration::ZERO, first);
    for _ in 0..10 * CONTENDERS {
        let start = Instant::now();
        guard.unlock().await.unwrap();
        let (served, next) = contenders.next().await;
        let took = start.elapsed();
        (longest, all) = (longest.max(took), all + took);
        assert_eq!(line.pop_front(), Some(served));
        // Who has released comes again.
        contenders.wait(last);
        line.push_back(last);
        in_line(&servers, NAME, CONTENDERS - 1).await;
        (guard, last) = (next, served);
    }
    println!("a hand-over took {:?} on average, {longest:?} at most", all / 100);
}
