//! The endpoints that one of many clients uses.
//!
//! Why: 1,000 proxies in front of 1,000 backends make a million connections, each with its memory, keepalives and health
//! checks, for a few calls each. A subset of each proxy's own does as well, as long as it is large enough to balance over,
//! and the subsets together load all endpoints alike.
//!
//! Both rules order the endpoints by XXH64 of the address, seeded, and take a part of that order:
//!
//! **Random** (gRFC A68): each client has a random seed and takes the first k. Nobody has to number the clients. An endpoint
//! that comes or goes changes one entry of a subset at most, as the order of the others stays. The price is that endpoints
//! have more or fewer clients by chance: with m clients and n endpoints m * k / n on average, and a standard deviation of
//! about the square root of that.
//!
//! **Deterministic** (Beyer et al., "Site Reliability Engineering", chapter 20): clients are numbered 0, 1, 2, ... Of n
//! endpoints, `c = n / k` rounded down subsets can be cut. Clients 0 to c - 1 share one order and take one subset each, the
//! next c clients share another order, and so on. So the numbers of clients of two endpoints differ by little: each row of c
//! clients leaves `n mod k` endpoints out, other ones each time. The book shuffles with a seeded generator; ordering by a
//! seeded hash is a shuffle too, but one that endpoints which come and go do not upset: subsets shift by a place, and all of
//! them change only when c does.
//!
//! Addresses are put in order before, so that all clients agree whatever the order in which discovery answers them.

use std::cmp::Ordering;

use twox_hash::XxHash64;

use crate::address::Address;
use crate::locality::EndpointSpec;

/// Which endpoints of a list are used. Default: all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Subset {
    /// All of them.
    #[default]
    All,
    /// Those that come first in an order of this client's own.
    Random {
        /// How many.
        size: SubsetSize,
        /// A random number drawn when the client starts, and kept: another seed is another subset.
        seed: u64,
    },
    /// This client's part of an order that it shares with other clients.
    Deterministic {
        /// How many.
        size: SubsetSize,
        /// The client's number. All clients of the cluster are numbered 0, 1, 2, ... without large gaps.
        client: u32,
    },
}

impl Subset {
    /// The endpoints used of those listed: all, if there are no more than asked for. Else each address once, as it is listed
    /// first, in the order of the subset. Priorities and localities are not looked at. O(n log n).
    #[must_use]
    pub fn of(self, listed: &[EndpointSpec]) -> Vec<EndpointSpec> {
        let (size, client) = match self {
            Self::All => return listed.to_vec(),
            Self::Random { size, .. } => (size.get(), 0),
            Self::Deterministic { size, client } => (size.get(), client as usize),
        };
        let mut order = distinct(listed);
        if order.len() <= size {
            return listed.to_vec();
        }
        let count = order.len() / size;
        let (seed, part) = match self {
            Self::Random { seed, .. } => (seed, 0),
            _ => ((client / count) as u64, client % count),
        };
        order.sort_by_cached_key(|one| hash(&one.address, seed));
        order[part * size..][..size].iter().map(|one| (*one).clone()).collect()
    }
}

/// Each address at its first occurrence, in the order of the addresses.
fn distinct(listed: &[EndpointSpec]) -> Vec<&EndpointSpec> {
    let by_address = |a: &&EndpointSpec, b: &&EndpointSpec| -> Ordering { a.address.cmp(&b.address) };
    let mut distinct: Vec<_> = listed.iter().collect();
    distinct.sort_by(by_address);
    distinct.dedup_by(|later, first| later.address == first.address);
    distinct
}

fn hash(address: &Address, seed: u64) -> u64 {
    XxHash64::oneshot(seed, address.to_string().as_bytes())
}

/// How many endpoints a subset has: 1 or more. gRPC has no default, nor has this: how few are enough depends on the calls
/// each client makes. 20 to 100 is usual.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubsetSize(u32);

impl SubsetSize {
    /// The number of endpoints.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for SubsetSize {
    type Error = SubsetSizeError;

    fn try_from(size: u32) -> Result<Self, SubsetSizeError> {
        if size == 0 { Err(SubsetSizeError) } else { Ok(Self(size)) }
    }
}

/// A subset of nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a subset of 0 endpoints can take no calls: give at least 1, or leave subsetting out")]
pub struct SubsetSizeError;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::balancer::tests::fixture::{self, address};

    fn addresses(weights: &[u32]) -> Vec<EndpointSpec> {
        fixture::addresses(weights).into_iter().map(EndpointSpec::from).collect()
    }

    fn size(size: u32) -> SubsetSize {
        size.try_into().unwrap()
    }

    fn random(size_of: u32, seed: u64) -> Subset {
        Subset::Random { size: size(size_of), seed }
    }

    fn deterministic(size_of: u32, client: u32) -> Subset {
        Subset::Deterministic { size: size(size_of), client }
    }

    fn used(subset: Subset, listed: &[EndpointSpec]) -> BTreeSet<Address> {
        let used = subset.of(listed);
        let distinct: BTreeSet<Address> = used.iter().map(|spec| spec.address.clone()).collect();
        assert_eq!(distinct.len(), used.len(), "{subset:?} has nobody twice");
        distinct
    }

    /// How many of the clients' subsets each endpoint is in.
    fn clients_of(endpoints: u32, subsets: impl Iterator<Item = Subset>) -> Vec<u32> {
        let listed = addresses(&vec![1; endpoints as usize]);
        let mut counts = vec![0; endpoints as usize];
        for subset in subsets {
            for used in used(subset, &listed) {
                counts[listed.iter().position(|spec| spec.address == used).unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn takes_the_first_by_seeded_hash() {
        let listed = addresses(&(1..=50).collect::<Vec<_>>());
        let mut expected = listed.clone();
        expected.sort_by_key(|spec| XxHash64::oneshot(7, spec.address.to_string().as_bytes()));
        expected.truncate(10);
        assert_eq!(random(10, 7).of(&listed), expected);
        assert_ne!(random(10, 8).of(&listed), expected);
    }

    #[test]
    fn takes_all_up_to_the_size_and_the_size_above_it() {
        let listed = addresses(&[1; 10]);
        for make in [|size| random(size, 1), |size| deterministic(size, 1)] as [fn(u32) -> Subset; 2] {
            assert_eq!(make(11).of(&listed), listed);
            assert_eq!(make(10).of(&listed), listed);
            assert_eq!(make(9).of(&listed).len(), 9);
            assert_eq!(make(1).of(&listed).len(), 1);
            assert_eq!(make(1).of(&[]), []);
        }
        assert_eq!(Subset::All.of(&listed), listed);
        assert_eq!(SubsetSize::try_from(0), Err(SubsetSizeError));
    }

    #[test]
    fn neither_the_lists_order_nor_repetitions_matter() {
        let listed = addresses(&(1..=30).collect::<Vec<_>>());
        let mut other: Vec<_> = listed.iter().rev().cloned().collect();
        other.extend(listed.iter().map(|spec| EndpointSpec { weight: 99, ..spec.clone() }));
        for subset in [random(7, 3), deterministic(7, 3)] {
            assert_eq!(subset.of(&other), subset.of(&listed));
        }
    }

    #[test]
    fn one_endpoint_more_or_less_changes_one_entry_of_a_random_subset_at_most() {
        let listed = addresses(&[1; 100]);
        let mut most = 0;
        for seed in 0..30 {
            let before = used(random(20, seed), &listed);
            let mut added = 0;
            for gone in 0..100 {
                let mut less = listed.clone();
                less.remove(gone);
                let after = used(random(20, seed), &less);
                let new = after.difference(&before).count();
                assert_eq!(new, usize::from(before.contains(&address(gone as u32))), "seed {seed}");
                added += new;
                most = most.max(new);
            }
            assert_eq!(added, 20);
        }
        println!(
            "figure: entries of a random subset of 20 of 100 that one endpoint less changes | at most 1 | {most}"
        );
    }

    /// Prints gRFC A68's samples: (endpoints, clients, subset size).
    #[test]
    fn random_subsets_load_endpoints_as_chance_has_it() {
        for (endpoints, clients, size) in
            [(100, 100, 5), (100, 100, 25), (100, 10, 5), (500, 10, 5), (2_000, 10, 5)]
        {
            let counts = clients_of(endpoints, (0..clients).map(|seed| random(size, seed)));
            let mean = f64::from(size) * clients as f64 / f64::from(endpoints);
            let variance = counts.iter().map(|count| (f64::from(*count) - mean).powi(2)).sum::<f64>()
                / f64::from(endpoints);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            // Each client takes an endpoint with probability p: binomial.
            let p = f64::from(size) / f64::from(endpoints);
            let expected = clients as f64 * p * (1.0 - p);
            println!(
                "figure: clients of each of {endpoints} endpoints, {clients} clients, random subsets of {size} | mean \
                 {mean:.2}, standard deviation about {:.2} | {least} to {most}, standard deviation {:.2}",
                expected.sqrt(),
                variance.sqrt()
            );
            assert!((0.6..1.5).contains(&(variance / expected)), "{variance}, expected {expected}");
            assert!(f64::from(*most) <= mean + 6.0 * expected.sqrt().max(0.5), "{most}");
        }
    }

    #[test]
    fn deterministic_subsets_load_all_endpoints_alike() {
        // 100 endpoints make ten subsets of ten: each row of ten clients takes every endpoint once.
        assert_eq!(clients_of(100, (0..300).map(|client| deterministic(10, client))), [30; 100]);
        // The book's example: 12 endpoints, subsets of 3, 10 clients.
        let counts = clients_of(12, (0..10).map(|client| deterministic(3, client)));
        assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
        // 7 of 107 are left out in each row, other ones each time.
        let counts = clients_of(107, (0..1_000).map(|client| deterministic(10, client)));
        let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
        println!(
            "figure: clients of each of 107 endpoints, 1,000 clients, deterministic subsets of 10 | 80 to 100, mean 93.46 | \
             {least} to {most}"
        );
        assert!(least >= 80 && most <= 100, "{counts:?}");
    }

    #[test]
    fn rows_of_clients_have_different_orders() {
        let listed = addresses(&[1; 100]);
        let subsets: BTreeSet<BTreeSet<Address>> =
            (0..200).map(|client| used(deterministic(10, client), &listed)).collect();
        assert_eq!(subsets.len(), 200);
    }

    #[test]
    fn one_endpoint_less_shifts_a_deterministic_subset_by_a_place() {
        let listed = addresses(&[1; 105]);
        for client in 0..30 {
            let before = used(deterministic(10, client), &listed);
            for gone in 0..105 {
                let mut less = listed.clone();
                less.remove(gone);
                let after = used(deterministic(10, client), &less);
                assert!(after.difference(&before).count() <= 1, "client {client}");
            }
        }
    }
}
