//! What a new set of endpoints changes, and what it leaves alone.

use core::time::Duration;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::fixture::{ASK, Fixture, address, addresses};
use crate::{Balancer, BalancerConfig, Connectivity, EndpointSet, Pick, Policy, WorkerShare};

#[test]
fn endpoints_that_stay_keep_slot_and_connection() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 50], 1);
    let before: Vec<_> = (0..50).map(|number| fixture.slot(number)).collect();
    let mut list = addresses(&[1; 60]);
    list.drain(10..20);
    let changes = fixture.update(&list);
    assert_eq!(changes.added.len(), 10);
    let mut removed = changes.removed.clone();
    removed.sort_unstable();
    let mut expected = before[10..20].to_vec();
    expected.sort_unstable();
    assert_eq!(removed, expected);
    for number in (0..10).chain(20..50) {
        let slot = fixture.slot(number);
        assert_eq!(slot, before[number as usize]);
        assert_eq!(fixture.balancer.connectivity(slot), Connectivity::Ready);
    }
    assert_eq!(fixture.balancer.ready_count(), 40);
}

#[test]
fn a_removed_endpoint_gets_no_calls_and_its_slot_is_reused_once_forgotten() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1], 2);
    let slot = fixture.slot(1);
    let changes = fixture.update(&addresses(&[1]));
    assert_eq!(changes.removed, [slot]);
    for _ in 0..10 {
        assert_eq!(fixture.pick(), 0);
    }
    // Its connection may still come and go while it finishes its calls.
    for state in [Connectivity::Idle, Connectivity::Connecting, Connectivity::Ready] {
        fixture.balancer.set_connectivity(slot, state, fixture.now);
        assert_eq!(fixture.pick(), 0);
        assert_eq!(fixture.balancer.ready_count(), 1);
        assert_eq!(fixture.balancer.next_deadline(), None);
    }
    fixture.balancer.forget(slot);
    let changes = fixture.update(&addresses(&[1, 1]));
    assert_eq!(changes.added, [slot]);
}

#[test]
fn an_address_that_returns_before_it_is_forgotten_gets_a_slot_of_its_own() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1], 3);
    let old = fixture.slot(1);
    assert_eq!(fixture.update(&addresses(&[1])).removed, [old]);
    let changes = fixture.update(&addresses(&[1, 1]));
    assert_eq!((changes.added.len(), changes.removed.len()), (1, 0));
    assert_ne!(changes.added[0], old);
}

#[test]
fn a_set_built_anew_replaces_every_endpoint() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 1, 1], 4);
    let changes = fixture.balancer.update(&Arc::new(EndpointSet::new(&addresses(&[1, 1, 1]))));
    assert_eq!((changes.added.len(), changes.removed.len()), (3, 3));
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
}

#[test]
#[should_panic(expected = "only a removed slot can be forgotten")]
fn a_listed_slot_cannot_be_forgotten() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1], 5);
    let slot = fixture.slot(0);
    fixture.balancer.forget(slot);
}

#[test]
fn workers_count_for_an_endpoint_until_they_forget_it_or_go_away() {
    let mut one = Fixture::ready(Policy::RoundRobin, &[1, 1], 6);
    let mut other = Balancer::new(Policy::RoundRobin, SmallRng::seed_from_u64(7));
    drop(other.update(&one.set));
    let endpoint = Arc::clone(one.endpoint(1));
    let workers = || (endpoint.workers_in(Connectivity::Ready), endpoint.workers_in(Connectivity::Idle));
    assert_eq!(workers(), (1, 1));
    drop(other);
    assert_eq!(workers(), (1, 0));
    let removed = one.update(&addresses(&[1])).removed[0];
    assert_eq!(workers(), (1, 0));
    one.balancer.set_connectivity(removed, Connectivity::Shutdown, one.now);
    one.balancer.forget(removed);
    assert_eq!(workers(), (0, 0));
    assert_eq!(endpoint.connectivity(), None);
}

#[test]
fn workers_with_a_bound_share_the_endpoints_evenly() {
    let set = Arc::new(EndpointSet::new(&addresses(&[1; 300])));
    let mut copies = vec![0; 300];
    for index in 0..4 {
        let share = WorkerShare::new(index, 4).with_max_connections(160);
        let config = BalancerConfig { policy: Policy::RoundRobin, share, ..BalancerConfig::default() };
        let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(8));
        assert_eq!(balancer.update(&set).added.len(), 150);
        let mut wanted = 0;
        while balancer.wants_connection(Duration::ZERO).is_some() {
            wanted += 1;
        }
        assert_eq!(wanted, 150);
        for status in balancer.slots() {
            let place = set.endpoints().iter().position(|one| Arc::ptr_eq(one, status.endpoint)).unwrap();
            copies[place] += 1;
        }
    }
    assert_eq!(copies, [2; 300]);
}

#[test]
fn one_endpoint_more_leaves_most_of_a_share_alone() {
    let mut set = EndpointSet::new(&addresses(&[1; 300]));
    let share = WorkerShare::new(1, 4).with_max_connections(160);
    let config = BalancerConfig { policy: Policy::Random, share, ..BalancerConfig::default() };
    let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(9));
    drop(balancer.update(&Arc::new(set.updated(&addresses(&[1; 300])))));
    for count in 301..320 {
        set = set.updated(&addresses(&vec![1; count]));
        let changes = balancer.update(&Arc::new(set.updated(&addresses(&vec![1; count]))));
        if count > 301 {
            assert!(changes.added.len() + changes.removed.len() <= 4, "{changes:?}");
        }
    }
}

#[test]
fn a_changed_weight_takes_effect_with_the_update() {
    let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &[1, 1], 10);
    assert_eq!(fixture.counts(2, 8), [4, 4]);
    let changes = fixture.update(&[(address(0), 3), (address(1), 1)]);
    assert_eq!(changes, crate::Changes::default());
    assert_eq!(fixture.counts(2, 8), [6, 2]);
}
