//! What a run counted, and its report.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Different kinds of error told apart; further ones are counted together.
const KINDS_MAX: usize = 64;
/// Largest latency told apart, in nanoseconds: one minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Calls that ended well: `:status` 200, `grpc-status` 0, a body of the right size.
    pub calls: u64,
    /// Calls and connections that did not, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Time from the first call's start to the last one's end.
    pub elapsed_seconds: f64,
    /// `calls` over `elapsed_seconds`.
    pub calls_per_second: f64,
    /// Latency of the calls that ended well, those of the warm-up excepted.
    pub latency: LatencyReport,
    /// Whole messages of endless streams, sent or received.
    pub stream_messages: u64,
    /// Bytes of endless streams' bodies, sent or received.
    pub stream_bytes: u64,
}

impl Report {
    /// Calls and connections that did not end well.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Latencies in microseconds; zero if there was no call.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Maximum.
    pub max_us: f64,
}

pub(super) struct Tally {
    calls: u64,
    /// Latencies of calls that are due earlier are not recorded.
    latency_from: Duration,
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    stream_messages: u64,
    stream_bytes: u64,
    last_end: Option<Duration>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("the bounds are in order and 3 digits are allowed");
        Self {
            calls: 0,
            latency_from: Duration::ZERO,
            latency,
            errors: BTreeMap::new(),
            stream_messages: 0,
            stream_bytes: 0,
            last_end: None,
        }
    }

    /// Leaves out the latencies of calls that are due before this point in time.
    pub(super) fn take_latency_from(&mut self, from: Duration) {
        self.latency_from = from;
    }

    pub(super) fn succeeded(&mut self, due: Duration, now: Duration) {
        self.calls += 1;
        if due >= self.latency_from {
            let nanos = now.saturating_sub(due).as_nanos();
            self.latency.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        self.last_end = Some(now);
    }

    /// Counts `count` failures of a kind; none is nothing.
    pub(super) fn failed(&mut self, kind: &str, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(counted) = self.errors.get_mut(kind) {
            *counted += count;
            return;
        }
        let kind = if self.errors.len() < KINDS_MAX { kind } else { "other" };
        *self.errors.entry(kind.to_owned()).or_default() += count;
    }

    pub(super) fn not_sent(&mut self, count: u64) {
        self.failed("not sent", count);
    }

    pub(super) fn streamed(&mut self, bytes: u64, messages: u64) {
        self.stream_bytes += bytes;
        self.stream_messages += messages;
    }

    pub(super) fn last_end(&self) -> Option<Duration> {
        self.last_end
    }

    pub(super) fn report(&self, elapsed: Duration) -> Report {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(self.latency.value_at_quantile(quantile));
        let latency = if self.latency.is_empty() {
            LatencyReport::default()
        } else {
            LatencyReport {
                p50_us: at(0.5),
                p90_us: at(0.9),
                p99_us: at(0.99),
                p999_us: at(0.999),
                max_us: micros(self.latency.max()),
            }
        };
        Report {
            calls: self.calls,
            errors: self.errors.clone(),
            elapsed_seconds: elapsed.as_secs_f64(),
            calls_per_second: self.calls as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            latency,
            stream_messages: self.stream_messages,
            stream_bytes: self.stream_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_calls_that_ended_well() {
        let mut tally = Tally::new();
        for millis in 1..=100 {
            tally.succeeded(Duration::from_secs(1), Duration::from_secs(1) + Duration::from_millis(millis));
        }
        tally.failed("grpc-status 14", 2);
        let report = tally.report(Duration::from_secs(2));
        assert_eq!((report.calls, report.failed()), (100, 2));
        assert!((report.calls_per_second - 50.0).abs() < 1e-9);
        assert!((49_900.0..50_100.0).contains(&report.latency.p50_us), "{report:?}");
        assert!((98_900.0..99_100.0).contains(&report.latency.p99_us), "{report:?}");
    }

    #[test]
    fn calls_of_the_warm_up_count_without_their_latency() {
        let mut tally = Tally::new();
        tally.take_latency_from(Duration::from_secs(2));
        let call = |due: Duration, tally: &mut Tally| tally.succeeded(due, due + Duration::from_millis(50));
        call(Duration::from_secs(2) - Duration::from_nanos(1), &mut tally);
        let report = tally.report(Duration::from_secs(1));
        assert_eq!((report.calls, report.latency), (1, LatencyReport::default()));
        call(Duration::from_secs(2), &mut tally);
        let report = tally.report(Duration::from_secs(1));
        assert_eq!(report.calls, 2);
        assert!((49_900.0..50_100.0).contains(&report.latency.p50_us), "{report:?}");
    }

    #[test]
    fn kinds_of_error_are_bounded() {
        let mut tally = Tally::new();
        for kind in 0..KINDS_MAX + 10 {
            tally.failed(&kind.to_string(), 1);
        }
        let report = tally.report(Duration::from_secs(1));
        assert_eq!((report.errors.len(), report.errors["other"]), (KINDS_MAX + 1, 10));
    }
}
