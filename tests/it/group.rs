//! `Group` on one replica and on several that share one `Memory`.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use tower_singleflight::{
    Group,
    backend::Memory,
    group::{Alone, Error, Flown, Keep, Source},
};

const MS: Duration = Duration::from_millis(1);

/// Work that takes `time` and returns how often it has run.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Counter {
    fn work(&self, time: Duration) -> impl FnOnce() -> Work + Send + 'static {
        let runs = Arc::clone(&self.0);
        move || {
            Box::pin(async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(time).await;
                Ok(run)
            })
        }
    }

    fn failing(&self, time: Duration) -> impl FnOnce() -> FailingWork + Send + 'static {
        let runs = Arc::clone(&self.0);
        move || {
            Box::pin(async move {
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(time).await;
                Err(run)
            })
        }
    }

    fn runs(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<usize, Infallible>> + Send>>;
type FailingWork = std::pin::Pin<Box<dyn Future<Output = Result<usize, usize>> + Send>>;

fn replicas(n: usize) -> Vec<Group<usize>> {
    let memory = Memory::new();
    (0..n).map(|_| Group::new(memory.replica(), "test")).collect()
}

/// `callers` calls on each group at once, in order.
async fn storm(groups: &[Group<usize>], callers: usize, counter: &Counter, time: Duration) -> Vec<Flown<usize>> {
    let mut calls = Vec::new();
    for group in groups {
        for _ in 0..callers {
            let (group, work) = (group.clone(), counter.work(time));
            calls.push(tokio::spawn(async move { group.fly("key", work).await.unwrap() }));
        }
    }
    let mut flown = Vec::new();
    for call in calls {
        flown.push(call.await.unwrap());
    }
    flown
}

fn count(flown: &[Flown<usize>], source: Source) -> usize {
    flown.iter().filter(|flown| flown.source == source).count()
}

#[tokio::test(start_paused = true)]
async fn many_callers_on_many_replicas_run_the_work_once() {
    let (groups, counter) = (replicas(8), Counter::default());
    let flown = storm(&groups, 100, &counter, 100 * MS).await;
    assert_eq!(counter.runs(), 1);
    assert!(flown.iter().all(|flown| flown.value == 1));
    assert_eq!(count(&flown, Source::Led), 1);
    assert_eq!(count(&flown, Source::JoinedHere), 99);
    assert_eq!(count(&flown, Source::JoinedElsewhere), 700);
}

#[tokio::test(start_paused = true)]
async fn without_a_ttl_a_later_caller_runs_the_work_again() {
    let (groups, counter) = (replicas(2), Counter::default());
    for round in 1..=3 {
        let flown = storm(&groups, 10, &counter, 10 * MS).await;
        assert!(flown.iter().all(|flown| flown.value == round), "{flown:?}");
    }
    assert_eq!(counter.runs(), 3);
}

#[tokio::test(start_paused = true)]
async fn with_a_ttl_later_callers_get_a_hit_until_it_ends() {
    let memory = Memory::new();
    let groups: Vec<_> =
        [memory.clone(), memory.replica()].map(|memory| Group::new(memory, "test").result_ttl(1000 * MS)).into();
    let counter = Counter::default();
    storm(&groups, 5, &counter, 10 * MS).await;
    sleep(500 * MS).await;
    let flown = storm(&groups, 5, &counter, 10 * MS).await;
    assert_eq!(count(&flown, Source::Hit { age: 500 * MS }), 10, "{flown:?}");
    sleep(500 * MS).await;
    storm(&groups, 5, &counter, 10 * MS).await;
    assert_eq!(counter.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn in_the_warmup_window_everybody_is_served_and_one_refreshes() {
    let memory = Memory::new();
    let groups: Vec<Group<usize>> = [memory.clone(), memory.replica()]
        .map(|memory| Group::new(memory, "test").result_ttl(100 * MS).warmup_window(1000 * MS))
        .into();
    let counter = Counter::default();
    storm(&groups, 5, &counter, 10 * MS).await;
    sleep(200 * MS).await;
    let before = tokio::time::Instant::now();
    let flown = storm(&groups, 5, &counter, 10 * MS).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits for the refresh");
    assert!(flown.iter().all(|flown| matches!(flown.source, Source::Stale { .. }) && flown.value == 1), "{flown:?}");
    sleep(20 * MS).await;
    let flown = storm(&groups, 5, &counter, 10 * MS).await;
    assert!(flown.iter().all(|flown| matches!(flown.source, Source::Hit { .. }) && flown.value == 2), "{flown:?}");
    assert_eq!(counter.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_refresh_keeps_the_good_value() {
    let group: Group<usize> = Group::new(Memory::new(), "test").result_ttl(100 * MS).warmup_window(1000 * MS);
    let counter = Counter::default();
    group.work("key", counter.work(MS)).await.unwrap();
    sleep(200 * MS).await;
    for _ in 0..3 {
        let flown = group.fly("key", counter.failing(MS)).await.unwrap();
        assert!(matches!(flown.source, Source::Stale { .. }));
        sleep(10 * MS).await;
    }
    assert_eq!(counter.runs(), 4, "each caller after a failed refresh tries again, one at a time");
}

#[tokio::test(start_paused = true)]
async fn work_longer_than_the_lease_runs_once() {
    let memory = Memory::new();
    let groups: Vec<_> =
        [memory.clone(), memory.replica()].map(|memory| Group::new(memory, "test").lock_ttl(50 * MS)).into();
    let counter = Counter::default();
    storm(&groups, 5, &counter, 1000 * MS).await;
    assert_eq!(counter.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_leaders_caller_may_leave() {
    let (groups, counter) = (replicas(2), Counter::default());
    let leader = tokio::spawn({
        let (group, work) = (groups[0].clone(), counter.work(100 * MS));
        async move { group.work("key", work).await }
    });
    sleep(10 * MS).await;
    let follower = tokio::spawn({
        let (group, work) = (groups[1].clone(), counter.work(100 * MS));
        async move { group.fly("key", work).await.unwrap() }
    });
    sleep(15 * MS).await;
    leader.abort();
    let flown = follower.await.unwrap();
    assert_eq!((flown.value, flown.source, counter.runs()), (1, Source::JoinedElsewhere, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_its_callers_own_and_another_one_takes_over() {
    let (groups, counter) = (replicas(2), Counter::default());
    let failing = tokio::spawn({
        let (group, work) = (groups[0].clone(), counter.failing(100 * MS));
        async move { group.work("key", work).await }
    });
    sleep(10 * MS).await;
    let flown = storm(&groups, 10, &counter, 100 * MS).await;
    assert_eq!(failing.await.unwrap(), Err(1));
    assert!(flown.iter().all(|flown| flown.value == 2));
    assert_eq!(counter.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_resumes_in_its_own_caller_and_another_one_takes_over() {
    let (groups, counter) = (replicas(2), Counter::default());
    let group = groups[0].clone();
    let panicking = tokio::spawn(async move {
        let work = || async {
            sleep(100 * MS).await;
            panic!("on purpose")
        };
        group.work::<_, _, Infallible>("key", work).await
    });
    sleep(10 * MS).await;
    let flown = storm(&groups, 10, &counter, 100 * MS).await;
    let panic = panicking.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!((flown.len(), counter.runs()), (20, 1));
}

#[tokio::test(start_paused = true)]
async fn failing_callers_of_one_replica_run_one_at_a_time() {
    let (groups, counter) = (replicas(1), Counter::default());
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let (group, work) = (groups[0].clone(), counter.failing(100 * MS));
        calls.spawn(async move { group.work("key", work).await });
    }
    let started = tokio::time::Instant::now();
    let errors = calls.join_all().await;
    assert_eq!(errors.len(), 5);
    assert_eq!((counter.runs(), started.elapsed()), (5, 500 * MS));
}

#[tokio::test(start_paused = true)]
async fn after_the_wait_timeout_a_caller_runs_its_own_work() {
    let memory = Memory::new();
    let group: Group<usize> = Group::new(memory, "test").wait_timeout(50 * MS);
    let counter = Counter::default();
    let flown = storm(&[group], 3, &counter, 200 * MS).await;
    assert_eq!(counter.runs(), 3);
    assert_eq!(count(&flown, Source::Led), 1);
    assert_eq!(count(&flown, Source::Alone(Alone::WaitTimeout)), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unshareable_value_scatters_the_key() {
    let memory = Memory::new();
    let groups: Vec<Group<usize>> =
        [memory.clone(), memory.replica()].map(|m| Group::new(m, "test").keep(|_| Keep::No(1000 * MS))).into();
    let counter = Counter::default();
    let started = tokio::time::Instant::now();
    let flown = storm(&groups, 10, &counter, 100 * MS).await;
    assert_eq!((counter.runs(), started.elapsed()), (20, 200 * MS), "one round alone, then all the others at once");
    assert_eq!(count(&flown, Source::Alone(Alone::Unshareable)), 20);
    let started = tokio::time::Instant::now();
    storm(&groups, 10, &counter, 100 * MS).await;
    assert_eq!((counter.runs(), started.elapsed()), (40, 100 * MS), "while it scatters, nobody waits");
}

#[tokio::test(start_paused = true)]
async fn keep_gives_negative_results_another_ttl() {
    let group: Group<Result<usize, String>> =
        Group::new(Memory::new(), "test").result_ttl(10_000 * MS).keep(|value| match value {
            Ok(_) => Keep::Default,
            Err(_) => Keep::For(100 * MS),
        });
    let none = || async { Ok::<_, Infallible>(Err("none".to_owned())) };
    let some = || async { Ok::<_, Infallible>(Ok(7)) };
    assert_eq!(group.work("key", none).await.unwrap(), Err("none".to_owned()));
    assert_eq!(group.work("key", some).await.unwrap(), Err("none".to_owned()));
    sleep(100 * MS).await;
    assert_eq!(group.work("key", some).await.unwrap(), Ok(7));
    sleep(5000 * MS).await;
    assert_eq!(group.work("key", none).await.unwrap(), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn put_peek_and_forget() {
    let memory = Memory::new();
    let here: Group<usize> = Group::new(memory.clone(), "test").result_ttl(1000 * MS);
    let there: Group<usize> = Group::new(memory.replica(), "test").result_ttl(1000 * MS);
    assert_eq!(here.peek("key").await.unwrap(), None);
    here.put("key", &7).await.unwrap();
    assert_eq!(there.peek("key").await.unwrap().map(|flown| flown.value), Some(7));
    there.forget("key").await.unwrap();
    assert_eq!(here.peek("key").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_was_in_the_air_at_a_put_neither_stores_nor_serves_later_callers() {
    let memory = Memory::new();
    let groups: Vec<Group<usize>> =
        [memory.clone(), memory.replica()].map(|m| Group::new(m, "test").result_ttl(10_000 * MS)).into();
    let counter = Counter::default();
    let old = tokio::spawn({
        let groups = groups.clone();
        let counter = counter.clone();
        async move { storm(&groups, 2, &counter, 100 * MS).await }
    });
    sleep(50 * MS).await;
    groups[1].put("key", &70).await.unwrap();
    sleep(MS).await;
    let flown = storm(&groups, 3, &counter, 100 * MS).await;
    assert!(flown.iter().all(|flown| flown.value == 70), "{flown:?}");
    old.await.unwrap();
    let flown = storm(&groups, 3, &counter, 100 * MS).await;
    assert!(flown.iter().all(|flown| flown.value == 70), "{flown:?}");
    assert_eq!(counter.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn try_work_returns_once_the_result_has_landed() {
    let groups: Vec<_> = replicas(2).into_iter().map(|group| group.result_ttl(1000 * MS)).collect();
    let counter = Counter::default();
    assert_eq!(groups[0].try_work("key", counter.work(MS)).await.unwrap(), 1);
    // In the same instant, hence before anything that was still on its way.
    assert_eq!(groups[1].peek("key").await.unwrap().map(|flown| flown.value), Some(1));
    groups[1].forget("key").await.unwrap();
    assert!(matches!(groups[0].try_work("key", counter.failing(MS)).await, Err(Error::Work(2))));
}

#[tokio::test(start_paused = true)]
async fn try_work_is_refused_when_its_lease_is_lost() {
    let (groups, counter) = (replicas(2), Counter::default());
    let strict = tokio::spawn({
        let (group, work) = (groups[0].clone(), counter.work(100 * MS));
        async move { group.try_work("key", work).await }
    });
    sleep(10 * MS).await;
    groups[1].forget("key").await.unwrap();
    assert!(matches!(strict.await.unwrap(), Err(Error::Refused(Alone::Superseded))));
}

#[tokio::test(start_paused = true)]
async fn groups_differ_by_name_prefix_and_schema() {
    let memory = Memory::new();
    let one: Group<usize> = Group::new(memory.clone(), "one").result_ttl(1000 * MS);
    one.put("key", &1).await.unwrap();
    let others =
        [Group::new(memory.clone(), "two").result_ttl(1000 * MS), one.clone().prefix("tenant"), one.clone().schema(2)];
    for other in others {
        assert_eq!(other.peek("key").await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_value_is_a_miss() {
    let memory = Memory::new();
    let text: Group<String> = Group::new(memory.clone(), "test").result_ttl(1000 * MS);
    let number: Group<usize> = Group::new(memory.replica(), "test").result_ttl(1000 * MS);
    text.put("key", &"seven".to_owned()).await.unwrap();
    let counter = Counter::default();
    let flown = number.fly("key", counter.work(MS)).await.unwrap();
    assert_eq!((flown.value, flown.source), (1, Source::Led));
    assert_eq!(number.peek("key").await.unwrap().unwrap().value, 1);
}

#[tokio::test(start_paused = true)]
async fn any_bytes_are_a_key() {
    let group: Group<usize> = Group::new(Memory::new(), "test").result_ttl(1000 * MS);
    let long = vec![b'x'; 10_240];
    let keys: [&[u8]; 7] = [b"", b"{a}", b"a b", b"a\nb", b"\xff\xfe", b"ab", &long];
    for (value, key) in keys.iter().enumerate() {
        group.put(key, &value).await.unwrap();
    }
    for (value, key) in keys.iter().enumerate() {
        assert_eq!(group.peek(key).await.unwrap().unwrap().value, value);
    }
}

#[test]
fn wrong_settings_are_refused_when_they_are_set() {
    let group = || Group::<usize>::new(Memory::new(), "test");
    for (set, setter) in [
        (Box::new(|| group().lock_ttl(Duration::ZERO)) as Box<dyn Fn() -> Group<usize>>, "`lock_ttl`"),
        (Box::new(|| group().wait_timeout(Duration::ZERO)), "`wait_timeout`"),
    ] {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(set)).unwrap_err();
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap();
        assert!(message.contains(setter), "{message}");
    }
}
