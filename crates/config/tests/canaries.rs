//! What the keys of a canary mean, and which of them are refused.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use core::time::Duration;

use evenkeel_balance::Factor;
use evenkeel_balance::canary::{CanaryConfig, Step};
use evenkeel_config::{CanarySettings, Config, ConfigErrors, StateFile, parse};

/// A configuration with two routes that split calls over three clusters, and these keys.
fn config(first: &str, second: &str, top: &str) -> Result<Config, ConfigErrors> {
    let split = "split: [{cluster: a, weight: 90}, {cluster: b, weight: 10}]";
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{match: {{service: x.Y}}, {split}{first}}}, \
         {{{split}{second}}}]}}]\n\
         clusters: [{{name: a, target: 'ipv4:127.0.0.1:2'}}, {{name: b, target: 'ipv4:127.0.0.1:3'}}, \
         {{name: c, target: 'ipv4:127.0.0.1:4'}}]\n{top}\n"
    );
    parse("text", &text)
}

fn canary(keys: &str) -> CanarySettings {
    let written = format!(", canary: {{stable: a, canary: b{keys}}}");
    let mut config = config(&written, "", "").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    *config.listeners[0].routes.remove(0).destination.canary.unwrap()
}

/// The codes of all that is wrong with a canary, with the path of each.
fn faults(keys: &str) -> Vec<(&'static str, String)> {
    let errors = config(&format!(", canary: {{{keys}}}"), "", "").unwrap_err();
    let path = |path: &str| path.trim_start_matches("listeners[0].routes[0].").to_owned();
    errors.errors().iter().map(|error| (error.fault.code(), path(&error.place.path))).collect()
}

#[test]
fn two_clusters_are_enough_and_all_else_is_as_the_judge_has_it() {
    let canary = canary("");
    assert_eq!((canary.stable.name.as_str(), canary.canary.name.as_str()), ("a", "b"));
    assert_eq!((canary.name.as_str(), canary.auto), ("b", false));
    assert_eq!(canary.config, CanaryConfig::default());
}

#[test]
fn every_key_is_taken() {
    let canary = canary(
        ", name: next, auto: true, steps: [{weight: 1, duration: 1s}, {weight: 99}, {weight: 100}], \
         max_error_increase: 0.001, latency_quantile: 0.5, max_latency_increase: 1, min_calls: 1",
    );
    assert_eq!((canary.name.as_str(), canary.auto), ("next", true));
    let step = |weight, seconds| Step { weight, duration: Duration::from_secs(seconds) };
    let thousandths = Factor::from_thousandths;
    let expected = CanaryConfig {
        steps: vec![step(1, 1), step(99, 300), step(100, 300)],
        max_error_increase: thousandths(1),
        latency_quantile: thousandths(500),
        max_latency_increase: thousandths(1_000),
        min_calls: 1,
    };
    assert_eq!(canary.config, expected);
}

#[test]
fn what_contradicts_itself_is_refused_where_it_stands() {
    for (keys, code, path) in [
        ("stable: a, canary: a", "canary_to_itself", "canary.canary"),
        ("stable: a, canary: d", "unknown_cluster", "canary.canary"),
        ("stable: c, canary: b", "not_in_split", "canary.stable"),
        ("stable: a", "missing_key", "canary"),
        ("stable: a, canary: b, name: a/b", "invalid_name", "canary.name"),
        ("stable: a, canary: b, steps: []", "empty_list", "canary.steps"),
        ("stable: a, canary: b, steps: [{weight: 0}]", "out_of_bounds", "canary.steps[0].weight"),
        ("stable: a, canary: b, steps: [{weight: 101}]", "out_of_bounds", "canary.steps[0].weight"),
        (
            "stable: a, canary: b, steps: [{weight: 5, duration: 0s}]",
            "out_of_bounds",
            "canary.steps[0].duration",
        ),
        ("stable: a, canary: b, steps: [{weight: 5}, {weight: 5}]", "not_rising", "canary.steps[1].weight"),
        ("stable: a, canary: b, steps: [{weight: 9}, {weight: 8}]", "not_rising", "canary.steps[1].weight"),
        (
            "stable: a, canary: b, steps: [{weight: 100, duration: 5m}]",
            "no_effect",
            "canary.steps[0].duration",
        ),
        ("stable: a, canary: b, max_error_increase: 1.1", "out_of_bounds", "canary.max_error_increase"),
        ("stable: a, canary: b, latency_quantile: 1", "out_of_bounds", "canary.latency_quantile"),
        ("stable: a, canary: b, max_latency_increase: -1", "out_of_bounds", "canary.max_latency_increase"),
        ("stable: a, canary: b, min_calls: 0", "out_of_bounds", "canary.min_calls"),
    ] {
        assert_eq!(faults(keys), [(code, path.to_owned())], "{keys}");
    }
    let many: Vec<String> = (1..=33).map(|weight| format!("{{weight: {weight}}}")).collect();
    let of = |count: usize| format!("stable: a, canary: b, steps: [{}]", many[..count].join(", "));
    assert_eq!(faults(&of(33)), [("too_many", "canary.steps".to_owned())]);
    assert!(config(&format!(", canary: {{{}}}", of(32)), "", "").is_ok());
}

#[test]
fn a_canary_needs_calls_to_share() {
    let parsed = |stable: u32, canary: u32| {
        let text = format!(
            "listeners:\n  - address: 127.0.0.1:1\n    routes:\n      - split: [{{cluster: a, weight: {stable}}}, {{cluster: b, weight: \
             {canary}}}, {{cluster: c, weight: 1}}]\n        canary: {{stable: a, canary: b}}\n\
             clusters: [{{name: a, target: 'ipv4:127.0.0.1:2'}}, {{name: b, target: 'ipv4:127.0.0.1:3'}}, \
             {{name: c, target: 'ipv4:127.0.0.1:4'}}]\n"
        );
        parse("text", &text)
    };
    for (stable, canary) in [(1, 0), (0, 1)] {
        assert!(parsed(stable, canary).is_ok(), "{stable} and {canary}");
    }
    let errors = parsed(0, 0).unwrap_err();
    let [error] = errors.errors() else { panic!("{}", errors.render(false)) };
    assert_eq!((error.fault.code(), error.place.line), ("nothing_to_share", 5));
    assert_eq!(error.place.path, "listeners[0].routes[0].canary.stable");
    let text = errors.render(false);
    assert!(
        text.contains("`a` and `b` both have weight 0 in this split: the canary has no calls to share"),
        "{text}"
    );
    assert!(
        text.contains("give the stable cluster in `split` the weight that both are to have together"),
        "{text}"
    );
}

#[test]
fn a_canary_needs_a_split_and_a_name_of_its_own() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a, canary: {stable: a, canary: a}}]}]\n\
                clusters: [{name: a, target: 'ipv4:127.0.0.1:2'}]\n";
    assert_eq!(parse("text", text).unwrap_err().errors()[0].fault.code(), "needs");
    let same = ", canary: {stable: a, canary: b}";
    let errors = config(same, same, "").unwrap_err();
    assert_eq!(errors.errors()[0].fault.code(), "duplicate_canary");
    assert_eq!(errors.errors()[0].place.path, "listeners[0].routes[1].canary.canary");
    assert!(config(same, ", canary: {stable: a, canary: b, name: second}", "").is_ok());
}

#[test]
fn the_state_is_kept_beside_the_configuration_in_a_file_or_not_at_all() {
    let state_file = |top: &str| config("", "", top).map(|config| config.state_file);
    assert_eq!(state_file(""), Ok(StateFile::Beside));
    assert_eq!(state_file("state_file: beside"), Ok(StateFile::Beside));
    assert_eq!(state_file("state_file: off"), Ok(StateFile::Off));
    assert_eq!(state_file("state_file: /a/b.json"), Ok(StateFile::At("/a/b.json".into())));
    for wrong in ["state_file: on", "state_file: /a/", "state_file: name"] {
        assert!(state_file(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_shown_can_be_read_and_means_the_same() {
    for (keys, top) in [
        ("", ""),
        (", name: x, auto: true, steps: [{weight: 3, duration: 90s}, {weight: 100}]", "state_file: off"),
        (", max_error_increase: 0.01, max_latency_increase: 0.5, min_calls: 7", "state_file: /a/b.json"),
    ] {
        let config = config(&format!(", canary: {{stable: a, canary: b{keys}}}"), "", top).unwrap();
        let shown = serde_json::to_string(&config).unwrap();
        assert_eq!(parse("shown", &shown), Ok(config), "{shown}");
    }
}

#[test]
fn a_weight_out_of_bounds_says_nothing_about_the_next_one() {
    let of = |steps: &str| faults(&format!("stable: a, canary: b, steps: [{steps}]"));
    let weight = |code, step: usize| (code, format!("canary.steps[{step}].weight"));
    for steps in [
        "{weight: 20}, {weight: 0}, {weight: 30}",
        "{weight: 20}, {weight: 101}, {weight: 30}",
        "{weight: 5}, {weight: 0}, {weight: 8}",
    ] {
        assert_eq!(of(steps), [weight("out_of_bounds", 1)], "{steps}");
    }
    let fallen = [weight("out_of_bounds", 1), weight("not_rising", 2)];
    assert_eq!(of("{weight: 20}, {weight: 0}, {weight: 10}"), fallen, "10 is below 20");
}
