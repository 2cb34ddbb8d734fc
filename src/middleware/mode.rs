//! What a layer is for.

use std::sync::Arc;

use super::{content::Content, grpc::Calls};

/// Requests over HTTP that are told apart by their heads: `GET` and `HEAD`. Their bodies reach the inner service as
/// they are.
#[derive(Clone, Debug, Default)]
pub struct Http(());

/// [`Http`], and reads that are told apart by their content: [`SingleflightLayer::body_key`](super::SingleflightLayer::body_key).
/// Bodies reach the inner service as [`RequestBody`](super::RequestBody).
#[derive(Clone, Debug)]
pub struct Bodies(pub(super) Content);

/// Calls of gRPC: [`SingleflightLayer::grpc`](super::SingleflightLayer::grpc). Bodies reach the inner service as
/// [`RequestBody`](super::RequestBody).
#[derive(Clone, Debug)]
pub struct Grpc(pub(super) Arc<Calls>);

/// The modes that speak HTTP. Sealed: there are no others than those here.
pub trait Web: sealed::Sealed {}

impl Web for Http {}
impl Web for Bodies {}

mod sealed {
    /// Keeps others from adding modes.
    pub trait Sealed {}

    impl Sealed for super::Http {}
    impl Sealed for super::Bodies {}
}
