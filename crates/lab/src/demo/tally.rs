//! What has been seen so far, and the pictures of it that the views draw.
//!
//! All views are functions of one [`Snapshot`]; nothing else of the demo reaches them.
//! Bounds: one histogram of fixed size each for the run and for the last second, [`HISTORY_MAX`] seconds of history,
//! [`EVENTS_MAX`] events, one counter per gRPC status.

use super::config::DemoConfig;
use super::stage;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::Code;

/// Seconds of history kept for the curve.
pub(super) const HISTORY_MAX: usize = 240;
/// Events kept.
pub(super) const EVENTS_MAX: usize = 50;
/// gRPC's status codes, 0 to 16.
const CODES: usize = 17;
/// Largest latency told apart, in microseconds: one minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How one call ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// Time from when the call was due to its end.
    pub(super) latency: Duration,
    /// Index of the backend that answered, if one did.
    pub(super) backend: Option<usize>,
    pub(super) code: Code,
}

/// The state that the demo has put a backend into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Serving as configured.
    Up,
    /// Serving, but slower.
    Slow,
    /// Killed.
    Dead,
}

/// Something that happened to a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, since the start of the run.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub at: Duration,
    /// What, as a sentence.
    pub text: String,
}

/// Latency of calls at the usual percentiles; zero if there was no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latencies {
    /// Half of the calls took at most this long.
    #[serde(rename = "p50_seconds", serialize_with = "seconds")]
    pub p50: Duration,
    /// Nine of ten calls took at most this long.
    #[serde(rename = "p90_seconds", serialize_with = "seconds")]
    pub p90: Duration,
    /// 99 of 100 calls took at most this long.
    #[serde(rename = "p99_seconds", serialize_with = "seconds")]
    pub p99: Duration,
    /// No call took longer.
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub max: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// One backend as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendView {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// What the demo has done to it.
    pub state: BackendState,
    /// Calls it answered in the whole run.
    pub calls: u64,
    /// Calls it answered in the last full second.
    pub calls_last_second: u64,
}

/// Everything a view may show, at one point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Time since the start of the run.
    pub at: Duration,
    /// Length of the run.
    pub duration: Duration,
    /// Where the proxy takes calls.
    pub target: SocketAddr,
    /// Calls ended, whatever their status.
    pub calls: u64,
    /// Calls ended with another status than OK.
    pub failed: u64,
    /// Calls that ended in each past second, oldest first.
    pub history: Vec<u64>,
    /// Latency in the last full second.
    pub latency_last_second: Latencies,
    /// Latency in the whole run.
    pub latency: Latencies,
    /// The backends in their order.
    pub backends: Vec<BackendView>,
    /// Calls per status other than OK, in the order of the codes.
    pub errors: Vec<(Code, u64)>,
    /// The latest events, oldest first.
    pub events: Vec<Event>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Time from the start to the last call counted.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Calls ended, whatever their status.
    pub calls: u64,
    /// Calls ended with another status than OK.
    pub failed: u64,
    /// Calls per second over the whole run.
    pub calls_per_second: f64,
    /// Latency over the whole run.
    pub latency: Latencies,
    /// Per backend, in their order.
    pub backends: Vec<BackendShare>,
    /// Calls per status other than OK, by gRPC's names.
    pub errors: Vec<ErrorCount>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

/// One backend's part in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendShare {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Calls it answered.
    pub calls: u64,
    /// Its share of all calls that a backend answered, 0 to 1.
    pub share: f64,
}

/// How often a status was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// gRPC's name of the status.
    pub code: &'static str,
    /// Calls that ended with it.
    pub calls: u64,
}

pub(super) struct Tally {
    target: SocketAddr,
    duration: Duration,
    backends: Vec<BackendView>,
    codes: [u64; CODES],
    whole: Histogram<u64>,
    /// The second that is being counted.
    second: Histogram<u64>,
    second_of_backend: Vec<u64>,
    latency_last_second: Latencies,
    history: VecDeque<u64>,
    events: VecDeque<Event>,
    rotated_at: Duration,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .expect("the bounds are in order and 3 digits are allowed")
}

fn latencies(histogram: &Histogram<u64>) -> Latencies {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    if histogram.is_empty() {
        return Latencies::default();
    }
    Latencies { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: Duration::from_micros(histogram.max()) }
}

impl Tally {
    pub(super) fn new(config: &DemoConfig, target: SocketAddr, addresses: &[SocketAddr]) -> Self {
        let view = |(index, address): (usize, &SocketAddr)| BackendView {
            name: stage::name(index),
            address: *address,
            state: BackendState::Up,
            calls: 0,
            calls_last_second: 0,
        };
        Self {
            target,
            duration: config.duration,
            backends: addresses.iter().enumerate().map(view).collect(),
            codes: [0; CODES],
            whole: histogram(),
            second: histogram(),
            second_of_backend: vec![0; addresses.len()],
            latency_last_second: Latencies::default(),
            history: VecDeque::new(),
            events: VecDeque::new(),
            rotated_at: Duration::ZERO,
        }
    }

    pub(super) fn record(&mut self, outcome: &Outcome) {
        let micros = u64::try_from(outcome.latency.as_micros()).unwrap_or(u64::MAX);
        self.whole.saturating_record(micros);
        self.second.saturating_record(micros);
        self.codes[outcome.code as usize] += 1;
        if let Some(backend) = outcome.backend {
            self.backends[backend].calls += 1;
            self.second_of_backend[backend] += 1;
        }
    }

    pub(super) fn befall(&mut self, at: Duration, backend: usize, state: BackendState, text: String) {
        self.backends[backend].state = state;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, text });
    }

    /// Ends the seconds that are over at `at`; returns whether one ended.
    pub(super) fn advance(&mut self, at: Duration) -> bool {
        let ended = at.as_secs() > self.rotated_at.as_secs();
        if ended {
            if self.history.len() == HISTORY_MAX {
                self.history.pop_front();
            }
            self.history.push_back(self.second.len());
            self.latency_last_second = latencies(&self.second);
            self.second.reset();
            for (backend, calls) in self.backends.iter_mut().zip(&mut self.second_of_backend) {
                backend.calls_last_second = std::mem::take(calls);
            }
            self.rotated_at = at;
        }
        ended
    }

    pub(super) fn snapshot(&self, at: Duration) -> Snapshot {
        Snapshot {
            at: at.min(self.duration),
            duration: self.duration,
            target: self.target,
            calls: self.whole.len(),
            failed: self.failed(),
            history: self.history.iter().copied().collect(),
            latency_last_second: self.latency_last_second,
            latency: latencies(&self.whole),
            backends: self.backends.clone(),
            errors: self.errors().collect(),
            events: self.events.iter().cloned().collect(),
        }
    }

    pub(super) fn summary(&self, elapsed: Duration) -> Summary {
        let answered: u64 = self.backends.iter().map(|backend| backend.calls).sum();
        let share = |backend: &BackendView| BackendShare {
            name: backend.name.clone(),
            address: backend.address,
            calls: backend.calls,
            share: backend.calls as f64 / answered.max(1) as f64,
        };
        Summary {
            elapsed,
            calls: self.whole.len(),
            failed: self.failed(),
            calls_per_second: self.whole.len() as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            latency: latencies(&self.whole),
            backends: self.backends.iter().map(share).collect(),
            errors: self.errors().map(|(code, calls)| ErrorCount { code: code_name(code), calls }).collect(),
            events: self.events.iter().cloned().collect(),
        }
    }

    fn failed(&self) -> u64 {
        self.codes[1..].iter().sum()
    }

    fn errors(&self) -> impl Iterator<Item = (Code, u64)> {
        let failures = (1_i32..).map(Code::from).zip(self.codes[1..].iter().copied());
        failures.filter(|(_, calls)| *calls > 0)
    }
}

/// gRPC's own name of a status code.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Tally::new(&DemoConfig::default(), address(1), &[address(2), address(3), address(4)])
    }

    fn ok(backend: usize, ms: u64) -> Outcome {
        Outcome { latency: Duration::from_millis(ms), backend: Some(backend), code: Code::Ok }
    }

    #[test]
    fn a_second_counts_once_it_is_over() {
        let mut tally = tally();
        tally.record(&ok(0, 1));
        tally.record(&ok(2, 3));
        assert!(!tally.advance(Duration::from_millis(999)));
        assert!(tally.snapshot(Duration::from_millis(999)).history.is_empty());
        assert!(tally.advance(Duration::from_secs(1)));
        tally.record(&ok(1, 9));
        let snapshot = tally.snapshot(Duration::from_millis(1500));
        assert_eq!(snapshot.history, [2]);
        assert_eq!(snapshot.calls, 3);
        let last: Vec<u64> = snapshot.backends.iter().map(|backend| backend.calls_last_second).collect();
        assert_eq!(last, [1, 0, 1]);
        assert_eq!(snapshot.latency_last_second.p50.as_millis(), 1);
        assert!(tally.advance(Duration::from_millis(2001)));
        assert_eq!(tally.snapshot(Duration::from_secs(2)).history, [2, 1]);
    }

    #[test]
    fn failures_are_told_apart_by_their_code() {
        let mut tally = tally();
        for code in [Code::Unavailable, Code::Ok, Code::DeadlineExceeded, Code::Unavailable] {
            tally.record(&Outcome { latency: Duration::ZERO, backend: None, code });
        }
        let snapshot = tally.snapshot(Duration::ZERO);
        assert_eq!(snapshot.errors, [(Code::DeadlineExceeded, 1), (Code::Unavailable, 2)]);
        assert_eq!((snapshot.calls, snapshot.failed), (4, 3));
    }

    #[test]
    fn shares_are_of_the_calls_that_a_backend_answered() {
        let mut tally = tally();
        for backend in [0, 0, 0, 2] {
            tally.record(&ok(backend, 1));
        }
        tally.record(&Outcome { latency: Duration::ZERO, backend: None, code: Code::Unavailable });
        let summary = tally.summary(Duration::from_secs(2));
        let shares: Vec<f64> = summary.backends.iter().map(|backend| backend.share).collect();
        assert_eq!(shares, [0.75, 0.0, 0.25]);
        assert!((summary.calls_per_second - 2.5).abs() < 1e-9);
    }

    #[test]
    fn history_and_events_are_bounded() {
        let mut tally = tally();
        for second in 1..=HISTORY_MAX as u64 + 5 {
            tally.advance(Duration::from_secs(second));
            tally.befall(Duration::from_secs(second), 0, BackendState::Slow, second.to_string());
        }
        let snapshot = tally.snapshot(Duration::ZERO);
        assert_eq!((snapshot.history.len(), snapshot.events.len()), (HISTORY_MAX, EVENTS_MAX));
        assert_eq!(snapshot.events.last().unwrap().text, (HISTORY_MAX + 5).to_string());
    }
}
