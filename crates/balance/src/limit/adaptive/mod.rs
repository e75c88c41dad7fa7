//! Adaptive concurrency: as many calls under way as the backends can work on at once, and no queue inside them.
//!
//! Why? A number an operator chose is wrong after the next deployment. Latency tells: while calls are worked on at once it
//! does not depend on how many there are; beyond that each further one only makes all of them slower.
//!
//! # Rule (Envoy's gradient controller, `adaptive_concurrency`)
//! At the end of each window of `sample_interval`:
//!
//! ```text
//! gradient = clamp(min_rtt * (1 + buffer) / p50 of the window, 0.5, 2)
//! limit'   = clamp(gradient * limit + sqrt(limit), min_limit, max_limit)
//! ```
//!
//! The root is the room to grow, and the queue that is put up with. `min_rtt` is the latency without a queue: every
//! `interval` the limit is lowered to a quarter until `requests` attempts have succeeded, and their median is taken. The
//! first time it stays what it is, and the second follows soon.
//!
//! # What differs from Envoy
//! - The limit does not grow while less than half of it is used (Netflix concurrency-limits): after a quiet night Envoy's
//!   stands at its maximum, and the first burst of the morning goes through whole.
//! - A window counts the attempts that began in it, and lasts until half of the limit, or 50, have ended. Where an attempt
//!   takes as long as a window or longer, Envoy's judges each limit by the latency of the one before, and swings: 18 to 106
//!   where 44 is right, in the simulation of the tests.
//! - Envoy lowers the limit to `min_limit` to measure. Three at once of 100 ms each take two seconds for 50 attempts, in
//!   which all other calls wait or are lost. At a quarter the backends have no queue either: a limit that is right is
//!   1.25 times their capacity and a root, and one that is too high by more than that falls with each measurement.
//! - Only successes measure `min_rtt`: an outage during a measurement would else make its timeouts the standard. Then the
//!   limit stays low until something succeeds, which is also what lets the backends recover.
//!
//! For calls that end soon. Streams do not tell the backend's latency and would use the places up: leave them out.
//!
//! Invariants: `min_limit <= limit <= max_limit`; a place is free again when its attempt ends, whatever the limit is then.

mod latencies;
mod limiter;

use core::time::Duration;

pub use limiter::{AdaptiveLimiter, LimitChange, Sample};

/// The settings. Sources of the defaults: Envoy's `adaptive_concurrency.proto` and its examples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdaptiveConfig {
    /// Length of the windows. Default 100 ms.
    pub sample_interval: Duration,
    /// Bounds of the limit: at least 1, and no less than the lower. Default 3 to 1,000.
    pub min_limit: u32,
    /// See `min_limit`.
    pub max_limit: u32,
    /// The limit during the first measurement and after it. Default 20 (Netflix; Envoy begins with `min_limit`, which turns a
    /// busy cluster's calls away whenever the proxy starts).
    pub initial_limit: u32,
    /// How much slower than `min_rtt`, in percent, is still no sign of a queue. Default 25.
    pub buffer_percent: u32,
    /// Where `min_rtt` comes from.
    pub min_rtt: MinRtt,
}

/// Where the latency without a queue comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MinRtt {
    /// It is measured again and again.
    Measured {
        /// Time between two measurements. Default 60 s.
        interval: Duration,
        /// Share of it, in percent, by which it is randomly longer, so that proxies do not measure together. Default 15.
        jitter_percent: u32,
        /// Successes that make a measurement; at least 1. Default 50.
        requests: u32,
    },
    /// The operator knows it.
    Fixed(Duration),
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            sample_interval: Duration::from_millis(100),
            min_limit: 3,
            max_limit: 1_000,
            initial_limit: 20,
            buffer_percent: 25,
            min_rtt: MinRtt::default(),
        }
    }
}

impl Default for MinRtt {
    fn default() -> Self {
        Self::Measured { interval: Duration::from_secs(60), jitter_percent: 15, requests: 50 }
    }
}
