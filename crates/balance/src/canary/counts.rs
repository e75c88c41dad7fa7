//! What is counted of the two versions: by all workers, and over a window.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use evenkeel_grpc::Code;
use serde::{Deserialize, Serialize};

use super::latency::{LATENCY_BUCKETS, Latencies, bucket};

/// Which of the two versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// The one that calls go to without a canary.
    Stable,
    /// The new one.
    Canary,
}

/// Whether a status says that the server failed: the codes that OpenTelemetry's conventions for gRPC count as errors of a
/// server's span. UNIMPLEMENTED is one of them: a version that lost a method is worse.
#[must_use]
pub fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// What is counted of one version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Calls that ended and were not cancelled by their client.
    pub calls: u64,
    /// Those of them that the server failed, see [`is_server_error`].
    pub errors: u64,
    /// The latencies of unary calls: how long a stream lasts is no one's fault.
    pub latencies: Latencies,
}

impl Counts {
    /// Counts a call that ended; `latency` only of a unary one.
    pub fn record(&mut self, code: Code, latency: Option<Duration>) {
        if code == Code::Cancelled {
            return;
        }
        self.calls = self.calls.saturating_add(1);
        self.errors = self.errors.saturating_add(u64::from(is_server_error(code)));
        if let Some(latency) = latency {
            self.latencies.add(latency);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        for (sum, count) in self.latencies.buckets.iter_mut().zip(other.latencies.buckets) {
            *sum = sum.saturating_add(count);
        }
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut latencies = self.latencies.clone();
        for (count, before) in latencies.buckets.iter_mut().zip(earlier.latencies.buckets) {
            *count = count.saturating_sub(before);
        }
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            errors: self.errors.saturating_sub(earlier.errors),
            latencies,
        }
    }

    /// The share of calls that failed; 0 without any call.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.errors as f64 / self.calls as f64 }
    }
}

/// What is counted of both versions in the same time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// The stable version.
    pub stable: Counts,
    /// The canary.
    pub canary: Counts,
}

impl Window {
    /// The counts of one version.
    pub fn of(&mut self, version: Version) -> &mut Counts {
        match version {
            Version::Stable => &mut self.stable,
            Version::Canary => &mut self.canary,
        }
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.stable.add(&other.stable);
        self.canary.add(&other.canary);
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { stable: self.stable.since(&earlier.stable), canary: self.canary.since(&earlier.canary) }
    }
}

/// What all workers count of one version.
#[derive(Debug)]
struct Tally {
    calls: AtomicU64,
    errors: AtomicU64,
    latencies: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            latencies: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Tally {
    fn counts(&self) -> Counts {
        Counts {
            // Errors first: a call that goes by in between then shows as a success, never as more errors than calls.
            errors: self.errors.load(Relaxed),
            latencies: Latencies {
                buckets: core::array::from_fn(|place| self.latencies[place].load(Relaxed)),
            },
            calls: self.calls.load(Relaxed),
        }
    }
}

/// What all workers count of a canary's two versions; shared, and read beside them. 2 KiB.
#[derive(Debug, Default)]
pub struct Observed {
    stable: Tally,
    canary: Tally,
}

impl Observed {
    /// Counts a call that ended; `latency` only of a unary one. Two or three additions, which order nothing.
    pub fn record(&self, version: Version, code: Code, latency: Option<Duration>) {
        if code == Code::Cancelled {
            return;
        }
        let tally = match version {
            Version::Stable => &self.stable,
            Version::Canary => &self.canary,
        };
        tally.calls.fetch_add(1, Relaxed);
        if let Some(latency) = latency {
            tally.latencies[bucket(latency)].fetch_add(1, Relaxed);
        }
        if is_server_error(code) {
            tally.errors.fetch_add(1, Relaxed);
        }
    }

    /// All that was counted so far.
    #[must_use]
    pub fn totals(&self) -> Window {
        Window { stable: self.stable.counts(), canary: self.canary.counts() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_cancel_and_errors_of_callers_are_not_the_servers() {
        let observed = Observed::default();
        let mut counts = Counts::default();
        for code in Code::ALL {
            observed.record(Version::Canary, code, Some(Duration::from_millis(3)));
            counts.record(code, Some(Duration::from_millis(3)));
        }
        let totals = observed.totals();
        assert_eq!((&totals.canary, &totals.stable), (&counts, &Counts::default()));
        assert_eq!((counts.calls, counts.errors, counts.latencies.count()), (16, 6, 16));
        let rate = counts.error_rate();
        assert!((rate - 0.375).abs() < 1e-9, "{rate}");
        assert!(Counts::default().error_rate().abs() < 1e-9);
    }

    #[test]
    fn streams_have_no_latency_and_differences_add_up() {
        let observed = Observed::default();
        observed.record(Version::Stable, Code::Ok, None);
        let first = observed.totals();
        observed.record(Version::Stable, Code::Internal, Some(Duration::from_millis(1)));
        let second = observed.totals();
        let fresh = second.since(&first);
        assert_eq!((fresh.stable.calls, fresh.stable.errors, fresh.stable.latencies.count()), (1, 1, 1));
        let mut sum = first;
        sum.add(&fresh);
        assert_eq!(sum, second);
        // Counters of a process that began anew are below the old ones: nothing came, and nothing goes back.
        assert_eq!(Window::default().since(&second), Window::default());
    }
}
