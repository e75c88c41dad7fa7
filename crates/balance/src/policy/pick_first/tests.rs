use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::connect::ATTEMPT_DELAY;
use crate::balancer::tests::fixture::{ASK, Fixture, address, addresses};
use crate::health_check::{HealthStatus, UnhealthyReason};
use crate::{Address, Balancer, Connectivity, EndpointSet, Pick, Policy};

const IN_ORDER: Policy = Policy::PickFirst { shuffle: false };

#[test]
fn tries_in_the_order_of_the_list_and_keeps_the_first_that_is_ready() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 4], 1);
    fixture.unreachable = [address(0), address(1)].into();
    for number in 0..2 {
        let slot = fixture.balancer.wants_connection(fixture.now).unwrap();
        assert_eq!(fixture.number(slot), number);
        assert_eq!(fixture.balancer.wants_connection(fixture.now), None, "not at once");
        assert_eq!(fixture.balancer.next_deadline(), Some(fixture.now + ATTEMPT_DELAY));
        fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
        assert_eq!(fixture.balancer.next_deadline(), Some(Duration::ZERO), "the next one's turn is now");
    }
    fixture.connect();
    assert_eq!(fixture.counts(4, 10), [0, 0, 10, 0]);
    assert_eq!((fixture.balancer.ready_count(), fixture.balancer.next_deadline()), (1, None));
    // The first one would be reachable again: nobody looks.
    fixture.unreachable.clear();
    fixture.now += Duration::from_secs(1_000);
    fixture.connect();
    assert_eq!(fixture.pick(), 2);
}

/// Begins the attempt that is due, and says to whom.
fn begin(fixture: &mut Fixture) -> Option<u32> {
    let slot = fixture.balancer.wants_connection(fixture.now)?;
    Some(fixture.number(slot))
}

#[test]
fn an_attempt_that_takes_long_is_joined_by_the_next_and_goes_on() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 3], 8);
    assert_eq!(begin(&mut fixture), Some(0));
    fixture.now += ATTEMPT_DELAY - Duration::from_millis(1);
    assert_eq!(begin(&mut fixture), None);
    fixture.now += Duration::from_millis(1);
    assert_eq!(begin(&mut fixture), Some(1));
    assert_eq!(begin(&mut fixture), None);
    // The failure of an older attempt is not waited for, that of the newest is.
    fixture.set(0, Connectivity::TransientFailure);
    assert_eq!(begin(&mut fixture), None);
    fixture.set(1, Connectivity::TransientFailure);
    assert_eq!(begin(&mut fixture), Some(2));
    assert_eq!(fixture.balancer.next_deadline(), None, "there is no other");
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.set(2, Connectivity::Ready);
    assert_eq!(fixture.pick(), 2);
}

#[test]
fn the_first_that_answers_wins_and_the_others_are_given_up() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 4], 9);
    for number in 0..3 {
        assert_eq!(begin(&mut fixture), Some(number));
        fixture.now += ATTEMPT_DELAY;
    }
    fixture.set(1, Connectivity::Ready);
    let given_up: BTreeSet<_> = std::iter::from_fn(|| fixture.balancer.surplus_connection()).collect();
    assert_eq!(given_up, [fixture.slot(0), fixture.slot(2)].into());
    assert_eq!((begin(&mut fixture), fixture.balancer.next_deadline()), (None, None));
    assert_eq!(fixture.counts(4, 10), [0, 10, 0, 0]);
}

#[test]
fn a_pass_is_over_when_the_last_attempt_has_failed_whichever_that_is() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 2], 10);
    assert_eq!(begin(&mut fixture), Some(0));
    fixture.now += ATTEMPT_DELAY;
    assert_eq!(begin(&mut fixture), Some(1));
    fixture.set(1, Connectivity::TransientFailure);
    assert_eq!((begin(&mut fixture), fixture.balancer.next_deadline()), (None, None));
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue, "the first may still answer");
    fixture.set(0, Connectivity::TransientFailure);
    assert_eq!(begin(&mut fixture), None, "both wait for their backoffs");
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
}

#[test]
fn the_families_of_addresses_take_turns_beginning_with_the_first() {
    let v6 = |port: u16| Address::Tcp((Ipv6Addr::LOCALHOST, port).into());
    let v4 = |port: u16| Address::Tcp((Ipv4Addr::LOCALHOST, port).into());
    let unix = Address::Unix("/run/a".into());
    let listed = [v6(1), v6(2), v6(3), v4(1), unix.clone(), v4(2)];
    let mut balancer = Balancer::new(IN_ORDER, SmallRng::seed_from_u64(1));
    drop(balancer.update(&Arc::new(EndpointSet::new(&listed.map(|address| (address, 1))))));
    let mut tried = Vec::new();
    while let Some(slot) = balancer.wants_connection(Duration::ZERO) {
        tried.push(balancer.endpoint(slot).address().clone());
        balancer.set_connectivity(slot, Connectivity::TransientFailure, Duration::ZERO);
    }
    assert_eq!(tried, [v6(1), v4(1), unix, v6(2), v4(2), v6(3)]);
}

#[test]
fn starts_from_the_top_when_the_selected_one_is_lost() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 3], 2);
    fixture.unreachable = [address(0)].into();
    fixture.connect();
    assert_eq!(fixture.pick(), 1);
    fixture.unreachable.clear();
    fixture.now += Duration::from_secs(60);
    fixture.set(1, Connectivity::Idle);
    assert!(fixture.balancer.wants_re_resolution());
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.connect();
    assert_eq!(fixture.pick(), 0);
}

#[test]
fn stays_in_transient_failure_from_the_end_of_a_pass_until_one_is_ready() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 2], 3);
    fixture.unreachable = addresses(&[1; 3]).into_iter().map(|(address, _)| address).collect();
    fixture.connect();
    assert_eq!(fixture.balancer.state(), Connectivity::TransientFailure);
    assert!(fixture.balancer.wants_re_resolution());

    // Each is tried again at the end of its own backoff; after as many failures as the list is long, discovery is asked.
    let mut tried = BTreeSet::new();
    while tried.len() < 2 {
        assert!(!fixture.balancer.wants_re_resolution());
        fixture.now = fixture.balancer.next_deadline().unwrap();
        let slot = fixture.balancer.wants_connection(fixture.now).unwrap();
        assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
        tried.insert(slot);
        fixture.balancer.set_connectivity(slot, Connectivity::TransientFailure, fixture.now);
    }
    assert!(fixture.balancer.wants_re_resolution());

    // A new endpoint in the list is tried at once, but does not end the failure by itself.
    drop(fixture.update(&addresses(&[1; 3])));
    assert_eq!(fixture.balancer.state(), Connectivity::TransientFailure);
    let slot = fixture.balancer.wants_connection(fixture.now).unwrap();
    assert_eq!(fixture.number(slot), 2);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
    fixture.balancer.set_connectivity(slot, Connectivity::Ready, fixture.now);
    assert_eq!(fixture.pick(), 2);

    // Once one was ready the failure is over: when it is lost, calls wait for the next attempt.
    fixture.set(2, Connectivity::Idle);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
}

#[test]
fn retries_at_once_in_parallel_and_drops_all_but_the_first_that_is_ready() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 3], 4);
    fixture.unreachable = addresses(&[1; 3]).into_iter().map(|(address, _)| address).collect();
    fixture.connect();
    fixture.now += Duration::from_secs(10);
    let mut attempts: Vec<_> =
        std::iter::from_fn(|| fixture.balancer.wants_connection(fixture.now)).collect();
    assert_eq!(attempts.len(), 3);
    let winner = attempts.remove(1);
    fixture.balancer.set_connectivity(winner, Connectivity::Ready, fixture.now);
    assert_eq!(
        fixture.balancer.wants_connection(fixture.now),
        None,
        "first the surplus attempts are given up"
    );
    let mut surplus: Vec<_> = std::iter::from_fn(|| fixture.balancer.surplus_connection()).collect();
    surplus.sort_unstable();
    attempts.sort_unstable();
    assert_eq!(surplus, attempts);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Endpoint(winner));
    // One that became ready before it was given up is surplus again.
    fixture.balancer.set_connectivity(attempts[0], Connectivity::Ready, fixture.now);
    assert_eq!(fixture.balancer.surplus_connection(), Some(attempts[0]));
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Endpoint(winner));
    assert_eq!(fixture.balancer.ready_count(), 1);
}

#[test]
fn keeps_the_selected_one_while_it_is_listed_wherever_it_stands() {
    let mut fixture = Fixture::ready(IN_ORDER, &[1; 2], 5);
    assert_eq!(fixture.pick(), 0);
    drop(fixture.update(&[(address(5), 1), (address(1), 1), (address(0), 1)]));
    fixture.connect();
    assert_eq!(fixture.pick(), 0);
    drop(fixture.update(&[(address(5), 1), (address(1), 1)]));
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.connect();
    assert_eq!(fixture.pick(), 5);
}

#[test]
fn an_endpoint_in_backoff_is_skipped_and_tried_when_it_ends() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 2], 6);
    fixture.unreachable = [address(0)].into();
    fixture.connect();
    assert_eq!(fixture.pick(), 1);
    fixture.unreachable = [address(1)].into();
    fixture.set(1, Connectivity::Idle);
    assert_eq!(
        fixture.balancer.wants_connection(fixture.now),
        None,
        "both attempts are less than a second old"
    );
    fixture.now = fixture.balancer.next_deadline().unwrap();
    assert!(fixture.now >= Duration::from_millis(1_800), "{:?}", fixture.now);
    fixture.now += Duration::from_secs(1);
    fixture.connect();
    assert_eq!(fixture.pick(), 0);
}

#[test]
fn moves_off_a_draining_endpoint_without_a_gap() {
    let mut fixture = Fixture::ready(IN_ORDER, &[1; 3], 7);
    fixture.endpoint(0).set_draining(true);
    fixture.endpoint(1).set_draining(true);
    assert_eq!(fixture.pick(), 0, "noticed, but there is nothing else yet");
    assert!(fixture.balancer.wants_re_resolution());
    let old = fixture.slot(0);
    let next = fixture.balancer.wants_connection(fixture.now).unwrap();
    assert_eq!(fixture.number(next), 1);
    assert_eq!(fixture.pick(), 0);
    fixture.balancer.set_connectivity(next, Connectivity::Ready, fixture.now);
    let last = fixture.balancer.wants_connection(fixture.now).unwrap();
    assert_eq!(fixture.number(last), 2, "a draining one is passed over");
    fixture.balancer.set_connectivity(last, Connectivity::Ready, fixture.now);
    assert_eq!(fixture.counts(3, 10), [0, 0, 10]);
    let surplus: BTreeSet<_> = std::iter::from_fn(|| fixture.balancer.surplus_connection()).collect();
    assert_eq!(surplus, [old, next].into());
}

/// Three endpoints that are connected, of which no check has had a result yet.
fn unchecked() -> Fixture {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 3], 11);
    (0..3).for_each(|number| fixture.endpoint(number).note_health(HealthStatus::Unknown, fixture.now));
    fixture.connect();
    fixture
}

#[test]
fn the_first_that_is_healthy_is_selected_not_the_one_whose_check_was_quickest() {
    let mut fixture = unchecked();
    fixture.endpoint(2).note_health(HealthStatus::Healthy, fixture.now);
    assert_eq!(fixture.pick(), 2, "calls do not wait for the checks of the others");
    fixture.endpoint(1).note_health(HealthStatus::Healthy, fixture.now);
    assert!([1, 2].contains(&fixture.pick()));
    fixture.endpoint(0).note_health(HealthStatus::Healthy, fixture.now);
    assert_eq!(fixture.counts(3, 10), [10, 0, 0]);
    let given_up: BTreeSet<_> = std::iter::from_fn(|| fixture.balancer.surplus_connection()).collect();
    assert_eq!(given_up, [fixture.slot(1), fixture.slot(2)].into());
}

#[test]
fn a_later_one_is_selected_once_the_checks_of_those_before_it_failed() {
    let mut fixture = unchecked();
    fixture.endpoint(2).note_health(HealthStatus::Healthy, fixture.now);
    let unhealthy = HealthStatus::Unhealthy(UnhealthyReason::Failed);
    (0..2).for_each(|number| fixture.endpoint(number).note_health(unhealthy, fixture.now));
    assert_eq!(fixture.counts(3, 10), [0, 0, 10]);
    fixture.endpoint(0).note_health(HealthStatus::Healthy, fixture.now);
    assert_eq!(fixture.pick(), 2, "the selected one is kept");
}

#[test]
fn shuffling_makes_every_order_start_equally_often() {
    let policy = Policy::PickFirst { shuffle: true };
    let mut counts = [0_u32; 4];
    for seed in 0..4_000 {
        counts[Fixture::ready(policy, &[1; 4], seed).pick() as usize] += 1;
    }
    // 4,000 draws at 1/4: the standard deviation is 27, six of them 164.
    assert!(counts.iter().all(|count| count.abs_diff(1_000) < 165), "{counts:?}");
}

#[test]
fn shuffling_prefers_heavier_endpoints_by_their_weight() {
    let policy = Policy::PickFirst { shuffle: true };
    let mut counts = [0_u32; 2];
    for seed in 0..4_000 {
        counts[Fixture::ready(policy, &[1, 3], seed).pick() as usize] += 1;
    }
    assert!(counts[1].abs_diff(3_000) < 165, "{counts:?}");
}
