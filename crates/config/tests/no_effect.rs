//! Keys that could never change anything, which are refused.

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

/// A configuration with these listeners, each with a route to `a`, and a cluster with these keys.
fn between(addresses: &[&str], route: &str, cluster: &str) -> String {
    let listener = |address: &&str| format!("{{address: '{address}', routes: [{{cluster: a{route}}}]}}");
    let listeners: Vec<String> = addresses.iter().map(listener).collect();
    format!(
        "listeners: [{}]\nclusters: [{{name: a, target: 'dns:///a:1', {cluster}}}]\n",
        listeners.join(", ")
    )
}

const TCP: [&str; 2] = ["127.0.0.1:1", "[::1]:2"];
const UNIX: [&str; 1] = ["unix:/run/evenkeel"];
const BOTH: [&str; 2] = ["127.0.0.1:1", "unix:/run/evenkeel"];

#[test]
fn what_stands_behind_an_address_that_all_clients_have_never_decides() {
    let behind = "because `source_ip` stands before it, which every call over TCP has, and all come so";
    for (list, dead) in [
        ("[source_ip, {metadata: x}]", vec![1]),
        ("[source_ip, {metadata: x}, {cookie: {name: c}}]", vec![1, 2]),
        ("[{metadata: x}, source_ip]", vec![]),
        ("[source_ip]", vec![]),
    ] {
        let of_route = format!(", rate_limit: {{per_client: {{by: {list}, requests: 1}}}}");
        let expected = |key: &str, path: &str| -> Vec<_> {
            let one = |at: &usize| {
                ("no_effect", format!("{path}[{at}]"), format!("`{key}` has no effect {behind}"))
            };
            dead.iter().map(one).collect()
        };
        let of_cluster = format!("policy: maglev, hash_by: {list}");
        assert_eq!(
            faults(&between(&TCP, "", &of_cluster)),
            expected("hash_by", "clusters[0].hash_by"),
            "{list}"
        );
        assert_eq!(
            faults(&between(&TCP[..1], &of_route, "")),
            expected("by", "listeners[0].routes[0].rate_limit.per_client.by"),
            "{list}"
        );
        // A client on a Unix socket has none, and what comes next decides.
        assert_eq!(faults(&between(&BOTH, "", &of_cluster)), [], "{list}");
    }
}

#[test]
fn clients_without_addresses_cannot_be_told_apart_by_them() {
    let text = "because all calls come over Unix domain sockets, where clients have no address";
    let by = ", rate_limit: {per_client: {by: [{metadata: x}, source_ip], requests: 1}}";
    let path = "listeners[0].routes[0].rate_limit.per_client.by[1]".to_owned();
    assert_eq!(faults(&between(&UNIX, by, "")), [("no_effect", path, format!("`by` has no effect {text}"))]);
    let hash_by = "policy: ring_hash, hash_by: [source_ip, {metadata: x}]";
    let path = "clusters[0].hash_by[0]".to_owned();
    let expected = [("no_effect", path, format!("`hash_by` has no effect {text}"))];
    assert_eq!(faults(&between(&UNIX, "", hash_by)), expected);
}

#[test]
fn of_listeners_that_are_not_known_nothing_is_concluded() {
    let hash_by = "policy: maglev, hash_by: [source_ip, {metadata: x}]";
    let codes = |text: &str| faults(text).into_iter().map(|(code, ..)| code).collect::<Vec<_>>();
    assert_eq!(codes(&between(&["127.0.0.1:1", "unix"], "", hash_by)), ["invalid_address"]);
    let misspelt = between(&BOTH, "", hash_by)
        .replace("evenkeel', routes: [{cluster: a", "evenkeel', routes: [{cluster: b");
    assert_eq!(codes(&misspelt), ["unknown_cluster"]);
    // Copies are hashed as well.
    let copies = between(&BOTH, "", hash_by)
        .replace("evenkeel', routes: [{cluster: a", "evenkeel', routes: [{cluster: b, mirror: {cluster: a}");
    assert_eq!(codes(&copies.replace("clusters: [", "clusters: [{name: b, target: b}, ")), [""; 0]);
}

#[test]
fn an_expression_that_describes_no_path_says_what_a_path_is() {
    let text = with("match: {path_regex: '/shop\\.Orders'}", "");
    let errors = parse("text", &text).unwrap_err().to_string();
    let help = "no path has as many slashes; a path is `/package.Service/Method`; use `path_prefix` for how it begins";
    assert!(errors.ends_with(help), "{errors}");
    // A dot is any character, also a slash: this takes the calls of `/shop/Orders`.
    assert_eq!(faults(&with("match: {path_regex: '/shop.Orders'}", "")), []);
}

/// What is wrong with a route and a cluster with these keys: each fault's code and path.
fn found(route: &str, cluster: &str) -> Vec<(&'static str, String)> {
    faults(&with(route, cluster)).into_iter().map(|(code, path, _)| (code, path)).collect()
}

#[test]
fn retries_are_bounded_only_where_there_are_any() {
    let at = |key: &str| vec![("no_effect", format!("clusters[0].{key}"))];
    let (budget, throttling) =
        ("retry_budget: {percent: 10}", "retry_throttling: {max_tokens: 10, token_ratio: 0.1}");
    assert_eq!(found("", budget), at("retry_budget"));
    assert_eq!(found("timeout: 1s", throttling), at("retry_throttling"));
    for route in ["retry: {}", "hedge: {}, idempotent: true"] {
        assert_eq!(found(route, budget), [], "{route}");
        assert_eq!(found(route, throttling), [], "{route}");
    }
    // What is as it would be without the key does no harm: it is how a running proxy writes it.
    let default = "retry_budget: {percent: 20, min_concurrency: 3, window: 10s}, retry_throttling: off";
    assert_eq!(found("", default), []);
    // One route of several is enough, and a cluster that nothing leads to may be there for later.
    let two = with("retry: {}", budget).replace("routes: [", "routes: [{match: {service: s}, cluster: a}, ");
    assert_eq!(faults(&two), []);
    let later =
        with("", "").replace("clusters: [", &format!("clusters: [{{name: b, target: b, {budget}}}, "));
    assert_eq!(faults(&later), []);
    let copies = later.replace("cluster: a", "cluster: a, retry: {}, mirror: {cluster: b}");
    assert_eq!(faults(&copies).len(), 1, "copies are sent once");
}

#[test]
fn calls_of_which_nothing_is_kept_are_never_tried_again() {
    let top = |per_call: &str, route: &str| {
        let text = format!("replay: {{per_call: {per_call}}}\n{}", with(route, ""));
        faults(&text).into_iter().map(|(code, path, _)| (code, path)).collect::<Vec<_>>()
    };
    let at = |key: &str| vec![("no_effect", format!("listeners[0].routes[0].{key}"))];
    for nothing in ["0", "0B", "0KiB"] {
        assert_eq!(top(nothing, "retry: {}"), at("retry"), "{nothing}");
        assert_eq!(top(nothing, "hedge: {}, idempotent: true"), at("hedge"), "{nothing}");
        assert_eq!(top(nothing, "timeout: 1s"), [], "{nothing}");
    }
    for enough in ["1", "64KiB"] {
        assert_eq!(top(enough, "retry: {}"), [], "{enough}");
    }
    assert_eq!(top("17MiB", "retry: {}"), [("out_of_bounds", "replay.per_call".to_owned())]);
}

#[test]
fn a_budget_of_nothing_leaves_nothing_to_routes_that_have_no_other() {
    let nothing = "retry_budget: {percent: 0, min_concurrency: 0}";
    let at = |key: &str| vec![("no_effect", format!("listeners[0].routes[0].{key}"))];
    assert_eq!(found("retry: {}", nothing), at("retry"));
    assert_eq!(found("hedge: {}, idempotent: true", nothing), at("hedge"));
    for something in [
        "retry_budget: {percent: 1, min_concurrency: 0}",
        "retry_budget: {percent: 0, min_concurrency: 1}",
        "retry_budget: {percent: 0}",
        "retry_budget: {min_concurrency: 0}",
    ] {
        assert_eq!(found("retry: {}", something), [], "{something}");
    }
    // One cluster of a split that allows some is enough; and of one that is not known nothing is concluded.
    let split = |other: &str, name: &str| {
        let route =
            format!("split: [{{cluster: a, weight: 1}}, {{cluster: {name}, weight: 1}}], retry: {{}}");
        let text = with("", nothing).replace("cluster: a, ", &route);
        let text = text.replace("clusters: [", &format!("clusters: [{{name: b, target: b, {other}}}, "));
        faults(&text).into_iter().map(|(code, path, _)| (code, path)).collect::<Vec<_>>()
    };
    assert_eq!(split("", "b"), []);
    assert_eq!(split(nothing, "b"), at("retry"));
    assert_eq!(
        split(nothing, "c"),
        [("unknown_cluster", "listeners[0].routes[0].split[1].cluster".to_owned())]
    );
}

#[test]
fn a_rate_of_each_client_as_high_as_that_of_all_has_an_effect() {
    // A client's bucket is asked first, and also for calls that the bucket of all turns away: however high its rate is, it bounds
    // how much of the others' room one client can take.
    for of_client in ["requests: 10", "requests: 20", "requests: 10, burst: 50"] {
        let route = format!("rate_limit: {{requests: 10, per_client: {{by: [source_ip], {of_client}}}}}");
        assert_eq!(found(&route, ""), [], "{of_client}");
    }
}

#[test]
fn pick_first_has_no_panic_and_no_shares() {
    for key in ["overprovisioning_factor: 2", "panic_threshold: 0", "fail_traffic_on_panic: true"] {
        let name = key.split(':').next().unwrap_or_default();
        let expected = [("no_effect", format!("clusters[0].{name}"))];
        assert_eq!(found("", &format!("policy: pick_first, {key}")), expected, "{key}");
        assert_eq!(found("", &format!("policy: random, {key}")), [], "{key}");
    }
    let defaults = "overprovisioning_factor: 1.4, panic_threshold: 50, fail_traffic_on_panic: false";
    assert_eq!(found("", &format!("policy: pick_first, {defaults}")), []);
}

#[test]
fn no_browser_reaches_an_admin_interface_on_a_unix_socket() {
    let admin = |written: &str| format!("admin: {{{written}}}\n{}", with("", ""));
    let found = faults(&admin("address: 'unix:/run/admin', hosts: [proxy.example]"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1.as_str()), ("no_effect", "admin.hosts"));
    for written in ["address: 'unix:/run/admin', hosts: []", "address: '127.0.0.1:2', hosts: [proxy.example]"]
    {
        assert_eq!(faults(&admin(written)), [], "{written}");
    }
}

#[test]
fn conditions_on_fields_of_http_and_grpc_can_hold_for_some_calls() {
    let condition = |written: &str| found(&format!("match: {{metadata: [{{{written}}}]}}"), "");
    let expected = [("unmatchable", "listeners[0].routes[0].match.metadata[0].name".to_owned())];
    for written in [
        "name: connection, present: true",
        "name: Keep-Alive, exact: '5'",
        "name: upgrade, present: false",
        "name: proxy-connection, prefix: a, invert: true",
        "name: transfer-encoding, regex: chunked",
        "name: content-type, present: true",
        "name: content-type, present: false",
        "name: content-type, exact: application/json",
        "name: te, exact: gzip",
    ] {
        assert_eq!(condition(written), expected, "{written}");
    }
    for written in [
        "name: content-type, exact: application/grpc",
        "name: content-type, exact: application/grpc+json, invert: true",
        "name: content-type, regex: '.*proto'",
        "name: te, present: true",
        "name: te, exact: trailers",
        "name: host, exact: a",
        "name: trailer, present: true",
        "name: grpc-timeout, present: true",
    ] {
        assert_eq!(condition(written), [], "{written}");
    }
    let hash_by = "policy: maglev, hash_by: [{metadata: connection}]";
    assert_eq!(found("", hash_by), [("unmatchable", "clusters[0].hash_by[0].metadata".to_owned())]);
}

#[test]
fn an_address_that_an_earlier_target_lists_is_told() {
    let with = |targets: &str| {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:9', routes: [{{cluster: a}}]}}]\n\
             clusters: [{{name: a, target: [{targets}]}}]\n"
        );
        faults(&text)
    };
    let told = |at: &str, code, told: &str| [(code, format!("clusters[0].target[{at}]"), told.to_owned())];
    let repeated = "the address `10.0.0.1:1` stands in an earlier target, whose place counts";
    let first = "'ipv4:10.0.0.2:1,10.0.0.1:1'";
    for second in
        ["'ipv4:10.0.0.1:1'", "{target: 'ipv4:10.0.0.1:1', weight: 3}", "'ipv6:[::ffff:10.0.0.1]:1'"]
    {
        let found = with(&format!("{first}, {second}"));
        assert_eq!(found, told("1", "repeated_address", repeated), "{second}");
    }
    let same = "`target` has no effect because the same target stands before it, whose place counts";
    assert_eq!(with(&format!("{first}, {first}")), told("1", "no_effect", same));
    for targets in
        ["'ipv4:10.0.0.1:1', 'ipv4:10.0.0.1:2'", "{target: 'ipv4:10.0.0.1:1', weight: 0}, 'ipv4:10.0.0.1:1'"]
    {
        assert_eq!(with(targets), [], "{targets}");
    }
    let twice = "target `ipv4:10.0.0.1:1,10.0.0.2:1,10.0.0.1:1`: 10.0.0.1:1 stands in the list twice";
    assert_eq!(with("'ipv4:10.0.0.1:1,10.0.0.2:1,10.0.0.1:1'"), told("0", "invalid_target", twice));
}

#[test]
fn bounds_of_retries_have_an_effect_only_where_a_route_retries() {
    let reason = "`max_retries` has no effect as no route that leads to the cluster has `retry` or `hedge`";
    let told = |path: &str| ("no_effect", format!("clusters[0].circuit_breakers.{path}"), reason.to_owned());
    let breakers = "circuit_breakers: {max_retries: 5, per_endpoint: {max_retries: 2}}";
    let both = [told("max_retries"), told("per_endpoint.max_retries")];
    assert_eq!(faults(&with("", breakers)), both);
    assert_eq!(faults(&with("retry: {}", breakers)), []);
    assert_eq!(faults(&with("hedge: {}, idempotent: true", breakers)), []);
    assert_eq!(faults(&with("", "circuit_breakers: {max_retries: off}")), []);
}

#[test]
fn a_retry_whose_first_delay_is_longer_than_the_call_may_take_is_none() {
    // It may be a fifth shorter, at random.
    let told = "`initial_backoff`, by default 25ms, is above `timeout`, which is 20ms";
    let expected = ("disordered", "listeners[0].routes[0].retry".to_owned(), told.to_owned());
    assert_eq!(faults(&with("timeout: 20ms, retry: {}", "")), [expected]);
    assert_eq!(faults(&with("timeout: 20ms, retry: {initial_backoff: 10ms}", "")), []);
    assert_eq!(faults(&with("timeout: 21ms, retry: {}", "")), []);
    assert_eq!(faults(&with("timeout: 20ms, retry: {max_backoff: 10ms}", "")).len(), 1, "told once");
}

#[test]
fn nothing_is_spread_over_localities_that_no_endpoint_has() {
    let with = |target: &str, keys: &str| {
        let text = format!(
            "node: {{zone: a}}\nlisteners: [{{address: '127.0.0.1:9', routes: [{{cluster: a}}]}}]\n\
             clusters: [{{name: a, target: {target}, {keys}}}]\n"
        );
        faults(&text)
    };
    for (key, value) in [("zone_aware", "{}"), ("locality_weights", "[{zone: a, weight: 2}]")] {
        let keys = format!("{key}: {value}");
        let expected = ("needs", format!("clusters[0].{key}"), format!("`{key}` needs `locality`"));
        for target in ["'dns:///a:1'", "['ipv4:10.0.0.1:1', {target: 'unix:/a', priority: 1}]"] {
            assert_eq!(with(target, &keys).as_slice(), std::slice::from_ref(&expected), "{target}");
        }
        for target in ["'file:/list'", "['ipv4:10.0.0.1:1', {target: 'unix:/a', locality: {zone: a}}]"] {
            assert_eq!(with(target, &keys), [], "{target}");
        }
    }
    assert_eq!(with("'dns:///a:1'", "zone_aware: off, locality_weights: []"), []);
    let unused = "['dns:///a:1', {target: 'dns:///b:1', weight: 0, locality: {zone: b}}]";
    assert_eq!(with(unused, "zone_aware: {}")[0].0, "needs");
    assert_eq!(with("'dns:///a:1'", "zone_aware: {}, policy: pick_first").len(), 1, "told once");
}
