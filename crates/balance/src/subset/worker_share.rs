//! The endpoints that one of a process' workers connects to.
//!
//! Each worker has its own connections, so W workers and n endpoints make W x n of them. Above
//! [`WorkerShare::max_connections`] per worker, each worker takes an arc of the ring on which [`EndpointSet`] places the
//! endpoints by the hash of their address:
//!
//! - Every endpoint is taken by the same number of workers, `copies = floor(max_connections * W / n)`, at least 1. The
//!   ring repeated `copies` times is cut into W arcs whose lengths differ by one at most; worker w takes the w-th. With a bound of
//!   1 and more workers than endpoints an arc would be empty: it takes the endpoint where it begins, and some are taken once more.
//! - So no endpoint gets more load than another as long as the workers get the same load, and together the workers
//!   always reach all endpoints, even if that means exceeding the bound: `max_connections * W < n` cannot be helped.
//! - An endpoint more or less moves each end of an arc by one place or so: a worker then changes a few connections,
//!   not all. Only when `copies` itself changes do all arcs move.
//!
//! Why not rendezvous hashing, as random subsetting (gRFC A68) has? It keeps the churn as low, but is even only on
//! average and may leave an endpoint to no worker at all. gRPC's clients cannot know each other; workers of one process
//! know their number. The idea of arcs is that of Twitter's deterministic aperture.
//!
//! [`EndpointSet`]: crate::EndpointSet

use core::iter::Chain;
use core::ops::Range;

/// Endpoints one worker connects to at most, unless the workers together could then not reach all. Default 1,024, which is
/// Envoy's default limit for the connections of a cluster.
pub const DEFAULT_MAX_CONNECTIONS: usize = 1_024;

/// A worker's place among the workers, and how many endpoints it may connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerShare {
    index: usize,
    count: usize,
    max_connections: usize,
}

impl Default for WorkerShare {
    /// The only worker, with [`DEFAULT_MAX_CONNECTIONS`]: as it must reach every endpoint itself, it connects to all.
    fn default() -> Self {
        Self { index: 0, count: 1, max_connections: DEFAULT_MAX_CONNECTIONS }
    }
}

impl WorkerShare {
    /// The share of worker `index` of `count`, with [`DEFAULT_MAX_CONNECTIONS`].
    ///
    /// # Panics
    /// If `index` is not below `count`.
    #[must_use]
    pub fn new(index: usize, count: usize) -> Self {
        assert!(index < count, "worker {index} of {count} cannot be: indices start at 0");
        Self { index, count, ..Self::default() }
    }

    /// With another bound on the endpoints one worker connects to; 0 counts as 1.
    #[must_use]
    pub fn with_max_connections(self, max_connections: usize) -> Self {
        Self { max_connections: max_connections.max(1), ..self }
    }

    /// The share of a part of the endpoints, such as those of a locality, so that all parts together keep to the bound.
    pub(crate) fn of_part(self, part: usize, whole: usize) -> Self {
        if whole <= self.max_connections || part == whole {
            return self;
        }
        self.with_max_connections(self.max_connections * part / whole.max(1))
    }

    /// The worker's places on a ring of `len` endpoints, in ascending order, each once.
    pub(crate) fn places(self, len: usize) -> Chain<Range<usize>, Range<usize>> {
        if len <= self.max_connections {
            return (0..len).chain(0..0);
        }
        // A worker takes an endpoint once at most, so there are never more copies than workers.
        let copies = (self.max_connections.saturating_mul(self.count) / len).clamp(1, self.count);
        let cut = |worker: usize| worker * copies * len / self.count;
        let (from, to) = (cut(self.index), cut(self.index + 1));
        // More workers than copies: each needs one all the same, as it must serve its clients itself.
        let (start, length) = (from % len, (to - from).max(1));
        let wrapped = (start + length).saturating_sub(len);
        (0..wrapped).chain(start..(start + length).min(len))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn share(index: usize, count: usize, max_connections: usize) -> WorkerShare {
        WorkerShare::new(index, count).with_max_connections(max_connections)
    }

    #[test]
    fn takes_all_up_to_the_bound_and_a_part_above_it() {
        assert_eq!(share(1, 4, 100).places(100).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(share(1, 4, 100).places(101).count() <= 100);
        assert_eq!(WorkerShare::default().places(5_000).count(), 5_000);
        assert_eq!(share(0, 4, 100).places(0).count(), 0);
    }

    #[test]
    fn every_worker_takes_some_endpoints_and_each_is_taken_by_equally_many_workers() {
        for count in [1, 2, 3, 7, 16] {
            for max in [1, 10, 64, 100] {
                for len in [1, 2, 5, 63, 64, 65, 100, 101, 150, 999, 1_600, 1_601] {
                    let mut taken = vec![0_usize; len];
                    for index in 0..count {
                        let places: Vec<usize> = share(index, count, max).places(len).collect();
                        assert!(places.is_sorted_by(|a, b| a < b), "{count} {max} {len}: {places:?}");
                        assert!(places.len() <= max.max(len.div_ceil(count)), "{count} {max} {len}");
                        assert!(!places.is_empty(), "{count} {max} {len}: worker {index} could serve nobody");
                        places.into_iter().for_each(|place| taken[place] += 1);
                    }
                    let (fewest, most) = (*taken.iter().min().unwrap(), *taken.iter().max().unwrap());
                    // Where each worker may take one, and there are more workers than endpoints.
                    let uneven = usize::from(max == 1 && count > len && len > 1);
                    assert!(fewest > 0 && most - fewest <= uneven, "{count} {max} {len}: {taken:?}");
                }
            }
        }
    }

    #[test]
    fn one_endpoint_more_changes_few_places_of_a_worker() {
        // 120 * 8 / 400 and 120 * 8 / 401 both make two copies. The newcomer stands at `gap`, all behind it move up.
        let (count, max, len) = (8, 120, 400);
        for gap in 0..=len {
            for index in 0..count {
                let moved_up = |place| if place >= gap { place + 1 } else { place };
                let before: BTreeSet<usize> = share(index, count, max).places(len).map(moved_up).collect();
                let after: BTreeSet<usize> = share(index, count, max).places(len + 1).collect();
                let changes = before.symmetric_difference(&after).count();
                assert!(changes <= 4, "worker {index} changes {changes} when one appears at {gap}");
            }
        }
    }
}
