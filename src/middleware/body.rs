use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

/// The body of a response from [`Singleflight`](super::Singleflight): the inner service's own, or one that was shared.
#[pin_project]
pub struct ResponseBody<B: Body>(#[pin] Kind<B>);

#[pin_project(project = KindProjection)]
enum Kind<B: Body> {
    /// Nobody looked into it.
    Untouched(#[pin] B),
    /// All of it, in memory.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// What was read before it turned out that it cannot be shared, then the rest; no rest after an error.
    Replayed { read: VecDeque<Result<Frame<Bytes>, B::Error>>, rest: Option<Pin<Box<B>>> },
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self(Kind::Untouched(body))
    }

    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self(Kind::Whole { data, trailers })
    }

    pub(super) fn replayed(read: VecDeque<Result<Frame<Bytes>, B::Error>>, rest: Option<Pin<Box<B>>>) -> Self {
        Self(Kind::Replayed { read, rest })
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().0.project() {
            KindProjection::Untouched(body) => body.poll_frame(cx),
            KindProjection::Whole { data, .. } if !data.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(data)))))
            }
            KindProjection::Whole { trailers, .. } => {
                Poll::Ready(trailers.take().map(|fields| Ok(Frame::trailers(fields))))
            }
            KindProjection::Replayed { read, rest } => match (read.pop_front(), rest) {
                (None, Some(rest)) => rest.as_mut().poll_frame(cx),
                (read, _) => Poll::Ready(read),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Untouched(body) => body.is_end_stream(),
            Kind::Whole { data, trailers } => data.is_empty() && trailers.is_none(),
            Kind::Replayed { read, rest } => read.is_empty() && rest.as_ref().is_none_or(|rest| rest.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Untouched(body) => body.size_hint(),
            Kind::Whole { data, .. } => SizeHint::with_exact(data.len() as u64),
            Kind::Replayed { read, rest } => {
                let frames = read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
                let ahead = frames.map(|data| data.len() as u64).sum::<u64>();
                // A body that broke off has no upper bound: with an exact length a server would announce it, send what
                // there is, and make the fragment look complete.
                let rest = rest.as_ref().map(|rest| rest.size_hint()).unwrap_or_default();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(ahead));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint
            }
        }
    }
}

/// Empty, for middleware that answers in the inner service's stead.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self(Kind::Whole { data: Bytes::new(), trailers: None })
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
