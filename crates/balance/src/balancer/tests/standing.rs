//! What the balancer says of why its endpoints get calls or not.

use core::time::Duration;
use std::sync::Arc;

use super::fixture::{Fixture, addresses};
use crate::limit::{BreakerLimits, Resource};
use crate::{
    Balancer, BalancerConfig, Connectivity, Despite, EndpointSet, EndpointSpec, Ineligible, PanicMode,
    Policy, SlowStart, SpreadConfig, Warming, Withheld,
};

fn reasons(fixture: &Fixture, number: u32) -> Vec<Ineligible> {
    fixture.balancer.ineligible(fixture.slot(number))
}

#[test]
fn every_state_but_ready_is_a_reason_and_so_is_all_that_withholds() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1], 7);
    assert_eq!(reasons(&fixture, 0), []);
    fixture.set(0, Connectivity::Idle);
    assert_eq!(reasons(&fixture, 0), [Ineligible::Idle]);
    fixture.set(0, Connectivity::Connecting);
    assert_eq!(reasons(&fixture, 0), [Ineligible::Connecting]);
    fixture.set(0, Connectivity::TransientFailure);
    fixture.endpoint(0).set_withheld(Withheld::Unhealthy, true);
    assert_eq!(reasons(&fixture, 0), [Ineligible::Backoff, Ineligible::Withheld(Withheld::Unhealthy)]);
    // No pick has noticed this yet.
    fixture.endpoint(1).set_draining(true);
    assert_eq!(reasons(&fixture, 1), [Ineligible::Withheld(Withheld::Draining)]);
    let gone = fixture.slot(1);
    let _ = fixture.update(&[]);
    assert_eq!(fixture.balancer.ineligible(gone), [Ineligible::Removed]);
}

#[test]
fn an_endpoint_with_as_many_calls_as_it_may_have_says_so() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1], 7);
    let limits = BreakerLimits { max_requests: Some(1), ..BreakerLimits::default() };
    fixture.endpoint(0).breaker().set_limits(&limits);
    assert_eq!(reasons(&fixture, 0), []);
    fixture.endpoint(0).breaker().acquire(Resource::Requests).unwrap();
    assert_eq!(reasons(&fixture, 0), [Ineligible::AtLimit]);
    fixture.set(0, Connectivity::Idle);
    assert_eq!(reasons(&fixture, 0), [Ineligible::Idle, Ineligible::AtLimit]);
}

fn despite(fixture: &Fixture, numbers: core::ops::Range<u32>) -> Vec<Option<Despite>> {
    let told = fixture.balancer.despite();
    numbers.map(|number| told(fixture.slot(number))).collect()
}

/// Those that get calls are those of which nothing else is said.
fn assert_picks_are_as_told(fixture: &mut Fixture, endpoints: u32) {
    let told = despite(fixture, 0..endpoints);
    let eligible: Vec<bool> = (0..endpoints)
        .zip(told)
        .map(|(number, despite)| reasons(fixture, number).is_empty() || despite.is_some())
        .collect();
    let picked: Vec<bool> =
        fixture.counts(endpoints as usize, 50).into_iter().map(|count| count > 0).collect();
    assert_eq!(picked, eligible);
}

#[test]
fn in_panic_withheld_endpoints_say_that_they_get_calls() {
    let panic = PanicMode { threshold: 50, fails: false };
    let spread = Arc::new(SpreadConfig { panic, ..SpreadConfig::default() });
    let listed: Vec<EndpointSpec> = addresses(&[1; 5]).into_iter().map(Into::into).collect();
    let set = Arc::new(EndpointSet::of(&listed, &spread));
    let config = BalancerConfig { policy: Policy::RoundRobin, ..BalancerConfig::default() };
    let mut fixture = Fixture::of_set(config, &set, 7);
    fixture.connect();
    let withhold = |fixture: &Fixture, number, reason| fixture.endpoint(number).set_withheld(reason, true);
    withhold(&fixture, 0, Withheld::Unhealthy);
    fixture.counts(5, 10);
    assert_eq!(despite(&fixture, 0..5), [None; 5], "one of five is no panic");
    withhold(&fixture, 1, Withheld::Ejected);
    withhold(&fixture, 2, Withheld::Unhealthy);
    withhold(&fixture, 3, Withheld::Draining);
    fixture.counts(5, 10);
    let panic = Some(Despite::Panic);
    assert_eq!(despite(&fixture, 0..5), [panic, panic, panic, None, None], "one of four is left");
    assert_picks_are_as_told(&mut fixture, 5);
    fixture.set(2, Connectivity::Idle);
    assert_eq!(despite(&fixture, 2..3), [None], "it is not connected");
}

#[test]
fn the_last_endpoints_say_that_there_is_no_other() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 3], 7);
    (0..3).for_each(|number| fixture.endpoint(number).set_withheld(Withheld::Unhealthy, true));
    fixture.counts(3, 3);
    let no_other = Some(Despite::NoOther);
    assert_eq!(despite(&fixture, 0..3), [no_other; 3]);
    assert_picks_are_as_told(&mut fixture, 3);
    fixture.endpoint(1).set_draining(true);
    fixture.endpoint(1).set_withheld(Withheld::Unhealthy, false);
    assert_eq!(despite(&fixture, 0..3), [None, no_other, None], "one that only drains does its work");
    assert_picks_are_as_told(&mut fixture, 3);
    fixture.endpoint(1).set_draining(false);
    fixture.counts(3, 3);
    assert_eq!(despite(&fixture, 0..3), [None; 3]);
    fixture.endpoint(1).set_draining(true);
    fixture.set(1, Connectivity::TransientFailure);
    fixture.set(2, Connectivity::Connecting);
    fixture.endpoint(2).set_withheld(Withheld::Unhealthy, false);
    assert_eq!(despite(&fixture, 0..3), [None; 3], "calls wait for the one that is being connected to");
}

#[test]
fn pick_first_leaves_all_but_the_selected_one_out() {
    let fixture = Fixture::ready(Policy::PickFirst { shuffle: false }, &[1, 1], 7);
    assert_eq!(reasons(&fixture, 0), []);
    assert_eq!(reasons(&fixture, 1), [Ineligible::NotSelected]);
}

#[test]
fn a_slow_start_is_told_until_it_is_over() {
    let slow_start = Some(SlowStart { window: Duration::from_secs(10), ..SlowStart::default() });
    let config = BalancerConfig { slow_start, ..BalancerConfig::default() };
    let mut fixture = Fixture::with_config(config, &[1], 7);
    let slot = fixture.slot(0);
    let after = |balancer: &Balancer, seconds| {
        balancer.warming(slot, Duration::from_secs(1) + Duration::from_secs(seconds))
    };
    assert_eq!(after(&fixture.balancer, 0), None, "it was never ready");
    fixture.connect();
    let expected = Warming { share: 0.4, remaining: Duration::from_secs(6) };
    assert_eq!(after(&fixture.balancer, 4), Some(expected));
    assert_eq!(after(&fixture.balancer, 9).unwrap().share, 0.9);
    assert_eq!(after(&fixture.balancer, 10), None);
    let fixture = Fixture::ready(Policy::default(), &[1], 7);
    assert_eq!(fixture.balancer.warming(fixture.slot(0), Duration::from_secs(4)), None, "none is configured");
}
