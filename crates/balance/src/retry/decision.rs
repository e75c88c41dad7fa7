//! The decision after each attempt of a call: again, and when, or not, and why.

use core::time::Duration;

use evenkeel_grpc::Code;
use rand::{Rng, RngExt};

use super::budget::RetryBudget;
use super::config::{RetryPolicy, obey};
use super::throttle::RetryThrottle;
use super::transparent::Transparent;
use crate::attempt::AttemptEnd;

/// Share by which a backoff is randomly longer or shorter (gRFC A6).
const JITTER: f64 = 0.2;

/// What all calls of a cluster share and an extra attempt must pass.
#[derive(Clone, Copy, Debug)]
pub struct Gates<'a> {
    /// The cluster's budget.
    pub budget: &'a RetryBudget,
    /// The cluster's throttle, if it is configured.
    pub throttle: Option<&'a RetryThrottle>,
}

/// Whether the call's request can be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// The whole request so far is buffered, and the client has seen nothing of a response.
    Possible,
    /// A part of a response has left for the client: the attempt is committed.
    ResponseStarted,
    /// The request is larger than the replay buffer.
    RequestTooLarge,
    /// The replay buffers of other calls leave no room for this one's.
    BuffersFull,
}

/// The call when its attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The time of the end.
    pub now: Duration,
    /// When the call must be over, if ever.
    pub deadline: Option<Duration>,
    /// Whether it can be sent again.
    pub replay: Replay,
    /// Whether the method is declared idempotent: doing it twice does no harm.
    pub is_idempotent: bool,
}

impl Replay {
    pub(super) fn check(self) -> Result<(), StopReason> {
        match self {
            Self::Possible => Ok(()),
            Self::ResponseStarted => Err(StopReason::ResponseStarted),
            Self::RequestTooLarge => Err(StopReason::RequestTooLarge),
            Self::BuffersFull => Err(StopReason::BuffersFull),
        }
    }
}

impl Moment {
    pub(super) fn can_send(&self) -> bool {
        self.replay == Replay::Possible && self.is_before_deadline(self.now)
    }

    pub(super) fn is_before_deadline(&self, at: Duration) -> bool {
        self.deadline.is_none_or(|deadline| at < deadline)
    }
}

/// What to do after an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Send another attempt, best to another endpoint.
    Retry {
        /// When: now or later, and before the deadline.
        at: Duration,
        /// Whether no backend saw the attempt before, so that this one is not counted.
        is_transparent: bool,
    },
    /// The attempt's end is the call's.
    Stop(StopReason),
}

/// Why a call is not tried again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopReason {
    /// It succeeded.
    Succeeded,
    /// Its end is none that is retried.
    NotRetryable,
    /// A part of a response has left for the client.
    ResponseStarted,
    /// The request is larger than the replay buffer.
    RequestTooLarge,
    /// The replay buffers of other calls left no room for this one's.
    BuffersFull,
    /// The backend forbade it, or asked for more time than is waited.
    Pushback,
    /// It had as many attempts as the policy allows.
    AttemptsUsed,
    /// Too many attempts of the cluster fail (gRFC A6 `retryThrottling`).
    Throttled,
    /// The cluster's budget is used up.
    OverBudget,
    /// The deadline passed, or would have before the retry.
    Deadline,
    /// The client left.
    Cancelled,
}

impl StopReason {
    /// The reason that an end which is not tried again has in itself.
    pub(super) fn of(end: &AttemptEnd) -> Self {
        match end {
            AttemptEnd::Status { code: Code::Ok, .. } => Self::Succeeded,
            AttemptEnd::Cancelled => Self::Cancelled,
            AttemptEnd::DeadlineExceeded => Self::Deadline,
            _ => Self::NotRetryable,
        }
    }

    /// The reason as logs and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::NotRetryable => "not_retryable",
            Self::ResponseStarted => "response_started",
            Self::RequestTooLarge => "request_too_large",
            Self::BuffersFull => "buffers_full",
            Self::Pushback => "pushback",
            Self::AttemptsUsed => "attempts_used",
            Self::Throttled => "throttled",
            Self::OverBudget => "over_budget",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What one call remembers of its attempts.
///
/// Use: one per call, made when its first attempt is sent; [`RetryState::attempt_ended`] after each attempt, until it says
/// [`Decision::Stop`]. A call that ends in another way, such as while it waits for a retry, must tell [`RetryState::abandon`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetryState {
    /// Counted attempts that ended: the first, and retries by the policy.
    retries: u8,
    /// Retries since the last pushback: A6 starts the backoff over with each.
    backoffs: u8,
    transparent: Transparent,
    /// Whether the attempt under way, or waited for, has a place in the budget.
    holds_place: bool,
}

impl RetryState {
    /// The state of a call whose first attempt is under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `grpc-previous-rpc-attempts` says on the attempt under way; without the header where it is 0. Transparent
    /// retries do not count.
    #[must_use]
    pub fn previous_attempts(&self) -> u8 {
        self.retries
    }

    /// Decides what follows an attempt's end.
    pub fn attempt_ended(
        &mut self,
        policy: &RetryPolicy,
        gates: Gates<'_>,
        end: &AttemptEnd,
        moment: &Moment,
        rng: &mut impl Rng,
    ) -> Decision {
        if moment.can_send() && self.transparent.take(end, moment.now) {
            // The attempt goes on, so to say: it keeps its place.
            return Decision::Retry { at: moment.now, is_transparent: true };
        }
        self.abandon(gates.budget);
        let is_retryable = policy.retry_on.matches(end, moment.is_idempotent);
        if let Some(throttle) = gates.throttle {
            throttle.attempt_ended(end, is_retryable);
        }
        let retry_at = if is_retryable {
            self.retry_at(policy, gates, end, moment, rng)
        } else {
            Err(StopReason::of(end))
        };
        match retry_at {
            Ok(at) => Decision::Retry { at, is_transparent: false },
            Err(reason) => Decision::Stop(reason),
        }
    }

    /// What [`RetryState::attempt_ended`] does of an attempt that ended with OK, which nothing follows: the end of most.
    #[inline]
    pub fn attempt_succeeded(&mut self, gates: Gates<'_>) {
        self.abandon(gates.budget);
        if let Some(throttle) = gates.throttle {
            throttle.succeeded();
        }
    }

    /// Gives the call's place in the budget back, if it has one.
    #[inline]
    pub fn abandon(&mut self, budget: &RetryBudget) {
        if core::mem::take(&mut self.holds_place) {
            budget.release();
        }
    }

    /// The gates for a retryable end, in the order of the module's text.
    fn retry_at(
        &mut self,
        policy: &RetryPolicy,
        gates: Gates<'_>,
        end: &AttemptEnd,
        moment: &Moment,
        rng: &mut impl Rng,
    ) -> Result<Duration, StopReason> {
        let pushback =
            end.pushback().map(|pushback| obey(pushback).ok_or(StopReason::Pushback)).transpose()?;
        moment.replay.check()?;
        if self.retries + 1 >= policy.attempts() {
            return Err(StopReason::AttemptsUsed);
        }
        if gates.throttle.is_some_and(|throttle| !throttle.allows()) {
            return Err(StopReason::Throttled);
        }
        let delay = pushback.unwrap_or_else(|| jittered(policy.backoff(self.backoffs), rng));
        let at = moment.now.saturating_add(delay);
        if !moment.is_before_deadline(at) {
            return Err(StopReason::Deadline);
        }
        if !gates.budget.acquire(moment.now) {
            return Err(StopReason::OverBudget);
        }
        self.holds_place = true;
        self.retries += 1;
        self.backoffs = if pushback.is_some() { 0 } else { self.backoffs + 1 };
        Ok(at)
    }
}

fn jittered(delay: Duration, rng: &mut impl Rng) -> Duration {
    let factor = rng.random_range(1.0 - JITTER..=1.0 + JITTER);
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
