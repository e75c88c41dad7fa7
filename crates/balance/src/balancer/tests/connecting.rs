//! When a balancer wants connections.

use core::time::Duration;

use super::fixture::{ASK, Fixture};
use crate::{Connectivity, Pick, Policy};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn wants_every_endpoint_at_once_and_each_once() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1; 10], 1);
    let mut wanted: Vec<_> = std::iter::from_fn(|| fixture.balancer.wants_connection(fixture.now)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    assert_eq!(wanted.len(), 10);
    assert_eq!(fixture.balancer.next_deadline(), None);
}

#[test]
fn an_attempt_may_take_the_least_connect_timeout_or_its_delay() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1], 2);
    let slot = fixture.slot(0);
    assert_eq!(fixture.balancer.connect_deadline(slot), None);
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        let deadline = fixture.balancer.next_deadline().unwrap();
        fixture.now = fixture.now.max(deadline);
        assert_eq!(fixture.balancer.wants_connection(fixture.now), Some(slot));
        longest = fixture.balancer.connect_deadline(slot).unwrap() - fixture.now;
        assert!(longest >= 20 * SECOND, "{longest:?}");
        fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
    }
    assert!(longest >= 96 * SECOND, "the delay has grown beyond the least timeout: {longest:?}");
}

#[test]
fn a_failed_endpoint_waits_for_its_backoff_from_start_to_start() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1], 3);
    let slot = fixture.balancer.wants_connection(fixture.now).unwrap();
    let started = fixture.now;
    fixture.now += SECOND / 2;
    fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
    let next = fixture.balancer.next_deadline().unwrap();
    assert!((started + SECOND * 4 / 5..=started + SECOND * 6 / 5).contains(&next), "{next:?}");
    assert_eq!(fixture.balancer.wants_connection(next - Duration::from_nanos(1)), None);
    assert_eq!(fixture.balancer.wants_connection(next), Some(slot));
    // An attempt that took longer than its delay is followed by the next at once.
    fixture.now = next + 20 * SECOND;
    fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
    assert_eq!(fixture.balancer.wants_connection(fixture.now), Some(slot));
}

#[test]
fn a_lost_connection_is_replaced_at_once_unless_it_was_short() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1], 4);
    let started = fixture.now;
    fixture.now = started + 60 * SECOND;
    fixture.set(0, Connectivity::Idle);
    assert!(fixture.balancer.wants_re_resolution());
    assert!(!fixture.balancer.wants_re_resolution(), "asking clears it");
    assert_eq!(fixture.balancer.next_deadline(), Some(fixture.now));
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.connect();
    let restarted = fixture.now;
    fixture.now += SECOND / 10;
    fixture.set(0, Connectivity::Idle);
    let next = fixture.balancer.next_deadline().unwrap();
    assert!(next > fixture.now && next <= restarted + SECOND, "{next:?}");
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
}

#[test]
fn success_starts_the_backoff_over() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1], 5);
    let slot = fixture.slot(0);
    let mut delay = Duration::ZERO;
    for _ in 0..10 {
        fixture.now = fixture.now.max(fixture.balancer.next_deadline().unwrap());
        assert_eq!(fixture.balancer.wants_connection(fixture.now), Some(slot));
        fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
        delay = fixture.balancer.next_deadline().unwrap() - fixture.now;
    }
    assert!(delay > 50 * SECOND, "{delay:?}");
    fixture.now += delay;
    fixture.connect();
    fixture.now += 100 * SECOND;
    fixture.set(0, Connectivity::Idle);
    assert_eq!(fixture.balancer.wants_connection(fixture.now), Some(slot));
    fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
    delay = fixture.balancer.next_deadline().unwrap() - fixture.now;
    assert!(delay <= SECOND * 6 / 5, "{delay:?}");
}

#[test]
fn a_shut_down_endpoint_is_never_wanted_again() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1], 6);
    fixture.set(0, Connectivity::Shutdown);
    assert_eq!(fixture.balancer.next_deadline(), None);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
}
