//! A refresh that ends while others come.

use std::{
    sync::Mutex,
    task::{Context, Waker},
};

use tokio::sync::oneshot;

use super::{
    hooked::{Hooked, hook},
    *,
};

type Call = Pin<Box<dyn Future<Output = Result<Flown<u64>, Infallible>> + Send>>;

/// Fails if what is served stale is dropped before everybody has it who is to have it.
///
/// Another thread joins a refresh after the driver has looked at the flight, and before it sees that the work has ended.
/// The renewal in the air stands for that thread: it is polled exactly there.
#[tokio::test(start_paused = true)]
async fn who_joins_a_refresh_as_it_ends_gets_a_value() {
    let (waits, joined) = (Arc::new(Mutex::new(None::<Call>)), Arc::new(Mutex::new(None::<Call>)));
    let renew = hook({
        let (waits, joined) = (Arc::clone(&waits), Arc::clone(&joined));
        move || {
            let (waits, joined) = (Arc::clone(&waits), Arc::clone(&joined));
            poll_fn(move |_| {
                if let Some(mut call) = waits.lock().unwrap().take() {
                    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                    *joined.lock().unwrap() = Some(call);
                }
                Poll::Pending
            })
        }
    });
    let backend = Hooked { renew, ..Hooked::new(Memory::new()) };
    let group: Group<u64> = Group::new(backend, "test").result_ttl(10 * MS).warmup_window(Duration::from_secs(60));
    assert_eq!(group.work("key", || seven(MS)).await, Ok(7));
    sleep(20 * MS).await;
    let (open, gate) = oneshot::channel::<()>();
    let refresh = move || async move {
        let _ = gate.await;
        Ok::<_, Infallible>(8)
    };
    assert!(matches!(group.fly("key", refresh).await.unwrap().source, Source::Stale { .. }));
    // The renewal is in the air.
    sleep(Duration::from_secs(2)).await;
    let late = group.clone();
    *waits.lock().unwrap() = Some(Box::pin(async move { late.fly("key", || seven(MS)).await }));
    open.send(()).unwrap();
    settle().await;
    let call = joined.lock().unwrap().take().expect("it has joined");
    let value = call.await.unwrap().value;
    assert!([7, 8].contains(&value), "{value}");
}
