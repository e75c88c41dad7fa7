//! What the keys of active health checks mean.

use core::time::Duration;

use evenkeel_balance::Factor;
use evenkeel_balance::health_check::{HealthCheckConfig, Probe};
use evenkeel_config::{Config, ConfigErrors, parse};

/// A configuration whose only cluster has these keys besides its name and target.
fn config(keys: &str) -> Result<Config, ConfigErrors> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a}}]}}]\n\
         clusters: [{{name: a, target: 'ipv4:127.0.0.1:2', {keys}}}]\n"
    );
    parse("text", &text)
}

fn checks(keys: &str) -> Option<HealthCheckConfig> {
    config(keys).unwrap_or_else(|errors| panic!("{}", errors.render(false))).clusters[0].health_check.clone()
}

#[test]
fn an_empty_mapping_is_on_with_the_defaults_of_the_checks_and_nothing_is_off() {
    assert_eq!(checks(""), None);
    assert_eq!(checks("health_check: off"), None);
    assert_eq!(checks("health_check: {}"), Some(HealthCheckConfig::default()));
}

#[test]
fn each_key_reaches_the_checks() {
    let keys = "health_check: {kind: grpc_watch, service: orders.Orders, interval: 3s, timeout: 500ms, jitter: 0.5, \
                unhealthy_threshold: 4}";
    let expected = HealthCheckConfig {
        probe: Probe::Watch { service: "orders.Orders".to_owned() },
        interval: Duration::from_secs(3),
        timeout: Duration::from_millis(500),
        jitter: Factor::from_thousandths(500),
        unhealthy_threshold: 4,
        healthy_threshold: 1,
    };
    assert_eq!(checks(keys), Some(expected));
    let tcp = checks("health_check: {kind: tcp, healthy_threshold: 3}").unwrap();
    assert_eq!((tcp.probe, tcp.healthy_threshold), (Probe::Tcp, 3));
}

#[test]
fn a_timeout_that_is_not_written_fits_into_the_interval() {
    let timeout = |keys: &str| checks(&format!("health_check: {{{keys}}}")).unwrap().timeout;
    assert_eq!(timeout("interval: 999ms"), Duration::from_millis(999));
    assert_eq!(timeout("interval: 1s"), Duration::from_secs(1));
    assert_eq!(timeout("interval: 1001ms"), Duration::from_secs(1));
    assert_eq!(timeout("interval: 2s, timeout: 2s"), Duration::from_secs(2));
}

#[test]
fn what_is_printed_can_be_read_and_means_the_same() {
    for keys in
        ["service: a", "kind: grpc_watch, interval: 10ms", "kind: tcp, jitter: 0, healthy_threshold: 2"]
    {
        let written = config(&format!("health_check: {{{keys}}}")).unwrap();
        let printed = serde_json::to_string(&written).unwrap();
        assert_eq!(parse("printed", &printed).unwrap(), written);
    }
}

#[test]
fn contradictions_values_out_of_bounds_and_unknown_words_are_named() {
    let long = format!("service: {}", "s".repeat(257));
    for (keys, at, expected) in [
        ("kind: grcp", "grcp", "did you mean `grpc`"),
        ("kind: tcp, service: a", "service", "`service` has no effect"),
        ("kind: grpc_watch, healthy_threshold: 2", "healthy_threshold", "`healthy_threshold` has no effect"),
        ("interval: 1s, timeout: 1001ms", "1001ms", "above `interval`"),
        ("interval: 9ms", "9ms", "at least 10ms"),
        ("timeout: 61s, interval: 2m", "61s", "at most 1m"),
        ("jitter: 1.01", "1.01", "at most 1"),
        ("unhealthy_threshold: 0", "0", "at least 1"),
        ("healthy_threshold: 101", "101", "at most 100"),
        ("healthy_treshold: 2", "healthy_treshold", "healthy_threshold"),
        (&long, "sss", "longer than 256 bytes"),
    ] {
        let errors = config(&format!("health_check: {{{keys}}}")).unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{keys}: {errors}");
        // The keys begin at column 65 of the second line.
        let column = 65 + keys.find(at).unwrap();
        assert!(errors.contains(&format!("text:2:{column}")), "{keys}: {errors}");
    }
}
