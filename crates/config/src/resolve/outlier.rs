//! Outlier detection.

use evenkeel_balance::Factor;
use evenkeel_balance::outlier::{FailurePercentage, OutlierConfig, SuccessRate};

use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports};
use crate::raw::{At, Field, Integer, Off, RawFailurePercentage, RawOutlierDetection, RawSuccessRate};

/// The settings if it is on; without the key it is off.
pub(super) fn resolve_outliers(
    raw: &Field<Off<RawOutlierDetection>>,
    reports: &mut Reports,
) -> Option<OutlierConfig> {
    let (key, At { value: Off::On(raw), .. }) = raw.with_key()? else { return None };
    let rules = [
        matches!(raw.consecutive_failures.given(), Some(At { value: Off::Off, .. })),
        matches!(raw.success_rate.given(), Some(At { value: Off::Off, .. })),
        matches!(raw.failure_percentage.given(), Some(At { value: Off::Off, .. })),
    ];
    if rules.into_iter().all(|is_off| is_off) {
        let reason = "as each of its rules is `off`: write `outlier_detection: off`";
        reports.add(key, Fault::NoEffect { key: "outlier_detection", reason });
    }
    let base_ejection = value::duration(&raw.base_ejection_time, bounds::OUTLIER_BASE_EJECTION, reports);
    let max_ejection = value::duration(&raw.max_ejection_time, bounds::OUTLIER_MAX_EJECTION, reports);
    super::cluster::report_range(
        (&raw.base_ejection_time, base_ejection),
        (&raw.max_ejection_time, max_ejection),
        ["base_ejection_time", "max_ejection_time"],
        reports,
    );
    let percent = value::count(&raw.max_ejection_percent, bounds::OUTLIER_MAX_EJECTION_PERCENT, reports);
    let jitter = value::number(&raw.jitter, bounds::OUTLIER_JITTER, reports);
    Some(OutlierConfig {
        interval: value::duration(&raw.interval, bounds::OUTLIER_INTERVAL, reports),
        base_ejection,
        max_ejection,
        jitter: Factor::try_from(jitter).unwrap_or_default(),
        max_ejected_percent: percent as u8,
        consecutive_failures: consecutive_failures(&raw.consecutive_failures, reports),
        consecutive_enforcement_percent: consecutive_enforcement(raw, reports),
        success_rate: match raw.success_rate.given() {
            None => Some(SuccessRate::default()),
            Some(At { value: Off::Off, .. }) => None,
            Some(At { value: Off::On(raw), .. }) => Some(success_rate(raw, reports)),
        },
        failure_percentage: match raw.failure_percentage.given() {
            None => Some(FailurePercentage::default()),
            Some(At { value: Off::Off, .. }) => None,
            Some(At { value: Off::On(raw), .. }) => Some(failure_percentage(raw, reports)),
        },
        counts_deadline_exceeded: raw.count_deadline_exceeded.given().is_none_or(|flag| flag.value.0),
        trial_successes: value::count(&raw.trial_successes, bounds::OUTLIER_TRIAL_SUCCESSES, reports),
        trial_timeout: value::duration(&raw.trial_timeout, bounds::OUTLIER_TRIAL_TIMEOUT, reports),
    })
}

fn enforcement(raw: &Field<Integer>, reports: &mut Reports) -> u8 {
    value::count(raw, bounds::OUTLIER_ENFORCEMENT_PERCENT, reports) as u8
}

/// The chance that a row of failures ejects, which says nothing where no row does.
fn consecutive_enforcement(raw: &RawOutlierDetection, reports: &mut Reports) -> u8 {
    if let Some((at, _)) = raw.consecutive_enforcement_percent.with_key()
        && matches!(raw.consecutive_failures.given(), Some(At { value: Off::Off, .. }))
    {
        let (key, reason) = ("consecutive_enforcement_percent", "as `consecutive_failures` is `off`");
        reports.add(at, Fault::NoEffect { key, reason });
    }
    enforcement(&raw.consecutive_enforcement_percent, reports)
}

fn consecutive_failures(raw: &Field<Off<Integer>>, reports: &mut Reports) -> Option<u32> {
    let bounds = bounds::OUTLIER_CONSECUTIVE_FAILURES;
    match raw.given() {
        None => Some(bounds.default),
        Some(At { value: Off::Off, .. }) => None,
        Some(At { value: Off::On(count), span, .. }) => {
            Some(value::bounded_count(*count, *span, bounds, reports))
        }
    }
}

fn success_rate(raw: &RawSuccessRate, reports: &mut Reports) -> SuccessRate {
    let factor = value::number(&raw.stdev_factor, bounds::OUTLIER_STDEV_FACTOR, reports);
    SuccessRate {
        stdev_factor: Factor::try_from(factor).unwrap_or_default(),
        min_endpoints: value::count(&raw.min_endpoints, bounds::OUTLIER_RATE_MIN_ENDPOINTS, reports) as usize,
        request_volume: value::count(&raw.request_volume, bounds::OUTLIER_RATE_REQUEST_VOLUME, reports),
        chance_exponent: value::count(&raw.chance_exponent, bounds::OUTLIER_CHANCE_EXPONENT, reports) as u8,
        enforcement_percent: enforcement(&raw.enforcement_percent, reports),
    }
}

fn failure_percentage(raw: &RawFailurePercentage, reports: &mut Reports) -> FailurePercentage {
    let least = bounds::OUTLIER_SHARE_MIN_ENDPOINTS;
    FailurePercentage {
        threshold_percent: value::count(&raw.threshold, bounds::OUTLIER_FAILURE_THRESHOLD, reports) as u8,
        min_endpoints: value::count(&raw.min_endpoints, least, reports) as usize,
        request_volume: value::count(&raw.request_volume, bounds::OUTLIER_SHARE_REQUEST_VOLUME, reports),
        enforcement_percent: enforcement(&raw.enforcement_percent, reports),
    }
}
