//! How much of a process the layer may take, and what becomes of the requests above that.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use http_body::Body;

use super::{
    body::ResponseBody,
    grpc::status_alone,
    layer::{Settings, SingleflightLayer},
};
use crate::group::Tally;

/// What becomes of a request for which there is no room: [`SingleflightLayer::overload`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overload {
    /// It goes to the inner service by itself.
    #[default]
    Bypass,
    /// It is answered `503 Service Unavailable`, a call of gRPC `UNAVAILABLE`, and the inner service is not called.
    Refuse {
        /// What `Retry-After` says, over HTTP: in whole seconds, rounded up, one at least.
        retry_after: Duration,
    },
}

/// The bytes that all layers over one backend handle are recording.
#[derive(Default)]
pub(super) struct Recorded(pub(super) Arc<Tally>);

/// Room for 256 bodies of the greatest length that is usual.
pub(super) const MAX_RECORDED: usize = 256 << 20;

impl<M> SingleflightLayer<M> {
    /// How many requests may wait for one key in this process. 65 536 by default.
    ///
    /// A request waits if it finds its key in the air; the one that put it there is not counted, and never turned away.
    /// One more than may wait is an [overload](Self::overload).
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn max_waiters_per_key(self, requests: usize) -> Self {
        self.set(|settings| settings.options.set_max_waiters_per_key(requests))
    }

    /// How many requests may wait in this process, for all keys together. 262 144 by default.
    ///
    /// Counted are those of all layers over clones of one backend handle. One more is an [overload](Self::overload).
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn max_waiters(self, requests: usize) -> Self {
        self.set(|settings| settings.options.set_max_waiters(requests))
    }

    /// How many flights may go on in this process with nobody waiting. 256 by default.
    ///
    /// They are those whose clients have all left, and refreshes of stale responses, of all layers over clones of one
    /// backend handle. One more is given up: the call of the inner service is dropped, and the next request begins anew.
    /// That is no [overload](Self::overload): nobody is there to be told. With zero, the call ends with its last client,
    /// and what is stale is not refreshed before it is gone.
    pub fn max_detached(self, flights: usize) -> Self {
        self.set(|settings| settings.options.max_detached = flights)
    }

    /// How many bytes of bodies may be recorded in this process at a time. 256 MiB by default.
    ///
    /// Counted is what has been read of bodies that come while they are recorded, for as long as anybody may read it:
    /// until the recording has ended, and the clients that read along have read it or left. It counts in all layers
    /// over clones of one backend handle. A body for which there is no room goes to its own client as it comes, and to
    /// nobody else, like one over [`max_body`](Self::max_body); but the key does not [scatter](Self::scatter).
    ///
    /// While bodies are recorded, and there is no room for another one of `max_body`, a request that is not answered by
    /// what is stored is an [overload](Self::overload): it would wait for a response that may well go to nobody. So this
    /// should be many times `max_body`.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn max_recorded(self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_recorded` is zero: nothing would ever be shared");
        self.set(|settings| settings.max_recorded = bytes)
    }

    /// What becomes of a request when [too many wait](Self::max_waiters) or [too much is
    /// recorded](Self::max_recorded). By default it goes to the inner service by itself.
    ///
    /// Such responses carry [`Why::Overloaded`](super::Why::Overloaded). Requests that go by themselves for other reasons
    /// are never refused.
    pub fn overload(self, overload: Overload) -> Self {
        self.set(|settings| settings.overload = overload)
    }
}

impl Settings {
    /// Whether a body of the greatest length might find no room. How long the next one will be nobody knows; one that is
    /// by itself is let in, however small the room is.
    pub(super) fn is_crowded(&self) -> bool {
        let used = self.recorded.used();
        used > 0 && (used as u64).saturating_add(self.max_body) > self.max_recorded as u64
    }

    /// The response in the inner service's stead, if it is not to be called.
    pub(super) fn refusal<R: Body>(&self) -> Option<Response<ResponseBody<R>>> {
        let refusal = self.overload.refusal()?;
        Some(if self.unary.is_some() { status_alone("14", "too many calls wait") } else { refusal })
    }
}

impl Overload {
    fn refusal<R: Body>(self) -> Option<Response<ResponseBody<R>>> {
        let Self::Refuse { retry_after } = self else { return None };
        let seconds = retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0)).max(1);
        let mut response = Response::new(ResponseBody::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;
    use crate::backend::Memory;

    fn layer() -> SingleflightLayer {
        SingleflightLayer::new(Memory::new())
    }

    /// Fails if a part of a second is dropped, or a client is told to come back at once.
    #[test]
    fn seconds_are_rounded_up() {
        for (millis, says) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (30_000, "30")] {
            let refuse = Overload::Refuse { retry_after: Duration::from_millis(millis) };
            let response = refuse.refusal::<Full<Bytes>>().unwrap();
            assert_eq!((response.status().as_u16(), response.headers()[RETRY_AFTER].to_str().unwrap()), (503, says));
        }
        let refuse = Overload::Refuse { retry_after: Duration::MAX };
        assert_eq!(refuse.refusal::<Full<Bytes>>().unwrap().headers()[RETRY_AFTER], u64::MAX.to_string());
        assert!(Overload::Bypass.refusal::<Full<Bytes>>().is_none());
    }

    /// Fails if the door closes before a body of `max_body` finds no room, stays open when it finds none, or is closed to
    /// one that is by itself.
    #[test]
    fn there_is_room_for_one_more_or_it_is_crowded() {
        for (max_body, max_recorded, used, crowded) in
            [(4, 10, 0, false), (4, 10, 6, false), (4, 10, 7, true), (9, 4, 0, false), (9, 4, 1, true)]
        {
            let settings = layer().max_body(max_body).max_recorded(max_recorded).settings();
            assert!(settings.recorded.hold().grow(1, 1), "given back at once");
            let mut held = settings.recorded.hold();
            assert!(used == 0 || held.grow(used, max_recorded));
            assert_eq!(settings.is_crowded(), crowded, "{max_body}, {max_recorded}, {used}");
        }
    }

    /// Fails if each layer counts for itself.
    #[test]
    fn layers_over_one_handle_count_together() {
        let memory = Memory::new();
        let [one, other] = [&memory, &memory].map(|memory| SingleflightLayer::new(memory.clone()).settings());
        let elsewhere = SingleflightLayer::new(memory.replica()).settings();
        let mut held = one.recorded.hold();
        assert!(held.grow(7, 7));
        assert_eq!((other.recorded.used(), elsewhere.recorded.used()), (7, 0));
    }

    #[test]
    #[should_panic = "`max_waiters_per_key`"]
    fn somebody_waits_for_each_key() {
        let _ = layer().max_waiters_per_key(0);
    }

    #[test]
    #[should_panic = "`max_waiters`"]
    fn somebody_waits() {
        let _ = layer().max_waiters(0);
    }

    #[test]
    #[should_panic = "`max_recorded`"]
    fn something_is_recorded() {
        let _ = layer().max_recorded(0);
    }
}
