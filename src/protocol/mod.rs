//! The protocols of flights and locks, pure: no IO, no clock, no randomness, no async. See `docs/protocol.md` and
//! `docs/lock.md`.

pub mod backoff;
pub mod flight;
pub mod lease;
pub mod lock;
pub mod quorum;
pub mod store;
pub mod time;
mod words;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the model is as large as a library, and its parts see each other")]
mod explore;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the model is as large as a library, and its parts see each other")]
mod model;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the model is as large as a library, and its parts see each other")]
mod lock_model;
