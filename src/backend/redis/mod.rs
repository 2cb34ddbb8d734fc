//! `Redis`: the store that replicas share.
/// Placeholder.
#[derive(Clone, Debug)]
pub struct Redis;
