//! What the demo is to show, with the bounds of each value.

use crate::backend::{LATENCY_MAX, Latency};
use std::time::Duration;

/// Most backends; the view has room for them.
pub(super) const BACKENDS_MAX: usize = 16;
/// Highest planned rate in calls per second: above it, tonic's client is the bottleneck and the latencies are its own.
pub(super) const RATE_MAX: u32 = 20_000;
/// Most calls in flight that may be asked for.
pub(super) const IN_FLIGHT_MAX: usize = 10_000;
/// Most client connections.
pub(super) const CHANNELS_MAX: usize = 100;
/// Longest run.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How the demo presents itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// A live view if the standard output is a terminal, else plain lines.
    #[default]
    Auto,
    /// One line each second, and a final table.
    Plain,
    /// Nothing but the summary, as one JSON object.
    Json,
}

/// One backend that becomes slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// Number of the backend, from 1.
    pub backend: usize,
    /// What each of its calls takes longer.
    pub extra: Duration,
}

/// What the demo is to show.
#[derive(Debug, Clone, PartialEq)]
pub struct DemoConfig {
    /// Length of the run. Default 20 s, 1 s to 24 h.
    pub duration: Duration,
    /// Number of backends. Default 3, at most 16.
    pub backends: usize,
    /// Planned calls per second, sent whether or not earlier ones have been answered. Default 500, at most 20,000.
    pub rate: u32,
    /// Client connections to the proxy. Default 2, at most 100.
    pub channels: usize,
    /// Calls in flight at once; a call planned beyond that waits, and its latency counts from its planned time.
    /// Default 256, at most 10,000.
    pub in_flight_max: usize,
    /// Service time of the backends. Default: exponential with a mean of 3 ms.
    pub latency: Latency,
    /// A backend that becomes slow at a quarter of the run. Default none.
    pub slow: Option<Slow>,
    /// Whether a backend is killed at half of the run, and started again at three quarters. Default no.
    pub kill: bool,
    /// How to show it. Default: live on a terminal.
    pub output: Output,
    /// Seed of all random numbers. Default 1.
    pub seed: u64,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(20),
            backends: 3,
            rate: 500,
            channels: 2,
            in_flight_max: 256,
            latency: Latency::Exponential { mean: Duration::from_millis(3) },
            slow: None,
            kill: false,
            output: Output::Auto,
            seed: 1,
        }
    }
}

/// A value out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {given}; give a value from {min} to {max}")]
pub struct ConfigError {
    /// The value's name, as the command line spells it.
    pub name: &'static str,
    given: String,
    min: String,
    max: String,
}

fn within<T: PartialOrd + ToString + Copy>(
    name: &'static str,
    given: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if given >= min && given <= max {
        return Ok(());
    }
    Err(ConfigError { name, given: given.to_string(), min: min.to_string(), max: max.to_string() })
}

impl DemoConfig {
    /// Checks all values against their bounds.
    ///
    /// # Errors
    /// The first value that is out of its bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        within("--duration", self.duration.as_secs(), 1, DURATION_MAX.as_secs())?;
        within("--backends", self.backends, 1, BACKENDS_MAX)?;
        within("--rate", self.rate, 1, RATE_MAX)?;
        within("--channels", self.channels, 1, CHANNELS_MAX)?;
        within("--in-flight", self.in_flight_max, 1, IN_FLIGHT_MAX)?;
        if let Some(slow) = self.slow {
            within("--slow", slow.backend, 1, self.backends)?;
            within("--slow-by (ms)", slow.extra.as_millis(), 1, LATENCY_MAX.as_millis())?;
        }
        Ok(())
    }

    /// Index of the backend to kill: the last one that is not the slow one.
    pub(super) fn victim(&self) -> Option<usize> {
        let slow = self.slow.map(|slow| slow.backend - 1);
        let spared = |index: &usize| self.backends > 1 && Some(*index) == slow;
        self.kill.then(|| (0..self.backends).rev().find(|index| !spared(index)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_bounds() {
        DemoConfig::default().check().unwrap();
    }

    #[test]
    fn a_value_beyond_its_bound_is_named() {
        let edge = DemoConfig { backends: BACKENDS_MAX, ..DemoConfig::default() };
        edge.check().unwrap();
        let beyond = DemoConfig { backends: BACKENDS_MAX + 1, ..DemoConfig::default() };
        assert_eq!(beyond.check().unwrap_err().to_string(), "--backends is 17; give a value from 1 to 16");
        let slow = Some(Slow { backend: 4, extra: Duration::from_millis(1) });
        let error = DemoConfig { slow, ..DemoConfig::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "--slow is 4; give a value from 1 to 3");
    }

    #[test]
    fn the_slow_backend_is_not_the_one_killed_if_there_is_another() {
        let slow = |backend| Some(Slow { backend, extra: Duration::from_millis(100) });
        let config = DemoConfig { kill: true, ..DemoConfig::default() };
        assert_eq!(config.victim(), Some(2));
        assert_eq!(DemoConfig { slow: slow(3), ..config.clone() }.victim(), Some(1));
        assert_eq!(DemoConfig { slow: slow(1), backends: 1, ..config.clone() }.victim(), Some(0));
        assert_eq!(DemoConfig { kill: false, ..config }.victim(), None);
    }
}
