//! Tests on one machine without a network.

mod architecture;
