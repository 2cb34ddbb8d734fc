//! Behaviour on `Memory`, on a paused clock, without a network.

mod architecture;
mod group;
mod http_flight;
mod http_guards;
mod http_support;
mod http_tower;
mod memory;
