//! What only the inside can see: the local table, and how often a caller is woken.

mod announced;
mod caps;
mod hooked;
mod leaving;
mod limits;
mod refreshed;
mod riding;
mod variants;

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use super::*;
use crate::backend::{Backend, Memory};

const MS: Duration = Duration::from_millis(1);

fn group(memory: &Memory) -> Group<u64> {
    Group::new(memory.clone(), "test")
}

/// Lets every task run until all of them wait for something.
async fn settle() {
    sleep(MS).await;
}

async fn polls<F: Future>(future: F) -> (usize, F::Output) {
    let mut future = pin!(future);
    let mut polls = 0;
    let output = poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    });
    let output = output.await;
    (polls, output)
}

#[tokio::test(start_paused = true)]
async fn aborted_leaders_of_ten_thousand_keys_leave_an_empty_table() {
    let memory = Memory::new();
    let group = group(&memory);
    let mut leaders = JoinSet::new();
    for key in 0..10_000_u32 {
        let group = group.clone();
        leaders.spawn(async move { group.work(key.to_be_bytes(), pending::<Result<u64, Infallible>>).await });
    }
    settle().await;
    assert_eq!(group.engine.table.len(), 10_000);
    leaders.shutdown().await;
    settle().await;
    assert_eq!(group.engine.table.len(), 256, "as many as may run with nobody waiting");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(group.engine.table.len(), 0, "and no longer than they may");
}

#[tokio::test(start_paused = true)]
async fn a_callers_flight_is_gone_when_it_is_over() {
    let memory = Memory::new();
    let groups = [group(&memory), group(&memory.replica())];
    let mut calls = JoinSet::new();
    for caller in 0..100 {
        let group = groups[caller % 2].clone();
        calls.spawn(async move { group.work("key", || seven(MS)).await });
    }
    calls.join_all().await;
    settle().await;
    assert_eq!(groups.map(|group| group.engine.table.len()), [0, 0]);
}

async fn value(value: u64, time: Duration) -> Result<u64, Infallible> {
    sleep(time).await;
    Ok(value)
}

fn seven(time: Duration) -> impl Future<Output = Result<u64, Infallible>> + Send {
    value(7, time)
}

/// Polls a future once.
async fn start<F: Future + Unpin>(future: &mut F) {
    let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await;
    assert!(pending, "it has something to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_parked_caller_is_polled_twice() {
    let memory = Memory::new();
    let groups = [group(&memory), group(&memory.replica())];
    let leader = tokio::spawn({
        let group = groups[0].clone();
        async move { group.work("key", || seven(Duration::from_secs(4))).await }
    });
    settle().await;
    let mut parked = JoinSet::new();
    for caller in 0..100 {
        let group = groups[caller % 2].clone();
        parked.spawn(async move { polls(group.work("key", || seven(MS))).await });
    }
    for (polls, value) in parked.join_all().await {
        assert_eq!((polls, value), (2, Ok(7)), "once to park, once for the answer");
    }
    assert_eq!(leader.await.unwrap(), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_of_one_key_share_one_execution() {
    let memory = Memory::new();
    let groups = [group(&memory), group(&memory.replica())];
    let runs = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for caller in 0..10_000 {
        let (group, runs) = (groups[caller % 2].clone(), Arc::clone(&runs));
        calls.spawn(async move {
            let work = move || async move {
                runs.fetch_add(1, Relaxed);
                seven(100 * MS).await
            };
            group.work("key", work).await
        });
    }
    assert!(calls.join_all().await.iter().all(|value| *value == Ok(7)));
    assert_eq!(runs.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_on_clones_of_a_handle_share_the_table_and_replicas_do_not() {
    let memory = Memory::new();
    let groups = [group(&memory), group(&memory), group(&memory.replica())];
    let tables: Vec<_> = groups.iter().map(|group| Arc::as_ptr(&group.engine.table)).collect();
    assert_eq!(tables[0], tables[1]);
    assert_ne!(tables[0], tables[2]);
}

#[test]
fn a_runtime_that_goes_away_sends_the_callers_of_others_off_by_themselves() {
    let group = group(&Memory::new());
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let (gone, stays) = (runtime(), runtime());
    let (started, start) = std::sync::mpsc::channel();
    gone.spawn({
        let group = group.clone();
        async move {
            let work = move || async move {
                let _ = started.send(());
                pending::<Result<u64, Infallible>>().await
            };
            group.work("key", work).await
        }
    });
    start.recv().unwrap();
    let (parked, park) = std::sync::mpsc::channel();
    let waits = stays.spawn(async move {
        let mut call = pin!(group.fly("key", || async { Ok::<_, Infallible>(8) }));
        let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
        parked.send(first).unwrap();
        call.await
    });
    assert!(park.recv().unwrap(), "it waits for the other runtime's work");
    gone.shutdown_background();
    let flown = stays.block_on(waits).unwrap().unwrap();
    assert_eq!(flown, Flown { value: 8, source: Source::Alone(Alone::Unavailable) });
}
