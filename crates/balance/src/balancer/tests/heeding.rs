//! What others find out about endpoints is heeded by the next pick, whichever endpoint that would have met.

use core::time::Duration;
use std::sync::Arc;

use super::fixture::{ASK, Fixture, address, hashing};
use crate::health_check::{HealthStatus, UnhealthyReason};
use crate::{Affinity, Ask, EndpointSpec, PanicMode, Pick, Policy, RefusedBy, SpreadConfig, Withheld};

const UNHEALTHY: HealthStatus = HealthStatus::Unhealthy(UnhealthyReason::NotServing);

/// Ready endpoints with these priorities that were not checked yet.
fn unchecked(policy: Policy, priorities: &[u8], panic: PanicMode) -> Fixture {
    let spec = |(number, priority): (u32, &u8)| EndpointSpec {
        priority: *priority,
        ..EndpointSpec::from((address(number), 1))
    };
    let listed: Vec<_> = (0..).zip(priorities).map(spec).collect();
    let mut fixture = Fixture::idle(policy, &[], 3);
    let spread = SpreadConfig { panic, ..SpreadConfig::default() };
    fixture.set = Arc::new(fixture.set.followed_by(&listed, &Arc::new(spread)));
    fixture.set.endpoints().iter().for_each(|endpoint| endpoint.note_health(HealthStatus::Unknown, ASK.now));
    let _ = fixture.balancer.update(&fixture.set);
    fixture.connect();
    fixture
}

fn note(fixture: &Fixture, numbers: impl IntoIterator<Item = u32>, status: HealthStatus) {
    numbers.into_iter().for_each(|number| fixture.endpoint(number).note_health(status, ASK.now));
}

/// The endpoints that calls with these keys meet.
fn owners(fixture: &mut Fixture, keys: core::ops::Range<u64>) -> Vec<Option<u32>> {
    let ask = |key: u64| Ask { hash: Some(crate::hash_bytes(&key.to_be_bytes())), ..ASK };
    keys.map(|key| fixture.balancer.pick(&ask(key)).slot().map(|slot| fixture.number(slot))).collect()
}

const NO_PANIC: PanicMode = PanicMode { threshold: 0, fails: false };

#[test]
fn each_key_meets_its_own_endpoint_with_the_first_call_after_the_first_checks() {
    for policy in hashing(Affinity::Rehash).into_iter().chain(hashing(Affinity::Fail)) {
        let mut fixture = unchecked(policy, &[0; 8], NO_PANIC);
        note(&fixture, 0..8, HealthStatus::Healthy);
        let first = owners(&mut fixture, 0..24);
        assert_eq!(first, owners(&mut fixture, 0..24), "{policy:?}");
        assert!(first.iter().all(Option::is_some), "{policy:?}");
    }
}

#[test]
fn no_call_goes_to_a_priority_that_stands_by_once_those_before_it_are_healthy() {
    let mut fixture = unchecked(Policy::RoundRobin, &[0, 0, 1], NO_PANIC);
    note(&fixture, 0..3, HealthStatus::Healthy);
    assert_eq!(fixture.counts(3, 60), [30, 30, 0]);
}

#[test]
fn a_priority_whose_endpoints_were_never_healthy_fails_over_as_one_whose_endpoints_were() {
    // Three of four are out: 1.4 times a quarter of the calls stay.
    for was_healthy in [true, false] {
        let mut fixture = unchecked(Policy::RoundRobin, &[0, 0, 0, 0, 1, 1], NO_PANIC);
        if was_healthy {
            note(&fixture, 0..6, HealthStatus::Healthy);
            assert_eq!(fixture.counts(6, 400), [100, 100, 100, 100, 0, 0]);
        }
        note(&fixture, 0..3, UNHEALTHY);
        note(&fixture, 3..6, HealthStatus::Healthy);
        let counts = fixture.counts(6, 400);
        assert_eq!(counts[..3], [0; 3], "healthy before: {was_healthy}");
        assert!(counts[3].abs_diff(140) <= 2, "healthy before: {was_healthy}, {counts:?}");
        assert!(counts[4].abs_diff(counts[5]) <= 1, "healthy before: {was_healthy}, {counts:?}");
    }
}

#[test]
fn keys_that_insist_on_their_endpoint_fail_over_to_the_next_priority() {
    for policy in hashing(Affinity::Fail) {
        let mut fixture = unchecked(policy, &[0, 0, 1, 1], NO_PANIC);
        note(&fixture, 0..2, UNHEALTHY);
        note(&fixture, 2..4, HealthStatus::Healthy);
        let owners = owners(&mut fixture, 0..60);
        assert!(owners.iter().all(|owner| matches!(owner, Some(2 | 3))), "{policy:?}: {owners:?}");
    }
}

#[test]
fn endpoints_that_were_never_healthy_begin_a_panic() {
    let mut fixture = unchecked(Policy::RoundRobin, &[0; 3], PanicMode { threshold: 50, fails: true });
    note(&fixture, 0..2, UNHEALTHY);
    note(&fixture, 2..3, HealthStatus::Healthy);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
    let refused = RefusedBy::Panic { priority: 0, available: 1, total: 3 };
    assert_eq!(fixture.balancer.refusal(), Some(refused));
    note(&fixture, 1..2, HealthStatus::Healthy);
    assert!(matches!(fixture.balancer.pick(&ASK), Pick::Endpoint(_)), "two of three are available");
}

#[test]
fn all_endpoints_get_calls_with_the_first_pick_of_a_panic_and_those_in_service_after_it() {
    let mut fixture = unchecked(Policy::RoundRobin, &[0; 4], PanicMode { threshold: 50, fails: false });
    note(&fixture, 0..4, HealthStatus::Healthy);
    assert_eq!(fixture.counts(4, 40), [10; 4]);
    note(&fixture, 1..4, UNHEALTHY);
    assert_eq!(fixture.counts(4, 40), [10; 4], "one of four: health is disregarded");
    note(&fixture, 1..3, HealthStatus::Healthy);
    assert_eq!(fixture.counts(4, 30), [10, 10, 10, 0]);
}

#[test]
fn who_asks_is_told_the_truth_although_no_call_was_made() {
    let mut fixture = unchecked(Policy::RoundRobin, &[0; 3], NO_PANIC);
    let counted = |fixture: &Fixture| {
        let load = &fixture.balancer.group_loads()[0];
        (load.endpoints, load.available, load.candidates)
    };
    assert_eq!(counted(&fixture), (0, 0, 0), "nothing is known of any");
    note(&fixture, 0..2, HealthStatus::Healthy);
    note(&fixture, 2..3, UNHEALTHY);
    fixture.balancer.heed(ASK.now);
    assert_eq!(counted(&fixture), (3, 2, 2));
    fixture.endpoint(0).set_withheld(Withheld::Draining, true);
    fixture.balancer.heed(ASK.now);
    assert_eq!(counted(&fixture), (2, 1, 1));
}

#[test]
fn many_endpoints_are_looked_at_again_only_after_a_microsecond_for_each() {
    let moment = Duration::from_nanos(1);
    for (number, pause) in [(64, Duration::ZERO), (65, Duration::from_micros(65))] {
        let mut fixture = unchecked(Policy::RoundRobin, &vec![0; number as usize], NO_PANIC);
        let available = |fixture: &Fixture| fixture.balancer.group_loads()[0].available;
        note(&fixture, 0..number, HealthStatus::Healthy);
        fixture.balancer.heed(ASK.now);
        assert_eq!(available(&fixture), number);
        note(&fixture, 0..1, UNHEALTHY);
        if !pause.is_zero() {
            fixture.balancer.heed(ASK.now + pause - moment);
            assert_eq!(available(&fixture), number, "a look at {number} has just been");
        }
        fixture.balancer.heed(ASK.now + pause);
        assert_eq!(available(&fixture), number - 1);
    }
}
