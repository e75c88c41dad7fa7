//! Priorities, localities and panic: what the keys mean, and what is refused.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use evenkeel_balance::{Localities, Locality, Overprovisioning, PanicMode, ZoneAware};
use evenkeel_config::{Cluster, parse, parse_endpoints};

const GOOD: &str = "listeners: [{address: '0.0.0.0:50051', routes: [{cluster: orders}]}]
clusters: [{name: orders, target: 'file:/orders.yaml'}]
";

const NODE: &str = "node: {region: eu, zone: a}\n";

fn with(keys: &str) -> String {
    format!("{NODE}{}", GOOD.replace("target:", &format!("{keys}, target:")))
}

fn cluster(keys: &str) -> Cluster {
    let errors = |errors: evenkeel_config::ConfigErrors| panic!("{}", errors.render(false));
    parse("cluster", &with(keys)).unwrap_or_else(errors).clusters.remove(0)
}

/// The codes of all that is wrong, with the path of each.
fn faults(text: &str) -> Vec<(&'static str, String)> {
    let errors = parse("text", text).unwrap_err();
    errors.errors().iter().map(|error| (error.fault.code(), error.place.path.clone())).collect()
}

fn place(region: &str, zone: &str, sub_zone: &str) -> Locality {
    Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() }
}

#[test]
fn defaults_are_envoys() {
    let spread = cluster("policy: random").spread;
    assert_eq!(spread.overprovisioning, Overprovisioning::default());
    assert_eq!(spread.panic, PanicMode { threshold: 50, fails: false });
    assert_eq!(spread.localities, Localities::Alike);
}

#[test]
fn numbers_are_taken_and_bounded() {
    let spread =
        cluster("overprovisioning_factor: 1.25, panic_threshold: 30, fail_traffic_on_panic: true").spread;
    assert_eq!(spread.overprovisioning.percent(), 125);
    assert_eq!(spread.panic, PanicMode { threshold: 30, fails: true });
    assert_eq!(cluster("overprovisioning_factor: 1").spread.overprovisioning.percent(), 100);
    assert_eq!(cluster("overprovisioning_factor: 10").spread.overprovisioning.percent(), 1_000);
    assert_eq!(cluster("panic_threshold: 0").spread.panic.threshold, 0);
    for key in ["overprovisioning_factor: 0.99", "overprovisioning_factor: 10.1", "panic_threshold: 101"] {
        let name = key.split(':').next().unwrap();
        assert_eq!(faults(&with(key)), [("out_of_bounds", format!("clusters[0].{name}"))]);
    }
    let contradiction = with("panic_threshold: 0, fail_traffic_on_panic: true");
    assert_eq!(faults(&contradiction), [("no_effect", "clusters[0].fail_traffic_on_panic".to_owned())]);
}

#[test]
fn localities_have_weights_of_their_own() {
    let written = "locality_weights: [{zone: a, weight: 3}, {region: eu, zone: b, sub_zone: r1}]";
    let expected = [(place("", "a", ""), 3), (place("eu", "b", "r1"), 1)];
    assert_eq!(cluster(written).spread.localities, Localities::Weighted(expected.into()));
    let at = |code, rest: &str| vec![(code, format!("clusters[0].locality_weights{rest}"))];
    assert_eq!(faults(&with("locality_weights: [{zone: a}, {zone: a}]")), at("repeated_locality", "[1]"));
    assert_eq!(faults(&with("locality_weights: [{zone: a, weight: 0}]")), at("all_weights_zero", ""));
    assert_eq!(faults(&with("locality_weights: [{weight: 1}]")), at("missing_key", "[0]"));
    assert_eq!(faults(&with("locality_weights: [{zone: a/b}]")), at("invalid_name", "[0].zone"));
    let many = |count: u32| (0..count).map(|n| format!("{{zone: z{n}}}")).collect::<Vec<_>>().join(", ");
    assert!(parse("64", &with(&format!("locality_weights: [{}]", many(64)))).is_ok());
    assert_eq!(faults(&with(&format!("locality_weights: [{}]", many(65)))), at("too_many", ""));
}

#[test]
fn a_zone_aware_cluster_needs_to_know_where_the_proxy_is() {
    let aware = |min_cluster_size, routing_enabled, proxies: &[(Locality, u32)]| {
        let own = place("eu", "a", "");
        Localities::ZoneAware(ZoneAware { own, min_cluster_size, routing_enabled, proxies: proxies.into() })
    };
    assert_eq!(cluster("zone_aware: {}").spread.localities, aware(6, 100, &[]));
    assert_eq!(cluster("zone_aware: off").spread.localities, Localities::Alike);
    let written =
        "zone_aware: {min_cluster_size: 1, routing_enabled: 0, proxies: [{zone: a, weight: 2}, {zone: b}]}";
    let proxies = [(place("", "a", ""), 2), (place("", "b", ""), 1)];
    assert_eq!(cluster(written).spread.localities, aware(1, 0, &proxies));
    for node in ["", "node: off\n"] {
        let text = with("zone_aware: {}").replace(NODE, node);
        assert_eq!(faults(&text), [("needs_node", "clusters[0].zone_aware".to_owned())]);
    }
    let twice = with("zone_aware: {}, locality_weights: [{zone: a}]");
    assert_eq!(faults(&twice), [("no_effect", "clusters[0].locality_weights".to_owned())]);
    let misspelt = with("zone_aware: {}").replace("zone: a", "zone: 'a b'");
    assert_eq!(faults(&misspelt), [("invalid_name", "node.zone".to_owned())]);
}

#[test]
fn endpoints_have_priorities_and_localities() {
    let text = "- {address: '10.0.0.1:1', priority: 15, locality: {region: eu, zone: a, sub_zone: r}}
- {address: '10.0.0.2:1', locality: {zone: b}}
- 10.0.0.3:1
";
    let list = parse_endpoints("list", text).unwrap();
    let read: Vec<_> = list.iter().map(|spec| (spec.priority, spec.locality.as_deref().cloned())).collect();
    let expected = [(15, Some(place("eu", "a", "r"))), (0, Some(place("", "b", ""))), (0, None)];
    assert_eq!(read, expected);
    for entry in
        ["priority: 16", "priority: -1", "locality: {region: eu}", "locality: {zone: ''}", "locality: eu"]
    {
        let text = format!("- {{address: '10.0.0.1:1', {entry}}}\n");
        assert!(parse_endpoints("list", &text).is_err(), "{entry}");
    }
}

#[test]
fn what_is_shown_can_be_read_and_means_the_same() {
    for keys in [
        "panic_threshold: 0",
        "overprovisioning_factor: 2.5, panic_threshold: 7, fail_traffic_on_panic: true",
        "locality_weights: [{zone: a, weight: 3}, {region: eu, zone: b, sub_zone: r1, weight: 0}]",
        "zone_aware: {min_cluster_size: 9, routing_enabled: 40, proxies: [{region: eu, zone: a, weight: 2}]}",
    ] {
        let config = parse("text", &with(keys)).unwrap();
        let shown = serde_json::to_string(&config).unwrap();
        assert_eq!(parse("shown", &shown), Ok(config), "{keys}: {shown}");
    }
}
