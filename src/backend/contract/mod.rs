//! What every backend must do, as tests that a backend of your own can run.
//!
//! [`backend_contract_tests!`](crate::backend_contract_tests) makes one `#[tokio::test]` of each function here. It takes
//! an async closure that returns two replicas on one empty store, and whatever must live as long as they do (`()` if
//! there is nothing):
//!
//! ```
//! # #[cfg(test)]
//! mod contract {
//!     use tower_singleflight::backend::Memory;
//!
//!     tower_singleflight::backend_contract_tests!(async || {
//!         let memory = Memory::new();
//!         ([memory.replica(), memory], ())
//!     });
//! }
//! ```
//!
//! Time passes for real in a few of them: only where a lifetime itself is the subject.

mod failures;
mod flights;
mod locks;
mod records;
mod variants;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

pub use self::{
    failures::*,
    flights::*,
    locks::{Grants, LockName, LockReplica},
    records::*,
    variants::*,
};
use super::{Backend, Begin, Begun, Completed, Fence, Found, Lifetimes, Notice, Owner, Record, Watch};
use crate::key::Key;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3600);

/// Long enough for a slow store to do a few operations in, short enough to wait for.
const SHORT: Duration = Duration::from_secs(1);

/// A message that does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes one test of each function in [`backend::contract`](crate::backend::contract).
///
/// The argument is an async closure that returns `([replica, replica], keep_alive)`.
#[macro_export]
macro_rules! backend_contract_tests {
    ($make:expr) => {
        $crate::backend_contract_tests! { @tests $make;
            a_flight_is_led_followed_and_landed
            a_value_that_lives_is_a_hit
            a_value_without_lifetime_reaches_those_who_followed_it
            a_stale_value_is_served_while_one_refreshes
            a_large_record_travels_whole
            a_retried_begin_leads_again
            a_retried_completion_is_stored_once
            a_completion_by_nobody_is_superseded
            an_old_leader_is_superseded
            a_leader_past_its_deadline_may_still_store
            only_the_leader_renews
            an_abort_by_another_changes_nothing
            a_failure_tells_those_who_wait_and_is_counted
            an_abandoned_flight_is_not_counted
            a_scattered_key_sends_everyone_alone
            a_dead_leader_is_replaced_after_its_lease
            dead_leaders_poison_a_key
            failures_poison_those_who_would_follow
            an_invalidation_tells_everyone_and_stops_the_flight
            a_put_value_is_found_and_outlives_the_flight
            a_record_ends_with_its_lifetime
            ages_and_lifetimes_are_told
            fences_grow_whatever_happens
            any_bytes_make_a_key
            keys_do_not_touch_each_other
            records_of_variants_do_not_mix
            a_primary_takes_the_records_of_its_variants_along
            a_primary_takes_the_flights_of_its_variants_along
            a_variant_goes_alone
            fences_of_variants_grow
        }
    };
    (@tests $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (replicas, _keep_alive) = ($make)().await;
                $crate::backend::contract::$name(replicas).await;
            }
        )*
    };
}

fn key(name: &str) -> Key {
    Key::builder("contract").part(name).finish()
}

fn owner(number: u128) -> Owner {
    Owner(number << 64 | 0xdead_beef)
}

fn ask(number: u128) -> Begin {
    Begin { owner: owner(number), lease: LONG, followed: Fence::NONE }
}

fn record(payload: &'static str, fresh: Duration, stale: Duration) -> Record {
    let lifetimes = Lifetimes { fresh, stale, keep: LONG };
    Record { lifetimes, cost: Duration::from_millis(7), payload: Bytes::from_static(payload.as_bytes()) }
}

async fn lead<B: Backend>(backend: &B, key: &Key, begin: Begin) -> (Fence, u32, Option<Found>, Watch) {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Lead { fence, failures, previous, watch } => (fence, failures, previous, watch),
        other => panic!("expected to lead, got {other:?}"),
    }
}

async fn follow<B: Backend>(backend: &B, key: &Key, begin: Begin) -> (Fence, Duration, Watch) {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Follow { fence, left, watch } => (fence, left, watch),
        other => panic!("expected to follow, got {other:?}"),
    }
}

async fn hit<B: Backend>(backend: &B, key: &Key, begin: Begin) -> Found {
    match backend.begin(key, begin).await.expect("begin is answered") {
        Begun::Hit(found) => found,
        other => panic!("expected a hit, got {other:?}"),
    }
}

async fn complete<B: Backend>(backend: &B, key: &Key, owner: Owner, fence: Fence, record: Record) -> Completed {
    backend.complete(key, owner, fence, record).await.expect("complete is answered")
}

async fn told(watch: &mut Watch) -> Notice {
    timeout(PATIENCE, watch.next()).await.expect("a message comes")
}
