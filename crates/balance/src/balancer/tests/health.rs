//! Endpoints that active checks withhold: out of all policies' picks, back when they are healthy, and with a slow start.

use core::time::Duration;

use super::fixture::{ASK, Fixture, hashing};
use crate::health_check::{HealthStatus, UnhealthyReason};
use crate::{
    Affinity, Ask, BalancerConfig, Choice, Connectivity, LeastRequestConfig, LoadWeightConfig,
    PeakEwmaConfig, Pick, Policy, SlowStart,
};

const UNHEALTHY: HealthStatus = HealthStatus::Unhealthy(UnhealthyReason::NotServing);

fn all_policies() -> impl Iterator<Item = Policy> {
    let rest = [
        Policy::RoundRobin,
        Policy::WeightedRoundRobin,
        Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()),
        Policy::Random,
        Policy::LeastRequest(LeastRequestConfig::default()),
        Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)),
        Policy::PeakEwma(PeakEwmaConfig::default()),
    ];
    rest.into_iter().chain(hashing(Affinity::Rehash))
}

/// The endpoints that fifty calls with different keys meet.
fn met(fixture: &mut Fixture) -> Vec<u32> {
    let mut met = Vec::new();
    for call in 0..50_u64 {
        match fixture.balancer.pick(&Ask { hash: Some(call << 56), ..ASK }) {
            Pick::Endpoint(slot) => met.push(fixture.number(slot)),
            other => panic!("{other:?}"),
        }
    }
    met.sort_unstable();
    met.dedup();
    met
}

#[test]
fn an_unhealthy_endpoint_meets_no_call_and_a_healthy_one_is_back_under_every_policy() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        assert_eq!(met(&mut fixture), [0, 1, 2], "{policy:?}");
        fixture.endpoint(1).note_health(UNHEALTHY, ASK.now);
        assert_eq!(met(&mut fixture), [0, 2], "{policy:?}");
        fixture.endpoint(1).note_health(HealthStatus::Healthy, ASK.now);
        assert_eq!(met(&mut fixture), [0, 1, 2], "{policy:?}");
    }
}

#[test]
fn an_endpoint_that_was_not_checked_yet_waits_for_its_first_result() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        fixture.endpoint(2).note_health(HealthStatus::Unknown, ASK.now);
        assert_eq!(met(&mut fixture), [0, 1], "{policy:?}");
    }
}

#[test]
fn without_a_healthy_endpoint_those_not_checked_yet_come_before_those_that_failed() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1, 1], 7);
    for number in 0..3 {
        fixture.endpoint(number).note_health(HealthStatus::Unknown, ASK.now);
    }
    assert_eq!(met(&mut fixture), [0, 1, 2], "at the start nothing is known of any");
    fixture.endpoint(1).note_health(UNHEALTHY, ASK.now);
    assert_eq!(met(&mut fixture), [0, 2]);
}

#[test]
fn pick_first_goes_on_to_the_next_when_its_endpoint_becomes_unhealthy() {
    let mut fixture = Fixture::ready(Policy::PickFirst { shuffle: false }, &[1, 1], 7);
    assert_eq!(met(&mut fixture), [0]);
    fixture.endpoint(0).note_health(UNHEALTHY, ASK.now);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue, "the other one is connected to now");
    fixture.connect();
    assert_eq!(met(&mut fixture), [1]);
}

/// What a call meets: the endpoint's number, or that it waits.
fn meets(fixture: &mut Fixture) -> Result<u32, Pick> {
    let pick = fixture.balancer.pick(&ASK);
    pick.slot().map(|slot| fixture.number(slot)).ok_or(pick)
}

#[test]
fn calls_wait_for_the_endpoint_in_service_that_connects_and_go_to_an_unhealthy_one_once_that_fails() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1], 7);
        fixture.endpoint(1).note_health(UNHEALTHY, ASK.now);
        assert_eq!(met(&mut fixture), [0], "{policy:?}");
        for state in [Connectivity::Idle, Connectivity::Connecting] {
            fixture.set(0, state);
            assert_eq!(meets(&mut fixture), Err(Pick::Queue), "{policy:?}, {state:?}");
            let tried = [fixture.slot(1)];
            assert_eq!(fixture.balancer.pick_excluding(&ASK, &tried), Pick::Queue, "{policy:?}, {state:?}");
        }
        fixture.set(0, Connectivity::TransientFailure);
        assert_eq!(meets(&mut fixture), Ok(1), "{policy:?}: better than none");
        fixture.set(0, Connectivity::Connecting);
        assert_eq!(meets(&mut fixture), Ok(1), "{policy:?}: it fails until it is ready");
        fixture.set(0, Connectivity::Ready);
        assert_eq!(met(&mut fixture), [0], "{policy:?}");
    }
}

#[test]
fn calls_do_not_wait_for_an_endpoint_that_is_not_in_service_either() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        fixture.set(0, Connectivity::Connecting);
        fixture.endpoint(1).note_health(UNHEALTHY, ASK.now);
        fixture.endpoint(2).note_health(UNHEALTHY, ASK.now);
        assert_eq!(meets(&mut fixture), Err(Pick::Queue), "{policy:?}");
        // What becomes of an endpoint while it is being connected to counts as well.
        fixture.endpoint(0).note_health(UNHEALTHY, ASK.now);
        assert!(meets(&mut fixture).is_ok(), "{policy:?}");
        fixture.endpoint(0).note_health(HealthStatus::Healthy, ASK.now);
        assert_eq!(meets(&mut fixture), Err(Pick::Queue), "{policy:?}");
        fixture.endpoint(2).note_health(HealthStatus::Healthy, ASK.now);
        assert_eq!(meets(&mut fixture), Ok(2), "{policy:?}: nothing withholds it any more");
    }
}

/// Found by the random worlds: an endpoint that was not checked yet had no room for another call.
#[test]
fn without_room_at_one_that_may_serve_a_call_waits_for_the_one_that_connects() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        fixture.set(0, Connectivity::Connecting);
        fixture.endpoint(1).note_health(UNHEALTHY, ASK.now);
        fixture.endpoint(2).note_health(HealthStatus::Unknown, ASK.now);
        assert_eq!(meets(&mut fixture), Ok(2), "{policy:?}: nothing is known against it");
        let tried = [fixture.slot(2)];
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &tried), Pick::Queue, "{policy:?}");
        fixture.set(0, Connectivity::TransientFailure);
        let unhealthy = Pick::Endpoint(fixture.slot(1));
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &tried), unhealthy, "{policy:?}");
    }
}

#[test]
fn calls_go_to_a_ready_endpoint_that_drains_while_its_successor_connects() {
    for policy in all_policies() {
        let mut fixture = Fixture::ready(policy, &[1, 1], 7);
        fixture.set(0, Connectivity::Connecting);
        fixture.endpoint(1).set_draining(true);
        assert_eq!(meets(&mut fixture), Ok(1), "{policy:?}: it does its work");
    }
}

#[test]
fn an_endpoint_that_is_healthy_again_starts_slowly() {
    let config = BalancerConfig {
        policy: Policy::WeightedRoundRobin,
        slow_start: Some(SlowStart::default()),
        ..BalancerConfig::default()
    };
    let mut fixture = Fixture::with_config(config, &[1, 1], 7);
    fixture.connect();
    let share = |fixture: &mut Fixture, now: Duration| {
        let ask = Ask { now, hash: None };
        let picks = (0..1_100).filter_map(|_| fixture.balancer.pick(&ask).slot()).collect::<Vec<_>>();
        picks.into_iter().filter(|slot| fixture.number(*slot) == 1).count()
    };
    let later = ASK.now + Duration::from_secs(600);
    assert_eq!(share(&mut fixture, later), 550, "both are warm");
    fixture.endpoint(1).note_health(UNHEALTHY, later);
    assert_eq!(share(&mut fixture, later), 0);
    fixture.endpoint(1).note_health(HealthStatus::Healthy, later);
    let cold = share(&mut fixture, later);
    assert!((90..=110).contains(&cold), "a tenth of its weight: {cold} of 1100");
    let warm = share(&mut fixture, later + Duration::from_secs(60));
    assert!((545..=555).contains(&warm), "{warm} of 1100");
}
