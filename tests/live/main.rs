//! Tests against real servers, which they start and end themselves.

mod acl;
mod connecting;
mod contract;
mod exchanges;
mod faults;
#[path = "../common/histories.rs"]
mod histories;
mod hung;
mod leftovers;
mod losses;
mod outage;
mod parked;
mod scripts;
mod storage;
mod support;
