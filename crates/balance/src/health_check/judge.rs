//! From results to a status.

use evenkeel_grpc::Code;

use super::config::HealthCheckConfig;

/// What a check, or a message of a stream, said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckResult {
    /// SERVING; for TCP, that the connection opened.
    Serving,
    /// NOT_SERVING, or UNKNOWN.
    NotServing,
    /// A serving status that the protocol does not have; judged as one of not serving.
    Absurd,
    /// SERVICE_UNKNOWN, or NOT_FOUND from `Check`: the server does not have this service.
    ServiceUnknown,
    /// The server has no health service.
    Unimplemented,
    /// No connection, or another status.
    Failed,
}

impl CheckResult {
    /// Reads `HealthCheckResponse.status`.
    #[must_use]
    pub fn from_serving_status(status: i32) -> Self {
        match status {
            1 => Self::Serving,
            0 | 2 => Self::NotServing,
            3 => Self::ServiceUnknown,
            _ => Self::Absurd,
        }
    }

    fn status(self) -> HealthStatus {
        match self {
            Self::Serving | Self::Unimplemented => HealthStatus::Healthy,
            Self::NotServing | Self::Absurd => HealthStatus::Unhealthy(UnhealthyReason::NotServing),
            Self::ServiceUnknown => HealthStatus::Unhealthy(UnhealthyReason::ServiceUnknown),
            Self::Failed => HealthStatus::Unhealthy(UnhealthyReason::Failed),
        }
    }

    /// Reads the status that a check without a response, or a stream, ended with.
    #[must_use]
    pub fn from_code(code: Code) -> Self {
        match code {
            Code::Unimplemented => Self::Unimplemented,
            Code::NotFound => Self::ServiceUnknown,
            _ => Self::Failed,
        }
    }
}

/// What the checks say about an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HealthStatus {
    /// Nothing yet.
    Unknown,
    /// It wants calls.
    Healthy,
    /// It does not, or does not answer.
    Unhealthy(UnhealthyReason),
}

/// Why an endpoint is unhealthy: by the latest result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnhealthyReason {
    /// It says so.
    NotServing,
    /// It does not have the service.
    ServiceUnknown,
    /// The check failed.
    Failed,
    /// The check had no answer in time.
    TimedOut,
}

impl UnhealthyReason {
    /// The reason as logs and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotServing => "not_serving",
            Self::ServiceUnknown => "service_unknown",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// A change of the status; worth a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The status before.
    pub from: HealthStatus,
    /// The status now.
    pub to: HealthStatus,
}

/// The status of one endpoint and how firm it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Judge {
    status: HealthStatus,
    /// Results in a row that speak against the status.
    contrary: u32,
}

impl Judge {
    pub(super) fn new() -> Self {
        Self { status: HealthStatus::Unknown, contrary: 0 }
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.status
    }

    pub(super) fn forget(&mut self) -> Option<Transition> {
        self.change(HealthStatus::Unknown)
    }

    /// Takes one result of several: failures and successes need as many in a row as configured.
    pub(super) fn observe(&mut self, config: &HealthCheckConfig, result: CheckResult) -> Option<Transition> {
        let threshold = match result {
            CheckResult::Serving | CheckResult::Unimplemented => config.healthy_threshold,
            CheckResult::NotServing | CheckResult::Absurd | CheckResult::ServiceUnknown => 1,
            CheckResult::Failed => config.unhealthy_threshold,
        };
        self.weigh(result.status(), threshold)
    }

    pub(super) fn timed_out(&mut self, config: &HealthCheckConfig) -> Option<Transition> {
        self.weigh(HealthStatus::Unhealthy(UnhealthyReason::TimedOut), config.unhealthy_threshold)
    }

    /// Takes a result that is the last word.
    pub(super) fn decide(&mut self, result: CheckResult) -> Option<Transition> {
        self.change(result.status())
    }

    /// Changes to this status at the n-th result in a row that speaks for it.
    fn weigh(&mut self, towards: HealthStatus, threshold: u32) -> Option<Transition> {
        let is_contrary = (self.status == HealthStatus::Healthy) != (towards == HealthStatus::Healthy);
        if is_contrary && self.status != HealthStatus::Unknown {
            self.contrary = self.contrary.saturating_add(1);
            if self.contrary < threshold {
                return None;
            }
        }
        self.change(towards)
    }

    fn change(&mut self, to: HealthStatus) -> Option<Transition> {
        let from = core::mem::replace(&mut self.status, to);
        self.contrary = 0;
        let has_changed = core::mem::discriminant(&from) != core::mem::discriminant(&to);
        has_changed.then_some(Transition { from, to })
    }
}
