//! What the balancer says of why its endpoints get calls or not.

use core::time::Duration;

use super::fixture::Fixture;
use crate::{Balancer, BalancerConfig, Connectivity, Ineligible, Policy, SlowStart, Warming, Withheld};

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
