//! Tower middleware that coalesces identical HTTP requests.
mod authority;
mod body;
mod cache_status;
mod collect;
mod fields;
mod flight;
mod future;
mod key;
mod layer;
mod outcome;
mod record;
mod request;
mod service;
mod share;

pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    key::{KeyExtractor, KeyFn, RequestKey, key_fn},
    layer::SingleflightLayer,
    outcome::{Outcome, Why},
    service::Singleflight,
    share::{Share, ShareFn, SharePolicy, share_fn},
};
