//! Outlier detection as the configuration writes it.

use evenkeel_balance::outlier::OutlierConfig;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::units::format_duration;

/// Writes the settings in the form that is read; `off` for none.
pub(crate) fn serialize<S: Serializer>(
    config: &Option<OutlierConfig>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    config.as_ref().map_or_else(off, written).serialize(serializer)
}

fn off() -> Value {
    json!("off")
}

fn written(config: &OutlierConfig) -> Value {
    let success_rate = config.success_rate.map(|rule| {
        json!({
            "stdev_factor": rule.stdev_factor.get(),
            "min_endpoints": rule.min_endpoints,
            "request_volume": rule.request_volume,
            "chance_exponent": rule.chance_exponent,
            "enforcement_percent": rule.enforcement_percent,
        })
    });
    let failure_percentage = config.failure_percentage.map(|rule| {
        json!({
            "threshold": rule.threshold_percent,
            "min_endpoints": rule.min_endpoints,
            "request_volume": rule.request_volume,
            "enforcement_percent": rule.enforcement_percent,
        })
    });
    let mut written = json!({
        "consecutive_failures": config.consecutive_failures.map_or_else(off, |count| json!(count)),
        "interval": format_duration(config.interval),
        "base_ejection_time": format_duration(config.base_ejection),
        "max_ejection_time": format_duration(config.max_ejection),
        "jitter": config.jitter.get(),
        "max_ejection_percent": config.max_ejected_percent,
        "success_rate": success_rate.unwrap_or_else(off),
        "failure_percentage": failure_percentage.unwrap_or_else(off),
        "count_deadline_exceeded": config.counts_deadline_exceeded,
        "trial_successes": config.trial_successes,
        "trial_timeout": format_duration(config.trial_timeout),
    });
    if config.consecutive_failures.is_some() {
        written["consecutive_enforcement_percent"] = json!(config.consecutive_enforcement_percent);
    }
    written
}
