//! Where hot begins: a quantile of the loads answered of late.

/// Loads remembered; the paper says "recent". At three probes per call these are those of the last 21 calls.
const RECENT: usize = 64;

/// Answers after which the quantile is computed anew, which takes about as long as ten of them.
const STRIDE: u32 = 32;

#[derive(Clone, Debug)]
pub(super) struct Threshold {
    quantile: f64,
    recent: [f64; RECENT],
    len: usize,
    next: usize,
    /// Answers since the quantile was computed.
    since: u32,
    value: f64,
}

impl Threshold {
    pub(super) fn new(quantile: f64) -> Self {
        // Before the first answer nothing is hot, unless RIF alone decides.
        let value = if quantile <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
        Self { quantile, recent: [0.0; RECENT], len: 0, next: 0, since: 0, value }
    }

    /// Takes the load of an answer.
    pub(super) fn observe(&mut self, load: f64) {
        self.recent[self.next] = load;
        self.next = (self.next + 1) % RECENT;
        self.len = (self.len + 1).min(RECENT);
        self.since += 1;
        if self.since >= STRIDE || self.len < RECENT {
            self.since = 0;
            self.compute();
        }
    }

    fn compute(&mut self) {
        if self.quantile <= 0.0 || self.quantile >= 1.0 {
            return;
        }
        let mut loads = self.recent;
        let loads = &mut loads[..self.len];
        // The nearest rank: the smallest load that at least this share of all does not exceed.
        let rank = ((self.quantile * self.len as f64).ceil() as usize).clamp(1, self.len);
        self.value = *loads.select_nth_unstable_by(rank - 1, f64::total_cmp).1;
    }

    /// Whether this load is hot.
    pub(super) fn is_hot(&self, load: f64) -> bool {
        load > self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(quantile: f64, loads: impl IntoIterator<Item = u32>) -> Threshold {
        let mut threshold = Threshold::new(quantile);
        loads.into_iter().for_each(|load| threshold.observe(f64::from(load)));
        threshold
    }

    #[test]
    fn what_exceeds_the_quantile_is_hot() {
        let threshold = threshold(0.84, 1..=127);
        // The last 64 are 64 to 127: the quantile is the 54th of them.
        assert!(threshold.is_hot(118.0) && !threshold.is_hot(117.0));
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

    #[test]
    fn forgets_what_is_not_recent() {
        let threshold = threshold(0.5, (0..RECENT).map(|_| 1_000).chain((0..RECENT).map(|_| 1)));
        assert!(threshold.is_hot(2.0));
    }
}
