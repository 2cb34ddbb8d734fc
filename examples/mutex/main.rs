//! `Mutex`: a nightly job that stops when its lock is lost, and goes on where somebody else holds it.
//!
//! `cargo run --example mutex`. Needs nothing, unless `--redis URL` is given. See README.md beside this file.

mod reports;

use std::{error::Error, fmt, process, sync::Arc, time::Duration};

use clap::Parser;
use tokio::time::{Instant, sleep};
use tower_singleflight::{
    LockError, Mutex, MutexGuard,
    backend::{Memory, Redis},
    mutex::Nodes,
};

use self::reports::Reports;

/// How long a worker that died would hold the others up.
const TTL: Duration = Duration::from_millis(600);

/// How long one part of the report takes.
const PART: Duration = Duration::from_millis(400);

/// Shows what a lock does for a job that must not run twice.
#[derive(Parser)]
struct Flags {
    /// The Redis to use instead of memory; several of them, each with a flag of its own, decide by majority.
    #[arg(long, value_name = "URL")]
    redis: Vec<String>,
}

/// What a process of its own would be.
struct Worker {
    name: &'static str,
    mutex: Mutex,
    reports: Arc<Reports>,
    start: Instant,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let (memory, reports, start) = (Memory::new(), Arc::default(), Instant::now());
    let mut workers = Vec::new();
    for name in ["ada", "bob", "cleo"] {
        let nodes = nodes(&flags.redis, &memory).await?;
        let mutex = Mutex::new(nodes, "reports:nightly").ttl(TTL).auto_renew(true).metadata(name);
        workers.push(Worker { name, mutex, reports: Arc::clone(&reports), start });
    }
    let operator = Mutex::new(nodes(&flags.redis, &memory).await?, "reports:nightly");
    let [ada, bob, cleo] = &workers[..] else { unreachable!("there are three") };

    let first = ada.mutex.lock().await?;
    let old = first.fence().await?;
    ada.say(format_args!("holds {}, fence {}", first.name(), old.0));
    match bob.mutex.try_lock().await {
        Err(LockError::Taken(taken)) => bob.say(format_args!("would begin, but the lock is {taken}")),
        other => return Err(format!("bob should have been told who holds the lock: {other:?}").into()),
    }

    // Whoever knows the token is the holder.
    let token = first.token().clone();
    let takes_it_away = async {
        reports.written(2).await;
        let taken = operator.from_token(token).await?;
        ada.say(format_args!("is rid of the lock, and does not know it: an operator has released it"));
        taken.unlock().await
    };
    let takes_over = async {
        let second = bob.mutex.lock().await?;
        bob.say(format_args!("was woken by the release, and holds it, fence {}", second.fence().await?.0));
        bob.work(&second, 3).await?;
        Ok::<_, Box<dyn Error>>(second)
    };
    let (work, taken, second) = tokio::join!(ada.work(&first, 4), takes_it_away, takes_over);
    taken?;
    let second = second?;
    if work.is_ok() {
        return Err("ada should have lost the lock".into());
    }
    // As from a process that was paused in between, or a request that was long on its way.
    match ada.reports.write(old, 3) {
        Err(outdated) => ada.say(format_args!("writes late, and is refused: {outdated}")),
        Ok(()) => return Err("a report should refuse an older fence".into()),
    }

    // A lock outlives its process, if the token is handed on: as text, say in the environment of the next one.
    let token = second.into_token();
    bob.say(format_args!("is told to stop, and hands the lock to cleo"));
    let third = cleo.mutex.from_token(token).await?;
    cleo.say(format_args!("holds it, fence {}", third.fence().await?.0));
    cleo.work(&third, 4).await?;
    third.unlock().await?;
    cleo.say(format_args!("has released it; taken: {}", cleo.mutex.is_locked().await?));
    Ok(())
}

impl Worker {
    /// Writes what is missing of the report up to a part, as long as the lock is held.
    async fn work(&self, guard: &MutexGuard, last: u32) -> Result<(), Box<dyn Error>> {
        let fence = guard.fence().await?;
        let parts = async {
            loop {
                let part = self.reports.next(fence)?;
                if part > last {
                    return Ok(());
                }
                sleep(PART).await;
                self.reports.write(fence, part)?;
                let left = guard.until().saturating_duration_since(Instant::now()).as_millis();
                self.say(format_args!("has written part {part}; renewed, the lock is sure for another {left} ms"));
            }
        };
        tokio::select! {
            written = parts => written,
            () = guard.lost() => {
                self.say(format_args!("has lost the lock, and drops the part it is at"));
                Err("the lock was lost".into())
            }
        }
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        println!("{:>5} ms  {:<4} {what}", self.start.elapsed().as_millis(), self.name);
    }
}

/// The nodes as one process sees them, with connections of its own.
async fn nodes(urls: &[String], memory: &Memory) -> Result<Nodes, Box<dyn Error>> {
    if urls.is_empty() {
        return Ok(memory.replica().into());
    }
    let mut nodes = Vec::new();
    for url in urls {
        // The process id keeps two runs of this program apart.
        let node = Redis::connect(url, format!("mutex-{}", process::id())).await;
        nodes.push(node.map_err(|error| format!("--redis: {error}"))?);
    }
    Ok(nodes.into())
}
