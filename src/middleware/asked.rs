//! What a request asks beyond a response: only if it is another one than the client has, only a part of it, only if it is
//! stored.
//!
//! None of that reaches the inner service with a request that leads: others wait for the whole response. It is answered on
//! the way out, from what everybody gets.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
    request::Parts,
};
use http_body::Body;
use tokio::time::Instant;

use super::{
    body::ResponseBody,
    future::signed,
    grpc::deadline::{TIMEOUT, field},
    outcome::{Outcome, Why},
    rules::{
        condition::{head_of_304, not_modified},
        range::{Selected, select},
    },
};

/// The answer to a request that takes nothing but what is stored (RFC 9111 §5.2.1.7). A response of the layer's own is no
/// subject of `Cache-Status` (RFC 9211 §2).
pub(super) fn not_stored<R: Body<Data = Bytes>>() -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    signed(response, Outcome::Bypassed(Why::OnlyIfCached), Duration::ZERO, None)
}

/// What is taken out of a request.
const TAKEN: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE];

fn take<const N: usize>(head: &mut Parts, names: [HeaderName; N]) -> Option<Box<Parts>> {
    names.iter().any(|name| head.headers.contains_key(name)).then(|| {
        let (mut taken, ()) = Request::new(()).into_parts();
        taken.method = head.method.clone();
        for name in names {
            taken.headers.extend(head.headers.get_all(&name).iter().map(|line| (name.clone(), line.clone())));
            head.headers.remove(name);
        }
        Box::new(taken)
    })
}

/// What one request asks.
#[derive(Debug)]
pub(super) struct Asked {
    /// A head of nothing but the method and what was taken.
    taken: Option<Box<Parts>>,
    head: bool,
    only_if_cached: bool,
    /// When a caller of gRPC stops waiting.
    deadline: Option<Instant>,
}

impl Asked {
    /// Takes it out of the request's head.
    pub(super) fn take(head: &mut Parts, only_if_cached: bool) -> Self {
        Self { taken: take(head, TAKEN), head: head.method == Method::HEAD, only_if_cached, deadline: None }
    }

    /// Takes out how long a caller of gRPC waits: until then.
    pub(super) fn take_timeout(head: &mut Parts, deadline: Option<Instant>) -> Self {
        Self { taken: take(head, [HeaderName::from_static(TIMEOUT)]), head: false, only_if_cached: false, deadline }
    }

    /// Of a request whose method is not GET, and whose fields stay where they are.
    pub(super) fn nothing_but(only_if_cached: bool) -> Self {
        Self { taken: None, head: false, only_if_cached, deadline: None }
    }

    /// Gives it back to a request that goes to the inner service for itself.
    pub(super) fn restore(self, headers: &mut HeaderMap, now: Instant) {
        headers.extend(self.taken.map(|taken| taken.headers).unwrap_or_default());
        if let Some(deadline) = self.deadline {
            headers.insert(TIMEOUT, field(deadline.saturating_duration_since(now)));
        }
    }

    /// Whether a response that is stored may do where no flight is to be led.
    pub(super) fn looks_first(&self) -> bool {
        self.head || self.only_if_cached || self.has_range()
    }

    pub(super) fn only_if_cached(&self) -> bool {
        self.only_if_cached
    }

    pub(super) fn has_range(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.headers.contains_key(RANGE))
    }

    /// What the request gets of a stored response to GET; `None` if only the origin can answer it.
    pub(super) fn of_stored<R>(
        &self,
        response: Response<ResponseBody<R>>,
        now: SystemTime,
    ) -> Option<Response<ResponseBody<R>>>
    where
        R: Body<Data = Bytes>,
    {
        let mut response = self.confirm(response, now);
        if response.status() == StatusCode::NOT_MODIFIED {
            return Some(response);
        }
        let (data, trailers) = response.body_mut().take_whole()?;
        let length = data.len() as u64;
        if self.head {
            if response.status() != StatusCode::NO_CONTENT {
                response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
            }
            *response.body_mut() = ResponseBody::default();
            return Some(response);
        }
        *response.body_mut() = ResponseBody::whole(data.clone(), trailers);
        let Some(taken) = self.taken.as_ref().filter(|_| response.status() == StatusCode::OK) else {
            return Some(response);
        };
        let (part, range) = match select(taken, response.headers(), length, now) {
            Selected::Whole => return Some(response),
            // A server may ignore what it is asked for several of.
            Selected::Several if self.only_if_cached => return Some(response),
            Selected::Several => return None,
            Selected::Nothing(range) => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                (Bytes::new(), range)
            }
            Selected::Part(part, range) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                // Within the length of a slice, hence within `usize`.
                (data.slice(part.start as usize..part.end as usize), range)
            }
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_RANGE, range);
        headers.insert(CONTENT_LENGTH, part.len().into());
        *response.body_mut() = ResponseBody::whole(part, None);
        Some(response)
    }

    /// A 304 instead of what the client has already. What is not shared, and may hold what is meant for it, stays whole.
    pub(super) fn confirm<R>(
        &self,
        mut response: Response<ResponseBody<R>>,
        now: SystemTime,
    ) -> Response<ResponseBody<R>>
    where
        R: Body<Data = Bytes>,
    {
        let confirmed = self.taken.as_ref().filter(|_| response.body().is_shared());
        if confirmed.is_some_and(|taken| not_modified(taken, response.status(), response.headers(), now)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            let kept = head_of_304(response.headers());
            let age = response.headers_mut().remove(http::header::AGE);
            let status = response.headers().get_all("cache-status").iter().cloned().collect::<Vec<_>>();
            let headers = response.headers_mut();
            *headers = kept;
            headers.extend(age.map(|age| (http::header::AGE, age)));
            headers.extend(status.into_iter().map(|line| (HeaderName::from_static("cache-status"), line)));
            *response.body_mut() = ResponseBody::default();
        }
        response
    }
}
