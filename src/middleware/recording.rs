//! The body of a response that may be shared, recorded for everybody while its own caller reads it.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http_body::Body;
use tokio::time::timeout;
use tower::BoxError;

use super::{
    body::ResponseBody,
    collect::{Collector, End, Extent},
    layer::Settings,
    record::Stored,
    tape::{Tape, Whole},
};

/// A body that is being recorded.
pub(super) struct Recording<R: Body> {
    collector: Collector<R>,
    max_recorded: usize,
    /// As declared.
    length: Option<u64>,
    extent: Extent,
    idle: Duration,
    longest: Duration,
}

/// What became of a body at the first look: the one is its own caller's, the other is for everybody.
pub(super) enum Begun<R: Body> {
    Ended(ResponseBody<R>, Read),
    Streams(ResponseBody<R>, Recording<R>),
}

/// What everybody may have: nothing of a body that is too long, or takes longer than anybody waits for it.
pub(super) type Read = Result<Option<Whole>, Unfit>;

/// Why a body that may be shared is not, whatever its length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unfit {
    /// It is not what was declared.
    Broken,
    /// Too much is being recorded.
    NoRoom,
    /// It tells of a failure, as the one before did.
    Again,
    /// It says what holds for this caller alone; if it scatters, the next one will too.
    Refused { scatters: bool },
}

/// A response whose body is not complete yet, as everybody may see it.
pub(super) struct Running {
    /// Without a body.
    pub(super) head: Stored,
    pub(super) tape: Arc<Tape>,
}

/// Begins to record a body of this declared length. What is there at once is recorded at once: a body that needs no
/// waiting goes to its caller whole.
pub(super) async fn begin<R>(settings: &Settings, body: R, length: Option<u64>) -> Begun<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    if length.max(Some(body.size_hint().lower())) > Some(settings.max_body) {
        return Begun::Ended(ResponseBody::untouched(body), Ok(None));
    }
    let mut recording = Recording {
        collector: Collector::new(body, settings.recorded.hold()),
        max_recorded: settings.max_recorded,
        length,
        extent: settings.extent(),
        idle: settings.body_idle_timeout,
        longest: settings.options.wait_timeout,
    };
    let first = {
        let mut reading = pin!(recording.read());
        poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await
    };
    match first {
        Poll::Ready(End::Complete) if recording.is_as_declared() => {
            let (data, trailers) = recording.collector.whole();
            Begun::Ended(ResponseBody::whole(data.clone(), trailers.clone()), Ok(Some((data, trailers))))
        }
        Poll::Ready(end) => Begun::Ended(recording.collector.stream(), recording.settle(end)),
        Poll::Pending => Begun::Streams(recording.collector.stream(), recording),
    }
}

impl<R> Recording<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    pub(super) fn tape(&self) -> &Arc<Tape> {
        self.collector.tape()
    }

    /// Records the rest, whoever reads it, and however slowly. If that is not all of it, `close` is called before any reader
    /// hears of it: who comes back for another response must not find this one.
    pub(super) async fn finish(mut self, close: impl FnOnce()) -> Read {
        let end = timeout(self.longest, self.read()).await.unwrap_or(End::Over);
        if !matches!(end, End::Complete) || !self.is_as_declared() {
            close();
        }
        self.settle(end)
    }

    async fn read(&mut self) -> End<R::Error> {
        self.collector.read(self.extent, self.idle, self.max_recorded).await
    }

    fn settle(self, end: End<R::Error>) -> Read {
        match end {
            End::Complete if self.is_as_declared() => Ok(Some(self.collector.whole())),
            End::Complete => {
                self.collector.break_off(None);
                Err(Unfit::Broken)
            }
            End::Broken(error) => {
                self.collector.break_off(Some(error.into()));
                Err(Unfit::Broken)
            }
            End::NoRoom => Err(Unfit::NoRoom),
            End::Over => Ok(None),
        }
    }

    fn is_as_declared(&self) -> bool {
        self.length.is_none_or(|length| length == self.collector.length())
    }
}
