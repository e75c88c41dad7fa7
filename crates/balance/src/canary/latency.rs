//! A histogram of latencies, fine enough to compare quantiles: eight buckets for each doubling.
//!
//! A bucket is at most an eighth of its lower bound wide (as in HdrHistogram with three bits), so a quantile is known
//! within 12.5 %, rounded up. Latencies up to 64 us share the first bucket, those above 134 s the last.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of one doubling, as bits.
const BITS: u32 = 3;

/// The first bucket ends at 2^6 us.
const FIRST: u32 = 6;

/// The last bucket begins at 2^27 us.
const LAST: u32 = 27;

/// Buckets in all: the first, those of the doublings between, and the last.
pub const LATENCY_BUCKETS: usize = (((LAST - FIRST) << BITS) + 2) as usize;

/// The bucket of a latency.
#[must_use]
pub(super) fn bucket(latency: Duration) -> usize {
    // Upper bounds belong to their bucket.
    let micros = u64::try_from(latency.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    let Some(above) = micros.checked_sub(1).filter(|above| above >> FIRST > 0) else { return 0 };
    let octave = above.ilog2();
    if octave >= LAST {
        return LATENCY_BUCKETS - 1;
    }
    let within = (above >> (octave - BITS)) as usize & ((1 << BITS) - 1);
    1 + (((octave - FIRST) as usize) << BITS) + within
}

/// The longest latency of a bucket; `None` for the last one, which has no bound.
#[must_use]
pub(super) fn upper_bound(bucket: usize) -> Option<Duration> {
    if bucket >= LATENCY_BUCKETS - 1 {
        return None;
    }
    let Some(place) = bucket.checked_sub(1) else { return Some(Duration::from_micros(1 << FIRST)) };
    let (octave, within) = (FIRST + (place >> BITS) as u32, (place & ((1 << BITS) - 1)) as u64);
    Some(Duration::from_micros((1 << octave) + ((within + 1) << (octave - BITS))))
}

/// Latencies, counted by bucket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct Latencies {
    pub(super) buckets: [u64; LATENCY_BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [0; LATENCY_BUCKETS] }
    }
}

/// The buckets that are not empty, for a file.
impl From<Latencies> for Vec<(usize, u64)> {
    fn from(latencies: Latencies) -> Self {
        latencies.buckets.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

impl From<Vec<(usize, u64)>> for Latencies {
    fn from(filled: Vec<(usize, u64)>) -> Self {
        let mut latencies = Self::default();
        for (place, count) in filled {
            if let Some(bucket) = latencies.buckets.get_mut(place) {
                *bucket = bucket.saturating_add(count);
            }
        }
        latencies
    }
}

impl Latencies {
    /// Counts a latency.
    pub fn add(&mut self, latency: Duration) {
        let count = &mut self.buckets[bucket(latency)];
        *count = count.saturating_add(1);
    }

    /// Latencies counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Latencies in buckets above this one.
    pub(super) fn above(&self, bucket: usize) -> u64 {
        self.buckets.iter().skip(bucket + 1).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The first bucket above which there is at most a share of `1 - quantile`; `None` without any latency.
    pub(super) fn quantile_bucket(&self, quantile: f64) -> Option<usize> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let most = (count as f64 * (1.0 - quantile)).floor() as u64;
        let mut above = count;
        self.buckets.iter().position(|bucket| {
            above = above.saturating_sub(*bucket);
            above <= most
        })
    }

    /// The quantile, rounded up to the bound of its bucket; `None` without any latency, or beyond 134 s.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        self.quantile_bucket(quantile).and_then(upper_bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_belongs_to_its_bucket_and_a_nanosecond_more_to_the_next() {
        let mut before = Duration::ZERO;
        for place in 0..LATENCY_BUCKETS - 1 {
            let bound = upper_bound(place).unwrap();
            assert!(bound > before);
            assert_eq!(bucket(bound), place, "{bound:?}");
            assert_eq!(bucket(bound + Duration::from_nanos(1)), place + 1, "{bound:?}");
            if place > 0 {
                assert!(bound <= before + before / 8 + Duration::from_micros(1), "{before:?} to {bound:?}");
            }
            before = bound;
        }
        assert_eq!(before, Duration::from_micros(1 << LAST));
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, LATENCY_BUCKETS - 1));
        assert_eq!(upper_bound(LATENCY_BUCKETS - 1), None);
    }

    #[test]
    fn a_quantile_leaves_its_share_above() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for millis in 1..=100 {
            latencies.add(Duration::from_millis(millis));
        }
        for (quantile, millis) in [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)] {
            let found = latencies.quantile(quantile).unwrap();
            let exact = Duration::from_millis(millis);
            assert!(exact <= found && found <= exact + exact / 8, "{quantile}: {found:?}");
        }
        assert_eq!(latencies.above(bucket(Duration::from_millis(100))), 0);
    }

    #[test]
    fn what_is_saved_reads_the_same_and_places_that_are_none_are_left_out() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_micros(70));
        latencies.add(Duration::from_secs(500));
        let saved: Vec<_> = latencies.clone().into();
        assert_eq!(saved, [(1, 1), (LATENCY_BUCKETS - 1, 1)]);
        assert_eq!(Latencies::from(saved), latencies);
        assert_eq!(Latencies::from(vec![(LATENCY_BUCKETS, 7)]), Latencies::default());
    }
}
