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
    Replayed { read: Read<B>, rest: Option<Pin<Box<B>>> },
}

/// What was read of a body.
pub(super) type Read<B> = VecDeque<Result<Frame<Bytes>, <B as Body>::Error>>;

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self(Kind::Untouched(body))
    }

    pub(super) fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self(Kind::Whole { data, trailers })
    }

    /// Whether all of it is in memory.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Whole { .. })
    }

    /// All of it, if it is in memory; nothing of it stays.
    pub(super) fn take_whole(&mut self) -> Option<(Bytes, Option<HeaderMap>)> {
        match &mut self.0 {
            Kind::Whole { data, trailers } => Some((std::mem::take(data), trailers.take())),
            _ => None,
        }
    }

    pub(super) fn replayed(read: Read<B>, rest: Option<Pin<Box<B>>>) -> Self {
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
            // One that broke off is not said to have ended, even before its first byte: a server would make an empty body of it.
            Kind::Replayed { read, rest } => read.is_empty() && rest.as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Untouched(body) => body.size_hint(),
            Kind::Whole { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            // With an exact length a server would announce it, and HTTP/1 has trailers behind chunks alone.
            Kind::Whole { data, trailers: Some(_) } => at_least(data.len() as u64),
            Kind::Replayed { read, rest } => {
                let frames = read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
                let ahead = frames.map(|data| data.len() as u64).sum::<u64>();
                // A body that broke off has no exact length either: a server would announce it, send what there is, and
                // make the fragment look complete.
                let Some(rest) = rest else { return at_least(ahead) };
                let rest = rest.size_hint();
                let mut hint = at_least(rest.lower().saturating_add(ahead));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint
            }
        }
    }
}

fn at_least(length: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(length);
    hint
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
