//! Reading a body up to a limit, so that nothing of it is lost whatever happens.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::task::coop::consume_budget;

use super::body::{Read, ResponseBody};

/// A body and what was read of it so far.
pub(super) struct Collector<B: Body> {
    body: Pin<Box<B>>,
    chunks: Vec<Bytes>,
    length: u64,
    trailers: Option<HeaderMap>,
}

/// How reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End<E> {
    /// With the end of the body.
    Complete,
    /// At the limit.
    Over,
    /// Where there was no room for more of it.
    NoRoom,
    /// With an error of the body.
    Broken(E),
}

impl<B: Body<Data = Bytes>> Collector<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body: Box::pin(body), chunks: Vec::new(), length: 0, trailers: None }
    }

    /// Reads until the body ends, is longer than `limit`, or `room` says that there is none for so many bytes more. Cancel
    /// safe: what was read stays here.
    pub(super) async fn read(&mut self, limit: u64, mut room: impl FnMut(usize) -> bool) -> End<B::Error> {
        while self.length <= limit {
            let frame = match self.body.frame().await {
                None => return End::Complete,
                Some(Err(error)) => return End::Broken(error),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                // Frames without data say nothing, and without end they would fill the memory.
                Ok(chunk) if chunk.is_empty() => consume_budget().await,
                Ok(chunk) => {
                    let fits = room(chunk.len());
                    self.length += chunk.len() as u64;
                    self.chunks.push(chunk);
                    if !fits {
                        return End::NoRoom;
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        End::Over
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The whole body, in one piece: a body that came in one is not copied.
    pub(super) fn whole(mut self) -> (Bytes, Option<HeaderMap>) {
        let data = if self.chunks.len() <= 1 {
            self.chunks.pop().unwrap_or_default()
        } else {
            let mut whole = BytesMut::with_capacity(self.length as usize);
            self.chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
            whole.freeze()
        };
        (data, self.trailers)
    }

    /// The body as if it had never been read.
    pub(super) fn replay(self) -> ResponseBody<B> {
        let (read, body) = self.frames();
        ResponseBody::replayed(read, Some(body))
    }

    /// The body up to where it ended, with an error or at another length than was declared. Either way the length is left
    /// open: a server believes a length that it is told here more than the one in the head.
    pub(super) fn replay_broken(self, error: Option<B::Error>) -> ResponseBody<B> {
        let (mut read, _) = self.frames();
        read.extend(error.map(Err));
        ResponseBody::replayed(read, None)
    }

    fn frames(self) -> (Read<B>, Pin<Box<B>>) {
        let data = self.chunks.into_iter().map(Frame::data);
        (data.chain(self.trailers.map(Frame::trailers)).map(Ok).collect(), self.body)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll},
    };

    use super::*;

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

        fn size_hint(&self) -> http_body::SizeHint {
            let length = |step: &_| if let Ok(Step::Data(data)) = step { str::len(data) } else { 0 };
            http_body::SizeHint::with_exact(self.0.iter().map(length).sum::<usize>() as u64)
        }
    }

    fn trailers() -> HeaderMap {
        HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
    }

    fn script(data: &[&'static str]) -> Script {
        Script(data.iter().map(|data| Ok(Step::Data(data))).chain([Ok(Step::Trailers)]).collect())
    }

    #[tokio::test]
    async fn a_whole_body_is_one_piece_with_its_trailers() {
        let mut collector = Collector::new(script(&["ab", "", "c"]));
        assert_eq!(collector.read(3, |_| true).await, End::Complete);
        assert_eq!(collector.length(), 3);
        assert_eq!(collector.whole(), (Bytes::from_static(b"abc"), Some(trailers())));
    }

    #[tokio::test]
    async fn frames_without_data_are_not_kept() {
        let mut collector = Collector::new(script(&[""; 1000]));
        assert_eq!(collector.read(3, |_| true).await, End::Complete);
        assert!(collector.chunks.is_empty());
    }

    #[tokio::test]
    async fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![7; 64]);
        let mut collector = Collector::new(http_body_util::Full::new(chunk.clone()));
        assert_eq!(collector.read(64, |_| true).await, End::Complete);
        assert_eq!(collector.whole().0.as_ptr(), chunk.as_ptr());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_comes_back_whole() {
        for limit in 0..6 {
            let mut collector = Collector::new(script(&["ab", "c", "def"]));
            assert_eq!(collector.read(limit, |_| true).await, End::Over);
            let body = collector.replay();
            assert_eq!(body.size_hint().exact(), Some(6), "{limit}");
            assert!(!body.is_end_stream());
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers()), "{limit}");
            assert_eq!(collected.to_bytes(), "abcdef", "{limit}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_past_the_limit() {
        let mut collector = Collector::new(script(&["ab", "c", "def"]));
        assert_eq!(collector.read(2, |_| true).await, End::Over);
        assert_eq!(collector.length(), 3);
    }

    /// Fails if the chunk for which there was no room is lost, or more is read than that.
    #[tokio::test]
    async fn a_body_without_room_comes_back_whole() {
        let mut collector = Collector::new(script(&["ab", "c", "def"]));
        let mut asked = Vec::new();
        let room = |more| {
            asked.push(more);
            more > 1
        };
        assert_eq!(collector.read(9, room).await, End::NoRoom);
        assert_eq!((collector.length(), asked), (3, vec![2, 1]));
        assert_eq!(collector.replay().collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_breaks_off_at_the_same_place() {
        let broken = Script([Ok(Step::Data("ab")), Err("gone")].into());
        let mut collector = Collector::new(broken);
        let End::Broken(error) = collector.read(9, |_| true).await else { panic!("it broke off") };
        let mut body = collector.replay_broken(Some(error));
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert_eq!(body.size_hint().exact(), None);
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap_err(), "gone");
        assert!(body.frame().await.is_none());
    }
}
