//! Tests without a network.

mod memory;
