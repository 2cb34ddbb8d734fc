//! What is read of a body, and what comes out of it again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http_body_util::BodyExt;

use super::*;

/// Frames that are ready at once, then how it ends; it counts how often it is asked.
struct Script {
    frames: VecDeque<Bytes>,
    then: Last,
    polls: Arc<AtomicUsize>,
}

enum Last {
    /// It says so with its last frame, as HTTP/2 does, and is not to be asked any more.
    Known,
    Asked,
    Trailers,
    Error,
}

impl Script {
    fn of(frames: impl IntoIterator<Item = &'static str>, then: Last) -> Self {
        Self { frames: frames.into_iter().map(Bytes::from).collect(), then, polls: Arc::default() }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        if let Some(piece) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(match std::mem::replace(&mut self.then, Last::Asked) {
            Last::Known => panic!("asked behind its end"),
            Last::Asked => None,
            Last::Trailers => Some(Ok(Frame::trailers(HeaderMap::new()))),
            Last::Error => Some(Err("gone")),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.then, Last::Known) && self.frames.is_empty()
    }
}

/// Read up to so many bytes, and one frame more.
async fn read(body: Script, most: u64) -> Read<Script> {
    Read::of(body, |seen| (seen.length() <= most).then_some(Duration::from_secs(5))).await
}

/// What comes out: the content in so many frames, and how it ends.
async fn out(mut body: RequestBody<Script>) -> (String, usize, &'static str) {
    let (mut content, mut frames) = (String::new(), 0);
    while !body.is_end_stream() {
        match body.frame().await {
            None => return (content, frames, "asked"),
            Some(Err(_)) => return (content, frames, "error"),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => content += std::str::from_utf8(&piece).unwrap(),
                Err(_) => return (content, frames, "trailers"),
            },
        }
        frames += 1;
    }
    (content, frames, "known")
}

/// Fails if an end, trailers or an error get lost, or if a body is asked for more that has said that it is over.
#[tokio::test(start_paused = true)]
async fn what_was_read_comes_out_with_the_rest() {
    for most in [0, 1, 2, 3, 4, 9] {
        for (then, ends) in
            [(Last::Known, "known"), (Last::Asked, "asked"), (Last::Trailers, "trailers"), (Last::Error, "error")]
        {
            let body = read(Script::of(["ab", "cd"], then), most).await;
            let (content, _, end) = out(body.into()).await;
            // An end that was seen while reading is known.
            let ends = if ends == "asked" && most >= 4 { "known" } else { ends };
            assert_eq!((content.as_str(), end), ("abcd", ends), "up to {most}");
        }
    }
}

/// Fails if a length is announced where trailers or an error follow, which nobody would hear of, or none where all is there.
#[tokio::test(start_paused = true)]
async fn lengths_are_exact_where_nothing_follows() {
    for (then, exact) in [(Last::Known, Some(4)), (Last::Asked, Some(4)), (Last::Trailers, None), (Last::Error, None)] {
        let body = RequestBody::from(read(Script::of(["ab", "cd"], then), 9).await);
        assert_eq!((body.size_hint().exact(), body.size_hint().lower()), (exact, 4));
        assert!(!body.is_end_stream());
    }
    // With the rest on its way.
    let body = RequestBody::from(read(Script::of(["ab", "cd"], Last::Asked), 1).await);
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (2, None));
}

/// Fails if no content is a frame without data.
#[tokio::test(start_paused = true)]
async fn no_content_is_no_frame() {
    for (frames, then) in [(&[][..], Last::Known), (&[], Last::Asked), (&["", ""], Last::Asked)] {
        let mut body = read(Script::of(frames.iter().copied(), then), 9).await;
        assert_eq!(body.whole().map(Bytes::len), Some(0));
        let mut body = RequestBody::from(body);
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}

/// Fails if content that did not end, or with more than that, passes for the whole.
#[tokio::test(start_paused = true)]
async fn the_whole_is_all_that_was_said() {
    for (then, most, whole) in [
        (Last::Known, 4, true),
        (Last::Asked, 4, true),
        (Last::Known, 2, true),
        (Last::Asked, 1, false),
        (Last::Asked, 3, false),
        (Last::Trailers, 9, false),
        (Last::Error, 9, false),
    ] {
        let mut body = read(Script::of(["ab", "cd"], then), most).await;
        assert_eq!(body.whole().map(|whole| &whole[..]), whole.then_some(&b"abcd"[..]), "up to {most}");
    }
}

/// Fails if each piece costs more than one look, or keeps a place of its own: a client may send them one byte long.
#[tokio::test(start_paused = true)]
async fn crumbs_are_asked_for_once_and_put_together() {
    const CRUMBS: usize = 64 << 10;
    let body = Script::of(std::iter::repeat_n("x", CRUMBS), Last::Asked);
    let polls = Arc::clone(&body.polls);
    let mut body = read(body, CRUMBS as u64).await;
    assert_eq!(polls.load(Ordering::Relaxed), CRUMBS + 1);
    assert_eq!(body.pieces.len(), 1);
    assert_eq!(body.whole().map(Bytes::len), Some(CRUMBS));

    // Longer ones are not copied.
    let long = "y".repeat(CRUMB).leak();
    let mut body = read(Script::of(["x", "x", &*long, "x", &*long, &*long, "x"], Last::Asked), 1 << 20).await;
    assert_eq!(body.pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [2, CRUMB, 1, CRUMB, CRUMB, 1]);
    assert_eq!(body.pieces[1].as_ptr(), long.as_ptr());
    assert_eq!(body.whole().map(Bytes::len), Some(3 * CRUMB + 4));
}
