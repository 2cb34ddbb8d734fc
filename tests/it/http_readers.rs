//! Clients that read, do not, come back at once, or find that too many wait.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::sleep;
use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};

use crate::http_support::{Calls, Then, app, get, get_with, outcome, quarter, secs, send, slow, spawn, text};

const URI: &str = "http://a.test/report";

/// Fails if a recording that is known to be broken is given to anybody.
#[tokio::test(start_paused = true)]
async fn who_asks_again_after_a_body_broke_off_gets_another_one() {
    for then in [Then::BreaksOff, Then::Hangs] {
        let calls = Calls::default();
        let layer = SingleflightLayer::new(Memory::new()).stream_followers(true).body_idle_timeout(secs(2));
        let app = app(&layer, &calls, move |_, call| {
            let then = if call == 1 { then } else { Then::Ends };
            slow(&["a", "b"], then)
        });
        let leader = spawn(&app, get(URI));
        sleep(quarter()).await;
        let client = app.clone();
        let follower = tokio::spawn(async move {
            let first = send(&client, get(URI)).await;
            assert_eq!(outcome(&first), Outcome::Joined { elsewhere: false });
            first.into_body().collect().await.unwrap_err();
            let again = send(&client, get(URI)).await;
            again.into_body().collect().await.map(http_body_util::Collected::to_bytes)
        });
        let again = follower.await.unwrap();
        drop(leader);
        assert_eq!(again.map_err(|error| error.to_string()), Ok("ab".into()), "hangs: {}", then == Then::Hangs);
    }
}

/// Fails if what is stored needs room among those who wait.
#[tokio::test(start_paused = true)]
async fn what_is_stored_is_served_while_too_many_wait() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(1)).warmup_window(secs(60)).max_waiters(1);
    let app = app(&layer, &calls, |_, _| "b");
    send(&app, get("http://a.test/b")).await;
    sleep(secs(2)).await;
    let _waiting = [(); 2].map(|()| spawn(&app, get("http://a.test/a")));
    sleep(quarter()).await;
    for _ in 0..2 {
        let response = send(&app, get("http://a.test/b")).await;
        assert!(matches!(outcome(&response), Outcome::Stale { .. }), "{}", outcome(&response));
    }
}

/// Fails if a follower's condition is left unanswered, or ends the recording.
#[tokio::test(start_paused = true)]
async fn who_follows_may_be_confirmed() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(60)).stream_followers(true);
    let app = app(&layer, &calls, |_, _| ([("etag", "\"1\"")], slow(&["a", "b"], Then::Ends)));
    let leader = spawn(&app, get(URI));
    let follower = spawn(&app, get_with(URI, "if-none-match", "\"1\""));
    let follower = follower.await.unwrap();
    assert_eq!(follower.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(text(follower).await, "");
    assert_eq!(text(leader.await.unwrap()).await, "ab");
    assert_eq!(calls.count(), 1);
}

/// Fails if the readers of a stream whose runtime goes away wait for ever.
#[test]
fn readers_hear_of_a_runtime_that_goes_away() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (gone, stays) = (runtime(), runtime());
    let calls = Calls::default();
    // Its lease ends with nobody to give it back.
    let layer = SingleflightLayer::new(Memory::new()).stream_followers(true).lock_ttl(Duration::from_millis(100));
    let app = app(&layer, &calls, |_, _| slow(&["a"], Then::Hangs));
    let leader = gone.block_on({
        let app = app.clone();
        async move { send(&app, get(URI)).await }
    });
    let follower = stays.block_on(async { send(&app, get(URI)).await });
    assert_eq!(outcome(&follower), Outcome::Joined { elsewhere: false });
    let reads = stays.spawn(async move { follower.into_body().collect().await.is_err() });
    std::thread::spawn(move || gone.shutdown_background()).join().unwrap();
    let ended = stays.block_on(async { tokio::time::timeout(secs(60), reads).await });
    assert!(ended.expect("it hears of it").unwrap());
    drop(leader);
    assert!(
        stays.block_on(async { tokio::time::timeout(secs(60), send(&app, get(URI))).await }).is_ok(),
        "and it can be asked again"
    );
}

/// Fails if what is kept for clients that do not read counts no longer once the recording has ended.
#[tokio::test(start_paused = true)]
async fn what_is_kept_for_who_does_not_read_is_bounded() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::body::Body;
    use bytes::Bytes;

    struct Piece(Arc<AtomicUsize>, [u8; 600]);
    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
    impl Drop for Piece {
        fn drop(&mut self) {
            self.0.fetch_sub(600, Ordering::Relaxed);
        }
    }

    let (calls, alive) = (Calls::default(), Arc::new(AtomicUsize::new(0)));
    let layer = SingleflightLayer::new(Memory::new()).max_body(1000).max_recorded(10_000);
    let app = app(&layer, &calls, {
        let alive = alive.clone();
        move |_, _| {
            let (mut sender, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
            let alive = alive.clone();
            tokio::spawn(async move {
                loop {
                    alive.fetch_add(600, Ordering::Relaxed);
                    let piece = Bytes::from_owner(Piece(alive.clone(), [7; 600]));
                    if sender.send_data(piece).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            });
            Body::new(body)
        }
    });
    let mut unread = Vec::new();
    for client in 0..100 {
        unread.push(send(&app, get(&format!("http://a.test/{client}"))).await);
        sleep(secs(1)).await;
    }
    let alive = alive.load(Ordering::Relaxed);
    // Of each, its origin holds two pieces that it cannot send.
    let kept = alive - 100 * 1200;
    assert!(kept <= 10_000, "{kept} bytes are kept for clients that do not read");
}
