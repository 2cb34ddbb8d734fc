//! What a flight costs, each figure beside its yardstick in the same run: `cargo bench --bench flight`.
//!
//! `cargo bench --bench flight -- hits` runs one part: `local`, `exchanges`, `delay`, `hits`.

mod local;
mod redis;
#[path = "../../tests/live/support/mod.rs"]
#[allow(dead_code, reason = "the live tests use the rest of it")]
mod support;

fn main() {
    // One worker for all replicas: the other core is the server's. With more runnable threads than cores the figures
    // would be those of the scheduler.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = move |name: &str| part.as_deref().is_none_or(|part| part == name);
    // In a task of the runtime, not beside it: else every wake-up crosses threads.
    let parts = async move {
        if wanted("local") {
            local::run().await;
        }
        redis::run(wanted).await;
    };
    runtime.block_on(async { tokio::spawn(parts).await.unwrap() });
}
