//! Latency histogram with Prometheus' default buckets.
//!
//! Bounds are inclusive ("le"): a call of exactly 5 ms is in the first bucket. Each call adds to one bucket; the sums
//! "up to this bound" are made at export. There is no separate count: it is the sum of the buckets, so that count and
//! buckets agree in every scrape.
//!
//! The sum of latencies is kept in microseconds, each latency rounded to the nearest. In nanoseconds 64 bits would
//! overflow within weeks: 10,000 calls in flight add 10,000 s of latency per second, and 2^64 ns are 584 years, so 21
//! days are enough. In microseconds it is 58 years. Rounding to the nearest adds no bias.

use std::time::Duration;

use crate::counter::Counter;

/// Upper bounds in seconds: `prometheus.DefBuckets` of the Go client, the ones that go-grpc-middleware uses.
pub const LATENCY_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same bounds as durations.
const BOUNDS: [Duration; 11] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_500),
    Duration::from_millis(5_000),
    Duration::from_millis(10_000),
];

/// Buckets: one per bound, and one above the last.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// The index of the bucket that counts `latency`.
#[inline]
fn bucket(latency: Duration) -> usize {
    // Nearly every call ends at the first bound, which a branch predictor learns.
    BOUNDS.iter().position(|bound| latency <= *bound).unwrap_or(BOUNDS.len())
}

/// `latency` in microseconds, rounded to the nearest; at most 2^64 - 1.
#[inline]
fn micros(latency: Duration) -> u64 {
    let part = u64::from(latency.subsec_nanos().saturating_add(500) / 1_000);
    latency.as_secs().saturating_mul(1_000_000).saturating_add(part)
}

/// A histogram with one writer.
#[derive(Debug, Default)]
pub(crate) struct LatencyHistogram {
    sum_micros: Counter,
    buckets: [Counter; LATENCY_BUCKETS],
}

impl LatencyHistogram {
    #[inline]
    pub(crate) fn observe(&self, latency: Duration) {
        self.sum_micros.add(micros(latency));
        self.buckets[bucket(latency)].add(1);
    }
}

/// The values of a histogram, summed over its writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyTotals {
    /// Sum of all latencies in microseconds.
    pub sum_micros: u64,
    /// Calls per bucket, not cumulative; the last bucket is above the last of [`LATENCY_BOUNDS`].
    pub buckets: [u64; LATENCY_BUCKETS],
}

impl LatencyTotals {
    pub(crate) fn add(&mut self, histogram: &LatencyHistogram) {
        self.sum_micros = self.sum_micros.wrapping_add(histogram.sum_micros.get());
        for (total, counter) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total = total.wrapping_add(counter.get());
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
        for (total, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *total = total.wrapping_add(*count);
        }
    }

    /// Calls observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Mean latency; `None` before the first call.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_micros.checked_div(self.count()).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(latency: Duration) -> (usize, LatencyTotals) {
        let histogram = LatencyHistogram::default();
        histogram.observe(latency);
        let mut totals = LatencyTotals::default();
        totals.add(&histogram);
        (totals.buckets.iter().position(|count| *count == 1).unwrap(), totals)
    }

    #[test]
    fn every_bound_belongs_to_its_own_bucket_and_a_nanosecond_more_to_the_next() {
        for (index, bound) in LATENCY_BOUNDS.iter().enumerate() {
            let bound = Duration::from_secs_f64(*bound);
            assert_eq!(bound, BOUNDS[index]);
            assert_eq!(counted(bound - Duration::from_nanos(1)).0, index);
            assert_eq!(counted(bound).0, index);
            assert_eq!(counted(bound + Duration::from_nanos(1)).0, index + 1);
        }
    }

    #[test]
    fn zero_is_in_the_first_bucket_and_the_longest_duration_in_the_last() {
        assert_eq!(counted(Duration::ZERO).0, 0);
        let (bucket, totals) = counted(Duration::MAX);
        assert_eq!((bucket, totals.sum_micros), (LATENCY_BUCKETS - 1, u64::MAX));
    }

    #[test]
    fn latencies_are_rounded_to_the_nearest_microsecond() {
        assert_eq!(counted(Duration::from_nanos(499)).1.sum_micros, 0);
        assert_eq!(counted(Duration::from_nanos(500)).1.sum_micros, 1);
        assert_eq!(counted(Duration::from_nanos(1_499)).1.sum_micros, 1);
        assert_eq!(counted(Duration::from_nanos(1_999_999_999)).1.sum_micros, 2_000_000);
    }

    #[test]
    fn the_mean_is_absent_before_the_first_call() {
        let histogram = LatencyHistogram::default();
        let mut totals = LatencyTotals::default();
        assert_eq!(totals.mean(), None);
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_millis(4));
        totals.add(&histogram);
        assert_eq!((totals.count(), totals.mean()), (2, Some(Duration::from_millis(3))));
    }
}
