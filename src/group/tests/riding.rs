//! A flight that only reads rides on its caller, and never holds up another one.

use std::{
    sync::Mutex,
    task::{Context, Waker},
};

use tokio::{
    runtime::{Builder, Handle, Id, Runtime},
    time::timeout,
};

use super::{
    hooked::{Hooked, hook, takes},
    *,
};
use crate::codec::{Codec, CodecError};

/// `Memory`, with every record known to be fresh and read in 10 ms.
fn backend() -> Hooked {
    Hooked { recall: Some(takes(10 * MS)), ..Hooked::new(Memory::new()) }
}

async fn knowing() -> Group<u64> {
    let group = Group::new(backend(), "test").result_ttl(Duration::from_secs(60));
    group.put("key", &1).await.expect("`Memory` takes every value");
    group
}

/// Whoever comes now is served although nobody polls the host; then so is the host.
async fn both_are_served(
    group: &Group<u64>,
    key: &str,
    host: impl Future<Output = Result<Flown<u64>, Infallible>>,
) -> Flown<u64> {
    let other = timeout(Duration::from_secs(1), group.fly(key, || seven(MS))).await;
    let host = host.await.unwrap();
    assert_eq!(other.expect("it does not wait for the first caller to be polled").unwrap().value, host.value);
    host
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_not_polled_holds_up_nobody() {
    let group = knowing().await;
    let mut host = Box::pin(group.fly("key", || seven(MS)));
    start(&mut host).await;
    assert_eq!(both_are_served(&group, "key", host).await.value, 1);
    settle().await;
    assert_eq!(group.engine.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_nothing_along() {
    let group = knowing().await;
    let mut host = Box::pin(group.fly("key", || seven(MS)));
    start(&mut host).await;
    drop(host);
    sleep(20 * MS).await;
    assert_eq!(group.engine.table.len(), 0, "the flight ends by itself");

    let mut host = Box::pin(group.fly("key", || seven(MS)));
    start(&mut host).await;
    drop(host);
    assert_eq!(timeout(Duration::from_secs(1), group.work("key", || seven(MS))).await.unwrap(), Ok(1));
    settle().await;
    assert_eq!(group.engine.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_must_ask_after_all_gets_a_task() {
    let group = knowing().await;
    let mut host = Box::pin(group.fly("another", || seven(MS)));
    start(&mut host).await;
    sleep(10 * MS).await;
    // Once more, so that it learns that nothing is there; from here on nobody polls it.
    start(&mut host).await;
    assert_eq!(both_are_served(&group, "another", host).await, Flown { value: 7, source: Source::Led });
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_rides_has_its_limit() {
    let backend = Hooked { recall: Some(hook(pending)), ..Hooked::new(Memory::new()) };
    let group: Group<u64> = Group::new(backend, "test").wait_timeout(50 * MS);
    let before = tokio::time::Instant::now();
    let flown = group.fly("key", || seven(MS)).await.unwrap();
    assert_eq!(flown, Flown { value: 7, source: Source::Alone(Alone::WaitTimeout) });
    assert_eq!(before.elapsed(), 51 * MS, "its limit, then its work");
}

#[tokio::test(start_paused = true)]
async fn a_flight_whose_read_takes_too_long_gets_a_task() {
    let backend = Hooked { recall: Some(hook(pending)), ..Hooked::new(Memory::new()) };
    let group: Group<u64> = Group::new(backend, "test");
    let mut host = Box::pin(group.fly("key", || seven(MS)));
    start(&mut host).await;
    sleep(250 * MS).await;
    // Once more, so that the budget is seen to be spent; from here on nobody polls it.
    start(&mut host).await;
    assert_eq!(both_are_served(&group, "key", host).await.value, 7);
}

struct Bomb;

impl Codec<u64> for Bomb {
    fn encode(&self, _: &u64) -> Result<bytes::Bytes, CodecError> {
        Ok(bytes::Bytes::new())
    }

    fn decode(&self, _: bytes::Bytes) -> Result<u64, CodecError> {
        panic!("a codec's panic")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_codec_is_not_the_callers() {
    for backend in [backend(), Hooked::new(Memory::new())] {
        let group: Group<u64> = Group::with_codec(backend, "test", Bomb).result_ttl(Duration::from_secs(60));
        group.put("key", &1).await.unwrap();
        let flown = group.fly("key", || seven(MS)).await.unwrap();
        assert_eq!(flown, Flown { value: 7, source: Source::Alone(Alone::Unavailable) });
        assert_eq!(group.engine.table.len(), 0);
    }
}

/// A caller that is polled once, on `runtime`, with a flight riding on it.
fn host(runtime: &Runtime, group: &Group<u64>) -> impl Future + Unpin + use<> {
    let group = group.clone();
    let mut host = Box::pin(async move { group.fly("key", || seven(MS)).await });
    let _inside = runtime.enter();
    assert!(host.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    host
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("threads can be started")
}

#[test]
fn a_flight_whose_runtime_is_gone_lets_its_callers_go() {
    let (gone, here) = (runtime(), runtime());
    let group = Group::new(backend(), "test");
    let host = host(&gone, &group);
    drop(gone);
    let flown = here.block_on(group.fly("key", || seven(MS))).unwrap();
    assert_eq!(flown, Flown { value: 7, source: Source::Alone(Alone::Unavailable) });
    drop(host);
    assert_eq!(group.engine.table.len(), 0);
}

/// The runtimes on which a record is read.
fn reading_on(places: &Arc<Mutex<Vec<Id>>>) -> Hooked {
    let places = Arc::clone(places);
    let note = hook(move || {
        let places = Arc::clone(&places);
        // Noted by every poll: the last one is that of the task.
        let mut timer = Box::pin(sleep(10 * MS));
        poll_fn(move |cx| {
            places.lock().expect("nobody panics with it").push(Handle::current().id());
            timer.as_mut().poll(cx).map(Ok)
        })
    });
    Hooked { recall: Some(note), ..Hooked::new(Memory::new()) }
}

#[test]
fn a_flight_stays_on_the_runtime_of_its_timers() {
    let (there, here) = (runtime(), runtime());
    let places = Arc::default();
    let group = Group::new(reading_on(&places), "test");
    let host = host(&there, &group);
    // Whoever drops it does so elsewhere; another caller waits meanwhile.
    here.block_on(async { drop(host) });
    assert_eq!(there.block_on(group.fly("key", || seven(MS))).unwrap().value, 7);
    let places = places.lock().unwrap();
    assert!(places.len() > 1 && places.iter().all(|place| *place == there.handle().id()), "{places:?}");
}

#[derive(PartialEq, Debug)]
struct Unclonable;

impl Clone for Unclonable {
    fn clone(&self) -> Self {
        panic!("a clone's panic")
    }
}

struct OfNothing;

impl Codec<Unclonable> for OfNothing {
    fn encode(&self, _: &Unclonable) -> Result<bytes::Bytes, CodecError> {
        Ok(bytes::Bytes::new())
    }

    fn decode(&self, _: bytes::Bytes) -> Result<Unclonable, CodecError> {
        Ok(Unclonable)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_clone_is_told_as_what_it_is() {
    for backend in [backend(), Hooked::new(Memory::new())] {
        let group = Group::with_codec(backend, "test", OfNothing).result_ttl(Duration::from_secs(60));
        group.put("key", &Unclonable).await.unwrap();
        let call = tokio::spawn(async move { group.fly("key", || async { Ok::<_, Infallible>(Unclonable) }).await });
        let panic = call.await.unwrap_err().into_panic();
        let text = panic.downcast_ref::<&str>().expect("a panic with a text");
        assert!(text.contains("a `Clone` panicked"), "{text}");
    }
}
