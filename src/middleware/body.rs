use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};
use tower::BoxError;

use super::{
    grpc::deadline,
    record::Stored,
    tape::{Next, Reader, Whole},
};
use crate::group::Seat;

/// The body of a response from [`Singleflight`](super::Singleflight): the inner service's own, or one that was shared.
///
/// Its errors are those of the inner service's body, and one more: that the body which another request reads at the same
/// time broke off ([`stream_followers`](super::SingleflightLayer::stream_followers)).
#[pin_project]
pub struct ResponseBody<B: Body> {
    #[pin]
    kind: Kind<B>,
    /// When a caller of gRPC stops waiting for the next frame.
    deadline: Option<Pin<Box<Sleep>>>,
}

#[pin_project(project = KindProjection)]
enum Kind<B: Body> {
    /// Nobody looked into it.
    Untouched(#[pin] B),
    /// All of it, in memory.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// What is recorded of a body while it comes.
    Recorded {
        reader: Reader,
        whose: Whose<B>,
        /// The flight goes on for this reader.
        seat: Option<Seat<Stored>>,
    },
    /// What follows on a recording; nothing after an error.
    Rest(Option<Pin<Box<B>>>),
}

/// Whose response a body that is being recorded belongs to.
pub(super) enum Whose<B: Body> {
    /// This caller's own: what is not recorded follows.
    Own(oneshot::Receiver<Rest<B>>),
    /// Another's, of which everybody may see so much.
    Everybodys(Stored),
}

/// What the caller whose response it is gets after what was recorded: the rest of the body, or why there is none. Nothing
/// at all, if the body ended and was not as long as declared.
pub(super) type Rest<B> = Result<Pin<Box<B>>, BoxError>;

impl<B: Body> ResponseBody<B> {
    fn of(kind: Kind<B>) -> Self {
        Self { kind, deadline: None }
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self::of(Kind::Untouched(body))
    }

    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::of(Kind::Whole { data, trailers })
    }

    pub(super) fn recorded(reader: Reader, whose: Whose<B>) -> Self {
        Self::of(Kind::Recorded { reader, whose, seat: None })
    }

    /// Keeps the seat as long as it reads what is recorded.
    pub(super) fn seated(mut self, taken: Option<Seat<Stored>>) -> Self {
        if let Kind::Recorded { seat, .. } = &mut self.kind {
            *seat = taken;
        }
        self
    }

    /// Ends it with a status of gRPC once its caller waits no longer.
    pub(super) fn until(mut self, deadline: Instant) -> Self {
        if !matches!(self.kind, Kind::Whole { .. }) {
            self.deadline = Some(Box::pin(sleep_until(deadline)));
        }
        self
    }

    /// Whether it is everybody's, as far as is known.
    pub(super) fn is_shared(&self) -> bool {
        match &self.kind {
            Kind::Whole { .. } => true,
            Kind::Recorded { reader, .. } => !reader.is_cut(),
            Kind::Untouched(_) | Kind::Rest(_) => false,
        }
    }

    /// All of it, if it is in memory; nothing of it stays.
    pub(super) fn take_whole(&mut self) -> Option<Whole> {
        match &mut self.kind {
            Kind::Whole { data, trailers } => Some((std::mem::take(data), trailers.take())),
            _ => None,
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let frame = this.kind.as_mut().poll_frame(cx);
        if frame.is_pending() && this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            *this.deadline = None;
            this.kind.set(Kind::Rest(None));
            return Poll::Ready(Some(Ok(Frame::trailers(deadline::trailers()))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Untouched(body) => body.is_end_stream(),
            Kind::Whole { data, trailers } => data.is_empty() && trailers.is_none(),
            Kind::Recorded { reader, .. } => reader.is_at_end(),
            // One that broke off is not said to have ended, even before its first byte: a server would make an empty
            // body of it.
            Kind::Rest(rest) => rest.as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Untouched(body) => body.size_hint(),
            Kind::Whole { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            // With an exact length a server would announce it, and HTTP/1 has trailers behind chunks alone.
            Kind::Whole { data, trailers: Some(_) } => at_least(data.len() as u64),
            Kind::Recorded { reader, .. } => reader.size_hint(),
            Kind::Rest(rest) => rest.as_ref().map_or_else(SizeHint::new, Body::size_hint),
        }
    }
}

impl<B> Kind<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut kind = self;
        match kind.as_mut().project() {
            KindProjection::Untouched(body) => body.poll_frame(cx).map_err(Into::into),
            KindProjection::Rest(Some(body)) => body.as_mut().poll_frame(cx).map_err(Into::into),
            KindProjection::Rest(None) => Poll::Ready(None),
            KindProjection::Whole { data, .. } if !data.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))))
            }
            KindProjection::Whole { trailers, .. } => {
                Poll::Ready(trailers.take().map(|fields| Ok(Frame::trailers(fields))))
            }
            KindProjection::Recorded { reader, whose, .. } => match ready!(reader.poll_next(cx)) {
                Next::Data(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Next::Trailers(fields) => {
                    let fields = match whose {
                        Whose::Own(_) => fields,
                        Whose::Everybodys(head) => head.plan().for_everybody(&fields),
                    };
                    Poll::Ready(Some(Ok(Frame::trailers(fields))))
                }
                Next::End => Poll::Ready(None),
                Next::Cut => {
                    let rest = match whose {
                        Whose::Own(rest) => rest.try_recv().ok().transpose(),
                        Whose::Everybodys(_) => Err("the response that this one follows broke off".into()),
                    };
                    let (rest, error) = rest.map_or_else(|error| (None, Some(error)), |rest| (rest, None));
                    kind.set(Kind::Rest(rest));
                    match (error, kind.project()) {
                        (None, KindProjection::Rest(Some(body))) => body.as_mut().poll_frame(cx).map_err(Into::into),
                        (error, _) => Poll::Ready(error.map(Err)),
                    }
                }
            },
        }
    }
}

pub(super) fn at_least(length: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(length);
    hint
}

/// Empty, for middleware that answers in the inner service's stead.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::of(Kind::Whole { data: Bytes::new(), trailers: None })
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    type Plain = ResponseBody<Full<Bytes>>;

    #[test]
    fn hints_are_forwarded() {
        let body = Plain::untouched(Full::from("hello"));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        let body = Plain::untouched(Full::default());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    }

    #[test]
    fn the_default_is_empty() {
        let body = Plain::default();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    }

    #[tokio::test]
    async fn trailers_leave_the_length_open() {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
        let mut body = Plain::whole(Bytes::from_static(b"hello"), Some(trailers.clone()));
        assert_eq!((body.size_hint().lower(), body.size_hint().exact()), (5, None));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
