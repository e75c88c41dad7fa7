use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::balancer::tests::fixture::{Fixture, addresses};
use crate::{Connectivity, Policy};

/// Any `sum(weights)` picks in a row hold each endpoint exactly as often as its weight says.
fn assert_exact(weights: &[u32], seed: u64) {
    let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, weights, seed);
    let period = weights.iter().sum::<u32>() as usize;
    let picks: Vec<u32> = (0..2 * period).map(|_| fixture.pick()).collect();
    let mut counts = vec![0_u32; weights.len()];
    for (at, pick) in picks.iter().enumerate() {
        counts[*pick as usize] += 1;
        if at >= period {
            counts[picks[at - period] as usize] -= 1;
        }
        if at + 1 >= period {
            assert_eq!(counts, weights, "seed {seed}, {} picks", at + 1);
        }
    }
}

#[test]
fn picks_are_exact_over_any_period() {
    for weights in [&[1][..], &[1, 1], &[1, 2], &[3, 2, 1], &[5, 1, 1], &[100, 1, 50, 3, 7], &[128, 64, 127]]
    {
        for seed in 0..20 {
            assert_exact(weights, seed);
        }
    }
    for seed in 0..50 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let weights: Vec<u32> = (0..rng.random_range(1..40)).map(|_| rng.random_range(1..300)).collect();
        assert_exact(&weights, seed);
    }
    println!(
        "figure: picks of each endpoint in any sum(weights) picks in a row, weighted_round_robin | its weight | its weight, \
         each of 190 times"
    );
}

#[test]
fn equal_weights_are_round_robin() {
    for weight in [1, 7, 64, u32::MAX] {
        let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &[weight; 6], 1);
        let picks: Vec<u32> = (0..60).map(|_| fixture.pick()).collect();
        for round in picks.windows(6) {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 6, "{round:?}");
        }
    }
}

#[test]
fn what_is_left_of_a_class_with_equal_weights_is_round_robin() {
    let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &[7, 4, 4, 4], 1);
    fixture.set(0, Connectivity::TransientFailure);
    let picks: Vec<u32> = (0..30).map(|_| fixture.pick()).collect();
    for round in picks.windows(3) {
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 3, "{round:?}");
    }
}

#[test]
fn a_heavy_endpoint_is_spread_over_the_period() {
    let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &[5, 1, 1, 1, 1, 1], 2);
    let picks: Vec<u32> = (0..100).map(|_| fixture.pick()).collect();
    assert!(picks.windows(2).all(|pair| pair != [0, 0]), "half of the picks, never two in a row: {picks:?}");
}

#[test]
fn stays_exact_after_endpoints_came_and_went() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let weights: Vec<u32> = (0..12).map(|_| rng.random_range(1..20)).collect();
        let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &weights, seed);
        for _ in 0..200 {
            fixture.pick();
            let number = rng.random_range(1..12); // Number 0 stays, so that there is always one to pick.
            let state = if rng.random() { Connectivity::Ready } else { Connectivity::TransientFailure };
            fixture.set(number, state);
        }
        let new_weights: Vec<u32> = (0..12).map(|_| rng.random_range(1..20)).collect();
        drop(fixture.update(&addresses(&new_weights)));
        for number in 0..12 {
            fixture.set(number, Connectivity::Ready);
        }
        // The classes' credits may stand anywhere: the share is exact up to what they are worth, one pick per class.
        let period = new_weights.iter().sum::<u32>();
        let counts = fixture.counts(12, 100 * period as usize);
        for (count, weight) in counts.iter().zip(&new_weights) {
            assert!(count.abs_diff(100 * *weight as usize) <= 5, "seed {seed}: {count}, weight {weight}");
        }
    }
}

#[test]
fn the_largest_weights_do_not_overflow() {
    let mut fixture = Fixture::ready(Policy::WeightedRoundRobin, &[u32::MAX, u32::MAX - 1, 1 << 31, 1], 3);
    let counts = fixture.counts(4, 1_000);
    assert!(counts[0].abs_diff(400) <= 2 && counts[1].abs_diff(400) <= 2, "{counts:?}");
    assert!(counts[2].abs_diff(200) <= 2 && counts[3] <= 1, "{counts:?}");
}
