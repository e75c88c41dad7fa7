//! What workers count for a cluster: [`ClusterEvent`]s, and how many calls wait.

use crate::counter::{Counter, SharedCounter};
use crate::event::ClusterEvent;
use crate::event::cluster::SLOTS;

/// A cluster's counts by one worker. Aligned so that no other allocation shares its cache lines, as a worker's own table.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ClusterRow {
    /// Calls that wait: set by the worker, and put back to 0 when its handle is dropped.
    pub(super) pending: SharedCounter,
    pub(super) events: [Counter; SLOTS],
}

const _: () =
    assert!(size_of::<ClusterRow>() == 768, "the size that MAX_CLUSTER_SERIES' documentation names");

impl Default for ClusterRow {
    fn default() -> Self {
        Self { pending: SharedCounter::default(), events: std::array::from_fn(|_| Counter::default()) }
    }
}

/// The events of one cluster, summed over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterCounts([u64; SLOTS]);

impl Default for ClusterCounts {
    fn default() -> Self {
        Self([0; SLOTS])
    }
}

impl ClusterCounts {
    /// How often `event` was counted.
    #[must_use]
    pub fn get(&self, event: ClusterEvent) -> u64 {
        self.0[event.slot()]
    }

    /// All that was counted, of whatever kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// The count in a slot of the table.
    pub(crate) fn slot(&self, slot: usize) -> u64 {
        self.0[slot]
    }

    pub(super) fn add(&mut self, row: &ClusterRow) {
        for (total, counter) in self.0.iter_mut().zip(&row.events) {
            *total = total.wrapping_add(counter.get());
        }
    }
}
