//! Advice that can be followed: what an error says to do is not the next error.

use evenkeel_config::parse;

/// What is wrong with a configuration whose only route and cluster are these: each with its path, text and advice.
fn told(route: &str, cluster: &str) -> Vec<(String, String, String)> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{{route}}}]}}]\n\
         clusters: [{{name: a, {cluster}}}]\n"
    );
    let Err(errors) = parse("text", &text) else { return Vec::new() };
    let told = |error: &evenkeel_config::ConfigError| {
        let help = error.fault.help().unwrap_or_default();
        (error.place.path.clone(), error.fault.to_string(), help)
    };
    errors.errors().iter().map(told).collect()
}

const TARGET: &str = "target: 'dns:///a:1'";

#[test]
fn of_keys_of_which_one_can_stay_each_can_stay() {
    for method in ["method", "method_prefix"] {
        let route = format!("match: {{service_prefix: a, {method}: b}}, cluster: a");
        let fault = format!("`{method}` and `service_prefix` exclude each other");
        let path = format!("listeners[0].routes[0].match.{method}");
        assert_eq!(told(&route, TARGET), [(path, fault, "keep one of them".to_owned())]);
    }
    let both = told("idempotent: true, retry: {}, hedge: {}, cluster: a", TARGET);
    let faults: Vec<&str> = both.iter().map(|(_, fault, _)| fault.as_str()).collect();
    assert_eq!(faults, ["`hedge` and `retry` exclude each other"]);
}

#[test]
fn of_two_routes_that_take_the_same_one_is_to_go_and_a_narrower_one_is_to_come_first() {
    let help = |first: &str, second: &str| {
        let found = told(&format!("{first}cluster: a}}, {{{second}cluster: a"), TARGET);
        let [(path, _, help)] = found.as_slice() else { panic!("{first} {second}: {found:?}") };
        assert_eq!(path, "listeners[0].routes[1]");
        help.clone()
    };
    assert_eq!(help("", ""), "keep one of the two");
    assert_eq!(help("match: {path_regex: '.*'}, ", ""), "keep one of the two");
    assert_eq!(help("", "match: {service: b}, "), "move it before the other one, or remove it");
}

#[test]
fn numbers_that_are_no_text_are_answered_with_what_to_write() {
    for (route, cluster, path, help) in [
        (
            "cluster: a",
            "target: 50051",
            "clusters[0].target",
            "write host and port, such as `dns:///orders:50051`",
        ),
        (
            "cluster: a, fault: {abort: {code: 14, percent: 1}}",
            TARGET,
            "listeners[0].routes[0].fault.abort.code",
            "did you mean `UNAVAILABLE`?",
        ),
        (
            "cluster: a, retry: {retry_on: [8]}",
            TARGET,
            "listeners[0].routes[0].retry.retry_on[0]",
            "did you mean `RESOURCE_EXHAUSTED`?",
        ),
        (
            "cluster: a, retry: {retry_on: [17]}",
            TARGET,
            "listeners[0].routes[0].retry.retry_on[0]",
            "write its name: `UNAVAILABLE`",
        ),
        (
            "cluster: a, timeout: 0",
            TARGET,
            "listeners[0].routes[0].timeout",
            "write a number and a unit, for example `250ms`, `5s` or `1m30s`",
        ),
        (
            "cluster: a, rate_limit: {per_client: {requests: 1, by: []}}",
            TARGET,
            "listeners[0].routes[0].rate_limit.per_client.by",
            "add what tells clients apart, such as `{metadata: x-client-id}`, or remove `per_client`",
        ),
    ] {
        let found = told(route, cluster);
        let [(at, _, advice)] = found.as_slice() else { panic!("{route}, {cluster}: {found:?}") };
        assert_eq!((at.as_str(), advice.as_str()), (path, help), "{route}, {cluster}");
    }
    for number in ["14.0", "0", "17", "-1", "1e9", "99999999999999999999999999999999999999999"] {
        let found = told(&format!("cluster: a, retry: {{retry_on: [{number}]}}"), TARGET);
        assert_eq!(found[0].2, "write its name: `UNAVAILABLE`", "{number}");
    }
    let taken = told("cluster: a, retry: {retry_on: [RESOURCE_EXHAUSTED, UNAVAILABLE]}", TARGET);
    assert_eq!(taken, [], "what the advice says");
    let listener = "listeners: [{address: 50051, routes: [{cluster: a}]}]\nclusters: [{name: a, target: 'dns:///a:1'}]\n";
    let float = parse("text", &listener.replace("50051", "1.5")).unwrap_err();
    assert_eq!(float.errors()[0].fault.help().unwrap(), "write it as `0.0.0.0:50051`");
    let errors = parse("text", listener).unwrap_err();
    let help = errors.errors()[0].fault.help().unwrap();
    assert_eq!(help, "write `0.0.0.0:50051` for all interfaces, `127.0.0.1:50051` for this machine only");
}

#[test]
fn a_call_that_may_not_be_done_twice_may_be_said_so() {
    assert_eq!(told("cluster: a, idempotent: false", TARGET), []);
    let found = told("cluster: a, idempotent: false, hedge: {}", TARGET);
    assert_eq!(found[0].2, "write `idempotent: true` beside it, if a call may be done twice");
    let cookie = "cluster: a, rate_limit: {per_client: {requests: 1, by: [{cookie: {name: c, ttl: 1h}}]}}";
    let found = told(cookie, TARGET);
    assert_eq!(found[0].0, "listeners[0].routes[0].rate_limit.per_client.by[0].cookie.ttl");
    assert_eq!((found.len(), found[0].2.as_str()), (1, "remove it"));
}
