//! prequal against other policies, in the simulated testbed of its paper: the order of its figure 7, and its figure 6.
//!
//! The example of the same name prints the figures, and how they depend on the testbed.

mod testbed;

use core::time::Duration;

use evenkeel_balance::Policy;

use testbed::{Figures, LEAST_REQUEST, PEAK_EWMA, PREQUAL, RAMP, Testbed, WEIGHTED_ROUND_ROBIN};

const SEED: u64 = 1;

#[test]
fn the_tail_at_nine_tenths_of_the_capacity_is_shorter_than_with_any_other_policy() {
    // The paper's order of its figure 7, shortest first.
    let ordered = [PREQUAL, PEAK_EWMA, LEAST_REQUEST, WEIGHTED_ROUND_ROBIN];
    let p99 = ordered.map(|compared| Testbed::small().run(compared.policy(), 0.9, SEED).quantile(0.99));
    let names = ordered.map(|compared| compared.0).join(" < ");
    println!("figure: p99 at load 0.9, in order | {names} | {p99:.0?}");
    assert!(p99.is_sorted_by(|one, other| one < other), "{p99:?}");
    for (place, most) in [(3, 0.3), (2, 0.7), (1, 0.85)] {
        let share = p99[0].div_duration_f64(p99[place]);
        println!(
            "figure: p99 of prequal at load 0.9 by that of {} | at most {most} | {share:.2}",
            ordered[place].0
        );
        assert!(share < most, "{share} of that with {}", ordered[place].0);
    }
}

#[test]
fn no_call_fails_up_to_1_74_times_the_allocation() {
    for load in RAMP {
        let figures = Testbed::small().run(PREQUAL.policy(), load, SEED);
        println!(
            "figure: calls that fail with prequal at {load} times the allocation | 0 | {} of {}, p99.9 {:.0?}",
            figures.errors,
            figures.latencies.len(),
            figures.quantile(0.999)
        );
        assert!(figures.least_capacity > load, "no policy could serve more than {}", figures.least_capacity);
        assert_eq!(figures.errors, 0, "of {} calls at load {load}", figures.latencies.len());
    }
}

#[test]
fn weighted_round_robin_fails_calls_above_the_allocation() {
    for (load, least) in [(1.03, 0.01), (1.41, 0.1), (1.74, 0.2)] {
        let errors = Testbed::small().run(WEIGHTED_ROUND_ROBIN.policy(), load, SEED).error_share();
        println!(
            "figure: calls that fail with weighted_round_robin at {load} times the allocation | above {:.0} % | {:.1} %",
            least * 100.0,
            errors * 100.0
        );
        assert!(errors > least, "{errors} at load {load}");
    }
}

/// A testbed of so little that runs are short.
fn tiny() -> Testbed {
    let second = Duration::from_secs(1);
    Testbed { servers: 5, clients: 3, warm_up: second, time: 3 * second, ..Testbed::default() }
}

#[test]
fn a_run_follows_from_its_seed() {
    for compared in [PREQUAL, WEIGHTED_ROUND_ROBIN, LEAST_REQUEST, PEAK_EWMA] {
        let run = |seed| tiny().run(compared.policy(), 0.9, seed);
        assert_eq!(run(1), run(1), "{}", compared.0);
        assert_ne!(run(1), run(2), "{}", compared.0);
    }
}

/// Servers that get their allocation, one core, and nothing else: M/G/1 with processor sharing.
fn undisturbed() -> Testbed {
    Testbed {
        servers: 4,
        clients: 1,
        cores: 1.0,
        slowdown: 1.0,
        interference: 1.0,
        spare: (1.0, 1.000_001),
        deadline: Duration::from_secs(60),
        time: Duration::from_secs(2_000),
        ..Testbed::default()
    }
}

fn mean(figures: &Figures) -> f64 {
    figures.latencies.iter().map(Duration::as_secs_f64).sum::<f64>() / figures.latencies.len() as f64
}

/// Of an M/G/1 queue with processor sharing the mean time in the system is that of the service divided by the share of idle
/// time, whatever the distribution of the service (Kleinrock, Queueing Systems II, section 4.4).
#[test]
fn the_testbeds_servers_agree_with_queueing_theory() {
    for load in [0.3, 0.5, 0.7] {
        let figures = undisturbed().run(Policy::Random, load, SEED);
        let expected = 0.040 * 1.083_316 / (1.0 - load) + 0.000_2;
        let mean = mean(&figures);
        println!("seed {SEED}, load {load}: {mean:.4} s, in theory {expected:.4} s");
        assert!((mean / expected - 1.0).abs() < 0.03, "load {load}: {mean}, in theory {expected}");
        assert_eq!(figures.errors, 0);
    }
}
