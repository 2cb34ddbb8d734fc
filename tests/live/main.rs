//! Tests against real servers, which they start and end themselves.

mod acl;
mod connecting;
mod contract;
mod deaths;
mod exchanges;
mod faults;
mod fleet;
mod garbage;
mod gather_stats;
mod greeter;
#[path = "../common/histories.rs"]
mod histories;
mod hung;
mod hyper_server;
mod leftovers;
mod lock_exchanges;
mod lock_grants;
#[path = "../common/lock_histories.rs"]
mod lock_histories;
mod lock_travels;
mod locks;
mod losses;
mod mutex;
mod outage;
mod parked;
mod reconnecting;
mod reverse_proxy;
mod scripts;
mod storage;
mod strict;
mod support;
mod variants;
