//! What a mutex costs its servers.

use tower_singleflight::{Mutex, MutexGuard, backend::Redis};

use crate::support::{
    Proxy, Server,
    fleet::until,
    locks::{places, waiters},
};

/// One process: its mutex, and a proxy in front of each server.
struct Process {
    mutex: Mutex,
    proxies: Vec<Proxy>,
}

/// What passed between a process and one server: exchanges, and the names of the commands.
type Paid = (usize, Vec<String>);

impl Process {
    async fn start(servers: &[Server]) -> Self {
        let (mut handles, mut proxies) = (Vec::new(), Vec::new());
        for server in servers {
            let proxy = Proxy::start(server.port()).await;
            let redis = Redis::connect(&proxy.url(), "paid").await.unwrap();
            // Each server is told the scripts, whether it is needed for a quorum or not.
            Mutex::new(redis.clone(), "scripts").lock().await.unwrap().unlock().await.unwrap();
            handles.push(redis);
            proxies.push(proxy);
        }
        Self { mutex: Mutex::new(handles, "exchanges"), proxies }
    }

    fn paid(&self) -> Vec<Paid> {
        self.proxies.iter().map(|proxy| (proxy.exchanges(), proxy.commands())).collect()
    }

    /// Since then, `times` operations on each server, and not one more.
    async fn paid_since(&self, before: &[Paid], times: usize) {
        let since = || {
            let now = self.paid().into_iter().zip(before);
            now.map(|(now, before)| (now.0 - before.0, now.1[before.1.len()..].to_vec())).collect::<Vec<_>>()
        };
        // A quorum has answered; the others may be about to.
        until(true, async || since().iter().all(|(_, commands)| commands.len() >= times)).await;
        for (exchanges, commands) in since() {
            assert_eq!(commands, vec!["EVALSHA"; times]);
            assert!(exchanges <= times);
        }
    }

    /// Comes to wait on all servers.
    async fn wait(&self, servers: &[Server]) -> impl Future<Output = MutexGuard> + use<> {
        let mutex = self.mutex.clone();
        let waiting = tokio::spawn(async move { mutex.lock().await.unwrap() });
        let [name, _] = places("paid", "exchanges");
        for server in servers {
            until(1, async || waiters(server, &name).await).await;
        }
        async { waiting.await.unwrap() }
    }
}

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::start()).collect()
}

/// To take a lock and to release it is one command each, on each node, once the nodes know the scripts. Fails if a
/// mutex asks twice, or looks before or after.
#[tokio::test]
async fn a_lock_and_its_release_are_two() {
    for nodes in [1, 3] {
        let servers = servers(nodes);
        let process = Process::start(&servers).await;
        let before = process.paid();
        for _ in 0..10 {
            process.mutex.lock().await.unwrap().unlock().await.unwrap();
        }
        process.paid_since(&before, 20).await;
    }
}

/// Who waits pays no more than who does not: one command to come and one to release, on each node. The message is the grant.
/// Fails if who is granted the lock asks for it again, or takes back what it was granted.
///
/// On one node: on several, an answer that a busy machine delays costs its place, and the count depends on the time.
#[tokio::test]
async fn to_wait_costs_nothing_more() {
    let servers = servers(1);
    let both = [Process::start(&servers).await, Process::start(&servers).await];
    let before = both.each_ref().map(Process::paid);
    let rounds = 10;
    let mut held = both[0].mutex.lock().await.unwrap();
    both[0].paid_since(&before[0], 1).await;
    for round in 1..=rounds {
        let next = both[round % 2].wait(&servers).await;
        held.unlock().await.unwrap();
        held = next.await;
    }
    held.unlock().await.unwrap();
    // One of them came first, and comes last.
    for ((process, before), times) in both.iter().zip(&before).zip([rounds + 2, rounds]) {
        process.paid_since(before, times).await;
    }
}
