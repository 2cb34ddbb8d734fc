//! A flight that only reads rides on its caller, and never holds up another one.

use std::task::Poll;

use tokio::time::timeout;

use super::*;
use crate::backend::{
    Backend, BackendError, Begin, Begun, Completed, Fence, Found, Locals, Owner, Reason, Record, Renewed,
};

/// `Memory`, with every record known to be fresh and read in 10 ms.
#[derive(Clone)]
struct Knowing(Memory);

impl Backend for Knowing {
    fn locals(&self) -> &Locals {
        self.0.locals()
    }

    fn recall(&self, key: &Key) -> Option<impl Future<Output = Result<Option<Found>, BackendError>> + Send> {
        Some(async {
            sleep(10 * MS).await;
            self.0.get(key).await
        })
    }

    async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, BackendError> {
        self.0.begin(key, begin).await
    }

    async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, BackendError> {
        self.0.renew(key, owner, lease).await
    }

    async fn complete(&self, key: &Key, owner: Owner, fence: Fence, record: Record) -> Result<Completed, BackendError> {
        self.0.complete(key, owner, fence, record).await
    }

    async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), BackendError> {
        self.0.abort(key, owner, reason).await
    }

    async fn invalidate(&self, key: &Key) -> Result<(), BackendError> {
        self.0.invalidate(key).await
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), BackendError> {
        self.0.put(key, record).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Found>, BackendError> {
        self.0.get(key).await
    }
}

async fn knowing() -> Group<u64> {
    let group = Group::new(Knowing(Memory::new()), "test").result_ttl(Duration::from_secs(60));
    group.put("key", &1).await.expect("`Memory` takes every value");
    group
}

/// Polls a future once.
async fn start<F: Future + Unpin>(future: &mut F) {
    let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await;
    assert!(pending, "it has something to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_not_polled_holds_up_nobody() {
    let group = knowing().await;
    let mut host = Box::pin(group.fly("key", || seven(MS)));
    start(&mut host).await;
    let other = timeout(Duration::from_secs(1), group.fly("key", || seven(MS))).await;
    assert_eq!(other.expect("it does not wait for the first caller to be polled").unwrap().value, 1);
    assert_eq!(host.await.unwrap().value, 1);
    settle().await;
    assert_eq!(group.engine.table.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_nothing_along() {
    let group = knowing().await;
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
    let other = timeout(Duration::from_secs(1), group.fly("another", || seven(MS))).await;
    assert_eq!(other.expect("the flight goes on by itself").unwrap().value, 7);
    assert_eq!(host.await.unwrap(), Flown { value: 7, source: Source::Led });
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_rode_still_has_its_limit() {
    let group = knowing().await.wait_timeout(100 * MS);
    let mut leader = Box::pin(group.fly("slow", || seven(Duration::from_secs(9))));
    start(&mut leader).await;
    sleep(10 * MS).await;
    let follower = tokio::spawn({
        let group = group.clone();
        async move { group.fly("slow", || seven(MS)).await.unwrap() }
    });
    let limited = Source::Alone(Alone::WaitTimeout);
    assert_eq!(follower.await.unwrap(), Flown { value: 7, source: limited });
}
