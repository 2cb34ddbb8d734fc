//! Guards that are dropped: wherever that happens, it does not block, and the lock is released.

use std::thread;

use tokio::{runtime, time::timeout};
use tower_singleflight::LockError;

use super::*;
use crate::support::{Proxy, calls::PATIENCE};

/// Redis answers nothing while the guard is dropped, on a thread that is no runtime's. Fails if dropping waits for it, or
/// takes the runtime of its thread for the mutex' own.
#[tokio::test]
async fn on_a_thread_of_no_runtime() {
    let servers = servers::<1>();
    let mutex = process(&servers).await;
    for renew in [false, true] {
        let guard = mutex.clone().auto_renew(renew).lock().await.unwrap();
        servers[0].pause();
        let dropping = tokio::task::spawn_blocking(|| thread::spawn(|| drop(guard)).join());
        timeout(PATIENCE, dropping).await.expect("it does not wait for redis").unwrap().expect("it does not panic");
        servers[0].resume();
        gone(&servers, NAME).await;
    }
}

/// Where the runtime is the thread that drops: nothing can happen before it returns.
#[test]
fn on_the_only_thread_of_a_runtime() {
    let servers = servers::<1>();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mutex = runtime.block_on(process(&servers));
    let within = runtime.block_on(async {
        let guard = mutex.lock().await.unwrap();
        servers[0].pause();
        drop(guard);
        servers[0].resume();
        gone(&servers, NAME).await;
        mutex.lock().await.unwrap()
    });
    servers[0].pause();
    drop(within);
    servers[0].resume();
    runtime.block_on(gone(&servers, NAME));
}

/// In the drop of something else, while a panic unwinds.
#[tokio::test]
async fn in_a_panic() {
    let servers = servers::<1>();
    let mutex = process(&servers).await;
    let task = tokio::spawn({
        let mutex = mutex.clone();
        async move {
            let _guard = mutex.lock().await.unwrap();
            panic!("on purpose");
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    gone(&servers, NAME).await;
    mutex.try_lock().await.unwrap().unlock().await.unwrap();
}

/// A guard whose runtime has ended: the lock can only expire, and nobody panics or hangs.
#[test]
fn after_the_end_of_its_runtime() {
    let servers = servers::<1>();
    let runtime = || runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ends, lives) = (runtime(), runtime());
    let guard = ends.block_on(async { process(&servers).await.auto_renew(true).lock().await.unwrap() });
    let token = Some(guard.token().to_string());
    ends.shutdown_background();
    lives.block_on(async {
        drop(guard);
        assert_eq!(holder(&servers[0], NAME).await, token);
    });
}

/// A guard whose runtime has ended while that of its connections goes on. Fails if what is dropped there needs a timer.
#[test]
fn after_the_end_of_its_runtime_where_redis_still_answers() {
    let servers = servers::<1>();
    let runtime = || runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ends, lives) = (runtime(), runtime());
    let mutex = lives.block_on(process(&servers));
    let guard = ends.block_on(mutex.lock()).unwrap();
    drop(ends);
    drop(guard);
    assert!(lives.block_on(mutex.is_locked()).unwrap(), "nobody is left to release it");
}

/// Redis is away when the guard is dropped, or released, and is back before the lease is over: then it is released.
///
/// Fails if a release that failed is not sent again.
#[tokio::test]
async fn while_redis_is_away() {
    let server = Server::start();
    let proxy = Proxy::start(server.port()).await;
    let mutex = mutex(&[Redis::connect(&proxy.url(), APP).await.unwrap()], NAME);
    for unlock in [false, true] {
        let guard = mutex.lock().await.unwrap();
        let token = Some(guard.token().to_string());
        proxy.refuse(true);
        proxy.cut();
        if unlock {
            let failed = guard.unlock().await;
            assert!(matches!(failed, Err(LockError::Quorum(_))), "{failed:?}");
        } else {
            drop(guard);
        }
        assert_eq!(holder(&server, NAME).await, token, "redis does not know yet");
        proxy.refuse(false);
        gone(std::slice::from_ref(&server), NAME).await;
        // Its handle may be left alone for a moment.
        until(true, async || mutex.try_lock().await.is_ok()).await;
        gone(std::slice::from_ref(&server), NAME).await;
    }
}
