//! The settings of retries and hedging.

use core::time::Duration;

use evenkeel_grpc::{Code, Pushback};

use super::codes::CodeSet;
use crate::attempt::AttemptEnd;
use crate::factor::Factor;

/// Attempts of one call, the first one included, that no setting exceeds (gRFC A6: larger values count as 5).
pub const MAX_ATTEMPTS: u8 = 5;

/// The longest pushback that is waited for here; with a longer one the call ends at once, and the client, who is told the
/// pushback with the status, may wait. A6 has no bound, but a client holds its own calls only: here, backends that
/// answer with weeks would fill the memory and the budget with calls that wait.
pub const MAX_PUSHBACK: Duration = Duration::from_secs(10);

/// Which ends of an attempt are worth another one, beside the transparent retry that is always done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryOn {
    /// Status codes that the backend answered with. Default none.
    pub codes: CodeSet,
    /// The connection could not be opened, or was gone before a byte of the request left. Default true.
    pub connect_failure: bool,
    /// The backend said that it did not process the request: REFUSED_STREAM, or a GOAWAY below the stream. Default true.
    pub refused_stream: bool,
    /// Another reset, a broken connection or a malformed answer: the request may have been processed. Default false.
    pub reset: bool,
}

/// When and how often a call is tried again. The fields are gRPC's `retryPolicy` (gRFC A6) with more conditions and a
/// timeout per attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Attempts of one call, the first one included; 0 counts as 1, and more than [`MAX_ATTEMPTS`] as that. Default 2.
    pub max_attempts: u8,
    /// Delay before the first retry, before jitter. Default 25 ms (Envoy, gRFC A44).
    pub initial_backoff: Duration,
    /// Bound of the delay before jitter. Default 250 ms (Envoy, gRFC A44).
    pub max_backoff: Duration,
    /// Growth of the delay from one retry to the next; below 1 counts as 1. Default 2 (Envoy, gRFC A44).
    pub backoff_multiplier: Factor,
    /// What is retried.
    pub retry_on: RetryOn,
    /// How long one attempt may take; `None`, the default, leaves each as long as the call has.
    pub per_try_timeout: Option<Duration>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { codes: CodeSet::EMPTY, connect_failure: true, refused_stream: true, reset: false }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            initial_backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            backoff_multiplier: Factor::from_thousandths(2_000),
            retry_on: RetryOn::default(),
            per_try_timeout: None,
        }
    }
}

impl RetryOn {
    /// gRPC's reading: what has no status of its own is UNAVAILABLE.
    #[must_use]
    pub fn statuses(codes: CodeSet) -> Self {
        Self { codes, reset: codes.contains(Code::Unavailable), ..Self::default() }
    }

    /// Whether another attempt is worth it. DEADLINE_EXCEEDED is so for idempotent calls only: unlike other statuses it does
    /// not say that the backend is done with the call.
    #[must_use]
    pub fn matches(&self, end: &AttemptEnd, is_idempotent: bool) -> bool {
        match end {
            AttemptEnd::Status { code: Code::DeadlineExceeded, .. } | AttemptEnd::AttemptTimeout => {
                is_idempotent && self.codes.contains(Code::DeadlineExceeded)
            }
            AttemptEnd::Status { code, .. } => self.codes.contains(*code),
            AttemptEnd::NotSent | AttemptEnd::ConnectFailed => self.connect_failure,
            AttemptEnd::RefusedStream | AttemptEnd::NoPlace | AttemptEnd::GoAway { .. } => {
                self.refused_stream
            }
            AttemptEnd::Reset => self.reset,
            AttemptEnd::DeadlineExceeded
            | AttemptEnd::Cancelled
            | AttemptEnd::CutOff
            | AttemptEnd::Served { .. }
            | AttemptEnd::Overtaken { .. } => false,
        }
    }
}

impl RetryPolicy {
    /// When an attempt that starts now is given up: `None` where the call's deadline, which then ends both, is no later.
    #[must_use]
    pub fn attempt_timeout_at(&self, now: Duration, deadline: Option<Duration>) -> Option<Duration> {
        let at = now.saturating_add(self.per_try_timeout?);
        deadline.is_none_or(|deadline| at < deadline).then_some(at)
    }

    pub(super) fn attempts(&self) -> u8 {
        self.max_attempts.clamp(1, MAX_ATTEMPTS)
    }

    /// The delay before the n-th retry in a row without pushback, n = 0, 1, ...; without jitter.
    pub(super) fn backoff(&self, n: u8) -> Duration {
        let growth = self.backoff_multiplier.get().max(1.0).powi(i32::from(n));
        let grown = Duration::try_from_secs_f64(self.initial_backoff.as_secs_f64() * growth);
        grown.unwrap_or(Duration::MAX).min(self.max_backoff)
    }
}

/// When further attempts of a call are sent while the first ones still run: gRPC's `hedgingPolicy` (gRFC A6). Has no effect
/// on calls that are not declared idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HedgingPolicy {
    /// Attempts of one call, the first one included; 0 counts as 1, and more than [`MAX_ATTEMPTS`] as that. Default 2.
    pub max_attempts: u8,
    /// Time from one attempt to the next. 0 sends all at once. Default 100 ms; set it to the 95th percentile of the latency
    /// or above, and hedging costs at most 5 % more calls.
    pub hedging_delay: Duration,
    /// Status codes that do not decide the call: the other attempts go on, and the next is sent at once. Default UNAVAILABLE.
    pub non_fatal: CodeSet,
}

impl Default for HedgingPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 2,
            hedging_delay: Duration::from_millis(100),
            non_fatal: CodeSet::of(&[Code::Unavailable]),
        }
    }
}

impl HedgingPolicy {
    pub(super) fn attempts(&self, is_idempotent: bool) -> u8 {
        if is_idempotent { self.max_attempts.clamp(1, MAX_ATTEMPTS) } else { 1 }
    }

    /// Whether this end leaves the call undecided. What no backend processed never decides it.
    pub(super) fn is_non_fatal(&self, end: &AttemptEnd) -> bool {
        match end {
            AttemptEnd::NotSent
            | AttemptEnd::ConnectFailed
            | AttemptEnd::RefusedStream
            | AttemptEnd::NoPlace
            | AttemptEnd::GoAway { .. } => true,
            AttemptEnd::Status { .. } | AttemptEnd::Reset | AttemptEnd::AttemptTimeout => {
                self.non_fatal.contains(end.code())
            }
            AttemptEnd::DeadlineExceeded
            | AttemptEnd::Cancelled
            | AttemptEnd::CutOff
            | AttemptEnd::Served { .. }
            | AttemptEnd::Overtaken { .. } => false,
        }
    }
}

/// What a pushback means here: a delay to wait, or none at all.
pub(super) fn obey(pushback: Pushback) -> Option<Duration> {
    match pushback {
        Pushback::RetryAfter(delay) if delay <= MAX_PUSHBACK => Some(delay),
        Pushback::RetryAfter(_) | Pushback::Never => None,
    }
}
