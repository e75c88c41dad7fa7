//! What `/clusters` says of limits.

use evenkeel_balance::limit::{AdaptiveLimiter, CircuitBreaker, Resource};
use serde::Serialize;

/// One bound of a circuit breaker.
#[derive(Debug, Serialize)]
pub(in crate::control) struct BreakerBody {
    limit: &'static str,
    used: u32,
    max: u32,
    /// Whether it lets nothing more in now.
    open: bool,
    /// What it did not let in so far.
    overflows: u64,
}

/// Adaptive concurrency.
#[derive(Serialize)]
pub(super) struct AdaptiveBody {
    in_flight: u32,
    limit: u32,
    /// The latency without a queue; absent before the first measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_rtt_ms: Option<f64>,
    /// The median latency of the last window; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    recent_rtt_ms: Option<f64>,
}

/// The bounds that a breaker has.
pub(in crate::control) fn breakers(breaker: &CircuitBreaker) -> Vec<BreakerBody> {
    let describe = |resource: Resource| {
        Some(BreakerBody {
            limit: resource.name(),
            used: breaker.used(resource),
            max: breaker.limit(resource)?,
            open: breaker.is_open(resource),
            overflows: breaker.overflows(resource),
        })
    };
    Resource::ALL.into_iter().filter_map(describe).collect()
}

pub(super) fn adaptive(limiter: &AdaptiveLimiter) -> AdaptiveBody {
    let millis = |time: core::time::Duration| time.as_secs_f64() * 1e3;
    AdaptiveBody {
        in_flight: limiter.in_flight(),
        limit: limiter.limit(),
        min_rtt_ms: limiter.min_rtt().map(millis),
        recent_rtt_ms: limiter.recent_rtt().map(millis),
    }
}
