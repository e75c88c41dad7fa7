//! How long an example backend takes: distributions of service time.

use rand::Rng;
use rand_distr::{Distribution as _, Exp, Normal};
use std::time::Duration;

/// Longest latency that is ever drawn: a distribution's tail must not look like a hang.
pub const LATENCY_MAX: Duration = Duration::from_secs(60);

/// The distribution of a backend's service time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Answers as fast as it can.
    None,
    /// Always the same.
    Constant(Duration),
    /// Exponential with this mean: the service times of the M/M/n queues of theory.
    Exponential {
        /// Mean of the distribution.
        mean: Duration,
    },
    /// Normal, negative draws cut to zero.
    Normal {
        /// Mean before the cut.
        mean: Duration,
        /// Standard deviation before the cut.
        deviation: Duration,
    },
}

impl Latency {
    /// Draws one service time, at most [`LATENCY_MAX`].
    pub fn sample(&self, rng: &mut impl Rng) -> Duration {
        let seconds = match *self {
            Self::None => 0.0,
            Self::Constant(latency) => latency.as_secs_f64(),
            // A mean of zero has no rate: it is no latency.
            Self::Exponential { mean } => {
                Exp::new(1.0).map_or(0.0, |unit| mean.as_secs_f64() * unit.sample(rng))
            }
            Self::Normal { mean, deviation } => Normal::new(mean.as_secs_f64(), deviation.as_secs_f64())
                .map_or(mean.as_secs_f64(), |normal| normal.sample(rng)),
        };
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LATENCY_MAX).min(LATENCY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    fn mean_of(latency: Latency, draws: u32) -> Duration {
        let mut rng = SmallRng::seed_from_u64(7);
        (0..draws).map(|_| latency.sample(&mut rng)).sum::<Duration>() / draws
    }

    #[test]
    fn none_takes_no_time() {
        assert_eq!(mean_of(Latency::None, 100), Duration::ZERO);
    }

    #[test]
    fn constant_is_always_the_same() {
        let latency = Duration::from_micros(1500);
        let mut rng = SmallRng::seed_from_u64(1);
        assert!((0..100).all(|_| Latency::Constant(latency).sample(&mut rng) == latency));
    }

    #[test]
    fn exponential_has_the_mean_asked_for() {
        let mean = mean_of(Latency::Exponential { mean: Duration::from_millis(10) }, 100_000);
        assert!((9.8..10.2).contains(&(mean.as_secs_f64() * 1e3)), "seed 7: mean {mean:?}");
    }

    #[test]
    fn normal_has_the_mean_asked_for_and_is_never_negative() {
        let normal = Latency::Normal { mean: Duration::from_millis(10), deviation: Duration::from_millis(1) };
        let mean = mean_of(normal, 100_000);
        assert!((9.9..10.1).contains(&(mean.as_secs_f64() * 1e3)), "seed 7: mean {mean:?}");
        let wide = Latency::Normal { mean: Duration::ZERO, deviation: Duration::from_millis(1) };
        let mut rng = SmallRng::seed_from_u64(7);
        assert!((0..100).any(|_| wide.sample(&mut rng) == Duration::ZERO));
    }

    #[test]
    fn no_draw_exceeds_the_maximum() {
        let mut rng = SmallRng::seed_from_u64(1);
        assert_eq!(Latency::Constant(Duration::MAX).sample(&mut rng), LATENCY_MAX);
        assert_eq!(Latency::Constant(LATENCY_MAX).sample(&mut rng), LATENCY_MAX);
    }
}
