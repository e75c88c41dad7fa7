//! What the keys of outlier detection mean.

use evenkeel_balance::outlier::OutlierConfig;
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
        (
            "consecutive_failures: off, success_rate: off, failure_percentage: off",
            "`outlier_detection` has no effect as each of its rules is `off`",
        ),
    ] {
        let errors = config(&format!("outlier_detection: {{{keys}}}")).unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{keys}: {errors}");
    }
}
