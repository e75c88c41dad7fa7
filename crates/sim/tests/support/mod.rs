#![allow(dead_code, reason = "each file of tests uses its part")]
//! Runs many seeds, on all cores, and prints the line that repeats a failure.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use evenkeel_sim::{Outcome, Setup, Stats, World};

/// Seeds of a suite unless `SEEDS` says otherwise.
const SEEDS: u64 = 10_000;

/// Seeds that a suite reports before it gives up looking for more.
const FAILURES_MAX: usize = 5;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("SEED, SEEDS and FROM are numbers"))
}

/// Whether as many seeds run as a suite needs to see everything.
pub(crate) fn runs_whole_suite() -> bool {
    number("SEED").is_none() && number("SEEDS").is_none_or(|seeds| seeds >= SEEDS)
}

/// Runs one world; a panic counts as a failure.
fn run_one(test: &str, seed: u64, draw: &impl Fn(u64) -> Setup) -> Result<Outcome, String> {
    let replay = format!("SEED={seed} cargo test -p evenkeel-sim {test}");
    match catch_unwind(AssertUnwindSafe(|| World::new(draw(seed)).run())) {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(violation)) => Err(format!("{replay}\n    {violation}")),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("{replay}\n    panicked: {}", text.unwrap_or_default()))
        }
    }
}

/// Runs worlds of one design with some seeds, or with `SEED` only, and looks at what each came to.
///
/// # Panics
/// If a world broke a rule, or `check` does.
pub(crate) fn each_seed(test: &str, seeds: u64, design: impl Fn(u64) -> Setup, check: impl Fn(&Outcome)) {
    let seeds = number("SEED").map_or(0..seeds, |seed| seed..seed + 1);
    for seed in seeds {
        let outcome = run_one(test, seed, &design).unwrap_or_else(|failure| panic!("\n{failure}"));
        let checked = catch_unwind(AssertUnwindSafe(|| check(&outcome)));
        assert!(checked.is_ok(), "SEED={seed} cargo test -p evenkeel-sim {test}");
    }
}

/// Runs the seeds that the environment asks for: `SEED` one, `SEEDS` as many, from `FROM` on. Returns what happened in
/// all of them together.
///
/// # Panics
/// If a world broke a rule; the message has a line for each such seed that repeats it.
pub(crate) fn run_seeds(test: &str, draw: impl Fn(u64) -> Setup + Sync) -> Stats {
    if let Some(seed) = number("SEED") {
        let outcome = run_one(test, seed, &draw).unwrap_or_else(|failure| panic!("\n{failure}"));
        return outcome.stats;
    }
    let from = number("FROM").unwrap_or(0);
    let until = from + number("SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(from);
    let failures = Mutex::new(Vec::new());
    let stats = Mutex::new(Stats::default());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    match run_one(test, seed, &draw) {
                        Ok(outcome) => stats.lock().expect("no other thread panicked").add(&outcome.stats),
                        Err(failure) => {
                            let mut failures = failures.lock().expect("no other thread panicked");
                            failures.push(failure);
                            if failures.len() >= FAILURES_MAX {
                                next.store(until, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panicked");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    stats.into_inner().expect("no thread panicked")
}
