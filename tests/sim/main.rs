//! Seeded simulation: a small fleet on a paused clock, over a store whose network delays, loses and repeats.
//!
//! A failing seed is printed; `SIM_SEED=n cargo test --test sim` runs it alone.

#![allow(clippy::disallowed_methods, reason = "a simulation reads its own clock")]

mod fleet;
mod net;

use fleet::{Plan, run};

/// How many seeds each plan is run with.
const SEEDS: u64 = 400;

fn seeds(plan: &Plan) {
    let only = std::env::var("SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("SIM_SEED is a number"));
    let mut total = fleet::Tally::default();
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let tally = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(plan, seed))));
        match tally {
            Ok(tally) => total += tally,
            Err(panic) => {
                eprintln!("seed {seed} of {plan:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{plan:?}: {total:?}");
    if only.is_none() {
        total.assert_not_empty(plan);
    }
}

#[test]
fn on_a_good_network_no_key_is_worked_on_twice_at_a_time() {
    seeds(&Plan { faults: false, failures: false, ..Plan::default() });
    seeds(&Plan { faults: false, failures: false, ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn failures_panics_and_departures_leave_nobody_waiting() {
    seeds(&Plan { faults: false, ..Plan::default() });
    seeds(&Plan { faults: false, ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn on_a_bad_network_everybody_gets_an_answer_that_was_meant_for_him() {
    seeds(&Plan::default());
    seeds(&Plan { ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn losing_every_message_changes_latency_alone() {
    seeds(&Plan { faults: false, failures: false, deaf: true, ..Plan::default() });
}
