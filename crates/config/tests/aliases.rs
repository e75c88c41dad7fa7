//! What is wrong with values that YAML's aliases repeat: told at the alias, with the path of the value there.

use evenkeel_config::parse;

/// The faults of a text: each with its path, and line and column.
fn faults(text: &str) -> Vec<(&'static str, String, (usize, usize))> {
    let Err(errors) = parse("text", text) else { return Vec::new() };
    let told = |error: &evenkeel_config::ConfigError| {
        (error.fault.code(), error.place.path.clone(), (error.place.line, error.place.column))
    };
    errors.errors().iter().map(told).collect()
}

#[test]
fn a_value_that_is_wrong_only_where_it_is_repeated_is_told_there() {
    let text = "listeners:\n\
                - address: '127.0.0.1:1'\n  \
                  routes:\n  \
                  - {match: {service: &x shop.Orders}, cluster: a}\n  \
                  - {cluster: *x}\n\
                clusters: [{name: a, target: 'dns:///a:1'}]\n";
    assert_eq!(faults(text), [("unknown_cluster", "listeners[0].routes[1].cluster".to_owned(), (5, 15))]);
}

#[test]
fn a_value_that_is_wrong_by_itself_is_told_at_its_anchor_and_at_each_alias() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a}]}]\n\
                clusters:\n\
                - &c {name: a, target: 'dns:///a:1', max_pending: 0}\n\
                - *c\n";
    let expected = [
        ("out_of_bounds", "clusters[0].max_pending", (3, 51)),
        ("duplicate_cluster", "clusters[1].name", (4, 3)),
        ("out_of_bounds", "clusters[1].max_pending", (4, 3)),
    ];
    assert_eq!(faults(text), expected.map(|(code, path, place)| (code, path.to_owned(), place)));
    let errors = parse("text", text).unwrap_err();
    let related = errors.errors()[1].related.as_ref().map(|place| (place.path.as_str(), place.line));
    assert_eq!(related, Some(("clusters[0].name", 3)), "the other one of the two names");
}

#[test]
fn values_that_are_repeated_within_what_is_repeated_have_their_paths() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a}]}]\n\
                clusters:\n\
                - &c {name: a, target: &t 'ipv4:1', dns: {min_refresh: &d 5, max_refresh: *d}}\n\
                - *c\n\
                - {name: b, target: *t}\n";
    let paths: Vec<String> = faults(text).into_iter().map(|(_, path, _)| path).collect();
    for path in [
        "clusters[0].target",
        "clusters[0].dns.min_refresh",
        "clusters[0].dns.max_refresh",
        "clusters[1].name",
        "clusters[1].target",
        "clusters[1].dns.min_refresh",
        "clusters[2].target",
    ] {
        assert!(paths.iter().any(|told| told == path), "{path} of {paths:?}");
    }
}
