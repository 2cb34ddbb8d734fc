//! Distributed singleflight.
pub mod backend;
pub mod codec;
pub mod group;
mod key;
pub mod protocol;
pub use self::{
    group::Group,
    key::{Digest, Key, KeyBuilder},
};
