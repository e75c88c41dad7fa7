use core::time::Duration;
use std::collections::BTreeSet;

use crate::balancer::tests::fixture::{ASK, Fixture, address, addresses};
use crate::{Connectivity, Pick, Policy};

const IN_ORDER: Policy = Policy::PickFirst { shuffle: false };

#[test]
fn tries_one_at_a_time_in_the_order_of_the_list_and_keeps_the_first_that_is_ready() {
    let mut fixture = Fixture::idle(IN_ORDER, &[1; 4], 1);
    fixture.unreachable = [address(0), address(1)].into();
    for number in 0..2 {
        let slot = fixture.balancer.wants_connection(fixture.now).unwrap();
        assert_eq!(fixture.number(slot), number);
        assert_eq!(fixture.balancer.wants_connection(fixture.now), None, "one at a time");
        assert_eq!(fixture.balancer.next_deadline(), None);
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
