//! What a caller is promised at the edges: right after an invalidation, over a long wait, with durations without end.

use super::{
    hooked::{Hooked, hook, takes},
    *,
};
use crate::backend::{BackendError, ErrorKind};

/// A flight in the air whose work returns 1.
async fn in_the_air(group: &Group<u64>) -> tokio::task::JoinHandle<Result<u64, Infallible>> {
    let old = group.clone();
    let old = tokio::spawn(async move { old.work("key", || value(1, 100 * MS)).await });
    settle().await;
    old
}

#[tokio::test(start_paused = true)]
async fn whoever_forgets_and_then_asks_gets_nothing_older() {
    let group = group(&Memory::new()).result_ttl(Duration::from_secs(60));
    let old = in_the_air(&group).await;
    group.forget("key").await.unwrap();
    assert_eq!(group.work("key", || value(2, MS)).await, Ok(2));
    assert_eq!(old.await.unwrap(), Ok(1));
    assert_eq!(group.work("key", || value(3, MS)).await, Ok(2), "the older one has not been stored over it");
}

#[tokio::test(start_paused = true)]
async fn whoever_puts_and_then_asks_gets_what_he_put() {
    let group = group(&Memory::new()).result_ttl(Duration::from_secs(60));
    let old = in_the_air(&group).await;
    group.put("key", &70).await.unwrap();
    assert_eq!(group.work("key", || value(2, MS)).await, Ok(70));
    assert_eq!(old.await.unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn so_does_he_when_the_flight_knows_no_store() {
    let away = || async { Err(BackendError::new(ErrorKind::Unavailable, "gone")) };
    let group: Group<u64> = Group::new(Hooked { begin: hook(away), ..Hooked::new(Memory::new()) }, "test");
    let old = in_the_air(&group).await;
    group.forget("key").await.unwrap();
    assert_eq!(group.work("key", || value(2, MS)).await, Ok(2));
    assert_eq!(old.await.unwrap(), Ok(1));
}

/// Fails if work is not told why nobody coordinates it, or is told so although somebody does.
#[tokio::test(start_paused = true)]
async fn work_knows_whether_it_is_coordinated() {
    let away = || async { Err(BackendError::new(ErrorKind::Unavailable, "gone")) };
    let without = Hooked { begin: hook(away), ..Hooked::new(Memory::new()) };
    for (backend, expected) in [(Hooked::new(Memory::new()), None), (without, Some(Alone::Unavailable))] {
        let engine: Engine<u64> = Engine::new(Arc::new(backend), Arc::new(crate::codec::Json));
        let (tell, told) = oneshot::channel();
        let work: Work<u64> = Box::new(move |start| {
            let _ = tell.send(start.alone);
            Box::pin(async { Done::Passing(7) })
        });
        let _ = engine.fly(Key::builder("test").finish(), work, &Options::default()).await;
        assert_eq!(told.await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn following_for_long_does_not_use_the_budget_up() {
    let memory = Memory::new();
    // Every lease that ends is asked about: 5 ms each, of 250 ms in all.
    let [leading, following] = [memory.clone(), memory.replica()].map(|memory| {
        let backend = Hooked { begin: takes(5 * MS), ..Hooked::new(memory) };
        Group::<u64>::new(backend, "test").lock_ttl(50 * MS).wait_timeout(Duration::from_secs(60))
    });
    let leader = tokio::spawn(async move { leading.work("key", || value(1, Duration::from_secs(10))).await });
    sleep(20 * MS).await;
    let flown = following.fly("key", || value(2, MS)).await.unwrap();
    assert_eq!(flown, Flown { value: 1, source: Source::JoinedElsewhere });
    assert_eq!(leader.await.unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn durations_without_end_are_taken_as_they_are_meant() {
    let memory = Memory::new();
    let on = |memory: &Memory| {
        let group = group(memory).lock_ttl(Duration::MAX).wait_timeout(Duration::MAX);
        group.result_ttl(Duration::MAX).warmup_window(Duration::MAX)
    };
    assert_eq!(on(&memory).fly("key", || value(1, MS)).await.unwrap().source, Source::Led);
    let stored = on(&memory.replica()).fly("key", || value(2, MS)).await.unwrap();
    assert_eq!(stored.value, 1);
    assert!(matches!(stored.source, Source::Hit { .. }), "{stored:?}");

    let scattering = on(&memory).keep(|_| Keep::No(Duration::MAX));
    for _ in 0..2 {
        let alone = scattering.fly("unshareable", || value(3, MS)).await.unwrap();
        assert_eq!(alone, Flown { value: 3, source: Source::Alone(Alone::Unshareable) });
    }
    settle().await;
    assert_eq!(scattering.engine.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_passing_value_leaves_a_stale_one_in_place() {
    let memory = Memory::new();
    let group = group(&memory).result_ttl(Duration::from_secs(1)).warmup_window(Duration::from_secs(60));
    let group = group.keep(|value| if *value == 2 { Keep::Waiters } else { Keep::Default });
    assert_eq!(group.work("key", || value(1, MS)).await, Ok(1));
    sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        let stale = group.fly("key", || value(2, MS)).await.unwrap();
        assert_eq!(stale.value, 1);
        assert!(matches!(stale.source, Source::Stale { .. }), "{stale:?}");
        sleep(2 * MS).await;
    }
    assert_eq!(group.work("key", || value(3, MS)).await, Ok(1));
    sleep(2 * MS).await;
    assert_eq!(group.work("key", || value(4, MS)).await, Ok(3), "one that is kept takes its place");
}
