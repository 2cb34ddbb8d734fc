//! One binary, no network.
