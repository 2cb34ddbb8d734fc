//! A body of a request that was read for its key, put back in front of whoever answers the request.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tokio::task::coop::consume_budget;

use super::{collect::within, grpc::frame::Prefix};

/// The body of a request behind a [`Singleflight`](super::Singleflight) that tells requests apart by their content: as it
/// came, whether something of it was read already or not.
///
/// Frames without data are left out, where it was read. Its errors are those of the body that came.
#[pin_project]
pub struct RequestBody<B: Body>(#[pin] Kind<B>);

#[pin_project(project = KindProjection)]
enum Kind<B: Body> {
    /// Nobody looked into it.
    Untouched(#[pin] B),
    Read(Read<B>),
}

/// What was read of a body, and what is behind that.
pub(super) struct Read<B: Body> {
    pieces: VecDeque<Bytes>,
    then: Then<B>,
}

enum Then<B: Body> {
    /// Nothing more is known to come.
    Rest(Pin<Box<B>>),
    Trailers(HeaderMap),
    Error(B::Error),
    End,
}

/// How far reading came.
#[derive(Default)]
pub(super) struct Seen {
    length: u64,
    prefix: Prefix,
}

impl Seen {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The length of the message of gRPC that it begins with, once that is known.
    pub(super) fn message(&self) -> Option<u64> {
        self.prefix.length()
    }
}

/// Pieces that are shorter are put together: each would keep alive all of what it was cut from.
const CRUMB: usize = 512;

impl<B: Body<Data = Bytes>> Read<B> {
    /// Reads as long as `allowance` gives the next piece some time. Whoever drops this drops what was read with the body:
    /// nobody is left who would want it.
    pub(super) async fn of(body: B, allowance: impl Fn(&Seen) -> Option<Duration>) -> Self {
        let mut body = Box::pin(body);
        let (mut pieces, mut crumbs, mut seen) = (VecDeque::new(), BytesMut::new(), Seen::default());
        let then = loop {
            if body.is_end_stream() {
                break Then::End;
            }
            let Some(time) = allowance(&seen) else { break Then::Rest(body) };
            let frame = match within(time, &mut body).await {
                None => break Then::Rest(body),
                Some(None) => break Then::End,
                Some(Some(Err(error))) => break Then::Error(error),
                Some(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(piece) => {
                    seen.length += piece.len() as u64;
                    seen.prefix.see(&piece);
                    if piece.len() < CRUMB {
                        crumbs.extend_from_slice(&piece);
                    } else {
                        pieces.extend(Some(crumbs.split().freeze()).filter(|crumbs| !crumbs.is_empty()));
                        pieces.push_back(piece);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        break Then::Trailers(trailers);
                    }
                }
            }
            consume_budget().await;
        };
        pieces.extend(Some(crumbs.freeze()).filter(|crumbs| !crumbs.is_empty()));
        Self { pieces, then }
    }

    /// All of the content in one piece, if it ended with that, and nothing else was said.
    pub(super) fn whole(&mut self) -> Option<&Bytes> {
        if !matches!(self.then, Then::End) {
            return None;
        }
        if self.pieces.len() != 1 {
            let whole = self.pieces.drain(..).fold(BytesMut::new(), |mut whole, piece| {
                whole.extend_from_slice(&piece);
                whole
            });
            self.pieces.push_back(whole.freeze());
        }
        self.pieces.front()
    }
}

impl<B: Body> RequestBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self(Kind::Untouched(body))
    }
}

impl<B: Body> From<Read<B>> for RequestBody<B> {
    fn from(mut read: Read<B>) -> Self {
        // The whole of a body without content is a piece without data.
        read.pieces.retain(|piece| !piece.is_empty());
        Self(Kind::Read(read))
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let read = match self.project().0.project() {
            KindProjection::Untouched(body) => return body.poll_frame(cx),
            KindProjection::Read(read) => read,
        };
        if let Some(piece) = read.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Then::Rest(body) = &mut read.then {
            return body.as_mut().poll_frame(cx);
        }
        Poll::Ready(match std::mem::replace(&mut read.then, Then::End) {
            Then::Trailers(fields) => Some(Ok(Frame::trailers(fields))),
            Then::Error(error) => Some(Err(error)),
            Then::End | Then::Rest(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Untouched(body) => body.is_end_stream(),
            Kind::Read(read) => {
                read.pieces.is_empty()
                    && match &read.then {
                        Then::Rest(body) => body.is_end_stream(),
                        Then::End => true,
                        Then::Trailers(_) | Then::Error(_) => false,
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let read = match &self.0 {
            Kind::Untouched(body) => return body.size_hint(),
            Kind::Read(read) => read,
        };
        let ahead = read.pieces.iter().map(|piece| piece.len() as u64).sum();
        let rest = match &read.then {
            Then::Rest(body) => body.size_hint(),
            Then::End => SizeHint::with_exact(0),
            // With an exact length a client would announce it, and believe it more than the error or the trailers behind it.
            Then::Trailers(_) | Then::Error(_) => SizeHint::new(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

impl<B: Body> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
