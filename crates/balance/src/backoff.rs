//! How long to wait between the starts of two connection attempts.
//!
//! Why start to start? An attempt that takes as long as the delay has already been kind to the server: the next one may
//! begin at once. Rule, for the n-th attempt in a row without success, n = 0, 1, ...:
//!
//! `delay = min(base * multiplier^n, max) * (1 + uniform(-jitter, +jitter))`
//!
//! The jitter applies to the first delay as well, as in gRPC's C core (`src/core/util/backoff.cc`): all workers of all
//! proxies lose a dying endpoint at the same moment and must not come back at the same moment. Defaults are those of
//! gRPC's `doc/connection-backoff.md`. A connection that becomes ready resets n to 0.

use core::time::Duration;

use rand::{Rng, RngExt};

/// The parameters of the connection backoff.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BackoffConfig {
    /// Delay after the first attempt. Default 1 s.
    pub base: Duration,
    /// Growth of the delay per failed attempt, at least 1. Default 1.6.
    pub multiplier: f64,
    /// Share of the delay by which it is randomly longer or shorter, 0 to 1. Default 0.2.
    pub jitter: f64,
    /// Upper bound of the delay before jitter; with jitter it is `max * (1 + jitter)`. Default 120 s.
    pub max: Duration,
    /// Least time an attempt is given to succeed, however short its delay. Default 20 s.
    pub min_connect_timeout: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            multiplier: 1.6,
            jitter: 0.2,
            max: Duration::from_secs(120),
            min_connect_timeout: Duration::from_secs(20),
        }
    }
}

/// The delay of one endpoint's next connection attempt: grows with each failure, starts over on success.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    growth: Growth,
}

impl Backoff {
    /// A backoff before its first attempt.
    #[must_use]
    pub fn new(config: BackoffConfig) -> Self {
        Self { config, growth: Growth::default() }
    }

    /// Returns the time from the start of the attempt that begins now to the earliest start of the one after it.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        self.growth.next(&self.config, rng)
    }

    /// Starts over: the endpoint became ready.
    pub fn reset(&mut self) {
        self.growth.reset();
    }
}

/// The part of a [`Backoff`] that differs between endpoints: thousands of them share one configuration.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Growth {
    /// The last delay without its jitter; `None` before the first attempt and after a success.
    last: Option<Duration>,
}

impl Growth {
    pub(crate) fn next(&mut self, config: &BackoffConfig, rng: &mut impl Rng) -> Duration {
        let delay = match self.last {
            None => config.base.min(config.max),
            Some(last) => saturating_scale(last, config.multiplier.max(1.0)).min(config.max),
        };
        self.last = Some(delay);
        let spread = config.jitter.clamp(0.0, 1.0);
        saturating_scale(delay, rng.random_range(1.0 - spread..=1.0 + spread))
    }

    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

/// `duration * factor`, or the longest duration where that is out of range or the factor is not a number.
fn saturating_scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn without_jitter() -> BackoffConfig {
        BackoffConfig { jitter: 0.0, ..BackoffConfig::default() }
    }

    #[test]
    fn grows_by_the_multiplier_up_to_the_bound_and_starts_over_on_success() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::new(without_jitter());
        let mut expected = 1.0_f64;
        for _ in 0..20 {
            let delay = backoff.next(&mut rng).as_secs_f64();
            assert!((delay - expected).abs() < 1e-6, "{delay} instead of {expected}");
            expected = (expected * 1.6).min(120.0);
        }
        assert_eq!(backoff.next(&mut rng), Duration::from_secs(120));
        backoff.reset();
        assert_eq!(backoff.next(&mut rng), Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_uses_the_whole_range() {
        let mut rng = SmallRng::seed_from_u64(2);
        let config = BackoffConfig::default();
        let delays: Vec<f64> =
            (0..10_000).map(|_| Backoff::new(config).next(&mut rng).as_secs_f64()).collect();
        let least = delays.iter().copied().fold(f64::INFINITY, f64::min);
        let most = delays.iter().copied().fold(0.0, f64::max);
        assert!((0.8..0.801).contains(&least), "least delay {least}");
        assert!((1.199..=1.2).contains(&most), "longest delay {most}");
    }

    #[test]
    fn jitter_is_applied_after_the_bound() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut backoff = Backoff::new(BackoffConfig::default());
        let delays: Vec<f64> = (0..1_000).map(|_| backoff.next(&mut rng).as_secs_f64()).collect();
        assert!(delays.iter().all(|delay| *delay <= 144.0));
        assert!(delays[20..].iter().all(|delay| *delay >= 96.0));
        assert!(delays.iter().any(|delay| *delay > 120.0));
    }

    #[test]
    fn absurd_parameters_saturate() {
        let mut rng = SmallRng::seed_from_u64(4);
        let config = BackoffConfig {
            base: Duration::MAX,
            multiplier: f64::MAX,
            max: Duration::MAX,
            ..without_jitter()
        };
        let mut backoff = Backoff::new(config);
        for _ in 0..3 {
            assert_eq!(backoff.next(&mut rng), Duration::MAX);
        }
        let mut shrinking = Backoff::new(BackoffConfig { multiplier: 0.1, ..without_jitter() });
        assert_eq!(shrinking.next(&mut rng), Duration::from_secs(1));
        assert_eq!(shrinking.next(&mut rng), Duration::from_secs(1));
    }
}
