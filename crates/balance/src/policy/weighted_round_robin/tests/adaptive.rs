//! Weights by reported load, and during a slow start.

use core::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::balancer::tests::fixture::{Fixture, addresses};
use crate::{Ask, BalancerConfig, CallReport, Connectivity, Factor, LoadReport, LoadReportCounts};
use crate::{LoadSource, LoadWeightConfig, Outcome, Pick, Policy, SlowStart};

const SECOND: Duration = Duration::from_secs(1);

fn by_load() -> Policy {
    Policy::LoadWeightedRoundRobin(LoadWeightConfig::default())
}

fn load(requests_per_second: f64) -> LoadReport {
    LoadReport { utilization: 0.5, requests_per_second, errors_per_second: 0.0 }
}

/// The shares of `picks` calls at this time.
fn shares(fixture: &mut Fixture, now: Duration, picks: usize) -> Vec<f64> {
    let mut counts = vec![0_u32; fixture.set.endpoints().len()];
    for _ in 0..picks {
        let Pick::Endpoint(slot) = fixture.balancer.pick(&Ask { now, hash: None }) else {
            panic!("all are ready")
        };
        counts[fixture.number(slot) as usize] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / picks as f64).collect()
}

/// Reports these calls per second for endpoints 0, 1, ..., none for those with 0.
fn report(fixture: &mut Fixture, qps: &[f64], now: Duration) {
    for (number, qps) in (0..).zip(qps).filter(|(_, qps)| **qps != 0.0) {
        report_with_a_call(fixture, number, load(*qps), now);
    }
}

/// Lets a call of this endpoint end, and report.
fn report_with_a_call(fixture: &mut Fixture, number: u32, load: LoadReport, now: Duration) {
    let slot = fixture.slot(number);
    fixture.balancer.call_started(slot, now);
    let report = CallReport { now, outcome: Outcome::Success, latency: SECOND, load: Some(load) };
    fixture.balancer.call_finished(slot, &report);
}

/// Reports now and after the blackout, and picks until every candidate was looked at.
fn settle(fixture: &mut Fixture, qps: &[f64], now: Duration) -> Duration {
    report(fixture, qps, now);
    let now = now + 10 * SECOND;
    report(fixture, qps, now);
    catch_up(fixture, now)
}

/// Picks at times that are an update period after this one, so that every candidate was looked at, and twice so.
fn catch_up(fixture: &mut Fixture, mut now: Duration) -> Duration {
    for _ in 0..2 * fixture.set.endpoints().len().max(2) {
        now += SECOND;
        shares(fixture, now, 1);
    }
    now
}

fn assert_near(shares: &[f64], expected: &[f64], tolerance: f64) {
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < tolerance, "{shares:?}, expected {expected}");
    }
}

#[test]
fn shares_are_calls_per_utilization() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1, 1], 1);
    let now = settle(&mut fixture, &[100.0, 200.0, 300.0], SECOND);
    assert_near(&shares(&mut fixture, now, 60_000), &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0], 1e-3);
    assert_eq!(fixture.balancer.load_reports(), LoadReportCounts { taken: 6, ignored: 0 });
}

#[test]
fn errors_lower_a_weight() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1], 1);
    let failing = LoadReport { utilization: 0.5, requests_per_second: 100.0, errors_per_second: 50.0 };
    for now in [SECOND, 11 * SECOND] {
        report(&mut fixture, &[100.0, 0.0], now);
        report_with_a_call(&mut fixture, 1, failing, now);
    }
    let now = catch_up(&mut fixture, 11 * SECOND);
    assert_near(&shares(&mut fixture, now, 9_000), &[2.0 / 3.0, 1.0 / 3.0], 1e-3);
}

fn out_of_band() -> LoadWeightConfig {
    LoadWeightConfig { source: LoadSource::OutOfBand { period: 10 * SECOND }, ..LoadWeightConfig::default() }
}

/// The endpoints' reports apart from calls.
fn note(fixture: &Fixture, qps: &[f64], now: Duration) {
    for (number, qps) in (0..).zip(qps) {
        fixture.endpoint(number).note_load(&load(*qps), &out_of_band(), now);
    }
}

#[test]
fn reports_apart_from_calls_weigh_where_they_are_asked_for_and_those_of_calls_then_do_not() {
    let mut fixture = Fixture::ready(Policy::LoadWeightedRoundRobin(out_of_band()), &[1, 1, 1], 1);
    note(&fixture, &[100.0, 100.0, 200.0], SECOND);
    // Boasts with a call, which does not count.
    report_with_a_call(&mut fixture, 0, load(1e6), SECOND);
    let now = catch_up(&mut fixture, SECOND);
    assert_near(&shares(&mut fixture, now, 300), &[1.0 / 3.0; 3], 0.01);
    assert_eq!(fixture.balancer.reported_weight(fixture.slot(2), now), None, "the blackout");
    let now = catch_up(&mut fixture, 11 * SECOND);
    assert_near(&shares(&mut fixture, now, 40_000), &[0.25, 0.25, 0.5], 1e-3);
    let weight = fixture.balancer.reported_weight(fixture.slot(2), now).unwrap();
    assert_eq!(weight.get(), 400.0);
    assert_eq!(fixture.balancer.load_reports(), LoadReportCounts::default());
    // The newest counts, and one that makes no sense changes nothing.
    note(&fixture, &[f64::NAN, 300.0, 0.0], now);
    let now = catch_up(&mut fixture, now);
    assert_near(&shares(&mut fixture, now, 60_000), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0], 1e-3);
}

#[test]
fn reports_apart_from_calls_change_nothing_where_they_are_not_asked_for() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1], 1);
    note(&fixture, &[100.0, 900.0], SECOND);
    let now = catch_up(&mut fixture, 20 * SECOND);
    assert_near(&shares(&mut fixture, now, 1_000), &[0.5, 0.5], 0.01);
}

#[test]
fn a_weight_apart_from_calls_expires_and_a_new_connection_begins_a_blackout() {
    let mut fixture = Fixture::ready(Policy::LoadWeightedRoundRobin(out_of_band()), &[1, 1, 1], 1);
    note(&fixture, &[100.0, 300.0, 200.0], SECOND);
    catch_up(&mut fixture, SECOND);
    let now = 20 * SECOND;
    note(&fixture, &[100.0, 300.0, 200.0], now);
    let now = catch_up(&mut fixture, now);
    assert_near(&shares(&mut fixture, now, 60_000), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0], 1e-3);
    fixture.now = now;
    fixture.set(0, Connectivity::Idle);
    fixture.set(0, Connectivity::Ready);
    // It counts as the mean of the others: a third of all.
    shares(&mut fixture, now + SECOND, 10);
    assert_near(&shares(&mut fixture, now + SECOND, 30_000), &[1.0 / 3.0, 0.4, 4.0 / 15.0], 1e-3);
    // 180 s after the newest report nothing is known.
    let now = catch_up(&mut fixture, 200 * SECOND);
    assert_near(&shares(&mut fixture, now, 3_000), &[1.0 / 3.0; 3], 0.01);
}

#[test]
fn all_are_equal_until_two_weights_can_be_used() {
    let mut fixture = Fixture::ready(by_load(), &[1, 5, 9], 1);
    assert_near(&shares(&mut fixture, SECOND, 300), &[1.0 / 3.0; 3], 0.01);
    report(&mut fixture, &[100.0, 900.0, 100.0], SECOND);
    let now = catch_up(&mut fixture, SECOND);
    assert!(now < 11 * SECOND, "the blackout has not ended");
    assert_near(&shares(&mut fixture, now, 300), &[1.0 / 3.0; 3], 0.01);
    let mut fixture = Fixture::ready(by_load(), &[1, 5, 9], 1);
    let now = settle(&mut fixture, &[0.0, 900.0, 0.0], SECOND);
    assert_near(&shares(&mut fixture, now, 300), &[1.0 / 3.0; 3], 0.01);
}

#[test]
fn an_unknown_weight_is_the_mean_of_the_known() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1, 1], 1);
    let now = settle(&mut fixture, &[100.0, 300.0, 0.0], SECOND);
    assert_near(&shares(&mut fixture, now, 60_000), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0], 1e-3);
}

#[test]
fn a_weight_expires_and_a_lost_connection_forgets_it() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1, 1], 1);
    let now = settle(&mut fixture, &[100.0, 300.0, 200.0], SECOND);
    let later = now + 170 * SECOND;
    report(&mut fixture, &[100.0, 300.0, 0.0], later);
    let now = catch_up(&mut fixture, later + 10 * SECOND);
    assert_near(&shares(&mut fixture, now, 60_000), &[1.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0], 1e-3);
    fixture.set(1, Connectivity::Idle);
    fixture.set(1, Connectivity::Ready);
    let now = catch_up(&mut fixture, now);
    assert_near(&shares(&mut fixture, now, 3_000), &[1.0 / 3.0; 3], 0.01);
}

#[test]
fn absurd_reports_are_counted_and_change_nothing() {
    let mut fixture = Fixture::ready(by_load(), &[1, 1], 1);
    let now = settle(&mut fixture, &[100.0, 300.0], SECOND);
    for (bad, count) in [(f64::NAN, 1), (-5.0, 2), (f64::INFINITY, 3)] {
        report_with_a_call(&mut fixture, 0, load(bad), now);
        assert_eq!(fixture.balancer.load_reports().ignored, count);
    }
    assert_near(&shares(&mut fixture, now, 8_000), &[0.25, 0.75], 1e-3);
}

#[test]
fn one_that_boasts_gets_ten_times_the_mean_of_the_others_at_most() {
    let mut fixture = Fixture::ready(by_load(), &[1; 5], 1);
    let now = settle(&mut fixture, &[1e30, 100.0, 100.0, 100.0, 100.0], SECOND);
    report(&mut fixture, &[1e30, 100.0, 100.0, 100.0, 100.0], now);
    let now = catch_up(&mut fixture, now);
    assert_near(&shares(&mut fixture, now, 14_000), &[10.0 / 14.0, 1.0 / 14.0], 0.01);
    let now = catch_up(&mut fixture, now);
    report(&mut fixture, &[1e-30, 100.0, 100.0, 100.0, 100.0], now);
    let now = catch_up(&mut fixture, now);
    let least = 0.01 / 4.01;
    assert_near(&shares(&mut fixture, now, 100_000), &[least, (1.0 - least) / 4.0], 1e-3);
}

#[test]
fn random_reports_never_break_the_sums() {
    for seed in 0..20 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut fixture = Fixture::ready(by_load(), &[1; 10], seed);
        let mut now = SECOND;
        for _ in 0..2_000 {
            now += Duration::from_millis(rng.random_range(0..400));
            let number = rng.random_range(0..10);
            match rng.random_range(0..4) {
                0 => fixture.set(number, if number > 0 { Connectivity::Idle } else { Connectivity::Ready }),
                1 => fixture.set(number, Connectivity::Ready),
                _ => {
                    let qps = 10.0_f64.powf(rng.random_range(-20.0..20.0));
                    report_with_a_call(&mut fixture, number, load(qps), now);
                }
            }
            shares(&mut fixture, now, 1);
        }
        (0..10).for_each(|number| fixture.set(number, Connectivity::Ready));
        let qps: Vec<f64> = (1..=10).map(f64::from).collect();
        // What was absurd before is pulled to the others by a factor of a hundred per look.
        for _ in 0..3 {
            now = settle(&mut fixture, &qps, now);
        }
        let expected: Vec<f64> = qps.iter().map(|qps| qps / 55.0).collect();
        assert_near(&shares(&mut fixture, now, 55_000), &expected, 1e-3);
    }
}

fn warming(policy: Policy, weights: &[u32]) -> Fixture {
    let slow_start = SlowStart { window: 20 * SECOND, aggression: Factor::ONE, ..SlowStart::default() };
    let config = BalancerConfig { policy, slow_start: Some(slow_start), ..BalancerConfig::default() };
    Fixture::with_config(config, weights, 1)
}

#[test]
fn a_new_endpoints_static_weight_grows_through_its_window() {
    let mut fixture = warming(Policy::WeightedRoundRobin, &[3, 1]);
    fixture.connect();
    // Equally new ones share as if they were old.
    assert_near(&shares(&mut fixture, SECOND, 8_000), &[0.75, 0.25], 0.01);
    fixture.now = 100 * SECOND;
    drop(fixture.update(&addresses(&[3, 1, 4])));
    fixture.connect();
    for (age, warmth) in [(2, 0.1), (5, 0.25), (10, 0.5), (15, 0.75)] {
        let now = 100 * SECOND + age * SECOND;
        shares(&mut fixture, now, 10);
        let expected = 4.0 * warmth / (4.0 + 4.0 * warmth);
        let share = shares(&mut fixture, now, 10_000)[2];
        assert!((share - expected).abs() < 0.01, "after {age} s: {share}, expected {expected}");
    }
    let now = catch_up(&mut fixture, 120 * SECOND);
    assert_near(&shares(&mut fixture, now, 8_000), &[3.0 / 8.0, 1.0 / 8.0, 0.5], 1e-3);
}

#[test]
fn an_endpoint_warms_up_again_after_attempts_that_failed_and_not_after_a_mere_reconnect() {
    let mut fixture = warming(Policy::WeightedRoundRobin, &[1, 1]);
    fixture.connect();
    let now = catch_up(&mut fixture, 100 * SECOND);
    fixture.now = now;
    fixture.set(1, Connectivity::Idle);
    fixture.set(1, Connectivity::Ready);
    assert_near(&shares(&mut fixture, now + SECOND, 2_000), &[0.5, 0.5], 0.01);
    fixture.set(1, Connectivity::TransientFailure);
    fixture.set(1, Connectivity::Ready);
    shares(&mut fixture, now + SECOND, 10);
    assert_near(&shares(&mut fixture, now + SECOND, 2_000), &[1.0 / 1.1, 0.1 / 1.1], 0.01);
}

#[test]
fn reported_weights_warm_up_too() {
    let mut fixture = warming(by_load(), &[1, 1]);
    fixture.connect();
    fixture.now = 100 * SECOND;
    drop(fixture.update(&addresses(&[1, 1, 1])));
    fixture.connect();
    let now = 102 * SECOND;
    shares(&mut fixture, now, 10);
    assert_near(&shares(&mut fixture, now, 21_000), &[1.0 / 2.1, 1.0 / 2.1, 0.1 / 2.1], 0.01);
}
