//! Tests against real servers, which they start and end themselves.

mod contract;
mod support;
