//! Distributed singleflight.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "full"),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation speaks of what features add")
)]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::disallowed_methods, clippy::unwrap_used)]

pub mod backend;
pub mod codec;
pub mod group;
mod key;
pub mod middleware;
pub mod protocol;
pub use self::{
    group::Group,
    key::{Digest, Key, KeyBuilder},
    middleware::{
        KeyExtractor, Outcome, RequestKey, Share, SharePolicy, Singleflight, SingleflightLayer, Why, key_fn, share_fn,
    },
};
