//! Distributed singleflight.
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
