//! Where a route's calls go: one cluster, or several by weight.
//!
//! Rule: the weights are laid end to end, and a point between 0 and their sum decides. A sticky split takes the point from
//! a hash of the call's key, so that the same key always meets the same cluster, in every worker and every proxy; when
//! weights change, only the keys between the old and the new borders move.

use std::sync::Arc;

use evenkeel_balance::canary::{Observed, Version};
use twox_hash::XxHash64;

/// Two clusters of a split that a canary compares, by their positions in the snapshot.
#[derive(Clone, Debug)]
pub struct Versions {
    /// The cluster that answers without a canary.
    pub stable: usize,
    /// The cluster with the new version.
    pub canary: usize,
    /// Where the ends of their calls are counted.
    pub observed: Arc<Observed>,
}

/// Clusters by weight.
#[derive(Clone, Debug)]
pub struct Split {
    /// The position of each cluster in the snapshot, and the sum of the weights up to and with its own. Never empty.
    shares: Box<[(usize, u64)]>,
    /// The field whose value is the key.
    sticky_by: Option<Box<[u8]>>,
    /// The clusters that a canary compares.
    versions: Option<Versions>,
}

impl Split {
    /// All calls to one cluster, by its position in the snapshot.
    #[must_use]
    pub fn to(cluster: usize) -> Self {
        Self { shares: [(cluster, 1)].into(), sticky_by: None, versions: None }
    }

    /// A split over clusters, each with its weight; without any weight above 0 all calls go to the first.
    ///
    /// # Panics
    /// If there is no cluster at all.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = (usize, u32)>, sticky_by: Option<&str>) -> Self {
        let mut sum = 0;
        let shares: Box<[(usize, u64)]> = weights
            .into_iter()
            .map(|(cluster, weight)| {
                sum += u64::from(weight);
                (cluster, sum)
            })
            .collect();
        assert!(!shares.is_empty(), "the configuration refuses a split without clusters");
        Self { shares, sticky_by: sticky_by.map(|name| name.as_bytes().into()), versions: None }
    }

    /// The same split, whose two versions are counted.
    #[must_use]
    pub fn with_versions(self, versions: Versions) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// The clusters that a canary compares.
    #[must_use]
    pub fn versions(&self) -> Option<&Versions> {
        self.versions.as_ref()
    }

    /// Which of a canary's two versions a cluster is.
    #[must_use]
    pub fn version_of(&self, cluster: usize) -> Option<Version> {
        let versions = self.versions.as_ref()?;
        if cluster == versions.canary {
            Some(Version::Canary)
        } else {
            (cluster == versions.stable).then_some(Version::Stable)
        }
    }

    /// The cluster that takes all calls, if there is but one.
    #[must_use]
    pub fn only(&self) -> Option<usize> {
        match self.shares[..] {
            [(cluster, _)] => Some(cluster),
            _ => None,
        }
    }

    /// The clusters with their weights.
    pub fn weights(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut before = 0;
        self.shares
            .iter()
            .map(move |(cluster, until)| (*cluster, until - std::mem::replace(&mut before, *until)))
    }

    /// The field whose value is the key of a sticky split.
    #[must_use]
    pub fn sticky_by(&self) -> Option<&[u8]> {
        self.sticky_by.as_deref()
    }

    /// The point of a key: the same everywhere.
    #[must_use]
    pub fn point(key: &[u8]) -> u64 {
        XxHash64::oneshot(0, key)
    }

    /// The cluster at a point, which is anything from 0 to `u64::MAX`.
    #[must_use]
    pub fn choose(&self, point: u64) -> usize {
        let sum = self.shares.last().map_or(0, |(_, sum)| *sum);
        // Without the bias of a remainder: the upper half of a 128-bit product is uniform to one part in 2^64.
        let at = ((u128::from(point) * u128::from(sum)) >> 64) as u64;
        self.shares.iter().find(|(_, until)| at < *until).unwrap_or(&self.shares[0]).0
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn a_split_keeps_its_weights_within_one_point() {
        let split = Split::new([(4, 90), (7, 10), (9, 0)], None);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut calls = [0; 10];
        for _ in 0..10_000 {
            calls[split.choose(rng.next_u64())] += 1;
        }
        assert_eq!(calls[4] + calls[7], 10_000);
        println!("figure: calls to the second of a split 90/10, of 10,000 | 900 to 1,100 | {}", calls[7]);
        assert!((900..=1100).contains(&calls[7]), "{calls:?}");
        assert_eq!((split.choose(0), split.choose(u64::MAX)), (4, 7));
        assert_eq!(split.weights().collect::<Vec<_>>(), [(4, 90), (7, 10), (9, 0)]);
    }

    #[test]
    fn keys_keep_their_cluster_and_few_move_with_the_weights() {
        let before = Split::new([(0, 90), (1, 10)], Some("x-user"));
        let after = Split::new([(0, 80), (1, 20)], Some("x-user"));
        let (mut next, mut moved) = (0, 0);
        for key in 0..10_000_u32 {
            let point = Split::point(&key.to_be_bytes());
            let (old, new) = (before.choose(point), after.choose(point));
            assert!(!(old == 1 && new == 0), "a key that met the next version goes back");
            next += usize::from(old == 1);
            moved += usize::from(old != new);
        }
        assert!((900..=1100).contains(&next), "{next}");
        assert!((900..=1100).contains(&moved), "{moved}");
    }

    #[test]
    fn without_weights_the_first_takes_all() {
        assert_eq!(Split::new([(3, 0), (4, 0)], None).choose(u64::MAX), 3);
        assert_eq!(Split::to(5).choose(u64::MAX), 5);
    }
}
