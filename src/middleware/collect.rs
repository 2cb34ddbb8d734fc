//! Reading a body up to a limit, so that nothing of it is lost whatever happens.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{
    sync::oneshot,
    task::{coop::consume_budget, yield_now},
    time::timeout,
};
use tower::BoxError;

use super::{
    body::{ResponseBody, Rest, Whose},
    grpc::frame::Prefix,
    tape::{Reader, Tape, Whole},
};
use crate::group::Held;

/// A body and what was read of it so far.
///
/// One that is dropped before the body ended leaves the rest to the caller whose response it is, whatever the reason: the
/// body is too long, or too slow, or the work was stopped.
pub(super) struct Collector<B: Body> {
    /// `None` once it is over.
    body: Option<Pin<Box<B>>>,
    tape: Arc<Tape>,
    length: u64,
    prefix: Prefix,
    /// To the caller whose response it is, once he reads along.
    rest: Option<oneshot::Sender<Rest<B>>>,
}

/// The trailers of a call come along with its message, unless another message follows: those who wait for the one shall not
/// wait for the other.
const TRAILERS: Duration = Duration::from_millis(250);

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    /// So many bytes at most.
    Bytes(u64),
    /// One message of gRPC, of so many bytes at most. The next one is none of what is recorded, however soon it comes.
    Message(u64),
}

impl Extent {
    /// How many bytes there may be, as far as is known by now.
    fn most(self, prefix: &Prefix) -> u64 {
        match self {
            Self::Bytes(most) => most,
            Self::Message(most) => prefix.length().map_or(most, |length| if length <= most { length } else { 0 }),
        }
    }

    /// How long the next piece may take.
    fn patience(self, prefix: &Prefix, length: u64, idle: Duration) -> Duration {
        match self {
            Self::Message(_) if prefix.length() == Some(length) => idle.min(TRAILERS),
            _ => idle,
        }
    }
}

/// How reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End<E> {
    /// With the end of the body.
    Complete,
    /// At the limit, or because nothing came.
    Over,
    /// Where there was no room for more of it.
    NoRoom,
    /// With an error of the body.
    Broken(E),
}

impl<B: Body<Data = Bytes>> Collector<B> {
    /// What it records counts as `room` until nobody can read it any more.
    pub(super) fn new(body: B, room: Held) -> Self {
        let tape = Arc::new(Tape::new(body.size_hint(), room));
        Self { body: Some(Box::pin(body)), tape, length: 0, prefix: Prefix::default(), rest: None }
    }

    /// Reads until the body ends, is longer than `extent`, nothing comes of it for as long as `idle`, or more is recorded in
    /// this process than `most`. Cancel safe: what was read stays here.
    pub(super) async fn read(&mut self, extent: Extent, idle: Duration, most: usize) -> End<B::Error> {
        let Some(body) = &mut self.body else { return End::Complete };
        while self.length <= extent.most(&self.prefix) {
            let frame = match within(extent.patience(&self.prefix, self.length, idle), body).await {
                None => return End::Over,
                Some(None) => return End::Complete,
                Some(Some(Err(error))) => return End::Broken(error),
                Some(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(chunk) => {
                    self.length += chunk.len() as u64;
                    self.prefix.see(&chunk);
                    if !self.tape.push(chunk, body.size_hint(), most) {
                        return End::NoRoom;
                    }
                    // Whoever reads along may take the last byte for the end, and go.
                    if self.length <= extent.most(&self.prefix) && body.is_end_stream() {
                        return End::Complete;
                    }
                }
                Err(frame) => frame.into_trailers().into_iter().for_each(|trailers| self.tape.push_trailers(trailers)),
            }
        }
        End::Over
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn tape(&self) -> &Arc<Tape> {
        &self.tape
    }

    /// The body of the caller whose response it is: what is recorded, as it comes, and then the rest.
    pub(super) fn stream(&mut self) -> ResponseBody<B> {
        let (rest, own) = oneshot::channel();
        self.rest = Some(rest);
        ResponseBody::recorded(Reader::new(&self.tape), Whose::Own(own))
    }

    /// The whole body, once it has ended.
    pub(super) fn whole(mut self) -> Whole {
        self.body = None;
        self.tape.complete()
    }

    /// The body ended with an error, or at another length than was declared. Either way the length is left open: a server
    /// believes a length that it is told here more than the one in the head.
    pub(super) fn break_off(mut self, error: Option<BoxError>) {
        self.body = None;
        self.cut(error.map(Err), SizeHint::new());
    }
}

impl<B: Body> Collector<B> {
    fn cut(&mut self, rest: Option<Rest<B>>, hint: SizeHint) {
        // Before the readers hear of it. A caller that has left lets go of the rest.
        if let (Some(own), Some(rest)) = (self.rest.take(), rest) {
            let _ = own.send(rest);
        }
        self.tape.cut(hint);
    }
}

impl<B: Body> Drop for Collector<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // A body that panicked is not to be asked again.
        let (rest, hint) = if thread::panicking() {
            (Err("the body of the response panicked".into()), SizeHint::new())
        } else {
            let hint = body.size_hint();
            (Ok(body), hint)
        };
        self.cut(Some(rest), hint);
    }
}

/// The next frame, or the end, unless that takes longer than `time`. On a busy runtime both may have come by the time
/// that anybody looks: then the clock does not win.
pub(super) async fn within<B: Body<Data = Bytes>>(
    time: Duration,
    body: &mut Pin<Box<B>>,
) -> Option<Option<Result<Frame<Bytes>, B::Error>>> {
    if let Ok(frame) = timeout(time, content(body)).await {
        return Some(frame);
    }
    // Whoever feeds the body is as ready to run as this is.
    yield_now().await;
    let mut late = pin!(content(body));
    match poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx))).await {
        Poll::Ready(frame) => Some(frame),
        Poll::Pending => None,
    }
}

/// The next frame that says something: those without data do not, and without end they would fill the memory.
async fn content<B: Body<Data = Bytes>>(body: &mut Pin<Box<B>>) -> Option<Result<Frame<Bytes>, B::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => consume_budget().await,
            frame => return Some(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll},
    };

    use http::HeaderMap;

    use super::*;
    use crate::{
        group::Tally,
        middleware::{record::Stored, rules::freshness::Plan},
    };

    /// Yields these frames, in the last place perhaps an error.
    #[derive(Clone)]
    struct Script(VecDeque<Result<Step, &'static str>>);

    #[derive(Clone)]
    enum Step {
        Data(&'static str),
        Trailers,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front().map(|step| {
                step.map(|step| match step {
                    Step::Data(data) => Frame::data(Bytes::from_static(data.as_bytes())),
                    Step::Trailers => Frame::trailers(trailers()),
                })
            }))
        }

        fn size_hint(&self) -> SizeHint {
            let length = |step: &_| if let Ok(Step::Data(data)) = step { str::len(data) } else { 0 };
            SizeHint::with_exact(self.0.iter().map(length).sum::<usize>() as u64)
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
    }

    fn script(data: &[&'static str]) -> Script {
        Script(data.iter().map(|data| Ok(Step::Data(data))).chain([Ok(Step::Trailers)]).collect())
    }

    const IDLE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_whole_body_is_one_piece_with_its_trailers() {
        let mut collector = Collector::new(script(&["ab", "", "c"]), Arc::new(Tally::default()).hold());
        assert_eq!(collector.read(Extent::Bytes(3), IDLE, usize::MAX).await, End::Complete);
        assert_eq!(collector.length(), 3);
        assert_eq!(collector.whole(), (Bytes::from_static(b"abc"), Some(trailers())));
    }

    /// A body that is over with its only piece, and never says so when asked for more.
    struct Over(Option<Bytes>);

    impl Body for Over {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_none()
        }
    }

    /// Fails if the recording waits for more where nothing follows: its client may be gone by then.
    #[tokio::test(start_paused = true)]
    async fn the_last_piece_is_the_end() {
        let mut collector = Collector::new(Over(Some(Bytes::from_static(b"abc"))), Arc::new(Tally::default()).hold());
        assert_eq!(collector.read(Extent::Bytes(3), IDLE, usize::MAX).await, End::Complete);
    }

    #[tokio::test]
    async fn frames_without_data_are_not_kept() {
        let mut collector = Collector::new(script(&[""; 1000]), Arc::new(Tally::default()).hold());
        let mut body = collector.stream();
        assert_eq!(collector.read(Extent::Bytes(3), IDLE, usize::MAX).await, End::Complete);
        collector.whole();
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers());
    }

    /// Fails if anything is lost between what is recorded and the rest, or if the one announces another length than both.
    #[tokio::test]
    async fn a_body_over_the_limit_comes_back_whole() {
        for limit in 0..6 {
            let mut collector = Collector::new(script(&["ab", "c", "def"]), Arc::new(Tally::default()).hold());
            assert_eq!(collector.read(Extent::Bytes(limit), IDLE, usize::MAX).await, End::Over);
            let body = collector.stream();
            drop(collector);
            assert_eq!(body.size_hint().exact(), Some(6), "{limit}");
            assert!(!body.is_end_stream() && !body.is_shared());
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers()), "{limit}");
            assert_eq!(collected.to_bytes(), "abcdef", "{limit}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_past_the_limit() {
        let mut collector = Collector::new(script(&["ab", "c", "def"]), Arc::new(Tally::default()).hold());
        assert_eq!(collector.read(Extent::Bytes(2), IDLE, usize::MAX).await, End::Over);
        assert_eq!(collector.length(), 3);
    }

    /// Fails if the chunk for which there was no room is lost, or more is read than that.
    #[tokio::test]
    async fn a_body_without_room_comes_back_whole() {
        let tally = Arc::new(Tally::default());
        let mut collector = Collector::new(script(&["ab", "c", "def"]), tally.hold());
        assert_eq!(collector.read(Extent::Bytes(9), IDLE, 2).await, End::NoRoom);
        assert_eq!((collector.length(), tally.used()), (3, 2));
        let body = collector.stream();
        drop(collector);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        assert_eq!(tally.used(), 0, "nobody can read it any more");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_breaks_off_at_the_same_place() {
        let broken = Script([Ok(Step::Data("ab")), Err("gone")].into());
        let mut collector = Collector::new(broken, Arc::new(Tally::default()).hold());
        let (head, ()) = http::Response::new(()).into_parts();
        let head = Stored::new(&head, Plan::default(), &[], None, Bytes::new(), None);
        let mut follows = ResponseBody::<Script>::recorded(Reader::new(collector.tape()), Whose::Everybodys(head));
        let End::Broken(error) = collector.read(Extent::Bytes(9), IDLE, usize::MAX).await else {
            panic!("it broke off")
        };
        let mut body = collector.stream();
        collector.break_off(Some(error.into()));
        for (body, expected) in [(&mut body, "gone"), (&mut follows, "the response that this one follows broke off")] {
            assert_eq!(body.size_hint().exact(), None);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
            assert_eq!(body.size_hint().exact(), None);
            assert!(!body.is_end_stream());
            assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), expected);
            assert!(body.frame().await.is_none());
            assert!(!body.is_end_stream());
        }
    }

    /// Fails if a body that panicked is handed on, and polled once more.
    #[tokio::test]
    async fn a_body_that_panics_ends_in_an_error() {
        let mut collector = Collector::new(script(&["ab"]), Arc::new(Tally::default()).hold());
        let mut body = collector.stream();
        let panicking = thread::spawn(move || {
            let _collector = collector;
            panic!("on purpose");
        });
        assert!(panicking.join().is_err());
        assert!(body.frame().await.unwrap().unwrap_err().to_string().contains("panicked"));
    }
}
