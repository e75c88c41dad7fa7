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
