//! A histogram of latencies that many threads fill and one empties.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;

/// Buckets per power of two: a quantile is off by a sixteenth at most, well below the limiter's buffer.
const PER_OCTAVE_BITS: u32 = 4;
const PER_OCTAVE: usize = 1 << PER_OCTAVE_BITS;

/// Latencies up to 2^32 microseconds, 71 minutes; longer ones count as that.
const OCTAVES: usize = 32 - PER_OCTAVE_BITS as usize;
const BUCKETS: usize = (OCTAVES + 1) * PER_OCTAVE;

/// Latencies in microseconds, in buckets that widen with them: 1,856 bytes.
#[derive(Debug)]
pub(super) struct Latencies {
    count: AtomicU32,
    buckets: [AtomicU32; BUCKETS],
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self { count: AtomicU32::new(0), buckets: [const { AtomicU32::new(0) }; BUCKETS] }
    }

    /// Adds one, and returns how many there are now.
    pub(super) fn add(&self, latency: Duration) -> u32 {
        self.buckets[bucket_of(latency)].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// The median of what was added since the last time, and forgets it. What is added meanwhile counts now or next time.
    pub(super) fn take_median(&self) -> Option<Duration> {
        self.count.store(0, Relaxed);
        let mut counts = [0_u32; BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            // Most are empty, and a write would take the cache line from the other workers.
            if bucket.load(Relaxed) > 0 {
                *count = bucket.swap(0, Relaxed);
            }
        }
        let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let mut rest = all.div_ceil(2);
        if all == 0 {
            return None;
        }
        let median = counts.iter().position(|count| {
            let is_here = rest <= u64::from(*count);
            rest = rest.saturating_sub(u64::from(*count));
            is_here
        });
        median.map(middle_of)
    }
}

/// Values below 2^(bits + 1) have a bucket each; above, the leading bits of a value name its bucket.
fn bucket_of(latency: Duration) -> usize {
    let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
    let octave = (u32::BITS - micros.leading_zeros()).saturating_sub(PER_OCTAVE_BITS + 1);
    octave as usize * PER_OCTAVE + (micros >> octave) as usize
}

fn middle_of(bucket: usize) -> Duration {
    let octave = (bucket / PER_OCTAVE).saturating_sub(1);
    let lowest = (bucket - octave * PER_OCTAVE) << octave;
    Duration::from_micros(lowest as u64) + Duration::from_micros(1 << octave) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_its_middle_says_within_a_sixteenth() {
        let mut last = 0;
        for micros in (0..5_000).chain((5_000..4_000_000_000).step_by(999_983)).chain([u64::from(u32::MAX)]) {
            let bucket = bucket_of(Duration::from_micros(micros));
            assert!(bucket >= last, "buckets rise with latency");
            last = bucket;
            let middle = middle_of(bucket).as_micros() as f64;
            assert!(
                (middle - micros as f64).abs() <= (micros as f64 / 32.0).max(0.5),
                "{micros} us: {middle}"
            );
        }
        assert_eq!(last, BUCKETS - 1);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(size_of::<Latencies>(), 4 * (BUCKETS + 1));
    }

    #[test]
    fn the_median_is_that_of_what_was_added_since_the_last_time() {
        let latencies = Latencies::new();
        assert_eq!(latencies.take_median(), None);
        for millis in [10, 1_000, 12] {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.add(Duration::from_millis(11)), 4);
        let median = latencies.take_median().unwrap();
        assert!(median.abs_diff(Duration::from_millis(11)) < Duration::from_micros(350), "{median:?}");
        assert_eq!(latencies.take_median(), None);
        assert_eq!(latencies.add(Duration::from_millis(1_000)), 1);
        assert!(latencies.take_median().unwrap() > Duration::from_millis(960));
    }
}
