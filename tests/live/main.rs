//! Tests against real servers, which they start and end themselves.

mod acl;
mod connecting;
mod contract;
mod faults;
mod fleet;
#[path = "../common/histories.rs"]
mod histories;
mod scripts;
mod storage;
mod support;
