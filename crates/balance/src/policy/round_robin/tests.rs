use std::collections::BTreeSet;

use crate::balancer::tests::fixture::{Fixture, addresses};
use crate::{Connectivity, Policy};

#[test]
fn any_round_holds_each_endpoint_once_whatever_its_weight() {
    let mut fixture = Fixture::ready(Policy::RoundRobin, &[1, 9, 1, 5, 1], 1);
    let picks: Vec<u32> = (0..50).map(|_| fixture.pick()).collect();
    for round in picks.windows(5) {
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 5, "{round:?}");
    }
}

#[test]
fn the_first_pick_is_random() {
    let first: BTreeSet<u32> =
        (0..100).map(|seed| Fixture::ready(Policy::RoundRobin, &[1; 5], seed).pick()).collect();
    assert_eq!(first.len(), 5);
}

#[test]
fn an_endpoint_that_leaves_mid_round_disturbs_no_other() {
    for seed in 0..200 {
        let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 10], seed);
        let mut counts = fixture.counts(10, seed as usize % 10);
        let gone = seed as usize % 7;
        fixture.set(u32::try_from(gone).unwrap(), Connectivity::TransientFailure);
        let rest = 9 - counts.iter().enumerate().filter(|(n, count)| *n != gone && **count > 0).count();
        for (count, more) in counts.iter_mut().zip(fixture.counts(10, rest)) {
            *count += more;
        }
        counts.remove(gone);
        assert_eq!(counts, [1; 9], "seed {seed}");
    }
}

#[test]
fn an_endpoint_that_joins_mid_round_is_served_in_it() {
    for seed in 0..100 {
        let mut fixture = Fixture::ready(Policy::RoundRobin, &[1; 9], seed);
        let mut counts = fixture.counts(10, seed as usize % 9);
        drop(fixture.update(&addresses(&[1; 10])));
        fixture.connect();
        for (count, more) in counts.iter_mut().zip(fixture.counts(10, 10 - seed as usize % 9)) {
            *count += more;
        }
        assert_eq!(counts, [1; 10], "seed {seed}");
    }
}
