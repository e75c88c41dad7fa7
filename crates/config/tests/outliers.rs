//! What the keys of outlier detection mean.

use core::time::Duration;

use evenkeel_balance::Factor;
use evenkeel_balance::outlier::{FailurePercentage, OutlierConfig, SuccessRate};
use evenkeel_config::{Config, ConfigErrors, parse};

/// A configuration whose only cluster has these keys besides its name and target.
fn config(keys: &str) -> Result<Config, ConfigErrors> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a}}]}}]\n\
         clusters: [{{name: a, target: 'ipv4:127.0.0.1:2', {keys}}}]\n"
    );
    parse("text", &text)
}

fn outliers(keys: &str) -> Option<OutlierConfig> {
    config(keys).unwrap_or_else(|errors| panic!("{}", errors.render(false))).clusters[0].outlier_detection
}

#[test]
fn an_empty_mapping_is_on_with_the_detectors_own_defaults_and_nothing_is_off() {
    assert_eq!(outliers(""), None);
    assert_eq!(outliers("outlier_detection: off"), None);
    assert_eq!(outliers("outlier_detection: {}"), Some(OutlierConfig::default()));
}

#[test]
fn each_rule_can_be_turned_off() {
    for (off, expected) in [
        (["consecutive_failures", "success_rate"], [false, false, true]),
        (["success_rate", "failure_percentage"], [true, false, false]),
    ] {
        let rules = outliers(&format!("outlier_detection: {{{}: off, {}: off}}", off[0], off[1])).unwrap();
        let are_on = [
            rules.consecutive_failures.is_some(),
            rules.success_rate.is_some(),
            rules.failure_percentage.is_some(),
        ];
        assert_eq!(are_on, expected, "{off:?}");
    }
}

#[test]
fn each_key_reaches_the_detector() {
    let rules = |keys: &str| outliers(&format!("outlier_detection: {{{keys}}}")).unwrap();
    let default = OutlierConfig::default();
    let seconds = Duration::from_secs;
    let factor = |value: f64| Factor::try_from(value).unwrap();
    let rate = |rule: SuccessRate| OutlierConfig { success_rate: Some(rule), ..default };
    let share = |rule: FailurePercentage| OutlierConfig { failure_percentage: Some(rule), ..default };
    let (by_rate, by_share) = (SuccessRate::default(), FailurePercentage::default());
    for (keys, expected) in [
        ("consecutive_failures: 7", OutlierConfig { consecutive_failures: Some(7), ..default }),
        (
            "consecutive_enforcement_percent: 1",
            OutlierConfig { consecutive_enforcement_percent: 1, ..default },
        ),
        ("interval: 1s", OutlierConfig { interval: seconds(1), ..default }),
        ("base_ejection_time: 5s", OutlierConfig { base_ejection: seconds(5), ..default }),
        ("max_ejection_time: 1d", OutlierConfig { max_ejection: seconds(86_400), ..default }),
        ("jitter: 0", OutlierConfig { jitter: Factor::ZERO, ..default }),
        ("jitter: 0.25", OutlierConfig { jitter: factor(0.25), ..default }),
        ("max_ejection_percent: 50", OutlierConfig { max_ejected_percent: 50, ..default }),
        ("count_deadline_exceeded: false", OutlierConfig { counts_deadline_exceeded: false, ..default }),
        ("trial_successes: 1", OutlierConfig { trial_successes: 1, ..default }),
        ("trial_timeout: 100ms", OutlierConfig { trial_timeout: seconds(1) / 10, ..default }),
        ("success_rate: {stdev_factor: 0.5}", rate(SuccessRate { stdev_factor: factor(0.5), ..by_rate })),
        ("success_rate: {min_endpoints: 2}", rate(SuccessRate { min_endpoints: 2, ..by_rate })),
        ("success_rate: {request_volume: 1}", rate(SuccessRate { request_volume: 1, ..by_rate })),
        ("success_rate: {chance_exponent: 0}", rate(SuccessRate { chance_exponent: 0, ..by_rate })),
        ("success_rate: {enforcement_percent: 40}", rate(SuccessRate { enforcement_percent: 40, ..by_rate })),
        ("failure_percentage: {threshold: 1}", share(FailurePercentage { threshold_percent: 1, ..by_share })),
        ("failure_percentage: {min_endpoints: 9}", share(FailurePercentage { min_endpoints: 9, ..by_share })),
        (
            "failure_percentage: {request_volume: 8}",
            share(FailurePercentage { request_volume: 8, ..by_share }),
        ),
        (
            "failure_percentage: {enforcement_percent: 60}",
            share(FailurePercentage { enforcement_percent: 60, ..by_share }),
        ),
    ] {
        assert_eq!(rules(keys), expected, "{keys}");
        let written = config(&format!("outlier_detection: {{{keys}}}")).unwrap();
        let printed = serde_json::to_string(&written).unwrap();
        assert_eq!(parse("printed", &printed).unwrap(), written, "{keys}");
    }
}

#[test]
fn what_is_printed_can_be_read_and_means_the_same() {
    let written = config("outlier_detection: {max_ejection_percent: 50, success_rate: off}").unwrap();
    let printed = serde_json::to_string(&written).unwrap();
    assert_eq!(parse("printed", &printed).unwrap(), written);
}

#[test]
fn values_out_of_bounds_and_unknown_keys_are_named() {
    for (keys, expected) in [
        ("max_ejection_percent: 101", "101"),
        ("base_ejection_time: 10m", "max_ejection_time"),
        ("consecutive_failures: 0", "0"),
        ("consecutive_failure: 3", "consecutive_failures"),
        ("failure_percentage: {threshold: 0}", "0"),
        ("failure_percentage: {enforcement_percent: 0}", "enforcement_percent"),
        ("success_rate: {enforcement_percent: 101}", "101"),
        ("success_rate: {chance_exponent: 101}", "101"),
        ("consecutive_enforcement_percent: 0", "consecutive_enforcement_percent"),
        (
            "consecutive_failures: off, consecutive_enforcement_percent: 50",
            "`consecutive_enforcement_percent` has no effect as `consecutive_failures` is `off`",
        ),
        ("jitter: 1.1", "1.1"),
        ("jitter: -0.1", "-0.1"),
        ("trial_timeout: 99ms", "99ms"),
        ("trial_timeout: 61m", "1h1m"),
        (
            "consecutive_failures: off, success_rate: off, failure_percentage: off",
            "`outlier_detection` has no effect as each of its rules is `off`",
        ),
    ] {
        let errors = config(&format!("outlier_detection: {{{keys}}}")).unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{keys}: {errors}");
    }
}
