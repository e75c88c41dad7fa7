//! Configurations that are checked along with the endpoint lists that they name.

use std::path::{Path, PathBuf};

use evenkeel_config::{ConfigError, ConfigErrors, Zone, parse_with_lists};

/// What a check found: each fault of the configuration with its path, each list at fault with its first fault, and the lists that
/// were asked for.
struct Found {
    config: Vec<(&'static str, String)>,
    lists: Vec<(String, &'static str)>,
    asked: Vec<PathBuf>,
}

/// Checks a configuration whose cluster has these targets, where the list `/gone` cannot be read and each other one is `list`.
fn check(targets: &str, list: &str) -> Found {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a}}, {{cluster: b}}]}}]\n\
         clusters: [{{name: a, target: [{targets}]}}]\n"
    );
    let mut asked = Vec::new();
    let (config, lists) = parse_with_lists("text", &text, None, |path: &Path| {
        asked.push(path.to_owned());
        if path == Path::new("/gone") {
            Err("no such file; write it".to_owned())
        } else {
            Ok(list.to_owned())
        }
    });
    let errors = config.expect_err("it is wrong by itself");
    let told = |error: &ConfigError| (error.fault.code(), error.place.path.clone());
    let first = |errors: &ConfigErrors| (errors.source_name().to_owned(), errors.errors()[0].fault.code());
    Found {
        config: errors.errors().iter().map(told).collect(),
        lists: lists.iter().map(first).collect(),
        asked,
    }
}

/// What the configuration has wrong by itself, at all times.
fn own() -> (&'static str, String) {
    ("unknown_cluster", "listeners[0].routes[1].cluster".to_owned())
}

#[test]
fn lists_are_checked_also_where_the_configuration_is_at_fault() {
    let unreachable = ("unreachable_route", "listeners[0].routes[1]".to_owned());
    let Found { config, lists, asked } = check("'file:/one', 'ipv4:10.0.0.1:1', 'dns:///b:1'", "[nowhere]");
    assert_eq!(config, [unreachable.clone(), own()]);
    assert_eq!(lists, [("/one".to_owned(), "invalid_endpoint")]);
    assert_eq!(asked, [PathBuf::from("/one")]);
    let Found { config, lists, .. } = check("'file:/one', 'file:/gone'", "[]");
    assert_eq!(config, [unreachable, own(), ("unreadable_list", "clusters[0].target[1]".to_owned())]);
    assert_eq!(lists, []);
}

#[test]
fn a_list_is_read_once_and_only_if_a_proxy_would_read_it() {
    let targets = "{target: 'file:/one', priority: 1}, 'file:/two', {target: 'file:/gone', weight: 0}";
    let Found { config, lists, asked } = check(targets, "[{address: '10.0.0.1:1', weight: 0}]");
    assert_eq!(config.len(), 2, "{config:?}");
    assert_eq!(lists, ["/one", "/two"].map(|name| (name.to_owned(), "all_weights_zero")));
    assert_eq!(asked, ["/one", "/two"].map(PathBuf::from));
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a}]}]
clusters: [{name: a, target: 'file:/one'}, {name: b, target: ['file:/one', 'file:/gone']}, {name: c, target: 'file:/gone'}]
";
    let mut asked = 0;
    let (config, lists) = parse_with_lists("text", text, None, |path| {
        asked += 1;
        if path == Path::new("/gone") { Err("no such file".to_owned()) } else { Ok("[1]".to_owned()) }
    });
    assert_eq!((asked, lists.len()), (2, 1));
    let errors = config.unwrap_err();
    let places: Vec<_> = errors.errors().iter().map(|error| error.place.path.as_str()).collect();
    assert_eq!(places, ["clusters[1].target[1]", "clusters[2].target"], "each target is told");
}

#[test]
fn a_sound_configuration_with_sound_lists_is_the_one_that_is_parsed() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a}]}]
clusters: [{name: a, zone_aware: {}, target: 'file:/one'}]
";
    let zone: Zone = "eu/a".parse().unwrap();
    let (config, lists) = parse_with_lists("text", text, Some(&zone), |_| Ok("[]".to_owned()));
    assert_eq!(config, evenkeel_config::parse_in_zone("text", text, Some(&zone)));
    assert!(config.is_ok() && lists.is_empty());
}
