//! Previews pick as their balancers do, and change nothing.

use super::fixture::{ASK, Fixture, address, hashing, sample};
use crate::{
    Affinity, Ask, Connectivity, Endpoint, PeakEwmaConfig, Pick, Policy, PrequalConfig, RefusedBy, Withheld,
};

#[test]
fn a_keys_preview_is_the_endpoint_that_its_calls_get() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1, 1, 1, 1, 1], 7);
        fixture.set(2, Connectivity::TransientFailure);
        for key in 0..100_u64 {
            let ask = Ask { hash: Some(crate::hash_bytes(&key.to_be_bytes())), ..ASK };
            let mut preview = fixture.balancer.preview(key);
            assert!(preview.leaves_nothing_to_chance(&ask));
            let shares = preview.shares(&ask, 1000);
            let slot = fixture.balancer.pick(&ask).slot().unwrap();
            assert_eq!((shares.endpoints.as_slice(), shares.picks()), (&[(slot, 1)][..], 1), "{policy:?}");
        }
    }
}

#[test]
fn a_key_has_the_same_owner_whatever_its_state_and_who_refuses_its_calls_is_told() {
    for (rehash, fail) in hashing(Affinity::Rehash).into_iter().zip(hashing(Affinity::Fail)) {
        for (policy, refusal) in [(rehash, None), (fail, Some(RefusedBy::Affinity))] {
            let mut fixture = Fixture::ready(policy, &[1, 1, 1], 7);
            let ask = Ask { hash: Some(crate::hash_bytes(b"anna")), ..ASK };
            let owner = fixture.balancer.pick(&ask).slot().unwrap();
            assert_eq!(fixture.balancer.preview(1).owner(&ask), Some(owner), "{policy:?}");
            assert_eq!(fixture.balancer.preview(1).owner(&ASK), None, "without a key");
            fixture.set(fixture.number(owner), Connectivity::TransientFailure);
            let mut preview = fixture.balancer.preview(1);
            assert_eq!((preview.owner(&ask), preview.refusal()), (Some(owner), refusal), "{policy:?}");
            let got = preview.pick(&ask).slot();
            assert_eq!((got == Some(owner), got.is_none()), (false, refusal.is_some()), "{policy:?}");
        }
    }
    let ask = Ask { hash: Some(1), ..ASK };
    assert_eq!(Fixture::ready(Policy::RoundRobin, &[1, 1], 7).balancer.preview(1).owner(&ask), None);
}

#[test]
fn shares_are_those_of_the_policy() {
    let counts = |policy, weights: &[u32], picks| {
        let fixture = Fixture::ready(policy, weights, 7);
        let shares = fixture.balancer.preview(3).shares(&ASK, picks);
        assert_eq!(shares.picks(), picks);
        let mut counts = vec![0; weights.len()];
        shares.endpoints.iter().for_each(|(slot, count)| counts[fixture.number(*slot) as usize] = *count);
        counts
    };
    assert_eq!(counts(Policy::RoundRobin, &[1, 1, 1], 300), [100, 100, 100]);
    assert_eq!(counts(Policy::WeightedRoundRobin, &[1, 2, 5], 80), [10, 20, 50]);
    for policy in [Policy::Random, sample(2), Policy::PeakEwma(PeakEwmaConfig::default())] {
        for count in counts(policy, &[1, 1, 1], 3000) {
            assert!((850..=1150).contains(&count), "{policy:?}: {count}");
        }
    }
    assert_eq!(counts(Policy::PickFirst { shuffle: false }, &[1, 1], 1), [1, 0]);
    assert_eq!(counts(Policy::Prequal(PrequalConfig::default()), &[1, 1], 64).iter().sum::<usize>(), 64);
}

#[test]
fn a_preview_changes_nothing_that_others_see() {
    for policy in [Policy::PickFirst { shuffle: false }, Policy::RoundRobin, sample(2)]
        .into_iter()
        .chain(hashing(Affinity::Rehash))
    {
        let fixture = Fixture::ready(policy, &[1, 1, 1], 7);
        // No pick of the balancer has noticed this; those of the preview do.
        fixture.endpoint(0).set_withheld(Withheld::Ejected, true);
        let seen = |fixture: &Fixture| {
            let of = |number| {
                let endpoint = fixture.endpoint(number);
                let states = Connectivity::ALL.map(|state| endpoint.workers_in(state));
                (states, endpoint.in_flight(), endpoint.is_withheld())
            };
            let candidates = fixture.balancer.slots().filter(|status| status.is_candidate).count();
            ([of(0), of(1), of(2)], candidates)
        };
        let before = seen(&fixture);
        let mut preview = fixture.balancer.preview(1);
        let _ = preview.shares(&ASK, 100);
        drop(preview);
        assert_eq!(seen(&fixture), before, "{policy:?}");
    }
}

#[test]
fn a_call_that_would_wait_or_fail_is_told_so() {
    let mut fixture = Fixture::idle(Policy::RoundRobin, &[1], 7);
    let shares = |fixture: &Fixture| fixture.balancer.preview(1).shares(&ASK, 10);
    assert_eq!((shares(&fixture).queued, shares(&fixture).picks()), (10, 10));
    fixture.set(0, Connectivity::TransientFailure);
    assert_eq!((shares(&fixture).failed, shares(&fixture).picks()), (10, 10));
    assert_eq!(fixture.balancer.preview(1).pick(&ASK), Pick::Fail);
}

#[test]
fn an_endpoint_that_does_not_take_a_call_is_passed_over_for_another() {
    for policy in [Policy::RoundRobin, sample(2), Policy::Prequal(PrequalConfig::default())] {
        let fixture = Fixture::ready(policy, &[1, 1, 1, 1], 7);
        let taken_by = |most_passed_over, takers: &[u32]| {
            let takes =
                |endpoint: &Endpoint| takers.iter().any(|number| *endpoint.address() == address(*number));
            let shares = fixture.balancer.preview(3).shares_of_takers(&ASK, 60, most_passed_over, takes);
            let mut numbers: Vec<u32> =
                shares.endpoints.iter().map(|(slot, _)| fixture.number(*slot)).collect();
            numbers.sort_unstable();
            (numbers, shares.queued, shares.refused)
        };
        assert_eq!(taken_by(3, &[1, 3]), (vec![1, 3], 0, 0), "{policy:?}");
        assert_eq!(taken_by(3, &[2]), (vec![2], 0, 0), "{policy:?}");
        assert_eq!(taken_by(4, &[]), (vec![], 0, 60), "{policy:?}: nobody is left");
        assert_eq!(taken_by(3, &[]), (vec![], 60, 0), "{policy:?}: the search was given up");
    }
}
