//! The long documents: how it works, and what happens when something fails.

#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

#[doc = include_str!("../docs/lock.md")]
pub mod lock {}

#[doc = include_str!("../docs/failure-modes.md")]
pub mod failure_modes {}

#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
mod readme {}
