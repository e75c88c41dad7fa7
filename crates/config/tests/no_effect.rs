//! Keys that could never change anything, which are refused.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use evenkeel_config::parse;

/// What is wrong with a configuration, each with its path and text.
fn faults(text: &str) -> Vec<(&'static str, String, String)> {
    let Err(errors) = parse("text", text) else { return Vec::new() };
    let told = |error: &evenkeel_config::ConfigError| {
        (error.fault.code(), error.place.path.clone(), error.fault.to_string())
    };
    errors.errors().iter().map(told).collect()
}

/// A configuration whose only route and cluster have these keys besides what they need.
fn with(route: &str, cluster: &str) -> String {
    format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a, {route}}}]}}]\n\
         clusters: [{{name: a, target: 'dns:///a:1', {cluster}}}]\n"
    )
}

#[test]
fn a_bound_that_is_over_with_the_timeout_is_none() {
    for (route, key, told) in [
        (
            "timeout: 1m, max_stream_duration: 61s",
            "max_stream_duration",
            "1m1s is above `timeout`, which is 1m",
        ),
        (
            "timeout: 60s, stream_idle_timeout: 1m",
            "stream_idle_timeout",
            "1m is as long as `timeout`, which is 1m",
        ),
        (
            "timeout: 1m, stream_idle_timeout: 61s",
            "stream_idle_timeout",
            "1m1s is above `timeout`, which is 1m",
        ),
    ] {
        let expected = ("disordered", format!("listeners[0].routes[0].{key}"), told.to_owned());
        assert_eq!(faults(&with(route, "")), [expected], "{route}");
    }
    for route in [
        "timeout: 1m, max_stream_duration: 59s, stream_idle_timeout: 59s",
        // It ends streams up to a tenth earlier, at random.
        "timeout: 1m, max_stream_duration: 1m",
        "max_stream_duration: 1m, stream_idle_timeout: 1m",
    ] {
        assert_eq!(faults(&with(route, "")), [], "{route}");
    }
}
