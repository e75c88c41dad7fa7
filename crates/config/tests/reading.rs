//! What a configuration means, and that no text can do harm.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use core::time::Duration;

use evenkeel_balance::{Address, Choice, EndpointSpec, LeastRequestConfig, MAX_ENDPOINTS, Policy};
use evenkeel_config::{
    AccessLog, BinaryValues, Config, Fault, Flags, Forwarded, ListenAddress, MemoryLimit, MetadataMatch,
    MetadataRules, NamesWithUnderscore, PathMatch, Profile, Replay, RouteMatch, Target, ValueMatch, bounds,
    parse, parse_endpoints,
};
use proptest::prelude::*;

const GOOD: &str = "listeners: [{address: '0.0.0.0:50051', routes: [{cluster: orders}]}]
clusters: [{name: orders, target: 'dns:///orders:50051'}]
";

fn good() -> Config {
    parse("good", GOOD).unwrap()
}

/// A configuration with these routes and two clusters, `orders` and `catalog`.
fn with_routes(routes: &str) -> String {
    let clusters = "[{name: orders, target: a}, {name: catalog, target: b}]";
    format!("listeners: [{{address: '0.0.0.0:1', routes: [{routes}]}}]\nclusters: {clusters}\n")
}

/// The codes of all that is wrong, with the path of each.
fn faults(text: &str) -> Vec<(&'static str, String)> {
    let errors = parse("text", text).unwrap_err();
    errors.errors().iter().map(|error| (error.fault.code(), error.place.path.clone())).collect()
}

#[test]
fn defaults_are_filled_in() {
    let config = good();
    let cluster = &config.clusters[0];
    assert_eq!(cluster.targets.to_string(), "dns:///orders:50051");
    assert_eq!(cluster.balancing.policy, Policy::default());
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.backoff.min_connect_timeout, cluster.connect_timeout);
    assert_eq!(cluster.backoff.base, Duration::from_secs(1));
    assert_eq!(cluster.dns.unwrap().max_refresh, Duration::from_secs(30));
    assert_eq!(config.admin.unwrap().address.to_string(), "127.0.0.1:9901");
    assert_eq!((config.workers, config.access_log), (None, None));
    assert_eq!(config.drain.grace, Duration::from_secs(30));
    let listener = &config.listeners[0];
    assert_eq!(listener.limits.profile, Profile::Edge);
    assert_eq!(listener.limits.idle_timeout, Some(Duration::from_secs(3600)));
    let route = &listener.routes[0];
    assert_eq!(route.destination.only().map(|cluster| cluster.position), Some(0));
    assert_eq!(route.timeout, None);
    assert!(route.conditions.is_any());
}

#[test]
fn a_profile_decides_what_is_not_given() {
    let limits = |written: &str| {
        let text = GOOD.replace("routes:", &format!("limits: {written}, routes:"));
        parse("limits", &text).unwrap().listeners[0].limits
    };
    assert_eq!(limits("mesh").max_concurrent_streams, 1024);
    assert_eq!(limits("mesh").idle_timeout, None);
    assert_eq!(limits("{profile: mesh, idle_timeout: 5m}").idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(limits("{idle_timeout: off}").idle_timeout, None);
    assert_eq!(limits("{max_concurrent_streams: 7}").max_concurrent_streams, 7);
    assert_eq!(limits("{max_concurrent_streams: 7}").profile, Profile::Edge);
}

#[test]
fn a_field_that_no_header_list_has_room_for_is_no_bound() {
    let limits = |written: &str| GOOD.replace("routes:", &format!("limits: {{{written}}}, routes:"));
    let path = || "listeners[0].limits.max_header_field_size".to_owned();
    assert_eq!(faults(&limits("max_header_field_size: 16385")), [("disordered", path())]);
    let both = "max_header_list_size: 64KiB, max_header_field_size: 64KiB";
    for written in ["max_header_field_size: 16KiB", both, "max_header_list_size: 4KiB"] {
        parse("text", &limits(written)).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    }
}

#[test]
fn the_spread_of_a_drain_is_a_quarter_of_a_short_grace() {
    let drain = |written: &str| parse("drain", &format!("{GOOD}drain: {written}\n")).unwrap().drain;
    assert_eq!(drain("{grace: 4s}").spread, Duration::from_secs(1));
    assert_eq!(drain("{grace: 20s}").spread, Duration::from_secs(5));
    assert_eq!(drain("{grace: 1h}").spread, Duration::from_secs(5));
    assert_eq!(drain("{grace: 4s, spread: 4s}").spread, Duration::from_secs(4));
    assert_eq!(
        faults(&format!("{GOOD}drain: {{grace: 4s, spread: 5s}}")),
        [("disordered", "drain.spread".into())]
    );
}

#[test]
fn conditions_become_a_match() {
    let matched = |written: &str| {
        let text = with_routes(&format!("{{match: {written}, cluster: orders}}"));
        parse("match", &text).unwrap().listeners[0].routes[0].conditions.clone()
    };
    let path = |written: &str| matched(written).path;
    let (service, prefix) = ("a.B".to_owned(), "Ge".to_owned());
    assert_eq!(path("{}"), PathMatch::Any);
    assert_eq!(path("{service: a.B}"), PathMatch::Service(service.clone()));
    assert_eq!(path("{service_prefix: a.}"), PathMatch::ServicePrefix("a.".into()));
    let method = PathMatch::Method { service: service.clone(), method: "Get".into() };
    assert_eq!(path("{service: a.B, method: Get}"), method);
    let methods = PathMatch::MethodPrefix { service: service.clone(), prefix };
    assert_eq!(path("{service: a.B, method_prefix: Ge}"), methods);
    assert_eq!(path("{path_prefix: /}"), PathMatch::Any);
    assert_eq!(path("{path_prefix: /a.}"), PathMatch::ServicePrefix("a.".into()));
    assert_eq!(path("{path_prefix: /a.B/}"), PathMatch::Service(service));
    assert_eq!(path("{path_prefix: /a.B/Ge}"), methods);
    assert_eq!(
        matched("{authority: [Shop.Example, 'b:1', '[::1]:5']}"),
        RouteMatch {
            authorities: vec!["shop.example".into(), "b:1".into(), "[::1]:5".into()],
            path: PathMatch::Any,
            metadata: Vec::new()
        }
    );
}

#[test]
fn conditions_that_no_call_can_meet_are_refused() {
    let refused = [
        "{authority: ''}",
        "{authority: '*.example'}",
        "{authority: 'http://a'}",
        "{authority: 'a b'}",
        "{authority: 'a:0'}",
        "{authority: 'a:+1'}",
        "{authority: ':1'}",
        "{authority: '::1'}",
        "{authority: 'a:1:2'}",
        "{service: ''}",
        "{service: /a.B}",
        "{service: a.B/Get}",
        "{service: a%2fB}",
        "{service: ..}",
        "{service: a.B, method: 'G t'}",
        "{path_prefix: a.}",
        "{path_prefix: /a/b/c}",
        "{path_prefix: //}",
        "{path_prefix: '/a?b'}",
        "{path_regex: 'ecommerce\\..*'}",
        "{path_regex: ''}",
        "{path_regex: '/shop\\.Orders'}",
        "{path_regex: '/[a-z]+\\.Orders'}",
        "{path_regex: '/a/b/c|/shop'}",
        "{metadata: [{name: '', present: true}]}",
        "{metadata: [{name: ':path', present: true}]}",
        "{metadata: [{name: 'x y', present: true}]}",
        "{metadata: [{name: trace-bin, present: true}]}",
        "{metadata: [{name: x, exact: 'a '}]}",
        "{metadata: [{name: x, prefix: 'ä'}]}",
    ];
    for written in refused {
        let found = faults(&with_routes(&format!("{{match: {written}, cluster: orders}}")));
        assert_eq!(found.len(), 1, "{written}: {found:?}");
        assert_eq!(found[0].0, "unmatchable", "{written}");
    }
}

#[test]
fn conditions_on_metadata_are_read() {
    let matched = |written: &str| {
        let text = with_routes(&format!("{{match: {{metadata: [{written}]}}, cluster: orders}}"));
        parse("metadata", &text).unwrap().listeners[0].routes[0].conditions.metadata[0].clone()
    };
    let condition = |value, invert| MetadataMatch { name: "x-user".into(), value, invert };
    let exact = condition(ValueMatch::Exact("anna".into()), false);
    assert_eq!(matched("{name: X-User, exact: anna}"), exact);
    assert_eq!(matched("{name: x-user, exact: anna, invert: false}"), exact);
    let prefix = condition(ValueMatch::Prefix("an".into()), true);
    assert_eq!(matched("{name: x-user, prefix: an, invert: true}"), prefix);
    assert_eq!(matched("{name: x-user, present: true}"), condition(ValueMatch::Present, false));
    assert_eq!(matched("{name: x-user, present: false}"), condition(ValueMatch::Present, true));
    assert_eq!(
        matched("{name: x-user, present: false, invert: true}"),
        condition(ValueMatch::Present, false)
    );
    let regex = condition(ValueMatch::Regex("a|b".into()), false);
    assert_eq!(matched("{name: x-user, regex: a|b}"), regex);
}

#[test]
fn impossible_conditions_and_splits_are_refused_with_their_reason() {
    let route = |written: &str| faults(&with_routes(&format!("{{{written}}}")));
    let at = |path: &str| format!("listeners[0].routes[0]{path}");
    let refused = [
        ("match: {metadata: [{name: x}]}, cluster: orders", "missing_key", ".match.metadata[0]"),
        ("match: {metadata: []}, cluster: orders", "empty_list", ".match.metadata"),
        (
            "match: {metadata: [{name: x, exact: a, prefix: a}]}, cluster: orders",
            "exclusive",
            ".match.metadata[0].prefix",
        ),
        (
            "match: {metadata: [{name: x, regex: '('}]}, cluster: orders",
            "invalid_regex",
            ".match.metadata[0].regex",
        ),
        (
            "match: {path_regex: '((a{100}){100}){100}'}, cluster: orders",
            "invalid_regex",
            ".match.path_regex",
        ),
        (
            "match: {metadata: [{name: x, exact: a}, {name: X, exact: a}]}, cluster: orders",
            "no_effect",
            ".match.metadata[1]",
        ),
        ("match: {authority: [a, A]}, cluster: orders", "no_effect", ".match.authority[1]"),
        ("match: {authority: [b, a, 'a:1']}, cluster: orders", "no_effect", ".match.authority[2]"),
        ("match: {path_regex: a, service: a.B}, cluster: orders", "exclusive", ".match.path_regex"),
        ("timeout: 1s", "missing_key", ""),
        ("cluster: orders, split: [{cluster: catalog, weight: 1}]", "exclusive", ".split"),
        ("split: []", "empty_list", ".split"),
        ("split: [{cluster: orders, weight: 0}]", "all_weights_zero", ".split"),
        ("split: [{cluster: orders, weight: 1000001}]", "out_of_bounds", ".split[0].weight"),
        ("split: [{cluster: ordrs, weight: 1}]", "unknown_cluster", ".split[0].cluster"),
        (
            "split: [{cluster: orders, weight: 1}, {cluster: orders, weight: 2}]",
            "duplicate_share",
            ".split[1].cluster",
        ),
        ("cluster: orders, sticky_by: x-user", "needs", ".sticky_by"),
        (
            "split: [{cluster: orders, weight: 1}, {cluster: catalog, weight: 1}], sticky_by: 'x y'",
            "unmatchable",
            ".sticky_by",
        ),
        ("split: [{cluster: orders, weight: 1}], sticky_by: x-user", "no_effect", ".sticky_by"),
    ];
    for (written, code, path) in refused {
        assert_eq!(route(written), [(code, at(path))], "{written}");
    }
}

#[test]
fn conditions_on_a_field_that_no_call_meets_together_are_refused_with_both_places() {
    let conditions =
        |written: &str| with_routes(&format!("{{match: {{metadata: [{written}]}}, cluster: orders}}"));
    for (first, second) in [
        ("{name: x, present: true}", "{name: x, present: false}"),
        ("{name: x, present: true}", "{name: X, present: true, invert: true}"),
        ("{name: x, exact: a}", "{name: x, exact: b}"),
        ("{name: x, exact: a}", "{name: x, exact: a, invert: true}"),
        ("{name: x, exact: ab}", "{name: x, prefix: b}"),
        ("{name: x, exact: ab}", "{name: x, regex: '[a-c]'}"),
        ("{name: x, prefix: ab}", "{name: x, prefix: ac}"),
        ("{name: x, prefix: ab}", "{name: x, prefix: a, invert: true}"),
        ("{name: x, regex: a+}", "{name: x, regex: a+, invert: true}"),
        ("{name: x, present: false}", "{name: x, regex: a*}"),
    ] {
        for written in [format!("{first}, {second}"), format!("{second}, {{name: y, exact: a}}, {first}")] {
            let errors = parse("text", &conditions(&written)).unwrap_err();
            let [error] = errors.errors() else { panic!("{written}: {errors}") };
            assert_eq!(error.fault, Fault::Contradiction { name: "x".into() }, "{written}");
            let place = "listeners[0].routes[0].match.metadata";
            let last = written.matches("name").count() - 1;
            assert_eq!(error.place.path, format!("{place}[{last}]"), "{written}");
            assert_eq!(
                error.related.as_ref().map(|place| &*place.path),
                Some(&*format!("{place}[0]")),
                "{written}"
            );
        }
    }
    for written in [
        "{name: x, present: true}, {name: y, present: false}",
        "{name: x, present: true}, {name: x, exact: a, invert: true}",
        "{name: x, exact: a, invert: true}, {name: x, exact: b, invert: true}",
        "{name: x, present: false}, {name: x, exact: a, invert: true}",
        "{name: x, prefix: a}, {name: x, prefix: ab, invert: true}",
        "{name: x, prefix: a}, {name: x, prefix: ab}, {name: x, regex: '.*c'}",
    ] {
        parse("text", &conditions(written)).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    }
}

#[test]
fn a_split_is_read_and_shown_as_it_is_written() {
    let text = with_routes(
        "{split: [{cluster: orders, weight: 90}, {cluster: catalog, weight: 10}], sticky_by: x-user}",
    );
    let config = parse("split", &text).unwrap();
    let destination = &config.listeners[0].routes[0].destination;
    let weights: Vec<(&str, u32)> =
        destination.shares.iter().map(|share| (share.cluster.name.as_str(), share.weight)).collect();
    assert_eq!(weights, [("orders", 90), ("catalog", 10)]);
    assert_eq!(destination.sticky_by.as_deref(), Some("x-user"));
    assert_eq!(destination.only(), None);
    let shown = serde_json::to_string(&config).unwrap();
    assert_eq!(parse("shown", &shown).unwrap(), config);
}

#[test]
fn a_route_behind_one_that_takes_all_its_calls_is_refused() {
    let unreachable = |first: &str, second: &str| {
        let text = with_routes(&format!("{{{first}cluster: orders}}, {{{second}cluster: catalog}}"));
        parse("routes", &text)
            .is_err_and(|errors| matches!(errors.errors()[0].fault, Fault::UnreachableRoute { .. }))
    };
    assert!(unreachable("", ""));
    assert!(unreachable("", "match: {service: a.B}, "));
    assert!(unreachable("match: {service: a.B}, ", "match: {service: a.B, authority: x}, "));
    assert!(!unreachable("match: {service: a.B, authority: x}, ", "match: {service: a.B}, "));
    assert!(!unreachable("match: {service: a.B}, ", ""));
    let by_user = "match: {metadata: [{name: x, exact: a}]}, ";
    assert!(unreachable(by_user, by_user));
    assert!(unreachable(
        by_user,
        "match: {service: a.B, metadata: [{name: y, present: true}, {name: x, exact: a}]}, "
    ));
    assert!(!unreachable(by_user, ""));
    assert!(!unreachable(by_user, "match: {metadata: [{name: x, exact: b}]}, "));
    assert!(unreachable("match: {path_regex: /a/a}, ", "match: {path_regex: /a/a}, "));
    assert!(!unreachable("match: {path_regex: /a/a}, ", "match: {path_regex: /b/b}, "));
}

#[test]
fn a_misspelt_condition_does_not_make_later_routes_unreachable() {
    let text = with_routes("{match: {servce: a}, cluster: orders}, {cluster: catalog}");
    assert_eq!(faults(&text), [("unknown_key", "listeners[0].routes[0].match.servce".into())]);
    let text = with_routes("{macth: {service: a}, cluster: orders}, {cluster: catalog}");
    assert_eq!(faults(&text), [("unknown_key", "listeners[0].routes[0].macth".into())]);
}

#[test]
fn a_cluster_without_a_readable_name_does_not_make_routes_wrong() {
    let listeners = "listeners: [{address: '0.0.0.0:1', routes: [{cluster: orders}]}]\n";
    let found = faults(&format!("{listeners}clusters: [{{nmae: orders, target: a}}]\n"));
    assert_eq!(found, [("unknown_key", "clusters[0].nmae".into())], "and not that `name` is missing");
    assert_eq!(faults(&format!("{listeners}clusters: [orders]\n")), [("wrong_type", "clusters[0]".into())]);
    assert_eq!(faults(listeners), [("missing_key", String::new())]);
}

#[test]
fn all_repeated_keys_are_reported() {
    let text = "clusters: [{name: a, name: b, target: x, target: y}]\nclusters: []\n".to_owned() + GOOD;
    let codes: Vec<_> = faults(&text).into_iter().filter(|(code, _)| *code == "duplicate_key").collect();
    let paths: Vec<&str> = codes.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths, ["clusters[0].name", "clusters[0].target", "clusters", "clusters"]);
}

#[test]
fn the_profile_decides_which_metadata_passes_unless_it_is_given() {
    let rules = |written: &str| {
        let text = GOOD.replace("routes:", &format!("{written}, routes:"));
        parse("metadata", &text).unwrap().listeners[0].metadata
    };
    let edge = MetadataRules {
        forwarded: Forwarded::Strip,
        names_with_underscore: NamesWithUnderscore::Allow,
        binary_values: BinaryValues::Check,
    };
    let mesh = MetadataRules { forwarded: Forwarded::Keep, binary_values: BinaryValues::Pass, ..edge };
    assert_eq!(good().listeners[0].metadata, edge);
    assert_eq!(rules("metadata: {}"), edge);
    assert_eq!(rules("limits: mesh"), mesh);
    assert_eq!(rules("limits: mesh, metadata: {forwarded: strip, binary_values: check}"), edge);
    let reject = MetadataRules { names_with_underscore: NamesWithUnderscore::Reject, ..mesh };
    assert_eq!(rules("metadata: {names_with_underscore: reject}, limits: {profile: mesh}"), reject);
    let wrong = GOOD.replace("routes:", "metadata: {forwarded: stripp, names_with_underscore: no}, routes:");
    let (first, second) = ("listeners[0].metadata.forwarded", "listeners[0].metadata.names_with_underscore");
    assert_eq!(faults(&wrong), [first, second].map(|path| ("unknown_name", path.to_owned())));
}

#[test]
fn the_memory_limit_is_a_share_or_a_size_within_bounds() {
    let top = |written: &str| format!("{GOOD}overload: {{memory: {written}}}\n");
    let memory = |written: &str| parse("top", &top(written)).unwrap().overload.memory;
    assert_eq!(good().overload.memory, MemoryLimit::Percent(50));
    assert_eq!(memory("1%"), MemoryLimit::Percent(1));
    assert_eq!(memory("90%"), MemoryLimit::Percent(90));
    assert_eq!(memory("16MiB"), MemoryLimit::Bytes(16 << 20));
    assert_eq!(memory("16777216"), MemoryLimit::Bytes(16 << 20));
    assert_eq!(memory("4096GiB"), MemoryLimit::Bytes(4 << 40));
    for written in ["0%", "91%", "99999999999%", "16777215", "4097GiB"] {
        assert_eq!(faults(&top(written)), [("out_of_bounds", "overload.memory".into())], "{written}");
    }
    for written in ["5.5%", "'%'", "1GB"] {
        assert_eq!(faults(&top(written)), [("invalid_size", "overload.memory".into())], "{written}");
    }
}

#[test]
fn a_part_of_the_calls_that_is_too_small_to_be_any_is_refused() {
    let top = |route: &str| {
        let routes = format!("routes: [{{cluster: orders, {route}}}]");
        let good = GOOD.replace("routes: [{cluster: orders}]", &routes);
        good.replace("clusters: [", "clusters: [{name: other, target: 'ipv4:127.0.0.1:1'}, ")
    };
    for (key, route) in [
        ("mirror", "mirror: {cluster: other, percent: P}"),
        ("fault.delay", "fault: {delay: {fixed: 1s, percent: P}}"),
        ("fault.abort", "fault: {abort: {code: INTERNAL, percent: P}}"),
    ] {
        for percent in ["0.0000999", "1e-300", "100.1"] {
            let path = format!("listeners[0].routes[0].{key}.percent");
            assert_eq!(faults(&top(&route.replace('P', percent))), [("out_of_bounds", path)], "{percent}");
        }
    }
    for (percent, millionths) in [("0", 0), ("0.0001", 1), ("100", 1_000_000)] {
        let config = parse("top", &top(&format!("mirror: {{cluster: other, percent: {percent}}}"))).unwrap();
        let mirror = config.listeners[0].routes[0].mirror.as_ref().unwrap();
        assert_eq!(mirror.percent.millionths(), millionths);
    }
}

#[test]
fn what_is_kept_of_requests_has_a_bound_per_call_and_one_per_process() {
    let top = |written: &str| format!("{GOOD}replay: {{{written}}}\n");
    let replay = |written: &str| {
        let Replay { per_call, per_process } = parse("top", &top(written)).unwrap().replay;
        (per_call, per_process)
    };
    assert_eq!(good().replay, Replay { per_call: 64 << 10, per_process: 16 << 20 });
    assert_eq!(replay(""), (64 << 10, 16 << 20));
    assert_eq!(replay("per_call: 0, per_process: 1MiB"), (0, 1 << 20));
    assert_eq!(replay("per_call: 16MiB"), (16 << 20, 16 << 20));
    assert_eq!(replay("per_process: 2GiB"), (64 << 10, 2 << 30));
    for (written, key) in [
        ("per_call: 16777217", "per_call"),
        ("per_process: 1048575", "per_process"),
        ("per_process: 2049MiB", "per_process"),
    ] {
        assert_eq!(faults(&top(written)), [("out_of_bounds", format!("replay.{key}"))], "{written}");
    }
    assert_eq!(replay("per_call: 1MiB, per_process: 1MiB"), (1 << 20, 1 << 20));
    let above = top("per_call: 1048577, per_process: 1MiB");
    assert_eq!(faults(&above), [("disordered", "replay.per_call".into())]);
}

#[test]
fn the_admin_interface_and_the_access_log_can_be_off_or_elsewhere() {
    let config = |line: &str| parse("top", &format!("{GOOD}{line}\n")).unwrap();
    assert_eq!(config("admin: off").admin, None);
    let admin = |keys: &str| config(&format!("admin: {{{keys}}}")).admin.unwrap();
    assert_eq!(admin("address: 'unix:/a'").address, ListenAddress::Unix("/a".into()));
    assert_eq!(admin("address: '127.0.0.1:1', hosts: [Admin.Example]").hosts, ["admin.example"]);
    let hosts = |names: &str| faults(&format!("{GOOD}admin: {{address: '127.0.0.1:1', hosts: [{names}]}}\n"));
    for name in ["''", "'a:1'", "'http://a'", "'*.a'"] {
        assert_eq!(hosts(name), [("unmatchable", "admin.hosts[0]".into())], "{name}");
    }
    let most = ["a"; 16].join(",");
    assert_eq!(
        config(&format!("admin: {{address: '127.0.0.1:1', hosts: [{most}]}}")).admin.unwrap().hosts.len(),
        16
    );
    assert_eq!(hosts(&["a"; 17].join(",")), [("too_many", "admin.hosts".into())]);
    assert_eq!(config("access_log: off").access_log, None);
    assert_eq!(config("access_log: stdout").access_log, Some(AccessLog::Stdout));
    assert_eq!(config("access_log: ./log").access_log, Some(AccessLog::File("./log".into())));
    assert_eq!(config("workers: 1024").workers.map(usize::from), Some(1024));
    assert_eq!(faults(&format!("{GOOD}workers: 1025")), [("out_of_bounds", "workers".into())]);
    assert_eq!(faults(&format!("{GOOD}access_log: log")), [("unknown_name", "access_log".into())]);
}

#[test]
fn policies_have_parameters() {
    let policy = |written: &str| {
        let text = GOOD.replace("target:", &format!("policy: {written}, target:"));
        parse("policy", &text).unwrap().clusters[0].balancing.policy
    };
    assert_eq!(policy("random"), Policy::Random);
    assert_eq!(policy("{round_robin: {}}"), Policy::RoundRobin);
    assert_eq!(policy("{pick_first: {shuffle: true}}"), Policy::PickFirst { shuffle: true });
    assert_eq!(
        policy("{least_request: {full_scan: true}}"),
        Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan))
    );
    let sample =
        |count: u32| Policy::LeastRequest(LeastRequestConfig::of(Choice::Sample(count.try_into().unwrap())));
    assert_eq!(policy("{least_request: {choice_count: 10}}"), sample(10));
    assert_eq!(policy("{least_request: {full_scan: false}}"), sample(2));
}

#[test]
fn lists_are_bounded() {
    let listeners = |count: usize| {
        let listener =
            |port: usize| format!("{{address: '127.0.0.1:{port}', routes: [{{cluster: orders}}]}}");
        let list: Vec<String> = (1..=count).map(listener).collect();
        format!("listeners: [{}]\nclusters: [{{name: orders, target: a}}]\n", list.join(", "))
    };
    assert!(parse("listeners", &listeners(bounds::MAX_LISTENERS)).is_ok());
    assert_eq!(faults(&listeners(bounds::MAX_LISTENERS + 1)), [("too_many", "listeners".into())]);
    let routes = |count: usize| {
        let list: Vec<String> =
            (0..count).map(|n| format!("{{match: {{service: s{n}}}, cluster: orders}}")).collect();
        with_routes(&list.join(", "))
    };
    assert!(parse("routes", &routes(bounds::MAX_ROUTES)).is_ok());
    assert_eq!(faults(&routes(bounds::MAX_ROUTES + 1)), [("too_many", "listeners[0].routes".into())]);
}

#[test]
fn texts_are_bounded() {
    let padded = |bytes: usize| GOOD.to_owned() + &"\n".repeat(bytes - GOOD.len());
    assert!(parse("padded", &padded(bounds::MAX_CONFIG_BYTES)).is_ok());
    assert_eq!(faults(&padded(bounds::MAX_CONFIG_BYTES + 1)), [("too_long", String::new())]);
    for open in ["[", "{a: ", "- ", "? "] {
        let found = faults(&open.repeat(100_000));
        assert!(matches!(found[0].0, "too_complex" | "syntax"), "{open}: {found:?}");
    }
}

#[test]
fn a_resolved_configuration_is_read_as_itself() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let config = parse("example", &std::fs::read_to_string(&path).unwrap()).unwrap();
            // JSON is YAML.
            let shown = serde_json::to_string_pretty(&config).unwrap();
            assert_eq!(parse("shown", &shown), Ok(config), "{}: {shown}", path.display());
        }
    }
}

#[test]
fn arguments_mean_the_same_as_a_file() {
    let flags = Flags { listen: "0.0.0.0:50051", to: "dns:///orders:50051", ..Flags::default() };
    let config = Config::from_flags(&flags).unwrap();
    assert_eq!(
        parse("file", &GOOD.replace("orders,", "default,").replace("cluster: orders", "cluster: default")),
        Ok(config)
    );
    let flags = Flags { policy: Some("random"), workers: Some(3), admin: Some("off"), ..flags };
    let config = Config::from_flags(&flags).unwrap();
    assert_eq!(config.clusters[0].balancing.policy, Policy::Random);
    assert_eq!((config.workers.map(usize::from), config.admin), (Some(3), None));
    let flags = Flags { admin: Some("127.0.0.1:50051"), ..flags };
    let errors = Config::from_flags(&flags).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "command line:1:85: --admin: `127.0.0.1:50051` is taken: a listener listens on `0.0.0.0:50051`; \
         give each its own port"
    );
}

#[test]
fn endpoint_lists_have_addresses_and_weights() {
    let text =
        "- 10.0.0.1:1\n- {address: '[::1]:2', weight: 5}\n- {address: '10.0.0.2:3', weight: 0}\n- unix:/a\n";
    let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
    let expected = [(tcp("10.0.0.1:1"), 1), (tcp("[::1]:2"), 5), (Address::Unix("/a".into()), 1)];
    assert_eq!(parse_endpoints("list", text), Ok(expected.map(EndpointSpec::from).to_vec()));
    assert_eq!(parse_endpoints("list", "[]"), Ok(Vec::new()));
}

#[test]
fn endpoint_lists_without_any_calls_are_refused() {
    let code = |text: &str| parse_endpoints("list", text).unwrap_err().errors()[0].fault.code();
    assert_eq!(code("- {address: '10.0.0.1:1', weight: 0}\n"), "all_weights_zero");
    assert_eq!(code(""), "wrong_type", "an empty file is more likely one half written");
    for address in ["10.0.0.1", "10.0.0.1:0", "orders:1", "unix:", "dns:///orders:1", ""] {
        assert_eq!(code(&format!("- '{address}'\n")), "invalid_endpoint", "{address}");
    }
}

#[test]
fn endpoint_lists_are_bounded() {
    let list = |count: usize| -> String {
        let address = |n: usize| format!("10.0.{}.{}:{}", n / 256 % 256, n % 256, 1 + n / 65_536);
        (0..count).map(|n| format!("- {{address: '{}', weight: 2}}\n", address(n))).collect()
    };
    assert_eq!(parse_endpoints("list", &list(MAX_ENDPOINTS)).unwrap().len(), MAX_ENDPOINTS);
    let errors = parse_endpoints("list", &list(MAX_ENDPOINTS + 1)).unwrap_err();
    let expected = Fault::TooMany { what: "endpoints", count: MAX_ENDPOINTS + 1, max: MAX_ENDPOINTS };
    assert_eq!(errors.errors()[0].fault, expected);
}

#[test]
fn targets_of_each_kind_are_read() {
    let target =
        |written: &str| parse("t", &GOOD.replace("dns:///orders:50051", written)).unwrap().clusters.remove(0);
    assert_eq!(target("file:/list.yaml").targets.only(), Some(&Target::File("/list.yaml".into())));
    assert_eq!(target("file:/list.yaml").dns, None);
    assert!(target("dns+srv:///_grpc._tcp.orders").dns.is_some());
}

/// Reading never panics, and each error can be shown in every form.
fn read_and_show(text: &str) {
    let results = [parse("text", text).err(), parse_endpoints("text", text).err()];
    for errors in results.into_iter().flatten() {
        assert!(!errors.errors().is_empty());
        assert!(errors.errors().iter().all(|error| error.place.offset + error.place.len <= text.len()));
        assert!(!errors.render(true).is_empty() && !errors.to_string().is_empty());
        assert!(errors.to_json()["errors"].is_array());
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_reported(text in "\\PC{0,200}") {
        read_and_show(&text);
    }

    #[test]
    fn any_bytes_of_yaml_are_read_or_reported(text in "[-a-z:\\[\\]{},&*!|>'\"%@`#?~0-9. \t\r\n\u{0}\u{feff}ü]{0,200}") {
        read_and_show(&text);
    }

    #[test]
    fn a_damaged_configuration_is_read_or_reported(
        cut in 0..12_000_usize,
        length in 0..40_usize,
        with in "[-a-z:\\[\\]{},&*'\"0-9 \n]{0,20}",
    ) {
        let good = include_str!("../../../docs/examples/full.yaml");
        let (start, end) = (cut.min(good.len()), (cut + length).min(good.len()));
        read_and_show(&format!("{}{with}{}", &good[..start], &good[end..]));
    }
}
