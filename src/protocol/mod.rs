//! The flight protocol, pure: no IO, no clock, no randomness, no async. See `docs/protocol.md`.

pub mod flight;
pub mod lease;
pub mod store;
pub mod time;
mod words;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the model is as large as a library, and its parts see each other")]
mod model;
