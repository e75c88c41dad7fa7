//! How often a probe may be used, by the paper's formula.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::PrequalConfig;

/// The most often that one probe is used: the formula has no limit where a pool could hold all endpoints, or where few
/// probes are answered. Each use adds a request to the probe's RIF, so that it turns hot long before.
const MAX_REUSE: f64 = 100.0;

/// The mean number of uses, with so many candidates and probes answered per call.
pub(super) fn mean_uses(config: &PrequalConfig, candidates: usize, answered_per_call: f64) -> f64 {
    let wished = config.probes_per_call.get();
    // Removals are made as answers come, see the module's documentation.
    let answered_share = if wished > 0.0 { answered_per_call / wished } else { 0.0 };
    let removals = config.removals_per_call.get() * answered_share;
    let fresh = 1.0 - config.pool_size() as f64 / candidates as f64;
    let surplus = fresh * answered_per_call - removals;
    if surplus > 0.0 { ((1.0 + config.reuse_delta.get()) / surplus).clamp(1.0, MAX_REUSE) } else { MAX_REUSE }
}

/// A whole number with this mean.
pub(super) fn round_at_random(mean: f64, rng: &mut SmallRng) -> u32 {
    // At most `MAX_REUSE`. Cut off, as no mean is negative: rounding down is a call to a function on many processors.
    let whole = mean as u32;
    whole + u32::from(rng.random::<f64>() < mean - f64::from(whole))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::factor::Factor;

    fn config(probes_thousandths: u32, removals_thousandths: u32) -> PrequalConfig {
        PrequalConfig {
            probes_per_call: Factor::from_thousandths(probes_thousandths),
            removals_per_call: Factor::from_thousandths(removals_thousandths),
            ..PrequalConfig::default()
        }
    }

    #[test]
    fn is_the_papers_formula() {
        let uses = |probes, removals| {
            let config = config(probes, removals);
            mean_uses(&config, 100, config.probes_per_call.get())
        };
        assert!((uses(3_000, 1_000) - 1.316).abs() < 0.001);
        assert!((uses(1_000, 250) - 3.390).abs() < 0.001);
        assert!((uses(500, 250) - 11.765).abs() < 0.001);
        assert_eq!(uses(100_000, 1_000), 1.0, "at least once");
    }

    #[test]
    fn is_bounded_where_the_formula_is_not() {
        for (config, candidates, answered) in [
            (config(3_000, 1_000), 3, 3.0),
            (config(3_000, 1_000), 16, 3.0),
            (config(3_000, 3_000), 100, 3.0),
            (config(3_000, 1_000), 100, 0.0),
            (config(0, 0), 100, 0.0),
        ] {
            assert_eq!(mean_uses(&config, candidates, answered), MAX_REUSE);
        }
    }

    #[test]
    fn fewer_answers_mean_more_uses_of_each() {
        let config = config(3_000, 1_000);
        let (all, tenth) = (mean_uses(&config, 100, 3.0), mean_uses(&config, 100, 0.3));
        assert!((tenth / all - 10.0).abs() < 1e-9, "{all}, {tenth}");
    }

    #[test]
    fn rounding_keeps_the_mean() {
        let mut rng = SmallRng::seed_from_u64(1);
        assert!((0..100).all(|_| round_at_random(2.0, &mut rng) == 2));
        let sum: u32 = (0..100_000).map(|_| round_at_random(1.316, &mut rng)).sum();
        // The standard deviation of the sum is 147.
        assert!(sum.abs_diff(131_600) < 900, "{sum}");
    }
}
