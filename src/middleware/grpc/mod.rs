//! Calls of gRPC, which are all alike on the wire: a `POST` that is answered 200, whether it reads or writes, streams or
//! fails.

mod call;
pub(super) mod deadline;
pub(super) mod frame;
#[expect(clippy::disallowed_methods, reason = "deadlines are held against a clock")]
mod service;
pub(super) mod unary;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Body;

pub(super) use self::call::Calls;
use self::call::Pattern;
use super::{body::ResponseBody, layer::SingleflightLayer, mode::Grpc};
use crate::backend::Backend;

/// `application/grpc`, whatever its messages are written in; not `application/grpc-web`.
fn is_grpc(headers: &HeaderMap, field: HeaderName) -> bool {
    let mut lines = headers.get_all(field).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let media_type = line.as_bytes();
    media_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn status(code: &'static str, message: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [("grpc-status", code), ("grpc-message", message)]
        .map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line)))
}

/// A response without a message: trailers alone, which stand in the head.
pub(super) fn status_alone<R: Body>(code: &'static str, message: &'static str) -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::default());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().extend(status(code, message));
    response
}

impl SingleflightLayer {
    /// For gRPC: coalesces unary calls of the [methods](SingleflightLayer::methods) that are named, and none unless
    /// some are. The rest passes through as if the layer were not there.
    ///
    /// Calls are the same that go to one authority and one method with equal messages, in equal encodings, from callers
    /// who read the same encodings; and with equal [metadata](SingleflightLayer::metadata), of what is declared. Who
    /// asks keeps a call from flying as [over HTTP](Self::identity): `authorization` and its kin.
    ///
    /// What the layer cannot see counts for nothing: **callers that are known by their certificates, or by what an
    /// outer layer has put into the extensions, share responses** unless an [`identity_fn`](super::identity_fn) tells
    /// them apart.
    ///
    /// A response is shared if it is one message with complete trailers and `grpc-status: 0`. Others get the same
    /// message, metadata and trailers, less what speaks of one request or one connection, as over HTTP (`x-request-id`,
    /// `traceparent`, `set-cookie`, `age`, `proxy-*`, ...). Other codes go to their own caller, save for
    /// [some](SingleflightLayer::share_codes):
    ///
    /// | code | those who wait |
    /// |---|---|
    /// | `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, or none | one tries again; if that fails as well, all do |
    /// | `PERMISSION_DENIED`, `UNAUTHENTICATED` | all try, and the call [scatters](Self::scatter) |
    /// | the rest | all try |
    ///
    /// The latter two take back what is stored and stale.
    ///
    /// A method that streams should not be named. If one is, a call whose first message waits for the server comes to
    /// the handler 500 ms late, and one whose second message waits for an answer 100 ms; those who follow a response
    /// wait for its second message, or for 250 ms after the first, and then the call scatters. Its own caller gets all
    /// of it as it comes.
    ///
    /// A caller's `grpc-timeout` is its own: those who wait for the same call have theirs. The handler of a call that flies
    /// does not see it.
    ///
    /// The inner service takes [`RequestBody<B>`](super::RequestBody) in place of `B`, as tonic's `Routes` and services do.
    pub fn grpc(backend: impl Backend) -> SingleflightLayer<Grpc> {
        let calls = Calls { methods: Vec::new(), metadata: Vec::new(), service: None, most: 64 << 10 };
        let layer = SingleflightLayer::with(backend, Grpc(Arc::new(calls)));
        layer.set(|settings| settings.unary = Some(unary::Unary::default()))
    }
}

/// For gRPC.
impl SingleflightLayer<Grpc> {
    /// Adds methods whose calls fly, by their paths: `/hello.Greeter/SayHello`, or with a `*` at the end all that begin so,
    /// such as `/hello.Greeter/Get*` or `/hello.Greeter/*`.
    ///
    /// They must be unary, and only read: one call is made for all who ask the same.
    ///
    /// # Panics
    ///
    /// If one of them is no such path.
    pub fn methods<'a>(self, patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let pattern = |pattern: &str| match Pattern::new(pattern) {
            Some(pattern) => pattern,
            None => panic!("`methods` takes paths such as \"/hello.Greeter/Say*\", and {pattern:?} is none"),
        };
        self.calls(|calls| calls.methods.extend(patterns.into_iter().map(pattern)))
    }

    /// Adds metadata that tells calls apart: whatever the handlers read of it. None by default.
    ///
    /// # Panics
    ///
    /// If one of `names` is not the name of a field.
    pub fn metadata<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let name = |name: &str| match HeaderName::try_from(name) {
            Ok(name) => name,
            Err(_) => panic!("`metadata` holds {name:?}, which is not the name of a field"),
        };
        self.calls(|calls| calls.metadata.extend(names.into_iter().map(name)))
    }

    /// The name of the service, in place of the authority in keys.
    ///
    /// For replicas that are addressed one by one, by pod or by port; and for clients, whose calls name no authority until
    /// they reach the connection. Calls of layers over one backend with one name are the same, wherever they go.
    pub fn service(self, name: &str) -> Self {
        self.calls(|calls| calls.service = Some(name.into()))
    }

    /// Shares responses with these status codes too, between replicas that share the same, as trailers without a
    /// message, and keeps them for a tenth of the
    /// [result TTL](Self::result_ttl), five seconds at most.
    ///
    /// They are `INVALID_ARGUMENT` (3), `NOT_FOUND` (5), `ALREADY_EXISTS` (6), `FAILED_PRECONDITION` (9),
    /// `OUT_OF_RANGE` (11) and `UNIMPLEMENTED` (12).
    ///
    /// # Panics
    ///
    /// If one of them is another code: the rest says nothing that holds for others.
    pub fn share_codes(self, codes: impl IntoIterator<Item = u32>) -> Self {
        let codes: Vec<_> = codes.into_iter().collect();
        self.set(|settings| {
            let unary = settings.unary.get_or_insert_default();
            for code in codes {
                assert!(unary.add(code), "`share_codes` holds {code}: a response with this code is never shared");
            }
        })
    }

    /// How many bytes of a call are read to tell it from others; a longer one goes to the inner service by itself. 64 KiB by
    /// default.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero.
    pub fn max_request_body(self, bytes: usize) -> Self {
        assert!(bytes > 0, "`max_request_body` must be more than zero");
        self.calls(|calls| calls.most = bytes)
    }

    fn calls(mut self, set: impl FnOnce(&mut Calls)) -> Self {
        set(Arc::make_mut(&mut self.mode_mut().0));
        self
    }
}
