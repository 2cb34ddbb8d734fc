//! Seeded simulation: a small fleet on a paused clock, over a store whose network delays, loses and repeats.
//!
//! A failing seed is printed; `SIM_SEED=n cargo test --test sim` runs it alone, and
//! `SIM_SEEDS=n` runs so many of each plan.

#![allow(clippy::disallowed_methods, reason = "a simulation reads its own clock")]

mod exchange;
mod fleet;

mod net;

use std::{
    fmt::Debug,
    ops::{AddAssign, Range},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use tower_singleflight::Policy;

use self::fleet::Plan;

/// The seeds that a plan is run with, and whether they are too few to expect of them all that can happen.
fn seeds(usual: u64) -> (Range<u64>, bool) {
    let number = |name| std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is a number")));
    match number("SIM_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..number("SIM_SEEDS").unwrap_or(usual), false),
    }
}

fn run_all<P: Debug, T: AddAssign + Debug + Default>(
    plan: &P,
    usual: u64,
    run: impl AsyncFn(&P, u64) -> T,
    assert_not_empty: impl Fn(&T, &P),
) {
    let (seeds, few) = seeds(usual);
    let mut total = T::default();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        match catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(plan, seed)))) {
            Ok(tally) => total += tally,
            Err(panic) => {
                eprintln!("seed {seed} of {plan:?}");
                resume_unwind(panic);
            }
        }
    }
    println!("{plan:?}: {total:?}");
    if !few {
        assert_not_empty(&total, plan);
    }
}

fn fly(plan: &Plan) {
    run_all(plan, 400, fleet::run, fleet::Tally::assert_not_empty);
}

#[test]
fn on_a_good_network_no_key_is_worked_on_twice_at_a_time() {
    fly(&Plan { faults: false, failures: false, ..Plan::default() });
    fly(&Plan { faults: false, failures: false, ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn failures_panics_and_departures_leave_nobody_waiting() {
    fly(&Plan { faults: false, ..Plan::default() });
    fly(&Plan { faults: false, ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn on_a_bad_network_everybody_gets_an_answer_that_was_meant_for_him() {
    fly(&Plan::default());
    fly(&Plan { ttl_ms: 200, warmup_ms: 100, ..Plan::default() });
}

#[test]
fn losing_every_message_changes_latency_alone() {
    fly(&Plan { faults: false, failures: false, deaf: true, ..Plan::default() });
}

/// Fails within ten seeds of a plan if `Set-Cookie`, `private` or a 400 is shared, if `authorization` or `cookie` is
/// taken off the list, if the response to credentials is not asked whether it is for all, if `private="x-user"` strips
/// nothing, if what selected a record is not compared, if HEAD flies with GET, if a `PUT` or the application
/// invalidates nothing, or if records live three times as long as they should. Each of these was tried.
#[test]
fn nobody_receives_what_is_not_meant_for_him() {
    for policy in [Policy::Route, Policy::Origin] {
        for (rfc, faults) in [(false, false), (true, false), (false, true)] {
            let plan = exchange::Plan { policy, rfc, faults };
            run_all(&plan, 150, exchange::run, exchange::Tally::assert_not_empty);
        }
    }
}
