//! The pool of probes that were answered and not yet used up.

use core::time::Duration;

use super::PrequalConfig;
use super::threshold::Threshold;
use crate::balancer::Slot;
use crate::time::nanos;

/// One answer, by an endpoint or by what the proxy knows itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Probe {
    /// What it was answered with, and what calls have changed since. RIF is compared by it.
    load: f64,
    /// Latencies are compared by it: in nanoseconds, multiplied by the penalty.
    cost: f64,
    /// What one request more adds to the load.
    step: f64,
    penalty: f64,
    /// When it was answered, in nanoseconds.
    at_ns: u64,
    pub(super) slot: Slot,
    /// How often it may still be used; at least 1.
    uses_left: u32,
}

/// What an endpoint is like, before it is compared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Answer {
    /// Requests in flight, of all callers.
    pub(super) in_flight: f64,
    pub(super) latency_ns: f64,
    /// One through the endpoint's weight.
    pub(super) inverse_weight: f64,
    /// At least 1: by what factor the endpoint counts as worse than it is, for failing calls.
    pub(super) penalty: f64,
}

impl Answer {
    /// The load without the penalty, by which the threshold is found: failing endpoints must not make others cold. One is
    /// added, so that a penalty tells on an idle endpoint too.
    pub(super) fn plain_load(&self) -> f64 {
        (self.in_flight + 1.0) * self.inverse_weight
    }

    fn load(&self) -> f64 {
        self.plain_load() * self.penalty
    }

    fn cost(&self) -> f64 {
        self.latency_ns * self.penalty
    }

    pub(super) fn rank(&self, threshold: &Threshold) -> u64 {
        rank(self.load(), self.cost(), threshold)
    }

    pub(super) fn probe(&self, slot: Slot, uses_left: u32, at: Duration) -> Probe {
        Probe {
            load: self.load(),
            cost: self.cost(),
            step: self.penalty * self.inverse_weight,
            penalty: self.penalty,
            at_ns: nanos(at),
            slot,
            uses_left: uses_left.max(1),
        }
    }
}

impl Probe {
    fn rank(&self, threshold: &Threshold) -> u64 {
        rank(self.load, self.cost, threshold)
    }
}

/// Orders by the hot-cold lexicographic rule, the best first: the cold by cost, then the hot by load. Neither is negative,
/// and the bits of such numbers are in the order of the numbers; the sign's bit is free to say what is hot.
fn rank(load: f64, cost: f64, threshold: &Threshold) -> u64 {
    let is_hot = u64::from(threshold.is_hot(load));
    // Without a branch, as nobody can guess which are hot.
    let hot = is_hot.wrapping_neg();
    (is_hot << 63) | (load.to_bits() & hot) | (cost.to_bits() & !hot)
}

/// The bits of a rank that give way to an index: what differs by less than 10^-13 counts as equal.
const INDEX_BITS: u64 = 0x3f;

/// A rank and an index as one number, so that the least one tells which it is; of equal ones the first is less.
pub(super) fn indexed(rank: u64, index: usize) -> u64 {
    const { assert!(PrequalConfig::MAX_POOL_SIZE as u64 == INDEX_BITS + 1) };
    (rank & !INDEX_BITS) | index as u64
}

/// The index in such a number.
pub(super) fn index_of(indexed: u64) -> usize {
    (indexed & INDEX_BITS) as usize
}

/// At most `capacity` probes, of different endpoints, in no order: their time tells the oldest.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    probes: Vec<Probe>,
    capacity: usize,
    /// No probe is older.
    oldest_ns: u64,
    /// Whether the next one forgotten is the worst, not the oldest.
    worst_is_next: bool,
}

impl Pool {
    pub(super) fn new(capacity: usize) -> Self {
        Self { probes: Vec::with_capacity(capacity), capacity, oldest_ns: 0, worst_is_next: false }
    }

    pub(super) fn len(&self) -> usize {
        self.probes.len()
    }

    /// Takes a probe in, instead of an older one of the same endpoint, or of the oldest of all if there is no room.
    pub(super) fn insert(&mut self, probe: Probe) {
        let is_full = self.probes.len() == self.capacity;
        match self.find(probe.slot).or_else(|| self.oldest().filter(|_| is_full)) {
            Some(index) => self.probes[index] = probe,
            None => {
                if self.probes.is_empty() {
                    self.oldest_ns = probe.at_ns;
                }
                self.probes.push(probe);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(index) = self.find(slot) {
            self.probes.swap_remove(index);
        }
    }

    fn find(&self, slot: Slot) -> Option<usize> {
        self.probes.iter().position(|probe| probe.slot == slot)
    }

    fn oldest(&self) -> Option<usize> {
        let mut oldest = (0, self.probes.first()?.at_ns);
        for (index, probe) in self.probes.iter().enumerate() {
            if probe.at_ns < oldest.1 {
                oldest = (index, probe.at_ns);
            }
        }
        Some(oldest.0)
    }

    /// Takes out what was answered before this time.
    pub(super) fn expire(&mut self, before: Duration) {
        let before = nanos(before);
        if self.oldest_ns < before && !self.probes.is_empty() {
            self.probes.retain(|probe| probe.at_ns >= before);
            self.oldest_ns = self.probes.iter().map(|probe| probe.at_ns).min().unwrap_or(before);
        }
    }

    /// The best probe's index, for [`Pool::used`], and endpoint.
    pub(super) fn best(&self, threshold: &Threshold) -> Option<(usize, Slot)> {
        let keys = self.probes.iter().enumerate().map(|(index, probe)| indexed(probe.rank(threshold), index));
        let best = index_of(keys.min()?);
        Some((best, self.probes[best].slot))
    }

    /// A call goes to the endpoint of this probe: it was used once more and tells of one request more.
    pub(super) fn used(&mut self, index: usize) {
        let probe = &mut self.probes[index];
        probe.load += probe.step;
        probe.uses_left -= 1;
        if probe.uses_left == 0 {
            self.probes.swap_remove(index);
        }
    }

    /// Forgets one probe: the oldest and the worst in turn.
    pub(super) fn forget_one(&mut self, threshold: &Threshold) {
        let worst_is_next = self.worst_is_next;
        let index = if worst_is_next {
            (0..self.probes.len()).max_by_key(|index| self.probes[*index].rank(threshold))
        } else {
            self.oldest()
        };
        if let Some(index) = index {
            self.probes.swap_remove(index);
            self.worst_is_next = !worst_is_next;
        }
    }

    /// Gives an endpoint's probe, if there is one, another penalty.
    pub(super) fn set_penalty(&mut self, slot: Slot, penalty: f64) {
        if let Some(index) = self.find(slot) {
            let probe = &mut self.probes[index];
            let change = penalty / probe.penalty;
            probe.load *= change;
            probe.cost *= change;
            probe.step *= change;
            probe.penalty = penalty;
        }
    }

    #[cfg(test)]
    pub(super) fn probes(&self) -> &[Probe] {
        &self.probes
    }
}
