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

/// The faults of a configuration whose target `/list` has this text: each with its path and words, and the related place's path.
fn with_list(cluster: &str, list: &str) -> Vec<(&'static str, String, String, Option<String>)> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a}}]}}]\n\
         clusters: [{{name: a, {cluster}}}]\n"
    );
    let (config, _) = parse_with_lists("text", &text, None, |_| Ok(list.to_owned()));
    let Err(errors) = config else { return Vec::new() };
    let related = |error: &ConfigError| error.related.as_ref().map(|place| place.path.clone());
    let told = |error: &ConfigError| {
        let (code, path) = (error.fault.code(), error.place.path.clone());
        (code, path, error.fault.to_string(), related(error))
    };
    errors.errors().iter().map(told).collect()
}

#[test]
fn a_list_that_leads_calls_back_to_the_proxy_is_refused_where_it_is_named() {
    let looped = |address: &str, path: &str| {
        let told =
            format!("`{address}` is a listener of this proxy that leads to `a` again: calls would go round");
        vec![("loop", format!("clusters[0].{path}"), told, Some("listeners[0].address".to_owned()))]
    };
    let one = "target: 'file:/list'";
    assert_eq!(with_list(one, "['10.0.0.1:1', '127.0.0.1:1']"), looped("127.0.0.1:1", "target"));
    assert_eq!(with_list(one, "['[::ffff:127.0.0.1]:1']"), looped("127.0.0.1:1", "target"));
    assert_eq!(with_list(one, "[{address: '127.0.0.1:1', draining: true}]"), looped("127.0.0.1:1", "target"));
    let two = "target: ['dns:///b:1', {target: 'file:/list', priority: 1}]";
    assert_eq!(with_list(two, "['127.0.0.1:1']"), looped("127.0.0.1:1", "target[1]"));
    for list in
        ["['127.0.0.1:2', 'unix:/run/x']", "[{address: '127.0.0.1:1', weight: 0}, '127.0.0.1:2']", "[]"]
    {
        assert_eq!(with_list(one, list), [], "{list}");
    }
}

#[test]
fn priorities_of_a_target_and_its_list_are_one_of_those_there_are() {
    let cluster = |priority: u8| format!("target: [{{target: 'file:/list', priority: {priority}}}]");
    let list =
        "['127.0.0.1:2', {address: '127.0.0.1:3', priority: 6}, {address: '127.0.0.1:4', priority: 5}]";
    assert_eq!(with_list(&cluster(9), list), []);
    let told = "10, with the 6 of an endpoint in its list, is above 15".to_owned();
    let expected = ("priority_too_low", "clusters[0].target[0].priority".to_owned(), told, None);
    assert_eq!(with_list(&cluster(10), list), [expected]);
    let unused = "target: [{target: 'file:/list', priority: 12, weight: 0}, 'file:/list']";
    assert_eq!(with_list(unused, list), []);
}

#[test]
fn an_endpoint_may_stand_in_a_list_twice_only_with_the_same_settings() {
    let endpoints = |text: &str| {
        evenkeel_config::parse_endpoints("list", text)
            .map(|found| found.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>())
    };
    for same in [
        "['10.0.0.1:1', '10.0.0.1:1', '10.0.0.2:1']",
        "['10.0.0.1:1', {address: '10.0.0.1:1', weight: 1}, '10.0.0.2:1', '10.0.0.2:1']",
        "['10.0.0.1:1', '[::ffff:10.0.0.1]:1', '10.0.0.2:1']",
        // As if it were not listed.
        "[{address: '10.0.0.1:1', weight: 0}, '10.0.0.1:1', '10.0.0.2:1', {address: '10.0.0.2:1', weight: 0}]",
    ] {
        assert_eq!(endpoints(same), Ok(vec!["10.0.0.1:1".to_owned(), "10.0.0.2:1".to_owned()]), "{same}");
    }
    for other in [
        "['10.0.0.1:1', {address: '10.0.0.1:1', weight: 2}]",
        "['10.0.0.1:1', {address: '[::ffff:10.0.0.1]:1', draining: true}]",
    ] {
        let errors = endpoints(other).unwrap_err();
        let error = &errors.errors()[0];
        assert_eq!((error.fault.code(), errors.errors().len()), ("repeated_endpoint", 1), "{other}");
        let related = error.related.as_ref().map(|place| place.path.as_str());
        assert_eq!((error.place.path.as_str(), related), ("[1]", Some("[0]")), "{other}");
    }
}

#[test]
fn what_goes_by_endpoints_is_checked_with_those_of_the_lists() {
    let five = "['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '10.0.0.4:1', '10.0.0.1:1', '10.0.0.5:1']";
    let table = |targets: &str| {
        let cluster =
            format!("target: {targets}, hash_by: [source_ip], policy: {{maglev: {{table_size: 5}}}}");
        with_list(&cluster, five).into_iter().map(|(code, path, ..)| (code, path)).collect::<Vec<_>>()
    };
    let at = ("too_few_entries", "clusters[0].policy.maglev.table_size".to_owned());
    assert_eq!(table("'file:/list'"), []);
    assert_eq!(table("['file:/list', {target: 'ipv4:10.0.0.5:1', priority: 1}]"), [], "one of them");
    assert_eq!(table("['file:/list', {target: 'ipv4:10.0.0.6:1', priority: 1}]"), [at]);
    let weights = |list: &str| {
        let cluster =
            "target: 'file:/list', locality_weights: [{zone: a, weight: 0}, {zone: b, weight: 0}, {zone: c}]";
        with_list(cluster, list).into_iter().map(|(code, path, ..)| (code, path)).collect::<Vec<_>>()
    };
    let one = |zone: &str| format!("{{address: '10.0.0.1:1', locality: {{zone: {zone}}}}}");
    let other = |zone: &str| format!("{{address: '10.0.0.2:1', locality: {{zone: {zone}}}}}");
    let at = ("all_weights_zero", "clusters[0].locality_weights".to_owned());
    assert_eq!(weights(&format!("[{}, {}]", one("a"), other("b"))), [at]);
    for list in
        [format!("[{}, {}]", one("a"), other("c")), format!("[{}, '10.0.0.2:1']", one("a")), "[]".to_owned()]
    {
        assert_eq!(weights(&list), [], "{list}");
    }
}
