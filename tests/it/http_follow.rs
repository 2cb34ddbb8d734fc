//! Callers of one replica that read a response along while its body still comes.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};

use crate::http_support::{
    Calls, Then, app, error, get, get_with, outcome, piece, quarter, secs, send, slow, spawn, text, together,
};

const URI: &str = "http://a.test/report";

fn following(memory: &Memory) -> SingleflightLayer {
    SingleflightLayer::new(memory.clone()).result_ttl(secs(60)).stream_followers(true)
}

/// Fails if those who wait are not told at the head, if those who come later get less than everything, or if fields or
/// trailers of the one exchange reach them.
#[tokio::test(start_paused = true)]
async fn who_follows_reads_along_from_the_beginning_whenever_he_comes() {
    let (calls, memory) = (Calls::default(), Memory::new());
    let fleet = [memory.replica(), memory].map(|memory| {
        app(&following(&memory), &calls, |_, _| {
            let trailers = [("x-sum", "7"), ("x-request-id", "7")];
            let trailers = trailers.map(|(name, line)| (name.parse().unwrap(), line.parse().unwrap()));
            let body = slow(&["a", "b", "c"], Then::Ends);
            let body = body.with_trailers(async { Some(Ok(HeaderMap::from_iter(trailers))) });
            ([("x-request-id", "7"), ("etag", "\"1\"")], Body::new(body))
        })
    });
    let start = Instant::now();
    let leader = spawn(&fleet[0], get(URI));
    sleep(quarter()).await;
    let [early, late] = [0, 2].map(|seconds| {
        let app = fleet[0].clone();
        tokio::spawn(async move {
            sleep(secs(seconds)).await;
            send(&app, get(URI)).await
        })
    });
    let elsewhere = spawn(&fleet[1], get(URI));
    let mut leader = leader.await.unwrap();
    assert_eq!(leader.headers()["x-request-id"], "7");
    let reads = |follower: JoinHandle<Response>, at: Duration, first: &'static str| async move {
        let mut follower = follower.await.unwrap();
        assert_eq!((outcome(&follower), start.elapsed()), (Outcome::Joined { elsewhere: false }, at));
        assert_eq!(follower.headers()["etag"], "\"1\"");
        assert!(!follower.headers().contains_key("x-request-id"));
        assert_eq!(piece(&mut follower).await, first);
        let rest = follower.into_body().collect().await.unwrap();
        assert_eq!(rest.trailers().unwrap().len(), 1);
        (start.elapsed(), rest.to_bytes())
    };
    let (early, late) = tokio::join!(reads(early, secs(1), "a"), reads(late, secs(2) + quarter(), "a"));
    assert_eq!((early, late), ((secs(4), "bc".into()), (secs(4), "bc".into())));
    let elsewhere = elsewhere.await.unwrap();
    assert_eq!(outcome(&elsewhere), Outcome::Joined { elsewhere: true });
    assert_eq!(text(elsewhere).await, "abc");
    assert_eq!(piece(&mut leader).await, "abc", "what was recorded meanwhile, in one piece");
    assert_eq!(leader.into_body().collect().await.unwrap().trailers().unwrap().len(), 2);
    assert_eq!(calls.count(), 1);
}

/// Fails if who follows waits for ever, gets a body that looks complete, or is asked to run his own request for nobody.
#[tokio::test(start_paused = true)]
async fn who_follows_shares_the_fate_of_the_body() {
    type Case = (&'static [&'static str], Then, &'static str);
    let cases: [Case; 3] = [
        (&["a", "b"], Then::BreaksOff, "gone"),
        (&["a", "b"], Then::Hangs, "ab"),
        (&["a", "too long"], Then::Ends, "atoo long"),
    ];
    for (pieces, then, own) in cases {
        let calls = Calls::default();
        let layer = following(&Memory::new()).max_body(4).body_idle_timeout(secs(2));
        let app = app(&layer, &calls, move |_, _| slow(pieces, then));
        let responses = together([(); 3].map(|()| (app.clone(), get(URI)))).await;
        let mut followers = 0;
        for mut response in responses {
            if outcome(&response) == Outcome::Led {
                let read = async {
                    match then {
                        Then::BreaksOff => error(response).await,
                        _ => piece(&mut response).await + &piece(&mut response).await,
                    }
                };
                assert_eq!(read.await, own);
            } else {
                assert_eq!(outcome(&response), Outcome::Joined { elsewhere: false });
                assert_eq!(error(response).await, "the response that this one follows broke off");
                followers += 1;
            }
        }
        assert_eq!((followers, calls.count()), (2, 1), "{own}");
    }
}

/// Fails if a response is followed that is selected for another request.
#[tokio::test(start_paused = true)]
async fn nobody_follows_another_variant() {
    let calls = Calls::default();
    let app = app(&following(&Memory::new()), &calls, |request, _| {
        let pieces = if request.headers()["accept-language"] == "de" { ["d", "e"] } else { ["d", "a"] };
        ([("vary", "accept-language")], slow(&pieces, Then::Ends))
    });
    let start = Instant::now();
    let languages = ["de", "da", "de", "da"];
    for (response, language) in together(languages.map(|said| (app.clone(), get_with(URI, "accept-language", said))))
        .await
        .into_iter()
        .zip(languages)
    {
        assert_eq!(text(response).await, language);
    }
    assert_eq!((calls.count(), start.elapsed()), (2, secs(4)), "the second variant begins at the head of the first");
}

/// Fails if a recording is followed by those who come after an invalidation, here or on another replica.
#[tokio::test(start_paused = true)]
async fn nobody_follows_what_was_invalidated() {
    for (by, before_head) in [(0, false), (1, false), (0, true), (1, true)] {
        let (calls, memory) = (Calls::default(), Memory::new());
        let layers = [memory.replica(), memory].map(|memory| following(&memory));
        let app =
            app(&layers[0], &calls, |_, call| slow(if call == 1 { &["o", "ld"] } else { &["n", "ew"] }, Then::Ends));
        let leader = spawn(&app, get(URI));
        let follower = spawn(&app, get(URI));
        sleep(if before_head { secs(1) / 2 } else { secs(3) / 2 }).await;
        layers[by].handle().invalidate_uri(&URI.parse().unwrap()).await.unwrap();
        // For the message to come.
        sleep(Duration::from_millis(1)).await;
        let after = spawn(&app, get(URI));
        sleep(secs(1)).await;
        // The old one streams by now in any case, and the new one leads.
        let later = spawn(&app, get(URI));
        for (response, expected) in [(leader, "old"), (follower, "old"), (after, "new"), (later, "new")] {
            assert_eq!(text(response.await.unwrap()).await, expected, "by {by}, before the head: {before_head}");
        }
        assert_eq!(calls.count(), 2);
    }
}

/// Fails if the stream ends with the client that led it.
#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_takes_no_stream_along() {
    let calls = Calls::default();
    let app = app(&following(&Memory::new()), &calls, |_, _| slow(&["a", "b", "c"], Then::Ends));
    let leader = spawn(&app, get(URI));
    sleep(quarter()).await;
    let follower = spawn(&app, get(URI));
    drop(leader.await.unwrap());
    sleep(secs(1)).await;
    // Nobody but the one who follows is left, and then this one.
    let late = spawn(&app, get(URI));
    sleep(quarter()).await;
    drop(follower.await.unwrap());
    let late = late.await.unwrap();
    assert_eq!(outcome(&late), Outcome::Joined { elsewhere: false });
    assert_eq!(text(late).await, "abc");
    sleep(quarter()).await;
    assert!(matches!(outcome(&send(&app, get(URI)).await), Outcome::Hit { .. }));
    assert_eq!(calls.count(), 1);
}

/// Fails if the first failure is followed, which one of those who wait is to try again.
#[tokio::test(start_paused = true)]
async fn nobody_follows_a_failure() {
    let calls = Calls::default();
    let app = app(&following(&Memory::new()), &calls, |_, call| {
        let status = if call == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        (status, slow(&["a", "b"], Then::Ends))
    });
    let responses = together([(); 4].map(|()| (app.clone(), get(URI)))).await;
    assert_eq!(responses.iter().filter(|response| response.status() == StatusCode::OK).count(), 3);
    for response in responses {
        assert_eq!(text(response).await, "ab");
    }
    assert_eq!(calls.count(), 2);
}
