//! Whole rollouts with simulated calls, at the default settings.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SEEDS: u64 = 100;

/// How a version behaves.
#[derive(Clone, Copy)]
struct Service {
    error_rate: f64,
    /// Latencies are spread exponentially around this mean, with a floor of a millisecond.
    mean_ms: f64,
}

const BASE: Service = Service { error_rate: 0.01, mean_ms: 20.0 };

/// How a rollout ended.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    phase: Phase,
    weight: Option<u8>,
    after: Duration,
    canary_calls: u64,
}

/// Rolls a version out under `rate` calls a second, until it is decided or `limit` is over. During the first half of each
/// minute a `trouble` is added to the error rate of both versions.
fn roll_out(
    stable: Service,
    canary: Service,
    rate: u64,
    trouble: f64,
    limit: Duration,
    seed: u64,
) -> Outcome {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut rollout = Canary::new(CanaryConfig::default(), START);
    rollout.start(START).unwrap();
    let mut canary_calls = 0;
    let (mut now, end) = (START, START + limit);
    while now < end && rollout.progress().phase == Phase::Running {
        let share = f64::from(rollout.weight().unwrap()) / 100.0;
        let extra = if now.as_secs() % 60 < 30 { trouble } else { 0.0 };
        let mut fresh = Window::default();
        for _ in 0..rate {
            let is_canary = rng.random_bool(share);
            let (service, version) =
                if is_canary { (canary, Version::Canary) } else { (stable, Version::Stable) };
            canary_calls += u64::from(is_canary);
            let fails = rng.random_bool((service.error_rate + extra).min(1.0));
            let uniform: f64 = rng.random();
            let millis = 1.0 - service.mean_ms * (1.0 - uniform).ln();
            let code = if fails { Code::Unavailable } else { Code::Ok };
            fresh.of(version).record(code, Some(Duration::from_secs_f64(millis / 1_000.0)));
        }
        now += seconds(1);
        rollout.tick(now, &fresh);
    }
    let progress = rollout.progress();
    Outcome { phase: progress.phase, weight: progress.weight, after: now - START, canary_calls }
}

/// 100 rollouts; prints and returns how many ended how, and the outcomes in the order of their time.
fn rollouts(
    name: &str,
    expected: &str,
    canary: Service,
    rate: u64,
    trouble: f64,
) -> (usize, usize, Vec<Outcome>) {
    let run = |seed| roll_out(BASE, canary, rate, trouble, seconds(4 * 3_600), seed);
    let mut outcomes: Vec<_> = (0..SEEDS).map(run).collect();
    outcomes.sort_by_key(|outcome| outcome.after);
    let count = |phase| outcomes.iter().filter(|outcome| outcome.phase == phase).count();
    let (promoted, rolled_back) = (count(Phase::Promoted), count(Phase::RolledBack));
    let (median, last) = (outcomes[outcomes.len() / 2], outcomes[outcomes.len() - 1]);
    println!(
        "figure: canary, {name}, {rate} calls/s | {expected} | {promoted} promoted, {rolled_back} rolled back; after {:.0?} \
         and {} of its calls (median), {:.0?} (longest)",
        median.after, median.canary_calls, last.after,
    );
    (promoted, rolled_back, outcomes)
}

#[test]
fn an_equal_version_is_promoted_and_never_rolled_back() {
    let (promoted, rolled_back, outcomes) =
        rollouts("equal, 1 % errors", "100 of 100 promoted", BASE, 100, 0.0);
    assert_eq!((promoted, rolled_back), (100, 0));
    assert!(outcomes[0].after >= seconds(900), "no step is shorter than its time");
    assert!(outcomes[99].after <= seconds(3_600), "{:?}", outcomes[99]);
}

#[test]
fn a_version_with_two_percent_more_errors_is_rolled_back() {
    let worse = Service { error_rate: 0.03, ..BASE };
    let (promoted, rolled_back, outcomes) =
        rollouts("2 % more errors", "100 of 100 rolled back", worse, 100, 0.0);
    assert_eq!((promoted, rolled_back), (0, 100));
    assert!(outcomes.iter().all(|outcome| outcome.weight == Some(0)));
    assert!(outcomes[99].after <= seconds(3_600), "{:?}", outcomes[99]);
}

#[test]
fn two_percent_more_errors_are_found_with_a_tenth_of_the_traffic_too() {
    let worse = Service { error_rate: 0.03, ..BASE };
    let (promoted, rolled_back, _) = rollouts("2 % more errors", "100 of 100 rolled back", worse, 10, 0.0);
    assert_eq!((promoted, rolled_back), (0, 100));
}

#[test]
fn a_version_that_fails_every_call_is_gone_within_seconds() {
    let broken = Service { error_rate: 1.0, ..BASE };
    let (_, rolled_back, outcomes) = rollouts("fails every call", "100 of 100 rolled back", broken, 100, 0.0);
    assert_eq!(rolled_back, 100);
    assert!(outcomes[99].after <= seconds(5), "{:?}", outcomes[99]);
}

#[test]
fn a_slower_version_is_rolled_back() {
    let slow = Service { mean_ms: BASE.mean_ms * 1.6, ..BASE };
    let (promoted, rolled_back, _) = rollouts("p99 60 % longer", "100 of 100 rolled back", slow, 100, 0.0);
    assert_eq!((promoted, rolled_back), (0, 100));
}

#[test]
fn a_quicker_and_better_version_is_promoted() {
    let better = Service { error_rate: 0.0, mean_ms: 10.0 };
    let (promoted, rolled_back, _) = rollouts("better", "100 of 100 promoted", better, 100, 0.0);
    assert_eq!((promoted, rolled_back), (100, 0));
}

#[test]
fn trouble_of_both_versions_speaks_against_neither() {
    let (_, rolled_back, _) =
        rollouts("equal, both with 30 % errors half of the time", "none rolled back", BASE, 100, 0.3);
    assert_eq!(rolled_back, 0);
}

#[test]
fn too_little_traffic_waits() {
    // A call every second: 10 % of an hour's calls are 360 of the 500 that a step needs.
    for canary in [BASE, Service { error_rate: 0.03, ..BASE }] {
        let outcome = roll_out(BASE, canary, 1, 0.0, seconds(3_600), 7);
        assert_eq!((outcome.phase, outcome.weight), (Phase::Running, Some(10)), "{outcome:?}");
    }
}
