use std::{fmt, time::Duration};

use crate::group::{Alone, Source};

/// What happened to a request: found in the extensions of every response.
///
/// ```
/// # use tower_singleflight::Outcome;
/// fn executed<B>(response: &http::Response<B>) -> bool {
///     matches!(response.extensions().get(), Some(Outcome::Led | Outcome::Bypassed(_)))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The request led a flight: the inner service ran for it, and for everybody who could use the response.
    Led,
    /// The response is that of another request which was in the air at the same time.
    Joined {
        /// Whether that request ran on another replica.
        elsewhere: bool,
    },
    /// The response was stored, and is fresh.
    Hit {
        /// Time since it was stored.
        age: Duration,
    },
    /// The response was stored, is past its result TTL and within the warm-up window: one caller refreshes it.
    Stale {
        /// Time since it was stored.
        age: Duration,
    },
    /// The inner service ran for this request without coordination: requests on this replica may have joined it, none on
    /// others, and nothing was stored.
    Bypassed(Why),
}

/// Why the inner service ran for a request without coordination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The method is neither `GET` nor `HEAD`, nor is it a read that is told apart by its
    /// [content](super::SingleflightLayer::body_key). For gRPC: it is none of those that are
    /// [named](super::SingleflightLayer::methods).
    Method,
    /// The request carries content of which no key is made. For gRPC: it is not one message within the limit.
    Content,
    /// A field says who asks, such as `Authorization`, `Cookie` or `X-Forwarded-User`; or an
    /// [identity policy](super::IdentityPolicy) says so.
    Identity,
    /// The request says `Cache-Control: no-store`.
    NoStore,
    /// A [field](super::SingleflightLayer::override_fields) may replace the method or the target, such as
    /// `X-HTTP-Method-Override` or `X-Original-URL`.
    Override,
    /// The request asks for another protocol on its connection.
    Upgrade,
    /// The request asks for an event stream.
    EventStream,
    /// The request asks for a part of the content, and there is no whole of which to cut it, or it takes several.
    Range,
    /// The request sets a condition that only the origin can judge, such as `If-Match`.
    Conditional,
    /// The request is to be answered only from what is stored (`only-if-cached`), and nothing is: the inner service did not
    /// run.
    OnlyIfCached,
    /// The request takes no response that is as old as what is stored, and the layer
    /// [listens](super::SingleflightLayer::honor_request_directives).
    Directive,
    /// The request carries `Expect`.
    Expect,
    /// The key extractor made no key; the usual one makes none without one clear authority (`Host`).
    NoKey,
    /// Responses of this key could not be shared a moment ago.
    Unshareable,
    /// The target has more variants (`Vary`) than a replica takes part in.
    Variants,
    /// The request waited as long as it was willing to.
    WaitTimeout,
    /// The store could not be reached in time.
    StoreUnavailable,
    /// Too many leaders died or failed in a row.
    Poisoned,
    /// The lease was lost before the response could be stored.
    Superseded,
    /// The time of this caller of gRPC was over (`grpc-timeout`) before there was a response: that of another goes on.
    Deadline,
    /// Too many requests wait, or too many bytes are being recorded. With [`Overload::Refuse`](super::Overload::Refuse) the
    /// inner service did not run.
    Overloaded,
}

impl From<Source> for Outcome {
    fn from(source: Source) -> Self {
        match source {
            Source::Led => Self::Led,
            Source::JoinedHere => Self::Joined { elsewhere: false },
            Source::JoinedElsewhere => Self::Joined { elsewhere: true },
            Source::Hit { age } => Self::Hit { age },
            Source::Stale { age } => Self::Stale { age },
            Source::Alone(why) => Self::Bypassed(why.into()),
        }
    }
}

impl From<Alone> for Why {
    fn from(alone: Alone) -> Self {
        match alone {
            Alone::WaitTimeout => Self::WaitTimeout,
            Alone::Unshareable => Self::Unshareable,
            Alone::Unavailable => Self::StoreUnavailable,
            Alone::Poisoned => Self::Poisoned,
            Alone::Superseded => Self::Superseded,
            Alone::Overloaded => Self::Overloaded,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Led => f.write_str("led"),
            Self::Joined { elsewhere: false } => f.write_str("joined here"),
            Self::Joined { elsewhere: true } => f.write_str("joined elsewhere"),
            Self::Hit { .. } => f.write_str("hit"),
            Self::Stale { .. } => f.write_str("stale"),
            Self::Bypassed(why) => write!(f, "bypassed: {why}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "method",
            Self::Content => "content",
            Self::Identity => "identity",
            Self::NoStore => "no-store",
            Self::Override => "override",
            Self::Upgrade => "upgrade",
            Self::EventStream => "event stream",
            Self::Range => "range",
            Self::Conditional => "conditional",
            Self::OnlyIfCached => "only-if-cached",
            Self::Directive => "directive",
            Self::Expect => "expect",
            Self::NoKey => "no key",
            Self::Unshareable => "unshareable",
            Self::Variants => "variants",
            Self::WaitTimeout => "wait timeout",
            Self::StoreUnavailable => "store unavailable",
            Self::Poisoned => "poisoned",
            Self::Superseded => "superseded",
            Self::Deadline => "deadline exceeded",
            Self::Overloaded => "overloaded",
        })
    }
}
