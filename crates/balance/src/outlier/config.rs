//! The settings of outlier detection, and what an attempt's end says about its endpoint.

use core::time::Duration;

use evenkeel_grpc::Code;

use crate::attempt::AttemptEnd;
use crate::factor::Factor;

/// How long a trial that is a stream must go on after its first response message to have succeeded: a service of streams without an
/// end would else never get an ejected endpoint back. What fails a stream (a dependency that is gone, a handler that breaks) does
/// so at its first messages, within a time that dependencies answer in; and a few of these in a row still fit into
/// [`OutlierConfig::trial_timeout`]. No source: Envoy and gRPC have no trials.
pub const TRIAL_SETTLES_AFTER: Duration = Duration::from_secs(1);

/// When an endpoint is ejected and for how long. Sources of the defaults: gRFC A50 and Envoy's `outlier_detection.proto`,
/// where not said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutlierConfig {
    /// Time between two sweeps of the rules over rates. Default 10 s.
    pub interval: Duration,
    /// Length of the first ejection; the n-th in a row lasts n times as long. Default 30 s.
    pub base_ejection: Duration,
    /// Bound of that, before jitter; `base_ejection` where that is longer. Default 300 s.
    pub max_ejection: Duration,
    /// Share by which an ejection is randomly longer, 0 to 1, so that proxies do not return at one moment; more counts as
    /// 1. Default 0.1 (Envoy: 0).
    pub jitter: Factor,
    /// Share of the endpoints that may be out at once, in percent. Default 10; see [`OutlierConfig::allowed`].
    pub max_ejected_percent: u8,
    /// Failures in a row that eject; at least 1. Default 5; `None` turns the rule off.
    pub consecutive_failures: Option<u32>,
    /// Chance in percent that such a row really ejects; if it does not, the next failure begins another. Default 100.
    pub consecutive_enforcement_percent: u8,
    /// The rule over success rates. Default on.
    pub success_rate: Option<SuccessRate>,
    /// The rule over a fixed share of failures. Default on.
    pub failure_percentage: Option<FailurePercentage>,
    /// Whether DEADLINE_EXCEEDED and attempt timeouts are the endpoint's failures, where no response message came before. Default
    /// true: a stopped process shows in nothing else. Turn off where callers set deadlines that cannot be met.
    pub counts_deadline_exceeded: bool,
    /// Trials in a row that must succeed before full return; at least 1. Default 3.
    pub trial_successes: u32,
    /// After this time a trial without an end (a stream that delivers nothing), or one that ended in nothing (its caller left), no longer holds
    /// back the next one. So an endpoint that is still broken costs callers who give up one call in this time. Default 10 s.
    pub trial_timeout: Duration,
}

/// Parameters of the success-rate rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SuccessRate {
    /// Standard deviations below the mean that make an outlier. Default 1.9.
    pub stdev_factor: Factor,
    /// Chance in percent that an outlier is really ejected. Default 100.
    pub enforcement_percent: u8,
    /// Endpoints with enough calls below which the rule rests. Default 5: of n endpoints one can be at most
    /// `sqrt(n - 1)` standard deviations off, so among fewer none can reach 1.9.
    pub min_endpoints: usize,
    /// Calls in an interval below which an endpoint is not judged. Default 100.
    pub request_volume: u32,
    /// The `n` of `10^-n`, the greatest chance with which the others' share of failures may explain the endpoint's own.
    /// Default 9: one false ejection in three years for 100 endpoints. 0 leaves the decision to the standard deviation,
    /// as gRPC and Envoy do.
    pub chance_exponent: u8,
}

/// Parameters of the failure-percentage rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailurePercentage {
    /// Failed calls in percent at or above which an endpoint is ejected, as in Envoy (gRFC A50: above). Default 85.
    pub threshold_percent: u8,
    /// Chance in percent that it is really ejected. Default 100 (gRPC; Envoy 0).
    pub enforcement_percent: u8,
    /// Endpoints below which the rule rests. Default 3; gRPC and Envoy have 5, which leaves three replicas without it.
    pub min_endpoints: usize,
    /// Calls in an interval below which an endpoint is not judged. Default 50.
    pub request_volume: u32,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            jitter: Factor::from_thousandths(100),
            max_ejected_percent: 10,
            consecutive_failures: Some(5),
            consecutive_enforcement_percent: 100,
            success_rate: Some(SuccessRate::default()),
            failure_percentage: Some(FailurePercentage::default()),
            counts_deadline_exceeded: true,
            trial_successes: 3,
            trial_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            stdev_factor: Factor::from_thousandths(1_900),
            enforcement_percent: 100,
            min_endpoints: 5,
            request_volume: 100,
            chance_exponent: 9,
        }
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold_percent: 85, enforcement_percent: 100, min_endpoints: 3, request_volume: 50 }
    }
}

/// What an attempt's end says about its endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// It answered, be it that the caller's request was wrong.
    Success,
    /// It failed.
    Failure,
    /// It had not answered in the time that another endpoint took: a trial failed then. Else it says nothing: of calls that
    /// are hedged at the 95th percentile of their latency one of twenty ends so at every endpoint.
    Overtaken,
    /// Nothing: the caller left, the proxy cut it off before any message, or the endpoint sheds load or leaves in good order.
    Nothing,
}

impl SuccessRate {
    pub(super) fn chance(&self) -> f64 {
        10_f64.powi(-i32::from(self.chance_exponent))
    }
}

impl OutlierConfig {
    /// How many of so many endpoints may be out at once: the share rounded up, at least one, and never the last.
    ///
    /// Rounded down, as in Envoy since 1.28, 10 % ejects nothing in a cluster of fewer than ten.
    #[must_use]
    pub fn allowed(&self, endpoints: u32) -> u32 {
        let share = u64::from(endpoints) * u64::from(self.max_ejected_percent.min(100));
        let rounded_up = u32::try_from(share.div_ceil(100)).unwrap_or(u32::MAX);
        rounded_up.max(1).min(endpoints.saturating_sub(1))
    }

    /// Judges an attempt's end.
    ///
    /// A caller's error is a success: the endpoint did its work. Counted as nothing instead, a healthy endpoint that
    /// answers NOT_FOUND to most calls would be ejected for five failures spread over hours. RESOURCE_EXHAUSTED is
    /// nothing: an endpoint that sheds load must not have its load moved to others that are as loaded. So is REFUSED_STREAM,
    /// with which servers shed load before they look at it (RFC 9113, 8.7), and end streams that cross their last GOAWAY.
    #[must_use]
    pub fn observe(&self, end: &AttemptEnd) -> Observation {
        let timeout = if self.counts_deadline_exceeded { Observation::Failure } else { Observation::Nothing };
        match end {
            AttemptEnd::Status { code, .. } => match code {
                Code::Cancelled | Code::ResourceExhausted => Observation::Nothing,
                Code::DeadlineExceeded => timeout,
                Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss => Observation::Failure,
                Code::Ok
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented => Observation::Success,
            },
            AttemptEnd::ConnectFailed | AttemptEnd::GoAway { is_graceful: false } | AttemptEnd::Reset => {
                Observation::Failure
            }
            AttemptEnd::Served { .. } => Observation::Success,
            AttemptEnd::AttemptTimeout | AttemptEnd::DeadlineExceeded => timeout,
            AttemptEnd::Overtaken { by_later: true } => Observation::Overtaken,
            AttemptEnd::NotSent
            | AttemptEnd::RefusedStream
            | AttemptEnd::NoPlace
            | AttemptEnd::GoAway { is_graceful: true }
            | AttemptEnd::Cancelled
            | AttemptEnd::CutOff
            | AttemptEnd::Overtaken { by_later: false } => Observation::Nothing,
        }
    }

    /// The length of an ejection before jitter.
    pub(super) fn ejection(&self, times: u32) -> Duration {
        self.base_ejection.saturating_mul(times.max(1)).min(self.max_ejection.max(self.base_ejection))
    }
}
