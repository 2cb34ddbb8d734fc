//! Why the upstream gave no response, and what its client gets in its stead.

use std::{error::Error, io, iter::successors};

use http::{HeaderName, Response, StatusCode};
use hyper_util::client::legacy;
use thiserror::Error;

use crate::NAME;

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why there is no response.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("the upstream cannot be reached")]
    Unreachable(#[source] legacy::Error),
    #[error("the upstream cannot be reached in time")]
    Unconnected,
    #[error("the upstream broke off before its answer began")]
    Broken(#[source] legacy::Error),
    #[error("the upstream did not answer in time")]
    Silent,
    #[error("the upstream changed to a protocol that nobody asked for")]
    Switched,
}

impl Failure {
    /// The response to a request that the upstream did not answer. Why is told in `Proxy-Status` (RFC 9209), and on stderr.
    pub fn answer<B: Default>(&self) -> Response<B> {
        let causes = successors(Some(self as &dyn Error), |&error| error.source());
        eprintln!("{}", causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
        let (status, why) = match self {
            Self::Unreachable(_) => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
            Self::Switched => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
            Self::Unconnected => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
        };
        let mut response = Response::new(B::default());
        *response.status_mut() = status;
        let why = format!("{NAME}; error={why}").try_into().expect("a name and a token are visible ASCII");
        response.headers_mut().insert(&PROXY_STATUS, why);
        response
    }
}

impl From<legacy::Error> for Failure {
    fn from(error: legacy::Error) -> Self {
        let mut causes = successors(error.source(), |&error| error.source());
        let timed_out = causes.any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        });
        match error.is_connect() {
            true if timed_out => Self::Unconnected,
            true => Self::Unreachable(error),
            false => Self::Broken(error),
        }
    }
}
