//! The settings of active health checks.

use core::time::Duration;

use crate::factor::Factor;

/// First checks of a new list of endpoints per second, so that three have begun after 3 ms and a thousand after a second. They
/// have all begun after an interval, however many they are: more often than that they are checked later, too.
pub const FIRST_CHECKS_PER_SECOND: u32 = 1_000;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// `grpc.health.v1.Health/Check`.
    Check {
        /// The service asked about; empty for the server as a whole.
        service: String,
    },
    /// `grpc.health.v1.Health/Watch`.
    Watch {
        /// The service asked about; empty for the server as a whole.
        service: String,
    },
    /// Whether a TCP connection opens.
    Tcp,
}

/// When an endpoint is asked and how often it must answer. Sources of the defaults: Envoy's documentation of
/// `health_check.proto`, which has no defaults but examples; where not said otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheckConfig {
    /// What is asked. Default `Check` of the whole server.
    pub probe: Probe,
    /// From the start of one check to that of the next; at least 10 ms. Default 5 s. For `Watch`, the longest delay before a
    /// stream that ended is opened again.
    pub interval: Duration,
    /// Share by which the interval is randomly shorter or longer, 0 to 1; more counts as 1. Default 0.2, as in gRPC's
    /// backoffs.
    pub jitter: Factor,
    /// How long an answer may take; for `Watch`, the first message. Default 1 s.
    pub timeout: Duration,
    /// Failures in a row that make a healthy endpoint unhealthy; 0 counts as 1. Default 2.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make an unhealthy endpoint healthy; 0 counts as 1. Default 1.
    pub healthy_threshold: u32,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            probe: Probe::Check { service: String::new() },
            interval: Duration::from_secs(5),
            jitter: Factor::from_thousandths(200),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 2,
            healthy_threshold: 1,
        }
    }
}

/// The shortest interval, jitter included: a hundred checks a second and endpoint are an attack.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

impl HealthCheckConfig {
    /// The interval times a number around 1, from `1 - jitter` to `1 + jitter`.
    pub(super) fn interval(&self, factor: f64) -> Duration {
        let interval = Duration::try_from_secs_f64(self.interval.as_secs_f64() * factor);
        interval.unwrap_or(Duration::MAX).max(INTERVAL_MIN)
    }

    /// Over what time the first checks of so many endpoints are spread.
    pub(super) fn spread(&self, endpoints: usize) -> Duration {
        let endpoints = u32::try_from(endpoints).unwrap_or(u32::MAX);
        (Duration::from_secs(1) / FIRST_CHECKS_PER_SECOND).saturating_mul(endpoints).min(self.interval)
    }
}
