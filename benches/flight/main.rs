//! What a flight costs, each figure beside its yardstick in the same run: `cargo bench --bench flight`.

mod local;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // In a task of the runtime, not beside it: else every wake-up crosses threads.
    runtime.block_on(async { tokio::spawn(local::run()).await.unwrap() });
}
