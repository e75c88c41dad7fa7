mod check;
mod watch;

use core::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::factor::Factor;

const START: Duration = Duration::from_secs(1_000);
const MS: Duration = Duration::from_millis(1);

const HEALTHY: HealthStatus = HealthStatus::Healthy;
const UNKNOWN: HealthStatus = HealthStatus::Unknown;
const FAILED: HealthStatus = HealthStatus::Unhealthy(UnhealthyReason::Failed);
const TIMED_OUT: HealthStatus = HealthStatus::Unhealthy(UnhealthyReason::TimedOut);
const NOT_SERVING: HealthStatus = HealthStatus::Unhealthy(UnhealthyReason::NotServing);

fn change(from: HealthStatus, to: HealthStatus) -> Option<Transition> {
    Some(Transition { from, to })
}

fn started(due: Due) -> CheckId {
    match due {
        Due::Start(check) => check,
        other => panic!("{other:?}"),
    }
}
