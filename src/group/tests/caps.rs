//! How many wait, and how many flights go on for nobody: counted exactly, whichever way they end.

use super::{
    hooked::{Hooked, hook},
    *,
};

type Call = tokio::task::JoinHandle<Result<Flown<u64>, Infallible>>;

const ALONE: Source = Source::Alone(Alone::Overloaded);

/// Callers of one key, of whom the first has it computed in a second.
fn calls(group: &Group<u64>, key: &'static str, callers: usize) -> Vec<Call> {
    let call = |_| {
        let group = group.clone();
        tokio::spawn(async move { group.fly(key, || seven(Duration::from_secs(1))).await })
    };
    (0..callers).map(call).collect()
}

async fn sources(calls: Vec<Call>) -> Vec<Source> {
    let mut sources = Vec::new();
    for call in calls {
        let Ok(flown) = call.await.expect("nobody panics");
        sources.push(flown.source);
    }
    sources
}

fn waiting(group: &Group<u64>) -> usize {
    group.engine.table.waiters.used()
}

/// Fails if the limit is off by one, if the caller who opened the flight counts, or if a key's waiters count for another.
#[tokio::test(start_paused = true)]
async fn as_many_wait_for_a_key_as_may_and_the_next_one_goes_alone() {
    let group = group(&Memory::new()).max_waiters_per_key(3);
    let seated = calls(&group, "key", 4);
    settle().await;
    assert_eq!(waiting(&group), 3);
    let before = tokio::time::Instant::now();
    assert_eq!(group.fly("key", || value(8, MS)).await, Ok(Flown { value: 8, source: ALONE }));
    assert_eq!(before.elapsed(), MS, "at once");
    let other = calls(&group, "other", 4);
    settle().await;
    assert_eq!(waiting(&group), 6);
    let [here, led] = [Source::JoinedHere, Source::Led];
    assert_eq!(sources(seated).await, [led, here, here, here]);
    assert_eq!(sources(other).await, [led, here, here, here]);
    assert_eq!(waiting(&group), 0);
}

/// Fails if the caller who opened the flight makes room as he leaves, or if one that waits makes none.
#[tokio::test(start_paused = true)]
async fn a_seat_is_free_when_one_that_waits_has_left() {
    let group = group(&Memory::new()).max_waiters_per_key(2);
    let seated = calls(&group, "key", 3);
    settle().await;
    let mut next = Vec::new();
    for leaves in &seated[..2] {
        leaves.abort();
        settle().await;
        next.extend(calls(&group, "key", 1));
        settle().await;
    }
    assert_eq!(waiting(&group), 2);
    assert_eq!(sources(next).await, [ALONE, Source::JoinedHere]);
}

/// Fails if each key has a total of its own, if the limit is off by one, or if it keeps anybody from leading.
#[tokio::test(start_paused = true)]
async fn as_many_wait_in_all_as_may_and_everybody_may_lead() {
    let group = group(&Memory::new()).max_waiters(5);
    let seated = [calls(&group, "a", 4), calls(&group, "b", 3)];
    settle().await;
    assert_eq!(waiting(&group), 5);
    let alone = [calls(&group, "a", 1), calls(&group, "b", 1)];
    let leads = calls(&group, "c", 2);
    for calls in alone {
        assert_eq!(sources(calls).await, [ALONE]);
    }
    assert_eq!(sources(leads).await, [Source::Led, ALONE]);
    for calls in seated {
        let sources = sources(calls).await;
        assert!(sources[1..].iter().all(|source| *source == Source::JoinedHere), "{sources:?}");
    }
    assert_eq!(waiting(&group), 0);
}

/// Fails if the limit belongs to the table or to the flight, rather than to who comes.
#[tokio::test(start_paused = true)]
async fn each_caller_is_held_against_its_own_limit() {
    let wide = group(&Memory::new());
    let [narrow, few] = [wide.clone().max_waiters(2), wide.clone().max_waiters_per_key(2)];
    let seated = calls(&wide, "key", 4);
    settle().await;
    let next = [narrow, few, wide].iter().flat_map(|group| calls(group, "key", 1)).collect();
    assert_eq!(sources(next).await, [ALONE, ALONE, Source::JoinedHere]);
    assert_eq!(sources(seated).await.len(), 4);
}

/// Fails if a strict caller runs its work although another one runs.
#[tokio::test(start_paused = true)]
async fn a_strict_caller_is_refused() {
    let group = group(&Memory::new()).max_waiters_per_key(1);
    let seated = calls(&group, "key", 2);
    settle().await;
    let refused = group.try_work("key", || async { unreachable!("it is not run") as Result<u64, Infallible> }).await;
    assert!(matches!(refused, Err(Error::Refused(Alone::Overloaded))), "{refused:?}");
    assert_eq!(sources(seated).await, [Source::Led, Source::JoinedHere]);
}

/// Fails if a caller that is dropped goes on counting.
#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_dropped_mid_wait_leave_zero() {
    let group = group(&Memory::new());
    let seated = calls(&group, "key", 10_001);
    settle().await;
    assert_eq!(waiting(&group), 10_000);
    seated.iter().for_each(Call::abort);
    settle().await;
    assert_eq!(waiting(&group), 0);
}

/// Fails if a caller that is told of a timeout, a failure or a panic goes on counting.
#[tokio::test(start_paused = true)]
async fn those_who_give_up_or_fail_or_panic_leave_zero() {
    let patient = group(&Memory::new());
    let impatient = patient.clone().wait_timeout(50 * MS);
    let mut seated = JoinSet::new();
    for caller in 0..30 {
        let group = [&patient, &impatient][caller % 2].clone();
        seated.spawn(async move {
            let work = move || async move {
                sleep(100 * MS).await;
                assert_ne!(caller % 3, 1, "one that panics");
                if caller % 3 == 0 { Err("no") } else { Ok(7) }
            };
            group.work("key", work).await
        });
    }
    settle().await;
    assert_eq!(waiting(&patient), 29);
    let mut panics = 0;
    while let Some(ended) = seated.join_next().await {
        panics += usize::from(ended.is_err());
    }
    assert!(panics > 0);
    assert_eq!(waiting(&patient), 0);
}

/// Fails if callers whose driver is gone go on counting.
#[tokio::test(start_paused = true)]
async fn those_whose_flight_breaks_leave_zero() {
    let breaks = hook(|| async {
        sleep(10 * MS).await;
        panic!("a backend's panic")
    });
    let group: Group<u64> = Group::new(Hooked { begin: breaks, ..Hooked::new(Memory::new()) }, "test");
    let seated = calls(&group, "key", 10);
    sleep(5 * MS).await;
    assert_eq!(waiting(&group), 9);
    let sources = sources(seated).await;
    assert!(sources.iter().all(|source| *source == Source::Alone(Alone::Unavailable)), "{sources:?}");
    assert_eq!(waiting(&group), 0);
}

/// Leaves this many keys of a group in the air with nobody waiting.
async fn left_behind(group: &Group<u64>, prefix: &str, keys: usize) {
    for key in 0..keys {
        let mut call = Box::pin(group.fly(format!("{prefix}{key}"), pending::<Result<u64, Infallible>>));
        start(&mut call).await;
        settle().await;
    }
    settle().await;
}

/// Fails if the limit is off by one, if it is not the caller's own, or if those of other groups are not counted.
#[tokio::test(start_paused = true)]
async fn as_many_go_on_for_nobody_as_may() {
    let wide = group(&Memory::new());
    let narrow = wide.clone().max_detached(3);
    let in_the_air = || wide.engine.table.len();
    left_behind(&narrow, "a", 5).await;
    assert_eq!(in_the_air(), 3);
    left_behind(&wide, "b", 2).await;
    assert_eq!(in_the_air(), 5);
    left_behind(&narrow, "c", 1).await;
    assert_eq!(in_the_air(), 5);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((in_the_air(), wide.engine.table.detached.used()), (0, 0));
    left_behind(&wide.clone().max_detached(0), "d", 1).await;
    assert_eq!(in_the_air(), 0);
}

#[test]
#[should_panic = "`max_waiters_per_key`"]
fn somebody_waits_for_each_key() {
    let _ = group(&Memory::new()).max_waiters_per_key(0);
}

#[test]
#[should_panic = "`max_waiters`"]
fn somebody_waits() {
    let _ = group(&Memory::new()).max_waiters(0);
}
