//! One binary, no network.

mod http_flight;
mod http_guards;
mod http_support;
mod http_tower;
