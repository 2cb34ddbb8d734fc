//! Tests without a network.

#[path = "../common/histories.rs"]
mod histories;
mod memory;
