//! `Mutex` beside `rslock`, each figure beside its yardstick in the same run. See README.md beside this package.

mod contention;
mod figures;
mod handover;
mod locks;
mod ours;
mod ping;
mod process;
mod server;
mod uncontended;

use tokio::signal::unix::{SignalKind, signal};

use self::{figures::Table, server::Server};

fn main() {
    // One worker for each process: with more runnable threads than cores the figures would be those of the scheduler.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // In a task of the runtime, not beside it: else every wake-up crosses threads.
    runtime.block_on(async { tokio::spawn(run(arguments)).await.unwrap() });
}

async fn run(arguments: Vec<String>) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        // What this program starts itself as.
        ["waiter", nodes @ ..] => handover::waiter(nodes).await,
        ["crew", member @ ..] => contention::crew(member).await,
        // Whichever way this ends, and on a panic too, what was started is dropped here, and killed by that.
        parts => tokio::select! {
            () = compare(parts) => {}
            () = stopped() => {
                eprintln!("stopped before the end");
                std::process::exit(1);
            }
        },
    }
}

async fn compare(parts: &[&str]) {
    let known = ["uncontended", "handover", "contention"];
    for part in parts {
        assert!(known.contains(part), "no such part: {part}. There are: {}", known.join(", "));
    }
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    let nodes: Vec<&str> = servers.iter().map(Server::url).collect();
    let mut table = Table::default();
    if wanted("uncontended") {
        uncontended::run(&nodes[..1], &mut table).await;
        uncontended::run(&nodes, &mut table).await;
    }
    if wanted("handover") {
        handover::run(&nodes[..1], 500, &mut table).await;
        handover::run(&nodes, 200, &mut table).await;
    }
    if wanted("contention") {
        contention::run(nodes[0], &mut table).await;
    }
    println!("\n{table}");
}

/// Ends on Ctrl-C, or when the process is told to terminate.
async fn stopped() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
