//! The two kinds of counter: one writer, or many.
//!
//! Why two? `fetch_add` is a locked read-modify-write: about 5 ns alone and a cache-line transfer when two cores do it to
//! the same word. The data path counts a dozen things per call, so there each worker owns a copy of each counter and
//! adds with a plain load and store; whoever scrapes sums the copies. What happens rarely (a reload, a DNS answer) is
//! counted in one shared word.
//!
//! Both are relaxed: a count orders nothing. A scrape that runs beside the workers may see a call in one counter and
//! not yet in another; each counter by itself never goes back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer and any number of readers.
///
/// Two concurrent writers would lose counts, so [`Counter::add`] stays inside the crate, behind handles that are
/// neither `Clone` nor `Sync` ([`crate::WorkerStats`], [`crate::EndpointStats`]).
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`: a load, an add and a store, no locked instruction. Wraps after 2^64, as Prometheus expects.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A counter or gauge that any thread may write; for what happens rarely.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`. Wraps after 2^64.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Replaces the value, for use as a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_wraps_instead_of_panicking() {
        let counter = Counter::default();
        counter.add(u64::MAX);
        counter.add(2);
        assert_eq!(counter.get(), 1);
    }

    #[test]
    fn a_shared_counter_loses_nothing_between_threads() {
        let counter = SharedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.add(1)));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}
