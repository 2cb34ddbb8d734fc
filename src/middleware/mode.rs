//! What a layer is for.

/// Requests over HTTP that are told apart by their heads: `GET` and `HEAD`. Their bodies reach the inner service as they are.
#[derive(Clone, Debug, Default)]
pub struct Http(());

/// The modes that speak HTTP. Sealed: there are no others than those here.
pub trait Web: sealed::Sealed {}

impl Web for Http {}

mod sealed {
    /// Keeps others from adding modes.
    pub trait Sealed {}

    impl Sealed for super::Http {}
}
