//! What active checks found, for GET /clusters and GET /metrics.

use std::time::Duration;

use evenkeel_balance::health_check::HealthStatus;
use evenkeel_balance::{Endpoint, Withheld};
use serde::Serialize;

use crate::control::clusters::ClusterRuntime;
use crate::control::health::HealthReport;

/// An endpoint's health, as /clusters shows it.
#[derive(Serialize)]
pub(super) struct HealthBody {
    /// `healthy`, `unhealthy`, or `unchecked` before the first result.
    status: &'static str,
    /// How long it has been so.
    for_seconds: f64,
    /// The newest result; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastBody>,
}

#[derive(Serialize)]
struct LastBody {
    /// As the metrics name it.
    result: &'static str,
    /// Why, for failures, in the endpoint's or the system's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Box<str>>,
    age_seconds: f64,
}

/// What the cluster's checks know of an endpoint; `None` where it has none, or they have not taken the endpoint over yet.
pub(super) fn describe_health(
    runtime: &ClusterRuntime,
    endpoint: &Endpoint,
    now: Duration,
) -> Option<HealthBody> {
    let HealthReport { status, since, last } = runtime.health.as_ref()?.report(endpoint.address())?;
    let age = |at: Duration| now.saturating_sub(at).as_secs_f64();
    Some(HealthBody {
        status: match status {
            HealthStatus::Unknown => "unchecked",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy(_) => "unhealthy",
        },
        for_seconds: age(since),
        last: last.map(|last| LastBody {
            result: last.result.as_str(),
            detail: last.detail,
            age_seconds: age(last.at),
        }),
    })
}

/// The word under which /metrics counts an endpoint of a cluster with checks: what its picks heed.
pub(super) fn health_of(endpoint: &Endpoint) -> &'static str {
    if endpoint.is_withheld_as(Withheld::Unhealthy) {
        "unhealthy"
    } else if endpoint.is_withheld_as(Withheld::Unchecked) {
        "unchecked"
    } else {
        "healthy"
    }
}
