//! Behaviour on `Memory`, on a paused clock, without a network.

mod architecture;
mod group;
mod memory;
