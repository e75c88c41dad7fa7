use core::time::Duration;

use super::PeakEwmaConfig;
use crate::balancer::tests::fixture::Fixture;
use crate::balancer::tests::queueing::{Queueing, Server};
use crate::{Ask, CallReport, Outcome, Pick, Policy};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn peak_ewma() -> Policy {
    Policy::PeakEwma(PeakEwmaConfig::default())
}

/// How often each of two endpoints is picked out of 100, a second after both were seen with these latencies.
fn counts(fixture: &mut Fixture, now: Duration) -> [usize; 2] {
    let mut counts = [0; 2];
    for _ in 0..100 {
        let Pick::Endpoint(slot) = fixture.balancer.pick(&Ask { now, hash: None }) else {
            panic!("both are ready")
        };
        counts[fixture.number(slot) as usize] += 1;
    }
    counts
}

fn observe(fixture: &mut Fixture, number: u32, now: Duration, latency: Duration, outcome: Outcome) {
    let slot = fixture.slot(number);
    fixture.balancer.call_started(slot, now);
    fixture.balancer.call_finished(slot, &CallReport { now, outcome, latency, load: None });
}

#[test]
fn the_product_of_latency_and_calls_decides() {
    let mut fixture = Fixture::ready(peak_ewma(), &[1, 1], 1);
    observe(&mut fixture, 0, SECOND, 10 * MS, Outcome::Success);
    observe(&mut fixture, 1, SECOND, 29 * MS, Outcome::Success);
    assert_eq!(counts(&mut fixture, 2 * SECOND), [100, 0]);
    let slot = fixture.slot(0);
    fixture.balancer.call_started(slot, SECOND);
    assert_eq!(counts(&mut fixture, 2 * SECOND), [100, 0], "20 against 29");
    fixture.balancer.call_started(slot, SECOND);
    assert_eq!(counts(&mut fixture, 2 * SECOND), [0, 100], "30 against 29");
}

#[test]
fn weights_divide_the_cost() {
    let mut fixture = Fixture::ready(peak_ewma(), &[1, 3], 1);
    observe(&mut fixture, 0, SECOND, 10 * MS, Outcome::Success);
    observe(&mut fixture, 1, SECOND, 29 * MS, Outcome::Success);
    let [slot, busy] = [1, 0].map(|number| fixture.slot(number));
    for _ in 0..20 {
        fixture.balancer.call_started(slot, SECOND);
        fixture.balancer.call_started(busy, SECOND);
    }
    assert!(counts(&mut fixture, 2 * SECOND)[1] > 50, "200 against 193, and what chance adds");
    for _ in 0..20 {
        fixture.balancer.call_started(busy, SECOND);
    }
    assert_eq!(counts(&mut fixture, 2 * SECOND), [0, 100], "400 against 193");
}

/// The share of each of these endpoints of 100,000 picks, none of which is a call; all were seen with their latency.
fn shares(weights: &[u32], latencies: &[u64]) -> Vec<f64> {
    const PICKS: u32 = 100_000;
    let mut fixture = Fixture::ready(peak_ewma(), weights, 3);
    for (number, latency) in latencies.iter().enumerate() {
        observe(&mut fixture, number as u32, SECOND, MS * *latency as u32, Outcome::Success);
    }
    let mut counts = vec![0_u32; weights.len()];
    for _ in 0..PICKS {
        let Pick::Endpoint(slot) = fixture.balancer.pick(&Ask { now: SECOND, hash: None }) else {
            panic!("all are ready")
        };
        counts[fixture.number(slot) as usize] += 1;
    }
    counts.iter().map(|count| f64::from(*count) / f64::from(PICKS)).collect()
}

#[test]
fn idle_endpoints_of_one_latency_get_calls_by_their_weights() {
    for weights in [&[1, 3][..], &[40, 60], &[10, 10, 10, 30], &[1, 1, 1, 5], &[1, 1, 1, 1, 96]] {
        let sum: u32 = weights.iter().sum();
        let shares = shares(weights, &vec![10; weights.len()]);
        for (share, weight) in shares.iter().zip(weights) {
            let expected = f64::from(*weight) / f64::from(sum);
            assert!((share - expected).abs() < 0.006, "{weights:?}: {shares:?}");
        }
    }
}

#[test]
fn of_two_idle_endpoints_the_call_goes_by_weight_over_latency() {
    for (latencies, expected) in [([10, 30], 0.5), ([10, 10], 0.25), ([30, 10], 0.1)] {
        let shares = shares(&[1, 3], &latencies);
        assert!((shares[0] - expected).abs() < 0.006, "{latencies:?}: {shares:?}");
    }
}

/// Latencies are not all alike here: who has more calls meets more of the long ones, and a peak is remembered.
#[test]
fn where_calls_are_few_they_follow_the_weights_more_or_less() {
    for weights in [&[1, 1, 1, 5][..], &[1, 3]] {
        let servers = vec![Server::of_ms(10); weights.len()];
        for seed in 0..3 {
            let mut queueing = Queueing::weighted(peak_ewma(), &servers, weights, 20.0, seed);
            queueing.run_for(10 * SECOND);
            let counts = queueing.run_for(300 * SECOND).counts;
            let (all, sum): (usize, u32) = (counts.iter().sum(), weights.iter().sum());
            for (count, weight) in counts.iter().zip(weights) {
                let part = *count as f64 / all as f64 / (f64::from(*weight) / f64::from(sum));
                let expected = if *weight > 1 { 0.87..=1.0 } else { 1.0..=1.35 };
                println!("seed {seed}: {part:.2} of the part that a weight of {weight} asks for");
                assert!(expected.contains(&part), "seed {seed}: {counts:?} by {weights:?}");
            }
        }
    }
}

#[test]
fn a_ten_times_slower_server_loses_its_share_within_five_seconds() {
    let mut most: f64 = 0.0;
    for seed in 0..5 {
        let mut servers = [Server::of_ms(10); 5];
        let mut queueing = Queueing::new(peak_ewma(), &servers, 200.0, seed);
        let before = queueing.run_for(20 * SECOND).fair_shares(0);
        assert!((0.5..1.5).contains(&before), "seed {seed}: {before}");
        servers[0] = Server::of_ms(100);
        queueing.servers = servers.to_vec();
        queueing.run_for(5 * SECOND);
        let after = queueing.run_for(10 * SECOND).fair_shares(0);
        println!("seed {seed}: {after:.3} of its fair share");
        most = most.max(after);
        assert!(after < 0.2, "seed {seed}: {after}");
    }
    println!(
        "figure: share of a server ten times slower, 5 s later, peak_ewma | below 0.2 of the fair one | {most:.3} at most in 5 runs"
    );
}

#[test]
fn a_server_that_fails_at_once_attracts_no_load() {
    for fails in [1.0, 0.5] {
        for seed in 0..5 {
            let mut servers = [Server::of_ms(10); 5];
            let mut queueing = Queueing::new(peak_ewma(), &servers, 200.0, seed);
            queueing.run_for(10 * SECOND);
            servers[0] = servers[0].failing(fails);
            queueing.servers = servers.to_vec();
            let first = queueing.run_for(SECOND).fair_shares(0);
            let later = queueing.run_for(60 * SECOND).fair_shares(0);
            println!("fails {fails}, seed {seed}: {first:.3} of its fair share, then {later:.3}");
            assert!(first < 1.0 && later < 0.1, "fails {fails}, seed {seed}: {first}, {later}");
        }
    }
}

#[test]
fn failures_in_the_ordinary_disturb_no_balance() {
    for seed in 0..5 {
        let servers = [Server::of_ms(10).failing(0.01); 5];
        let mut queueing = Queueing::new(peak_ewma(), &servers, 350.0, seed);
        queueing.run_for(10 * SECOND);
        let outcomes = queueing.run_for(60 * SECOND);
        let mut without = Queueing::new(peak_ewma(), &[Server::of_ms(10); 5], 350.0, seed);
        without.run_for(10 * SECOND);
        let [p99, p99_without] = [outcomes, without.run_for(60 * SECOND)].map(|outcomes| {
            for server in 0..5 {
                let share = outcomes.fair_shares(server);
                assert!((0.9..1.1).contains(&share), "seed {seed}: {:?}", outcomes.counts);
            }
            outcomes.quantile(0.99)
        });
        println!("seed {seed}: p99 {p99:?} with 1 % failures, {p99_without:?} without");
        assert!(p99 < p99_without.mul_f64(1.15), "seed {seed}: {p99:?}, without failures {p99_without:?}");
    }
}
