//! What is left behind by those who go: nothing that is in anybody's way.

use super::{
    hooked::{Hooked, hook, takes},
    *,
};

/// A caller on another replica leads at once, rather than after what is left of a lease.
async fn leads_at_once(memory: &Memory) {
    let before = tokio::time::Instant::now();
    let flown = group(&memory.replica()).fly("key", || value(9, MS)).await.unwrap();
    assert_eq!(flown, Flown { value: 9, source: Source::Led });
    assert_eq!(before.elapsed(), MS);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_when_everybody_has_left_is_given_back() {
    let memory = Memory::new();
    let backend = Hooked { begin: takes(10 * MS), abort: takes(10 * MS), ..Hooked::new(memory.clone()) };
    let group: Group<u64> = Group::new(backend, "test");
    let mut call = Box::pin(group.fly("key", || value(1, MS)));
    start(&mut call).await;
    drop(call);
    sleep(30 * MS).await;
    assert_eq!(group.engine.table.len(), 0);
    leads_at_once(&memory).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waited_long_enough_is_not_counted_on() {
    let memory = Memory::new();
    let patient = group(&memory);
    let leader = patient.clone();
    let leader = tokio::spawn(async move {
        let fails = || async {
            sleep(100 * MS).await;
            Err::<u64, _>("no")
        };
        leader.work("key", fails).await
    });
    settle().await;
    let impatient = patient.clone().wait_timeout(50 * MS);
    let alone = impatient.fly("key", || value(2, Duration::from_secs(1))).await.unwrap();
    assert_eq!(alone.source, Source::Alone(Alone::WaitTimeout));
    assert_eq!(leader.await.unwrap(), Err("no"));
    assert_eq!(patient.engine.table.len(), 0);
    leads_at_once(&memory).await;
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_was_cast_out_takes_only_itself_out_of_the_table() {
    let group = group(&Memory::new());
    let fly = |result, time| {
        let group = group.clone();
        tokio::spawn(async move { group.fly("key", move || value(result, time)).await.unwrap() })
    };
    let old = fly(1, 100 * MS);
    settle().await;
    group.forget("key").await.unwrap();
    let new = fly(2, 300 * MS);
    assert_eq!(old.await.unwrap().value, 1);
    settle().await;
    assert_eq!(fly(3, MS).await.unwrap(), Flown { value: 2, source: Source::JoinedHere });
    assert_eq!(new.await.unwrap().value, 2);
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_waits_for_makes_room_when_it_ends() {
    let group = group(&Memory::new());
    let ended = Arc::new(AtomicUsize::new(0));
    for key in 0..600_u32 {
        let ended = Arc::clone(&ended);
        let mut call = Box::pin(group.fly(key.to_be_bytes(), move || async move {
            sleep(10 * MS).await;
            ended.fetch_add(1, Relaxed);
            Ok::<_, Infallible>(1)
        }));
        start(&mut call).await;
        settle().await;
        drop(call);
        if key % 100 == 99 {
            sleep(20 * MS).await;
        }
    }
    assert_eq!(ended.load(Relaxed), 600);
    assert_eq!(group.engine.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_began_without_its_lease_is_kept_for_nobody() {
    let begins = AtomicUsize::new(0);
    let late_once = hook(move || {
        let first = begins.fetch_add(1, Relaxed) == 0;
        async move {
            sleep(if first { 300 * MS } else { Duration::ZERO }).await;
            Ok(())
        }
    });
    let memory = Memory::new();
    let backend = Hooked { begin: late_once, ..Hooked::new(memory.clone()) };
    let group: Group<u64> = Group::new(backend, "test").result_ttl(Duration::from_secs(60));
    let flown = group.fly("key", || value(1, 500 * MS)).await.unwrap();
    assert_eq!(flown.source, Source::Led, "under the lease that came late");
    settle().await;
    assert!(memory.get(&group.key(b"key")).await.unwrap().is_some(), "it is there for those who follow it");
    assert_eq!(group.fly("key", || value(2, MS)).await.unwrap(), Flown { value: 2, source: Source::Led });
}

#[tokio::test(start_paused = true)]
async fn a_result_tells_what_it_cost_and_how_old_it_is() {
    let memory = Memory::new();
    let backend = Hooked { recall: Some(takes(MS)), ..Hooked::new(memory.clone()) };
    let group: Group<u64> = Group::new(backend, "test").result_ttl(Duration::from_secs(60));
    group.try_work("key", || value(1, 40 * MS)).await.unwrap();
    let found = memory.get(&group.key(b"key")).await.unwrap().expect("it has landed");
    assert_eq!(found.cost, 40 * MS);
    sleep(Duration::from_secs(30)).await;
    let hit = group.fly("key", || value(2, MS)).await.unwrap();
    assert_eq!(hit.source, Source::Hit { age: Duration::from_secs(30) + MS });
}
