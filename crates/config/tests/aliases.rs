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
fn a_value_that_is_wrong_by_itself_is_told_at_its_anchor() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a}]}]\n\
                clusters:\n\
                - &c {name: a, target: 'dns:///a:1', max_pending: 0, max_pending: 0}\n\
                - *c\n";
    let expected = [
        ("out_of_bounds", "clusters[0].max_pending", (3, 51)),
        ("duplicate_key", "clusters[0].max_pending", (3, 54)),
        ("duplicate_cluster", "clusters[1].name", (4, 3)),
    ];
    assert_eq!(faults(text), expected.map(|(code, path, place)| (code, path.to_owned(), place)));
    let errors = parse("text", text).unwrap_err();
    let related = errors.errors()[2].related.as_ref().map(|place| (place.path.as_str(), place.line));
    assert_eq!(related, Some(("clusters[0].name", 3)), "the other one of the two names");
    assert_eq!(errors.omitted(), 0);
}

#[test]
fn what_many_aliases_repeat_hides_no_other_fault() {
    let mut text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: c0}]}]\nclusters:\n\
                    - {name: c0, target: 'dns:///a:1', dns: &d {min_refresh: 5}}\n"
        .to_owned();
    for number in 1..300 {
        text += &format!("- {{name: c{number}, target: 'dns:///a:1', dns: *d}}\n");
    }
    text += "- {name: last, target: 5}\n";
    let paths: Vec<String> = faults(&text).into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["clusters[0].dns.min_refresh", "clusters[300].target"]);
}

#[test]
fn a_fault_that_is_found_after_many_at_aliases_is_told() {
    let mut text = "listeners:\n\
                    - {address: '127.0.0.1:1', limits: {idle_timeout: 90d, stall_timeout: &s 100h}, routes: [{cluster: c0}]}\n\
                    clusters:\n"
        .to_owned();
    for number in 0..60 {
        text += &format!("- {{name: c{number}, target: 'dns:///a:1', stall_timeout: *s}}\n");
    }
    let errors = parse("text", &text).unwrap_err();
    let paths: Vec<&str> = errors.errors().iter().map(|error| error.place.path.as_str()).collect();
    let limits = ["idle_timeout", "stall_timeout"].map(|key| format!("listeners[0].limits.{key}"));
    assert_eq!((paths, errors.omitted()), (limits.iter().map(String::as_str).collect(), 0));
}

#[test]
fn values_that_are_repeated_within_what_is_repeated_have_their_paths() {
    let text = "admin: {address: '127.0.0.1:2', hosts: &l [&h one, *h]}\n\
                listeners: [{address: '127.0.0.1:1', routes: [{cluster: a, retry: {retry_on: *l}}]}]\n\
                clusters: [{name: a, target: 'dns:///a:1'}]\n";
    let expected = [0, 1]
        .map(|place| ("unknown_name", format!("listeners[0].routes[0].retry.retry_on[{place}]"), (2, 78)));
    assert_eq!(faults(text), expected);
}

#[test]
fn what_is_of_use_at_the_anchor_or_at_an_alias_is_no_fault_at_the_others() {
    let text = |limits: [&str; 2], retries: [&str; 2]| {
        let route = |number: usize| {
            format!("{{match: {{service: s{number}}}, cluster: c{number}{}}}", retries[number])
        };
        format!(
            "listeners:\n\
             - {{address: '127.0.0.1:1', {}routes: &r [{{match: {{metadata: [{{name: x-forwarded-proto, exact: https}}]}}, cluster: c0, rate_limit: {{per_client: {{requests: 1, by: [{{metadata: x}}, source_ip]}}}}}}, {}, {}]}}\n\
             - {{address: 'unix:/run/x', {}routes: *r}}\n\
             clusters:\n\
             - {{name: c0, target: 'dns:///a:1', circuit_breakers: &b {{max_retries: 3}}, retry_throttling: &t {{max_tokens: 9, token_ratio: 0.5}}}}\n\
             - {{name: c1, target: 'dns:///b:1', circuit_breakers: *b, retry_throttling: *t}}\n",
            limits[0],
            route(0),
            route(1),
            limits[1]
        )
    };
    let paths = |text: String| faults(&text).into_iter().map(|(_, path, _)| path).collect::<Vec<_>>();
    let (mesh, retry) = ("limits: mesh, ", ", retry: {}");
    for limits in [[mesh, ""], ["", mesh], [mesh, mesh]] {
        for retries in [[retry, ""], ["", retry], [retry, retry]] {
            assert_eq!(paths(text(limits, retries)), [""; 0], "{limits:?}, {retries:?}");
            // What is of no use is left out, so that what is shown can be used.
            let config = parse("text", &text(limits, retries)).expect("it is right");
            let shown = serde_json::to_string(&config).expect("it is JSON");
            assert_eq!(parse("shown", &shown), Ok(config), "{shown}");
        }
    }
    let all = [
        "listeners[0].routes[0].match.metadata[0].name",
        "clusters[0].circuit_breakers.max_retries",
        "clusters[0].retry_throttling",
        // A key of its own.
        "clusters[1].retry_throttling",
    ];
    assert_eq!(paths(text(["", ""], ["", ""])), all);
}

#[test]
fn a_route_that_is_shared_is_at_fault_only_where_no_listener_has_use_for_it() {
    let text = |first: &str, second: &str, routes: &str| {
        format!(
            "listeners:\n\
             - {{address: '127.0.0.1:1', {first}routes: &r [{routes}]}}\n\
             - {{address: '127.0.0.1:2', {second}routes: *r}}\n\
             clusters: [{{name: a, target: 'dns:///a:1'}}, {{name: b, target: 'dns:///b:1'}}]\n"
        )
    };
    let codes = |text: &str| faults(text).into_iter().map(|(code, path, _)| (code, path)).collect::<Vec<_>>();
    let (edge, mesh) = ("", "limits: mesh, ");
    let proto = |more: &str| format!("match: {{metadata: [{{name: x-forwarded-proto, {more}}}]}}");
    for routes in [
        format!("{{{}, cluster: a}}, {{cluster: b}}", proto("exact: https")),
        // All calls of the edge meet it, which does no harm.
        format!("{{{}, cluster: a}}, {{cluster: b}}", proto("present: false")),
        format!("{{{}, cluster: a}}, {{cluster: b}}", proto("exact: https, invert: true")),
        // Nothing is said of what a route does that takes no calls here.
        format!(
            "{{{}, cluster: a, rate_limit: {{per_client: {{requests: 5, by: [{{metadata: x-real-ip}}]}}}}}}, {{cluster: b}}",
            proto("exact: https")
        ),
    ] {
        for [first, second] in [[edge, mesh], [mesh, edge]] {
            let text = text(first, second, &routes);
            assert_eq!(codes(&text), [], "{text}");
            let config = parse("text", &text).expect("it is right");
            let shown = serde_json::to_string(&config).expect("it is JSON");
            assert_eq!(parse("shown", &shown), Ok(config), "{shown}");
        }
    }
    // Each condition is met only where the other is not.
    let both = "{match: {metadata: [{name: x-forwarded-proto, exact: https}, {name: a_b, exact: c}]}, cluster: a}, {cluster: b}";
    let drops = "limits: mesh, metadata: {names_with_underscore: drop}, ";
    let at = |listener: usize, condition: usize| {
        let path = format!("listeners[{listener}].routes[0].match.metadata[{condition}].name");
        ("unmatchable", path)
    };
    assert_eq!(codes(&text(edge, drops, both)), [at(0, 0), at(1, 1)]);
    // A listener must have some route left.
    let only = format!("{{{}, cluster: a}}", proto("exact: https"));
    assert_eq!(codes(&text(mesh, edge, &only)), [at(1, 0)]);
}

#[test]
fn a_word_that_two_routes_share_makes_neither_of_use() {
    let codes = |first: &str, second: &str| {
        let text = format!(
            "listeners:\n\
             - {{address: '127.0.0.1:1', routes: [{first}, {{cluster: a}}]}}\n\
             - {{address: '127.0.0.1:2', limits: mesh, routes: [{second}, {{cluster: a}}]}}\n\
             clusters: [{{name: a, target: 'dns:///a:1'}}, {{name: b, target: 'dns:///b:1'}}]\n"
        );
        faults(&text).into_iter().map(|(code, ..)| code).collect::<Vec<_>>()
    };
    let split = "split: [{cluster: a, weight: 1}, {cluster: b, weight: 1}], match: {service: s}";
    for (first, second) in [
        (
            "{match: {metadata: [{name: &f x-real-ip, exact: a}]}, cluster: a}".to_owned(),
            "{match: {metadata: [{name: *f, exact: b}]}, cluster: a}".to_owned(),
        ),
        (
            "{match: &m {metadata: [{name: x-real-ip, exact: a}]}, cluster: a}".to_owned(),
            "{match: *m, cluster: a, timeout: 1s}".to_owned(),
        ),
        (format!("{{{split}, sticky_by: &k x-real-ip}}"), format!("{{{split}, sticky_by: *k}}")),
    ] {
        assert_eq!(codes(&first, &second), ["unmatchable"], "{first}, {second}");
    }
}

#[test]
fn circuit_breakers_that_are_shared_with_a_cluster_without_retries_leave_it_what_is_of_use() {
    let text = "listeners: [{address: '127.0.0.1:1', routes: [{cluster: a, retry: {}, mirror: {cluster: b}}]}]\n\
                clusters:\n\
                - {name: a, target: 'dns:///a:1', circuit_breakers: &b {max_pending: off, max_retries: 5, per_endpoint: {max_requests: off}}}\n\
                - {name: b, target: 'dns:///b:1', circuit_breakers: *b}\n";
    let config = parse("text", text).expect("it is right");
    assert_eq!(
        (config.clusters[0].circuit_breakers.is_some(), config.clusters[1].circuit_breakers),
        (true, None)
    );
    let shown = serde_json::to_string(&config).expect("it is JSON");
    assert_eq!(parse("shown", &shown), Ok(config), "{shown}");
}
