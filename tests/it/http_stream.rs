//! Bodies that take their time: who gets them when, and what becomes of them.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{
    Calls, Then, app, error, get, get_with, outcome, piece, quarter, secs, send, slow, spawn, text, together,
};

const URI: &str = "http://a.test/report";

fn layer(memory: &Memory) -> SingleflightLayer {
    SingleflightLayer::new(memory.clone()).result_ttl(secs(60)).cache_status("shop")
}

/// Fails if the caller is told only when the recording has ended.
#[tokio::test(start_paused = true)]
async fn the_client_that_led_gets_the_first_byte_before_the_last_is_there() {
    let app = app(&layer(&Memory::new()), &Calls::default(), |_, _| slow(&["a", "b", "c"], Then::Ends));
    let start = Instant::now();
    let mut response = send(&app, get(URI)).await;
    assert_eq!(outcome(&response), Outcome::Led);
    // Nobody knows yet whether it will be stored: it may turn out to be too long.
    assert_eq!(response.headers()["cache-status"], "shop; fwd=uri-miss");
    for (second, expected) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(piece(&mut response).await, expected);
        assert_eq!(start.elapsed(), secs(second));
    }
    assert!(response.into_body().frame().await.is_none());
    // Whoever asks in the instant in which the body ends joins the flight.
    sleep(quarter()).await;
    let hit = send(&app, get(URI)).await;
    assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    assert_eq!(text(hit).await, "abc");
}

/// Fails if the recorder waits for a reader, or stops when there is none.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_or_not_at_all_holds_nobody_up() {
    for absent in [true, false] {
        let (calls, memory) = (Calls::default(), Memory::new());
        let fleet = [memory.replica(), memory];
        let fleet = fleet.map(|memory| app(&layer(&memory), &calls, |_, _| slow(&["a", "b", "c"], Then::Ends)));
        let start = Instant::now();
        let leader = spawn(&fleet[0], get(URI));
        sleep(quarter()).await;
        let followers = [&fleet[0], &fleet[1]].map(|app| spawn(app, get(URI)));
        let leader = (!absent).then_some(leader.await.unwrap());
        for follower in followers {
            let follower = follower.await.unwrap();
            assert!(matches!(outcome(&follower), Outcome::Joined { .. }));
            assert_eq!(text(follower).await, "abc");
            assert_eq!(start.elapsed(), secs(4), "absent: {absent}");
        }
        for app in &fleet {
            assert!(matches!(outcome(&send(app, get(URI)).await), Outcome::Hit { .. }));
        }
        sleep(secs(600)).await;
        if let Some(leader) = leader {
            assert_eq!(text(leader).await, "abc");
        }
        assert_eq!(calls.count(), 1);
    }
}

/// Fails if a body whose pieces keep coming is recorded without end, or if its client loses one when that is given up.
#[tokio::test(start_paused = true)]
async fn a_byte_a_second_reaches_its_client_at_that_pace() {
    let calls = Calls::default();
    let app = app(
        &layer(&Memory::new()),
        &calls,
        |_, call| if call == 1 { slow(&["x"; 30], Then::Ends) } else { "fast".into() },
    );
    let start = Instant::now();
    let mut leader = send(&app, get(URI)).await;
    sleep(secs(4)).await;
    let follower = spawn(&app, get(URI));
    for second in 5..31 {
        let behind = if second == 5 { 5 } else { 1 };
        for _ in 0..behind {
            assert_eq!(piece(&mut leader).await, "x");
        }
        assert_eq!(start.elapsed(), secs(second));
    }
    let follower = follower.await.unwrap();
    assert_eq!(outcome(&follower), Outcome::Bypassed(Why::Unshareable), "ten seconds after the head");
    assert_eq!(text(follower).await, "fast");
    assert!(leader.into_body().frame().await.is_none());
}

/// An endless body, and how many pieces of it were taken.
struct Endless {
    taken: Arc<AtomicUsize>,
    /// Whether each piece has to be waited for.
    pausing: bool,
    paused: bool,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.paused = self.pausing && !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(format!("{number:04}").into()))))
    }
}

/// Fails if a body is read further than the limit before its client asks for it, or if a byte of it is lost or doubled.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_of_an_endless_body_past_the_limit_but_what_its_client_reads() {
    for pausing in [false, true] {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let calls = Calls::default();
        let app = app(&layer(&Memory::new()).max_body(40), &calls, move |_, call| match call {
            1 => Body::new(Endless { taken: Arc::clone(&counted), pausing, paused: false }),
            _ => "short".into(),
        });
        let leader = spawn(&app, get(URI));
        sleep(quarter()).await;
        let follower = send(&app, get(URI)).await;
        assert_eq!(outcome(&follower), Outcome::Bypassed(Why::Unshareable));
        sleep(secs(600)).await;
        assert_eq!(taken.load(Ordering::Relaxed), 11, "the first one over the limit tells");
        let mut leader = leader.await.unwrap();
        for number in 0..100 {
            assert_eq!(piece(&mut leader).await, format!("{number:04}"));
            assert_eq!(taken.load(Ordering::Relaxed), 11.max(number + 1));
        }
        drop(leader);
        sleep(secs(600)).await;
        assert_eq!(taken.load(Ordering::Relaxed), 100);
    }
}

/// Fails if the error does not reach the client that led, or anything of the body anybody else.
#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_breaks_off_for_its_own_client() {
    for absent in [false, true] {
        let calls = Calls::default();
        let app = app(&layer(&Memory::new()), &calls, |_, call| {
            let then = if call == 1 { Then::BreaksOff } else { Then::Ends };
            slow(&["a", "b"], then)
        });
        let leader = spawn(&app, get(URI));
        sleep(quarter()).await;
        let follower = spawn(&app, get(URI));
        let mut leader = leader.await.unwrap();
        if absent {
            drop(leader);
        } else {
            assert_eq!((&*piece(&mut leader).await, &*piece(&mut leader).await), ("a", "b"));
            assert_eq!(error(leader).await, "gone");
        }
        let follower = follower.await.unwrap();
        assert_eq!((outcome(&follower), &*text(follower).await), (Outcome::Led, "ab"));
        assert_eq!(calls.count(), 2);
    }
}

/// Fails if those who wait are held up by a body that pauses, or if its own client loses what comes after the pause.
#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_releases_those_who_wait() {
    let calls = Calls::default();
    let layer = layer(&Memory::new()).body_idle_timeout(secs(1) / 2);
    let app = app(&layer, &calls, |_, call| if call == 1 { slow(&["a", "b"], Then::Hangs) } else { "whole".into() });
    let start = Instant::now();
    let leader = spawn(&app, get(URI));
    sleep(quarter()).await;
    let follower = send(&app, get(URI)).await;
    assert_eq!(outcome(&follower), Outcome::Bypassed(Why::Unshareable));
    assert_eq!(start.elapsed(), secs(5) / 2, "a second for each call, and half of one for the pause");
    let mut leader = leader.await.unwrap();
    assert_eq!((&*piece(&mut leader).await, &*piece(&mut leader).await), ("a", "b"));
}

/// Fails if the client that led has to wait for the body although it has what it asks for, or if that ends the recording.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_it_already_is_told_so_at_the_head() {
    let calls = Calls::default();
    let app = app(&layer(&Memory::new()), &calls, |_, _| ([("etag", "\"1\"")], slow(&["a", "b"], Then::Ends)));
    let start = Instant::now();
    let follower = spawn(&app, get(URI));
    let [one, other] = [(); 2].map(|()| spawn(&app, get_with(URI, "if-none-match", "\"1\"")));
    for (client, seconds) in [(one, 3), (other, 3)] {
        let client = client.await.unwrap();
        assert_eq!((client.status(), start.elapsed()), (StatusCode::NOT_MODIFIED, secs(seconds)));
    }
    assert_eq!(text(follower.await.unwrap()).await, "ab");

    let start = Instant::now();
    let other = "http://a.test/other";
    let leader = send(&app, get_with(other, "if-none-match", "\"1\"")).await;
    assert_eq!((leader.status(), start.elapsed()), (StatusCode::NOT_MODIFIED, secs(1)));
    assert_eq!(text(send(&app, get(other)).await).await, "ab");
    assert_eq!(calls.count(), 2);
}

/// Fails if the flight of a client that still reads is taken for one that nobody waits for: of those there are 256.
#[tokio::test(start_paused = true)]
async fn flights_whose_clients_read_are_not_given_up() {
    for follows in [false, true] {
        let (calls, memory) = (Calls::default(), Memory::new());
        let app = app(&layer(&memory).stream_followers(follows), &calls, |_, _| slow(&["a", "b"], Then::Ends));
        let uris: Vec<_> = (0..300).map(|number| format!("http://a.test/{number}")).collect();
        let each = if follows { 2 } else { 1 };
        let requests = uris.iter().flat_map(|uri| (0..each).map(|_| (app.clone(), get(uri))));
        let mut readers = together(requests).await;
        // Of two, the one that led leaves.
        readers.retain(|reader| !follows || outcome(reader) != Outcome::Led);
        assert_eq!(readers.len(), 300);
        for reader in readers {
            assert_eq!(text(reader).await, "ab");
        }
        sleep(quarter()).await;
        for uri in &uris {
            let outcome = outcome(&send(&app, get(uri)).await);
            assert!(matches!(outcome, Outcome::Hit { .. }), "{uri}: {outcome}, follows: {follows}");
        }
        assert_eq!(calls.count(), 300);
    }
}

/// Fails if a client that has left its body still counts as one that reads it: nobody could give such a flight up.
#[tokio::test(start_paused = true)]
async fn flights_whose_clients_have_left_make_room() {
    let calls = Calls::default();
    let app = app(&layer(&Memory::new()), &calls, |_, _| slow(&["a", "b"], Then::Ends));
    let uris: Vec<_> = (0..300).map(|number| format!("http://a.test/{number}")).collect();
    drop(together(uris.iter().map(|uri| (app.clone(), get(uri)))).await);
    sleep(secs(5)).await;
    let mut hits = 0;
    for uri in &uris {
        hits += usize::from(matches!(outcome(&send(&app, get(uri)).await), Outcome::Hit { .. }));
    }
    assert_eq!((hits, calls.count()), (256, 344));
}
