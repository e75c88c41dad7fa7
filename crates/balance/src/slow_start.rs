//! Slow start: an endpoint that is new, or back after an outage, gets a growing part of its share.
//!
//! Why: a process that has just started has cold caches, a runtime that has not compiled its hot code yet, and empty
//! connection pools. A full share at once makes its first calls time out.
//!
//! Rule (Envoy's): for the `window` after the endpoint became ready its weight is multiplied by
//! `max(min_weight, (max(age, 1 s) / window) ^ (1 / aggression))`. With an aggression of 1 that is a straight line; a larger
//! one rises steeply at first.
//!
//! Which policies heed it: those with weights. weighted_round_robin (static and by reported load) multiplies; least_request,
//! peak_ewma and prequal, which take the best of a few, let the endpoint take part in that share of the choices
//! ([`Candidates::takes_part`](crate::candidates::Candidates::takes_part)). round_robin and random know no weights, and a policy that hashes must not move keys.
//!
//! When does the window begin? When the endpoint becomes ready for the first time, or after an attempt to connect failed.
//! A connection that ended and was made anew at the first attempt says nothing about the process behind it: servers close
//! connections because of their age. Where active checks are configured it begins again when they find the endpoint healthy
//! after they had not, as Envoy has it.
//!
//! Invariant: when all endpoints are equally new, as after the proxy's own start, all factors are equal and nothing
//! changes. Source: Envoy, "Slow start mode", and `SlowStartConfig` in `cluster.proto`.

use core::time::Duration;

use crate::factor::Factor;
use crate::time::nanos;

/// Less than this counts as this much of age, as Envoy has it: the first second already gets a share to warm up with.
const MIN_AGE: Duration = Duration::from_secs(1);

/// How an endpoint's share grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowStart {
    /// How long it grows. Default 60 s.
    pub window: Duration,
    /// How steep the beginning is. Default 1: a straight line. 0 counts as 0.001: nothing until the window ends.
    pub aggression: Factor,
    /// The least share of its weight that an endpoint gets. Default 0.1 (Envoy: 10 %); above 1 counts as 1.
    pub min_weight: Factor,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            aggression: Factor::ONE,
            min_weight: Factor::from_thousandths(100),
        }
    }
}

impl SlowStart {
    /// The share of its weight, from `min_weight` to 1, that an endpoint of this age has.
    #[must_use]
    #[inline]
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let passed = nanos(age.max(MIN_AGE)) as f64 / nanos(self.window) as f64;
        // A power takes longer than all else that a pick does, and most lines are straight.
        let warmth = if self.aggression == Factor::ONE {
            passed
        } else {
            passed.powf(self.aggression.get().max(0.001).recip())
        };
        warmth.max(self.min_weight.get()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn grows_in_a_straight_line_from_the_minimum_to_all() {
        let slow_start = SlowStart::default();
        let factor = |seconds| slow_start.factor(Duration::from_secs(seconds));
        assert_eq!(
            [factor(0), factor(1), factor(6), factor(30), factor(60), factor(61)],
            [0.1, 0.1, 0.1, 0.5, 1.0, 1.0]
        );
        assert!(factor(7) > 0.1 && factor(59) < 1.0);
    }

    #[test]
    fn the_first_second_counts_whole() {
        let slow_start = SlowStart { window: 4 * SECOND, min_weight: Factor::ZERO, ..SlowStart::default() };
        assert_eq!(slow_start.factor(Duration::ZERO), 0.25);
        assert_eq!(slow_start.factor(SECOND), 0.25);
        assert_eq!(slow_start.factor(2 * SECOND), 0.5);
    }

    #[test]
    fn aggression_bends_the_line() {
        let slow_start = |thousandths| SlowStart {
            window: 16 * SECOND,
            aggression: Factor::from_thousandths(thousandths),
            min_weight: Factor::ZERO,
        };
        assert_eq!(slow_start(2_000).factor(4 * SECOND), 0.5);
        assert_eq!(slow_start(500).factor(4 * SECOND), 0.0625);
        assert!(slow_start(0).factor(15 * SECOND) < 1e-20);
    }

    #[test]
    fn impossible_settings_stay_between_nothing_and_all() {
        let slow_start =
            SlowStart { window: Duration::ZERO, aggression: Factor::MAX, min_weight: Factor::MAX };
        assert_eq!(slow_start.factor(Duration::ZERO), 1.0);
        let slow_start = SlowStart { window: SECOND / 2, ..SlowStart::default() };
        assert_eq!(slow_start.factor(Duration::ZERO), 1.0, "a window below a second is over at once");
        let slow_start = SlowStart { min_weight: Factor::MAX, ..SlowStart::default() };
        assert_eq!(slow_start.factor(Duration::ZERO), 1.0);
    }
}
