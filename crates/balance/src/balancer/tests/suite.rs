//! What holds for every policy.

use core::time::Duration;
use std::collections::BTreeSet;

use super::fixture::{ASK, Fixture, addresses, hashing, sample};
use crate::policy::least_request::tests::full_scan_of_many;
use crate::{
    Affinity, BoundedLoad, Choice, Connectivity, LeastRequestConfig, LoadWeightConfig, PeakEwmaConfig, Pick,
    Policy, PrequalConfig, ProbeSource, Withheld,
};

/// Whether a policy uses more than one endpoint at a time.
fn spreads(policy: Policy) -> bool {
    !matches!(policy, Policy::PickFirst { .. })
}

fn queues_until_discovery_answers_and_fails_when_it_finds_nothing(policy: Policy) {
    let mut balancer = crate::Balancer::new(policy, rand::SeedableRng::seed_from_u64(1));
    assert_eq!((balancer.pick(&ASK), balancer.state()), (Pick::Queue, Connectivity::Idle));
    assert_eq!(balancer.pick_excluding(&ASK, &[]), Pick::Queue);
    let mut empty = Fixture::idle(policy, &[], 1);
    assert_eq!(
        (empty.balancer.pick(&ASK), empty.balancer.state()),
        (Pick::Fail, Connectivity::TransientFailure)
    );
}

fn queues_while_connecting_and_fails_when_all_failed(policy: Policy) {
    let mut fixture = Fixture::idle(policy, &[1, 1, 1], 2);
    assert_eq!(
        (fixture.balancer.pick(&ASK), fixture.balancer.state()),
        (Pick::Queue, Connectivity::Connecting)
    );
    fixture.unreachable = addresses(&[1, 1, 1]).into_iter().map(|(address, _)| address).collect();
    let first = fixture.balancer.wants_connection(fixture.now).unwrap();
    assert_eq!(fixture.balancer.connectivity(first), Connectivity::Connecting);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.balancer.set_connectivity(first, Connectivity::TransientFailure, fixture.now);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Queue);
    fixture.connect();
    assert_eq!(
        (fixture.balancer.pick(&ASK), fixture.balancer.state()),
        (Pick::Fail, Connectivity::TransientFailure)
    );
    assert!(fixture.balancer.wants_re_resolution());

    // The next attempts, once their backoff ended, do not make calls wait again: the failure is sticky.
    fixture.now = fixture.balancer.next_deadline().unwrap() + Duration::from_secs(1);
    let again = fixture.balancer.wants_connection(fixture.now).unwrap();
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Fail);
    fixture.balancer.set_connectivity(again, Connectivity::Ready, fixture.now);
    assert_eq!(fixture.balancer.pick(&ASK), Pick::Endpoint(again));
    assert_eq!(fixture.balancer.state(), Connectivity::Ready);
}

fn picks_only_the_ready_endpoint_of_many(policy: Policy) {
    let mut fixture = Fixture::idle(policy, &[1; 20], 3);
    fixture.unreachable = addresses(&[1; 20]).into_iter().map(|(address, _)| address).collect();
    fixture.unreachable.remove(&super::fixture::address(13));
    fixture.connect();
    for _ in 0..100 {
        assert_eq!(fixture.pick(), 13);
    }
}

fn leaves_an_endpoint_as_soon_as_it_is_lost(policy: Policy) {
    for state in [Connectivity::Idle, Connectivity::TransientFailure, Connectivity::Connecting] {
        let mut fixture = Fixture::ready(policy, &[1, 2, 3], 4);
        let gone = fixture.pick();
        fixture.set(gone, state);
        for _ in 0..20 {
            match fixture.balancer.pick(&ASK) {
                Pick::Endpoint(slot) => assert_ne!(fixture.number(slot), gone),
                other => assert!(!spreads(policy), "{other:?} though two endpoints are ready"),
            }
        }
        fixture.connect();
        assert_ne!(fixture.balancer.pick(&ASK), Pick::Fail);
    }
}

fn leaves_a_draining_endpoint_without_being_told(policy: Policy) {
    let mut fixture = Fixture::ready(policy, &[1, 1, 1], 5);
    let draining = fixture.pick();
    fixture.endpoint(draining).set_draining(true);
    if !spreads(policy) {
        assert_eq!(fixture.pick(), draining, "it serves until another is ready");
        fixture.connect();
    }
    for _ in 0..100 {
        assert_ne!(fixture.pick(), draining);
    }
}

fn keeps_using_draining_endpoints_when_nothing_else_is_ready(policy: Policy) {
    let mut fixture = Fixture::ready(policy, &[1, 1], 6);
    for number in 0..2 {
        fixture.endpoint(number).set_draining(true);
    }
    for _ in 0..10 {
        fixture.pick();
        fixture.connect();
    }
    let used: BTreeSet<u32> = (0..10).map(|_| fixture.pick()).collect();
    assert_eq!(used.len(), 2, "draining endpoints share the calls: {used:?}");
    assert_eq!(fixture.balancer.state(), Connectivity::Ready);
}

fn takes_an_endpoint_back_when_its_draining_is_called_off(policy: Policy) {
    let mut fixture = Fixture::ready(policy, &[1, 1], 7);
    for number in 0..2 {
        fixture.endpoint(number).set_draining(true);
    }
    for _ in 0..10 {
        fixture.pick();
        fixture.connect();
    }
    fixture.endpoint(1).set_draining(false);
    fixture.pick();
    fixture.pick();
    for _ in 0..10 {
        assert_eq!(fixture.pick(), 1);
    }
}

fn a_retry_goes_elsewhere_and_fails_when_all_were_tried(policy: Policy) {
    let mut fixture = Fixture::ready(policy, &[1, 1, 5], 8);
    if !spreads(policy) {
        let Pick::Endpoint(selected) = fixture.balancer.pick(&ASK) else { panic!("one is selected") };
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &[selected]), Pick::Fail);
        return;
    }
    for _ in 0..50 {
        let mut tried = Vec::new();
        for _ in 0..3 {
            let Pick::Endpoint(slot) = fixture.balancer.pick_excluding(&ASK, &tried) else {
                panic!("there are untried ones besides {tried:?}")
            };
            assert!(!tried.contains(&slot));
            tried.push(slot);
        }
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &tried), Pick::Fail);
    }
    // Another that is connecting is worth waiting for, a tried one that is connecting is not.
    let slots = [fixture.slot(0), fixture.slot(1)];
    fixture.set(2, Connectivity::Idle);
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &slots), Pick::Queue);
    fixture.set(1, Connectivity::Idle);
    fixture.connect();
    fixture.set(2, Connectivity::TransientFailure);
    fixture.set(1, Connectivity::Idle);
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &slots), Pick::Fail);
}

fn a_retry_prefers_an_untried_draining_endpoint_to_none(policy: Policy) {
    if !spreads(policy) {
        return; // It connects to one only.
    }
    let mut fixture = Fixture::ready(policy, &[1, 1], 9);
    fixture.endpoint(0).set_draining(true);
    let (draining, tried) = (fixture.slot(0), fixture.slot(1));
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[tried]), Pick::Endpoint(draining));
}

fn a_retry_goes_to_none_that_fails_while_a_tried_one_is_in_service(policy: Policy) {
    if !spreads(policy) {
        return; // It connects to one only.
    }
    for reason in [Withheld::Unhealthy, Withheld::Ejected] {
        let mut fixture = Fixture::ready(policy, &[1, 1], 9);
        fixture.endpoint(0).set_withheld(reason, true);
        let (failing, tried) = (fixture.slot(0), fixture.slot(1));
        // Tried, or without room: it may be in a moment, and what fails would only fail this call, too.
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &[tried]), Pick::Fail, "{reason:?}");
        fixture.set(1, Connectivity::TransientFailure);
        assert_eq!(fixture.balancer.pick_excluding(&ASK, &[tried]), Pick::Endpoint(failing), "{reason:?}");
    }
}

fn the_same_seed_makes_the_same_picks(policy: Policy) {
    let picks = |seed| -> Vec<u32> {
        let mut fixture = Fixture::ready(policy, &[1; 8], seed);
        (0..100).map(|_| fixture.pick()).collect()
    };
    assert_eq!(picks(10), picks(10));
    if spreads(policy) {
        assert_ne!(picks(10), picks(11), "workers with other seeds are not in step");
    }
}

/// Instantiates every test of the suite for each policy.
macro_rules! suite {
    ($($policy_name:ident: $policy:expr;)*) => { $(suite!(@policy $policy_name, $policy;
        queues_until_discovery_answers_and_fails_when_it_finds_nothing,
        queues_while_connecting_and_fails_when_all_failed,
        picks_only_the_ready_endpoint_of_many,
        leaves_an_endpoint_as_soon_as_it_is_lost,
        leaves_a_draining_endpoint_without_being_told,
        keeps_using_draining_endpoints_when_nothing_else_is_ready,
        takes_an_endpoint_back_when_its_draining_is_called_off,
        a_retry_goes_elsewhere_and_fails_when_all_were_tried,
        a_retry_prefers_an_untried_draining_endpoint_to_none,
        a_retry_goes_to_none_that_fails_while_a_tried_one_is_in_service,
        the_same_seed_makes_the_same_picks,
    );)* };
    (@policy $policy_name:ident, $policy:expr; $($test:ident,)*) => {
        mod $policy_name {
            use super::*;
            $(#[test] fn $test() { super::$test($policy); })*
        }
    };
}

suite! {
    pick_first: Policy::PickFirst { shuffle: false };
    pick_first_shuffled: Policy::PickFirst { shuffle: true };
    round_robin: Policy::RoundRobin;
    weighted_round_robin: Policy::WeightedRoundRobin;
    random: Policy::Random;
    least_request_of_two: sample(2);
    least_request_of_ten: sample(10);
    least_request_full_scan: Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan));
    least_request_full_scan_of_many: full_scan_of_many();
    load_weighted_round_robin: Policy::LoadWeightedRoundRobin(LoadWeightConfig::default());
    peak_ewma: Policy::PeakEwma(PeakEwmaConfig::default());
    prequal: Policy::Prequal(PrequalConfig::default());
    prequal_without_probes: Policy::Prequal(PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() });
    ring_hash: hashing(Affinity::Rehash)[0];
    ring_hash_bound: hashing(Affinity::Bounded(BoundedLoad::default()))[0];
    maglev: hashing(Affinity::Rehash)[1];
    maglev_bound: hashing(Affinity::Bounded(BoundedLoad::default()))[1];
}
