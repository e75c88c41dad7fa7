//! Routes, conditions and keys that no call gets to, for what stands before them or for what its listener does.

use evenkeel_config::parse;

/// What is wrong with a configuration, each with its path and text.
fn faults(text: &str) -> Vec<(&'static str, String, String)> {
    let Err(errors) = parse("text", text) else { return Vec::new() };
    let told = |error: &evenkeel_config::ConfigError| {
        (error.fault.code(), error.place.path.clone(), error.fault.to_string())
    };
    errors.errors().iter().map(told).collect()
}

#[test]
fn a_route_behind_one_with_wider_conditions_is_never_reached() {
    let codes = |first: &str, second: &str| {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:1', routes: [\
             {{match: {first}, cluster: a}}, {{match: {second}, cluster: a}}]}}]\n\
             clusters: [{{name: a, target: 'dns:///a:1'}}]\n"
        );
        faults(&text).into_iter().map(|(code, ..)| code).collect::<Vec<_>>()
    };
    let on = |condition: &str| format!("{{metadata: [{{name: x, {condition}}}]}}");
    for (wider, narrower) in [
        ("present: true", "exact: b"),
        ("present: true", "prefix: b"),
        ("present: true", "regex: b.*"),
        ("prefix: b", "exact: bc"),
        ("prefix: b", "prefix: bc"),
        ("regex: b.*", "regex: b.*"),
        ("exact: b, invert: true", "exact: c"),
        ("exact: b, invert: true", "prefix: c"),
        ("exact: b, invert: true", "present: false"),
        ("prefix: bc, invert: true", "prefix: b, invert: true"),
    ] {
        assert_eq!(codes(&on(wider), &on(narrower)), ["unreachable_route"], "{wider}, {narrower}");
        if wider != narrower {
            assert_eq!(codes(&on(narrower), &on(wider)), [""; 0], "{narrower}, {wider}");
        }
    }
    for (first, second) in [
        ("present: false", "exact: b"),
        ("exact: b, invert: true", "prefix: b"),
        ("exact: b, invert: true", "present: true"),
        ("prefix: b", "regex: b.*"),
        // What an expression takes is compared with nothing but itself.
        ("regex: b.*", "exact: bc"),
    ] {
        assert_eq!(codes(&on(first), &on(second)), [""; 0], "{first}, {second}");
    }
    let elsewhere = "{metadata: [{name: y, exact: b}]}";
    assert_eq!(codes(&on("present: true"), elsewhere), [""; 0]);
    let and_more = "{service: s, metadata: [{name: y, exact: b}, {name: x, exact: c}]}";
    assert_eq!(codes(&on("present: true"), and_more), ["unreachable_route"]);
    for all in ["'.*'", "'.+'", "'/.*'", "'^/.*$'", "'/.+/.+'", "'/[^/]+/[^/]*'", r"'/\S*/\S*'", "'(?s).*'"] {
        assert_eq!(codes(&format!("{{path_regex: {all}}}"), "{service: s}"), ["unreachable_route"], "{all}");
    }
    for some in [
        "'/a.*'",
        "'/.{3,}'",
        "'/[a-z]+/[a-z]+'",
        r"'/[a-z]+\.[a-z]+/.*'",
        "'/[^/]{1,9}/.*'",
        r"'.*\b'",
        r"'/.*\B'",
        r"'/\b.*'",
        "'/.*/^.*'",
        "'$/.*'",
        "'/a?/.*'",
    ] {
        assert_eq!(codes(&format!("{{path_regex: {some}}}"), "{service: s}"), [""; 0], "{some}");
    }
}

#[test]
fn keys_on_metadata_that_no_listener_lets_through_are_refused() {
    let strips = "`metadata.forwarded: strip`, which `edge` has by default, leaves it out";
    let drops = "`metadata.names_with_underscore: drop` leaves it out";
    let rejects = "`metadata.names_with_underscore: reject` refuses the calls that have it";
    for (rules, name, why) in [
        ("", "x-forwarded-for", Some(strips)),
        ("", "X-Real-IP", Some(strips)),
        ("", "x_envoy_a", Some(strips)),
        ("", "x-forwarded", None),
        ("", "user_id", None),
        ("limits: mesh,", "x-forwarded-for", None),
        ("metadata: {forwarded: keep},", "x-real-ip", None),
        ("limits: mesh, metadata: {forwarded: strip},", "x-real-ip", Some(strips)),
        ("metadata: {names_with_underscore: drop},", "user_id", Some(drops)),
        ("metadata: {names_with_underscore: reject},", "user_id", Some(rejects)),
        ("metadata: {names_with_underscore: reject},", "user-id", None),
    ] {
        for (at, kind, route, cluster) in [
            ("listeners[0].routes[0].match.metadata[0].name", "condition", "match", ""),
            ("listeners[0].routes[0].sticky_by", "key of calls", "sticky_by", ""),
            ("listeners[0].routes[0].rate_limit.per_client.by[0].metadata", "key of calls", "rate_limit", ""),
            ("clusters[0].hash_by[0].metadata", "key of calls", "", "hash_by"),
        ] {
            let route = match route {
                "match" => format!("cluster: a, match: {{metadata: [{{name: {name}, present: true}}]}}"),
                "sticky_by" => {
                    format!(
                        "split: [{{cluster: a, weight: 1}}, {{cluster: b, weight: 1}}], sticky_by: {name}"
                    )
                }
                "rate_limit" => {
                    let limit = format!("{{per_client: {{requests: 1, by: [{{metadata: {name}}}]}}}}");
                    format!("cluster: a, rate_limit: {limit}")
                }
                _ => "cluster: a".to_owned(),
            };
            let hashes = format!("policy: maglev, hash_by: [{{metadata: {name}}}]");
            let cluster = if cluster.is_empty() { "" } else { &hashes };
            let text = format!(
                "listeners: [{{address: '127.0.0.1:1', {rules} routes: [{{{route}}}]}}]\n\
                 clusters: [{{name: a, target: 'dns:///a:1', {cluster}}}, {{name: b, target: 'dns:///b:1'}}]\n"
            );
            let told = |why| {
                (
                    "unmatchable",
                    at.to_owned(),
                    format!("`{}` can be no {kind}: {why}", name.to_ascii_lowercase()),
                )
            };
            let expected: Vec<_> = why.map(told).into_iter().collect();
            assert_eq!(faults(&text), expected, "{text}");
        }
    }
}

#[test]
fn a_key_of_a_cluster_counts_as_soon_as_one_listener_lets_its_field_through() {
    let listener =
        |port: u16, rules: &str| format!("{{address: '127.0.0.1:{port}', {rules} routes: [{{cluster: a}}]}}");
    let text = |rules: [&str; 2]| {
        let listeners = [listener(1, rules[0]), listener(2, rules[1])].join(", ");
        let hashes = "policy: ring_hash, hash_by: [{metadata: x-real-ip}]";
        format!("listeners: [{listeners}]\nclusters: [{{name: a, target: 'dns:///a:1', {hashes}}}]\n")
    };
    assert_eq!(faults(&text(["", "limits: mesh,"])), []);
    assert_eq!(faults(&text(["", "limits: {profile: edge},"])).len(), 1);
    // What a listener does is not known where it is at fault.
    let codes: Vec<_> = faults(&text(["", "limits: edgy,"])).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, ["unknown_name"]);
}
