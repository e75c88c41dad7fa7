use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Maglev, TableSize, TableSizeError};
use crate::policy::consistent::Share;

/// In the order of the keys, as a table hands them on.
fn shares(of: &[(String, u32)]) -> Vec<Share> {
    let share = |((key, weight), place): (&(String, u32), u32)| Share {
        key: key.clone(),
        weight: *weight,
        place,
        group: 0,
    };
    of.iter().zip(0..).map(share).collect()
}

/// Hosts 127.0.0.1:90, :91, ... with these weights, as in Envoy's tests.
fn hosts(weights: &[u32]) -> Vec<(String, u32)> {
    (90..).zip(weights).map(|(port, weight): (u32, _)| (format!("127.0.0.1:{port}"), *weight)).collect()
}

fn table(of: &[(String, u32)], size: u32) -> Maglev {
    Maglev::new(&shares(of), size.try_into().unwrap())
}

fn owners(of: &[(String, u32)], size: u32) -> Vec<u32> {
    table(of, size).owners().collect()
}

fn counts(table: &Maglev, endpoints: usize) -> Vec<usize> {
    let mut counts = vec![0; endpoints];
    table.owners().for_each(|owner| counts[owner as usize] += 1);
    counts
}

#[test]
fn is_filled_as_envoys() {
    // maglev_lb_test.cc: Basic, BasicWithHostName, Weighted.
    assert_eq!(owners(&hosts(&[1; 6]), 7), [2, 4, 0, 1, 5, 0, 3]);
    let named: Vec<_> = (90..96).map(|name: u32| (name.to_string(), 1)).collect();
    assert_eq!(owners(&named, 7), [2, 5, 0, 3, 4, 1, 0]);
    assert_eq!(owners(&hosts(&[1, 2]), 17), [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
    assert_eq!(owners(&hosts(&[7]), 17), [0; 17]);
}

/// The filling as the paper and Envoy write it down: every endpoint is asked in every turn.
fn filled_naively(of: &[(String, u32)], size: u32) -> Vec<u32> {
    let hash = |key: &str, seed| twox_hash::XxHash64::oneshot(seed, key.as_bytes());
    let sum: f64 = of.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let largest = of.iter().map(|(_, weight)| f64::from(*weight) / sum).fold(0.0, f64::max);
    let mut owners: Vec<Option<u32>> = vec![None; size as usize];
    let (mut targets, mut nexts) = (vec![0.0; of.len()], vec![0_u64; of.len()]);
    let (mut taken, mut turn) = (0, 0.0);
    loop {
        turn += 1.0;
        for (index, (key, weight)) in of.iter().enumerate() {
            if taken == size {
                return owners.into_iter().map(|owner| owner.expect("all are taken")).collect();
            }
            if turn * (f64::from(*weight) / sum) < targets[index] {
                continue;
            }
            targets[index] += largest;
            let size = u64::from(size);
            let (offset, skip) = (hash(key, 0) % size, hash(key, 1) % (size - 1) + 1);
            loop {
                let entry = ((offset + nexts[index] * skip) % size) as usize;
                nexts[index] += 1;
                if owners[entry].is_none() {
                    owners[entry] = Some(index as u32);
                    break;
                }
            }
            taken += 1;
        }
    }
}

#[test]
fn weights_take_their_turns_as_in_envoy() {
    for seed in 0..60 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let heaviest = [1, 2, 10, 1_000][rng.random_range(0..4)];
        let weights: Vec<u32> =
            (0..rng.random_range(1..30)).map(|_| rng.random_range(1..=heaviest)).collect();
        let mut of = hosts(&weights);
        of.sort_unstable();
        for size in [3, 17, 1_009] {
            assert_eq!(owners(&of, size), filled_naively(&of, size), "seed {seed}, {weights:?}");
        }
    }
}

#[test]
fn shares_are_even_and_follow_the_weights() {
    let even = counts(&table(&hosts(&[1; 9]), 65_537), 9);
    assert!(even.iter().all(|count| count.abs_diff(65_537 / 9) <= 1), "{even:?}");
    let weighted = counts(&table(&hosts(&[1, 2, 3, 4]), 65_537), 4);
    for (count, weight) in weighted.iter().zip(1..) {
        assert!(count.abs_diff(weight * 65_537 / 10) <= 2, "{weighted:?}");
    }
}

#[test]
fn the_heaviest_weight_leaves_each_other_its_first_entry_and_is_filled_at_once() {
    // Asking each in every turn would take 4,097 * 61,441 questions.
    let mut weights = vec![1; 4_097];
    weights[0] = u32::MAX;
    let counts = counts(&table(&hosts(&weights), 65_537), 4_097);
    assert_eq!(counts[0], 65_537 - 4_096);
    assert!(counts[1..].iter().all(|count| *count == 1));
}

#[test]
fn only_primes_within_bounds_are_sizes() {
    assert_eq!(TableSize::try_from(65_537), Ok(TableSize::default()));
    for size in 0..3 {
        assert_eq!(TableSize::try_from(size), Err(TableSizeError::TooSmall(size)));
    }
    assert_eq!(TableSize::try_from(3).map(TableSize::get), Ok(3));
    assert_eq!(TableSize::try_from(65_536), Err(TableSizeError::NotPrime { size: 65_536, next: 65_537 }));
    assert_eq!(TableSize::try_from(25), Err(TableSizeError::NotPrime { size: 25, next: 29 }));
    assert_eq!(TableSize::try_from(5_000_011).map(TableSize::get), Ok(5_000_011));
    assert_eq!(
        TableSize::try_from(5_000_010),
        Err(TableSizeError::NotPrime { size: 5_000_010, next: 5_000_011 })
    );
    assert_eq!(TableSize::try_from(5_000_012), Err(TableSizeError::TooLarge(5_000_012)));
}
