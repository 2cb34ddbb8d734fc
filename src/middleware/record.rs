//! What is shared of a response, and its bytes.
//!
//! ```text
//! version: u8 | length of the head: u32, big-endian | head: postcard | body
//! ```
//!
//! The body stands last and outside of the head, so that reading a record slices it out of the received buffer. The head
//! holds its length: a record that was cut short, or carries more, does not decode.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{AGE, CONNECTION},
    response::Parts,
};
use http_body::Body;
use serde::{Deserialize, Serialize};

use super::{
    body::ResponseBody,
    fields::names,
    gate::guarded,
    rules::{cache_control::ResponseDirectives, freshness::Plan, update::has_validator, vary::Varies},
    variants::Selection,
};
use crate::{
    codec::{Codec, CodecError},
    key::Digest,
};

const VERSION: u8 = 3;

/// A response as everybody may see it. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    head: Arc<Head>,
    body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    status: StatusCode,
    plan: Plan,
    /// The fields that took the place of `Cache-Control`.
    targets: Vec<HeaderName>,
    selection: Option<Selection>,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
}

impl Stored {
    /// The part of a response that is not about one connection, one request or one user. Its age is in the plan.
    pub(super) fn new(
        head: &Parts,
        plan: Plan,
        targets: &[HeaderName],
        selection: Option<Selection>,
        body: Bytes,
        trailers: Option<HeaderMap>,
    ) -> Self {
        let headers = plan.for_everybody(&head.headers);
        let trailers = trailers.map(|fields| plan.for_everybody(&fields));
        let targets = targets.to_vec();
        Self { head: Arc::new(Head { status: head.status, plan, targets, selection, headers, trailers }), body }
    }

    /// How it may be used, counted from when it was stored.
    pub(super) fn plan(&self) -> &Plan {
        &self.head.plan
    }

    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The same response under another head.
    pub(super) fn with(&self, head: &Parts, plan: Plan, targets: &[HeaderName], selection: Option<Selection>) -> Self {
        Self::new(head, plan, targets, selection, self.body.clone(), self.head.trailers.clone())
    }

    /// The same response by another plan.
    pub(super) fn replanned(&self, plan: Plan) -> Self {
        Self { head: Arc::new(Head { plan, ..Head::clone(&self.head) }), body: self.body.clone() }
    }

    /// The same head, and this body.
    pub(super) fn with_body(mut self, body: Bytes, trailers: Option<HeaderMap>) -> Self {
        self.body = body;
        if let Some(trailers) = trailers {
            let head = Arc::make_mut(&mut self.head);
            head.trailers = Some(head.plan.for_everybody(&trailers));
        }
        self
    }

    /// What selected it, if it varies.
    pub(super) fn selection(&self) -> Option<&Selection> {
        self.head.selection.as_ref()
    }

    /// Whether it may serve a request with these fields, as far as what it varies on goes.
    pub(super) fn serves(&self, request: &HeaderMap) -> bool {
        self.selection().is_none_or(|selection| selection.matches(request))
    }

    pub(super) fn into_response<B: Body<Data = Bytes>>(self) -> Response<ResponseBody<B>> {
        let head = Arc::unwrap_or_clone(self.head);
        let mut response = Response::new(ResponseBody::whole(self.body, head.trailers));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }
}

impl Plan {
    /// These fields without what speaks of one connection, one request or one user, or is said by the plan.
    pub(super) fn for_everybody(&self, fields: &HeaderMap) -> HeaderMap {
        let kept = |name: &HeaderName| *name != AGE && !self.stripped.contains(name) && !of_one_exchange(name, fields);
        // Copied rather than removed from a copy: removal changes the order of what stays.
        let mut copy = HeaderMap::with_capacity(fields.keys_len());
        copy.extend(fields.iter().filter(|(name, _)| kept(name)).map(|(name, line)| (name.clone(), line.clone())));
        copy
    }
}

/// Whether a field speaks of one connection, or of the one request that was answered.
fn of_one_exchange(name: &HeaderName, headers: &HeaderMap) -> bool {
    let name = name.as_str();
    let of_connection = matches!(name, "connection" | "keep-alive" | "te" | "transfer-encoding" | "upgrade");
    let of_request = matches!(
        name,
        "authentication-info"
            | "server-timing"
            | "traceparent"
            | "tracestate"
            | "set-cookie"
            | "traceresponse"
            | "x-amzn-trace-id"
            | "x-cloud-trace-context"
            | "x-correlation-id"
            | "x-request-id"
            | "x-trace-id"
    );
    of_connection || of_request || name.starts_with("proxy-") || names(headers, CONNECTION, name)
}

/// The head on the wire. Borrowed, so that a crafted length allocates nothing that the input does not hold.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    status: u16,
    /// Age, lifetime, and the windows behind it.
    times_ms: [u64; 4],
    never_stale: bool,
    body: u64,
    #[serde(borrow)]
    targets: Vec<&'a str>,
    #[serde(borrow)]
    selection: Option<(Vec<&'a str>, [u8; 16])>,
    #[serde(borrow)]
    headers: Fields<'a>,
    #[serde(borrow)]
    trailers: Option<Fields<'a>>,
}

/// Names and values, line by line, in order.
type Fields<'a> = Vec<(&'a str, &'a [u8])>;

/// The binary format of this module.
pub(super) struct Binary;

impl Codec<Stored> for Binary {
    fn encode(&self, stored: &Stored) -> Result<Bytes, CodecError> {
        let plan = stored.plan();
        let head = postcard::to_stdvec(&Wire {
            status: stored.head.status.as_u16(),
            times_ms: [plan.age, plan.lifetime, plan.stale_while_revalidate, plan.stale_if_error]
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            never_stale: plan.never_stale,
            body: stored.body.len() as u64,
            targets: stored.head.targets.iter().map(HeaderName::as_str).collect(),
            selection: stored
                .head
                .selection
                .as_ref()
                .map(|selection| (selection.names.iter().map(HeaderName::as_str).collect(), selection.said.0)),
            headers: lines(&stored.head.headers),
            trailers: stored.head.trailers.as_ref().map(lines),
        })?;
        let mut payload = BytesMut::with_capacity(5 + head.len() + stored.body.len());
        payload.put_u8(VERSION);
        payload.put_u32(u32::try_from(head.len())?);
        payload.put_slice(&head);
        payload.put_slice(&stored.body);
        Ok(payload.freeze())
    }

    fn decode(&self, payload: Bytes) -> Result<Stored, CodecError> {
        let (wire, body) = split(&payload).ok_or("not a record of this version")?;
        let wire: Wire<'_> = match postcard::take_from_bytes(wire)? {
            (wire, []) => wire,
            _ => return Err("the head of the record is longer than what it holds".into()),
        };
        if wire.body != body.len() as u64 {
            return Err("the body of the record has another length than its head says".into());
        }
        let status = StatusCode::from_u16(wire.status)?;
        let headers = map(wire.headers)?;
        let targets = wire.targets.into_iter().map(HeaderName::try_from).collect::<Result<Vec<_>, _>>()?;
        if guarded(status, &headers, &ResponseDirectives::of(&headers, &targets)) {
            return Err("the record holds a response that nobody else may see".into());
        }
        let selection = wire.selection.map(selection).transpose()?;
        let known = selection.iter().flat_map(|selection| selection.names.iter()).collect::<Vec<_>>();
        let Varies::On(names) = Varies::of(&headers) else { unreachable!("it is guarded") };
        if !names.iter().all(|name| known.contains(&name)) {
            return Err("the record does not say what selected its response".into());
        }
        let [age, lifetime, stale_while_revalidate, stale_if_error] = wire.times_ms.map(Duration::from_millis);
        let plan = Plan {
            for_waiters: true,
            age,
            lifetime,
            stale_while_revalidate,
            stale_if_error,
            never_stale: wire.never_stale,
            validator: has_validator(&headers),
            stripped: Vec::new(),
        };
        let trailers = wire.trailers.map(map).transpose()?;
        Ok(Stored {
            head: Arc::new(Head { status, plan, targets, selection, headers, trailers }),
            body: payload.slice_ref(body),
        })
    }
}

fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&version, rest) = payload.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if version == VERSION { rest.split_at_checked(length) } else { None }
}

fn lines(headers: &HeaderMap) -> Fields<'_> {
    headers.iter().map(|(name, line)| (name.as_str(), line.as_bytes())).collect()
}

fn selection((names, said): (Vec<&str>, [u8; 16])) -> Result<Selection, CodecError> {
    let names = names.into_iter().map(HeaderName::try_from).collect::<Result<_, _>>()?;
    Ok(Selection { names, said: Digest(said) })
}

fn map(fields: Fields<'_>) -> Result<HeaderMap, CodecError> {
    // Grows as it fills, with an error where `append` would panic: the number of lines is the sender's word.
    let mut headers = HeaderMap::new();
    for (name, line) in fields {
        headers.try_append(HeaderName::try_from(name)?, HeaderValue::from_bytes(line)?)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
