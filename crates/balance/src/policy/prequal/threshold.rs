//! Where hot begins: a quantile of the loads answered of late.

/// Loads remembered; the paper says "recent". At three probes per call these are those of the last 21 calls.
const RECENT: usize = 64;

/// Answers after which the quantile is looked for anew, if it is another one by then. To look takes about as long as ten
/// answers, to know whether it is another next to nothing: calls in flight are whole and small numbers, so that one value
/// stays the quantile for long.
const STRIDE: u32 = 32;

#[derive(Clone, Debug)]
pub(super) struct Threshold {
    quantile: f64,
    recent: [f64; RECENT],
    len: usize,
    next: usize,
    /// Which of the recent loads in order is the quantile, from 1: the nearest rank, the smallest load that at least this
    /// share of all does not exceed.
    rank: usize,
    /// Recent loads below `value`, and those not above it.
    below: usize,
    up_to: usize,
    /// Answers since the quantile was looked at.
    since: u32,
    value: f64,
}

impl Threshold {
    pub(super) fn new(quantile: f64) -> Self {
        // Before the first answer nothing is hot, unless RIF alone decides.
        let value = if quantile <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
        let recent = [0.0; RECENT];
        Self { quantile, recent, len: 0, next: 0, rank: 0, below: 0, up_to: 0, since: 0, value }
    }

    /// Takes the load of an answer.
    pub(super) fn observe(&mut self, load: f64) {
        if self.quantile <= 0.0 || self.quantile >= 1.0 {
            return;
        }
        let oldest = core::mem::replace(&mut self.recent[self.next], load);
        self.next = (self.next + 1) % RECENT;
        self.below += usize::from(load < self.value);
        self.up_to += usize::from(load <= self.value);
        if self.len == RECENT {
            self.below -= usize::from(oldest < self.value);
            self.up_to -= usize::from(oldest <= self.value);
            self.since += 1;
            if self.since < STRIDE {
                return;
            }
        } else {
            self.len += 1;
            self.rank = ((self.quantile * self.len as f64).ceil() as usize).clamp(1, self.len);
        }
        self.since = 0;
        if self.below >= self.rank || self.up_to < self.rank {
            self.compute();
        }
    }

    fn compute(&mut self) {
        let mut loads = self.recent;
        let loads = &mut loads[..self.len];
        self.value = *loads.select_nth_unstable_by(self.rank - 1, f64::total_cmp).1;
        self.below = loads.iter().filter(|load| **load < self.value).count();
        self.up_to = loads.iter().filter(|load| **load <= self.value).count();
    }

    /// Whether this load is hot.
    pub(super) fn is_hot(&self, load: f64) -> bool {
        load > self.value
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn threshold(quantile: f64, loads: impl IntoIterator<Item = u32>) -> Threshold {
        let mut threshold = Threshold::new(quantile);
        loads.into_iter().for_each(|load| threshold.observe(f64::from(load)));
        threshold
    }

    #[test]
    fn what_exceeds_the_quantile_is_hot() {
        let threshold = threshold(0.84, 1..=128);
        // The last 64 are 65 to 128: the quantile is the 54th of them.
        assert!(threshold.is_hot(119.0) && !threshold.is_hot(118.0));
    }

    #[test]
    fn nothing_is_hot_when_all_are_alike() {
        let threshold = threshold(0.84, [5; 10]);
        assert!(!threshold.is_hot(5.0) && threshold.is_hot(6.0));
    }

    #[test]
    fn the_ends_mean_load_alone_and_latency_alone() {
        for recent in [0, 10] {
            assert!(threshold(0.0, 0..recent).is_hot(0.0));
            assert!(!threshold(1.0, 0..recent).is_hot(1e300));
        }
        assert!(!threshold(0.5, []).is_hot(1e300), "before the first answer");
    }

    /// As the rule has it: of the last 64 as of the last look, which is at every answer at first and then at every 32nd.
    #[test]
    fn is_the_nearest_rank_as_of_the_last_look() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (quantile, most) in [(0.841, 5), (0.5, 1_000_000), (0.01, 3), (0.999, 40)] {
            let mut threshold = Threshold::new(quantile);
            let mut all: Vec<u32> = Vec::new();
            for count in 1..=2_000 {
                all.push(rng.random_range(1..=most));
                threshold.observe(f64::from(all[count - 1]));
                if count <= RECENT || (count - RECENT).is_multiple_of(STRIDE as usize) {
                    let mut recent = all[count.saturating_sub(RECENT)..].to_vec();
                    recent.sort_unstable();
                    let rank = (quantile * recent.len() as f64).ceil() as usize;
                    assert_eq!(threshold.value, f64::from(recent[rank - 1]), "{quantile}, answer {count}");
                }
            }
        }
    }

    #[test]
    fn forgets_what_is_not_recent() {
        let threshold = threshold(0.5, (0..RECENT).map(|_| 1_000).chain((0..RECENT).map(|_| 1)));
        assert!(threshold.is_hot(2.0));
    }
}
