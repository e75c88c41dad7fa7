//! Priorities, localities and panic: what the keys mean, and what is refused.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use evenkeel_balance::{Localities, Locality, MAX_ENDPOINTS, Overprovisioning, PanicMode, ZoneAware};
use std::sync::Arc;

use evenkeel_config::{
    Cluster, Config, Flags, PlacedTarget, Target, Targets, Zone, parse, parse_endpoints, parse_in_zone,
};

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
    assert_eq!(faults(&with("locality_weights: [{weight: 1}]")), at("missing_key", "[0]"));
    assert_eq!(faults(&with("locality_weights: [{zone: a/b}]")), at("invalid_name", "[0].zone"));
    let many = |count: u32| (0..count).map(|n| format!("{{zone: z{n}}}")).collect::<Vec<_>>().join(", ");
    assert!(parse("64", &with(&format!("locality_weights: [{}]", many(64)))).is_ok());
    assert_eq!(faults(&with(&format!("locality_weights: [{}]", many(65)))), at("too_many", ""));
}

#[test]
fn weights_of_localities_leave_something_to_some_endpoint() {
    let with_weights = |weights: &str, targets: &str| {
        with(&format!("locality_weights: [{weights}]"))
            .replace("'file:/orders.yaml'", &format!("[{targets}]"))
    };
    let (one, two) = (
        "{target: 'ipv4:10.0.0.1:1', locality: {zone: z1}}",
        "{target: 'unix:/run/orders', locality: {zone: z2}}",
    );
    // A locality that is not listed has weight 1, and so have endpoints of which nobody says where they run.
    for (weights, targets) in [
        ("{zone: z1, weight: 0}", format!("{one}, {two}")),
        ("{zone: z1, weight: 0}", format!("{one}, 'ipv4:10.0.0.2:1'")),
        ("{zone: z1, weight: 0}", "'file:/orders.yaml'".to_owned()),
        ("{region: eu, zone: z1, weight: 0}", one.to_owned()),
    ] {
        assert!(parse("text", &with_weights(weights, &targets)).is_ok(), "{weights} {targets}");
    }
    let zeros = "{zone: z1, weight: 0}, {zone: z2, weight: 0}";
    let of_no_weight = "{target: 'ipv4:10.0.0.3:1', weight: 0, locality: {zone: z3}}";
    for (weights, targets) in [
        (zeros.to_owned(), format!("{one}, {two}")),
        // Names have no localities of their own.
        (zeros.to_owned(), format!("{one}, {{target: 'dns:///b:1', locality: {{zone: z2}}}}")),
        (format!("{zeros}, {{zone: z3, weight: 1}}"), format!("{one}, {two}")),
        (zeros.to_owned(), format!("{one}, {two}, {of_no_weight}")),
    ] {
        let found = faults(&with_weights(&weights, &targets));
        assert_eq!(found, [("all_weights_zero", "clusters[0].locality_weights".to_owned())], "{weights}");
    }
    // What a misspelt target would have said is not known.
    let misspelt = faults(&with_weights(zeros, &format!("{one}, {{target: 'ipv4:10.0.0.2:1', wieght: 2}}")));
    assert_eq!(misspelt, [("unknown_key", "clusters[0].target[1].wieght".to_owned())]);
}

#[test]
fn numbers_of_proxies_are_not_all_zero() {
    let text = with("zone_aware: {proxies: [{region: eu, zone: a, weight: 0}, {zone: b, weight: 0}]}");
    assert_eq!(faults(&text), [("no_proxies", "clusters[0].zone_aware.proxies".to_owned())]);
    let told = parse("text", &text).unwrap_err().to_string();
    assert!(told.contains("no locality would have a proxy") && !told.contains("call"), "{told}");
}

#[test]
fn where_this_proxy_runs_there_is_one() {
    let of = |proxies: &str| with(&format!("zone_aware: {{proxies: [{proxies}, {{zone: b}}]}}"));
    let text = of("{zone: c}, {region: eu, zone: a, weight: 0}");
    assert_eq!(faults(&text), [("no_proxy_here", "clusters[0].zone_aware.proxies[1].weight".to_owned())]);
    let errors = parse("text", &text).unwrap_err();
    assert_eq!(errors.errors()[0].related.as_ref().map(|node| node.path.as_str()), Some("node"));
    // Another locality is one that differs in any part of its name.
    for other in
        ["{zone: a, weight: 0}", "{region: eu, zone: c, weight: 0}", "{region: eu, zone: a, weight: 1}"]
    {
        assert!(parse("text", &of(other)).is_ok(), "{other}");
    }
    // The numbers of a file for proxies in many zones may be older than the newest zone.
    let zone: Zone = "eu/a".parse().unwrap();
    assert!(parse_in_zone("text", &text, Some(&zone)).is_ok());
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
        "zone_aware: {min_cluster_size: 1, routing_enabled: 1, proxies: [{zone: a, weight: 2}, {zone: b}]}";
    let proxies = [(place("", "a", ""), 2), (place("", "b", ""), 1)];
    assert_eq!(cluster(written).spread.localities, aware(1, 1, &proxies));
    for node in ["", "node: off\n"] {
        let text = with("zone_aware: {}").replace(NODE, node);
        assert_eq!(faults(&text), [("needs_node", "clusters[0].zone_aware".to_owned())]);
    }
    let path = "clusters[0].zone_aware.routing_enabled".to_owned();
    assert_eq!(faults(&with("zone_aware: {routing_enabled: 0}")), [("out_of_bounds", path)]);
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

/// The targets of a cluster with this list.
fn targets(list: &str) -> Targets {
    let text = with("policy: random").replace("'file:/orders.yaml'", list);
    parse("cluster", &text)
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
        .clusters
        .remove(0)
        .targets
}

fn target_faults(list: &str) -> Vec<(&'static str, String)> {
    let found = faults(&with("policy: random").replace("'file:/orders.yaml'", list));
    found.into_iter().map(|(code, path)| (code, path.trim_start_matches("clusters[0].").to_owned())).collect()
}

#[test]
fn a_cluster_has_several_targets_each_with_its_place() {
    let plain = |text: &str| PlacedTarget::from(text.parse::<Target>().unwrap());
    assert_eq!(targets("'dns:///a:1'").only(), Some(&"dns:///a:1".parse().unwrap()));
    assert_eq!(*targets("['dns:///a:1']"), [plain("dns:///a:1")]);
    let list = "['dns:///a:1', {target: 'dns:///b:1', weight: 65535, priority: 15, locality: {region: us, zone: x}}]";
    let placed = PlacedTarget {
        weight: 65_535,
        priority: 15,
        locality: Some(Arc::new(place("us", "x", ""))),
        ..plain("dns:///b:1")
    };
    assert_eq!(*targets(list), [plain("dns:///a:1"), placed]);
    assert_eq!(targets(list).only(), None);
    assert_eq!(targets(list).to_string(), "dns:///a:1, dns:///b:1");
    let many = |count: u32| (0..count).map(|n| format!("'dns:///h{n}:1'")).collect::<Vec<_>>().join(", ");
    assert_eq!(targets(&format!("[{}]", many(16))).len(), 16);
    assert_eq!(target_faults(&format!("[{}]", many(17))), [("too_many", "target".into())]);
}

#[test]
fn targets_that_cannot_be_meant_are_refused_where_they_stand() {
    for (list, code, path) in [
        ("[]", "empty_list", "target"),
        ("['dns:///a:1', 'xds:///a']", "invalid_target", "target[1]"),
        ("['dns:///a:1', 7]", "wrong_type", "target[1]"),
        ("['dns:///a:1', {priority: 1}]", "missing_key", "target[1]"),
        ("['dns:///a:1', {target: 'dns:///b:1', prority: 1}]", "unknown_key", "target[1].prority"),
        ("[{target: 'dns:///b:1', priority: 16}]", "out_of_bounds", "target[0].priority"),
        ("[{target: 'dns:///b:1', weight: 65536}]", "out_of_bounds", "target[0].weight"),
        ("[{target: 'dns:///b:1', weight: 0}]", "all_weights_zero", "target"),
        ("[{target: 'dns:///b:1', locality: {zone: a b}}]", "invalid_name", "target[0].locality.zone"),
        ("['dns:///a:1', {target: 'a:1', priority: 1}]", "no_effect", "target[1]"),
    ] {
        assert_eq!(target_faults(list), [(code, path.to_owned())], "{list}");
    }
    let text = with("policy: random").replace("'file:/orders.yaml'", "[{target: 'dns:///b:1', prority: 1}]");
    let errors = parse("text", &text).unwrap_err().to_string();
    assert!(errors.contains("text:3:") && errors.contains("did you mean `priority`?"), "{errors}");
    // A name among them makes `dns` mean something.
    let with_dns = |list: &str| with("dns: {max_refresh: 1s}").replace("'file:/orders.yaml'", list);
    assert!(parse("text", &with_dns("['ipv4:10.0.0.1:1', 'dns:///a:1']")).is_ok());
    let found = faults(&with_dns("['ipv4:10.0.0.1:1', 'unix:/a']"));
    assert_eq!(found, [("no_effect", "clusters[0].dns".to_owned())]);
}

#[test]
fn a_zone_of_the_command_line_stands_in_place_of_the_nodes() {
    let node = |written: &str, zone: &str| {
        let text = with("zone_aware: {}").replace(NODE, written);
        let config = parse_in_zone("text", &text, Some(&zone.parse::<Zone>().unwrap())).unwrap();
        let Localities::ZoneAware(zones) = &config.clusters[0].spread.localities else {
            panic!("{config:?}")
        };
        assert_eq!(config.node.as_ref(), Some(&zones.own));
        zones.own.clone()
    };
    for written in ["", "node: off\n"] {
        assert_eq!(node(written, "b"), place("", "b", ""));
        assert_eq!(node(written, "us/b/r1"), place("us", "b", "r1"));
    }
    let written = "node: {region: eu, zone: a, sub_zone: r1}\n";
    assert_eq!(node(written, "b"), place("eu", "b", ""));
    assert_eq!(node(written, "us/b"), place("us", "b", ""));
    let zone = "eu/b".parse::<Zone>().unwrap();
    let flags = Flags { listen: "127.0.0.1:0", to: "a:1", zone: Some(&zone), ..Flags::default() };
    assert_eq!(Config::from_flags(&flags).unwrap().node, Some(place("eu", "b", "")));
}

#[test]
fn what_is_shown_can_be_read_and_means_the_same() {
    for list in [
        "'dns:///a:1'",
        "['dns:///a:1', {target: 'dns:///b:1', priority: 1}]",
        "[{target: 'file:/a.yaml', weight: 3, locality: {region: eu, zone: a, sub_zone: r}}]",
    ] {
        let config = parse("text", &with("policy: random").replace("'file:/orders.yaml'", list)).unwrap();
        let shown = serde_json::to_string(&config).unwrap();
        assert_eq!(parse("shown", &shown), Ok(config), "{list}: {shown}");
    }

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

#[test]
fn pick_first_knows_no_localities() {
    for (keys, path) in [
        ("policy: pick_first, locality_weights: [{zone: a, weight: 1}]", "clusters[0].locality_weights"),
        ("policy: {pick_first: {shuffle: true}}, zone_aware: {}", "clusters[0].zone_aware"),
    ] {
        assert_eq!(faults(&with(keys)), [("no_effect", path.to_owned())], "{keys}");
    }
    assert_eq!(cluster("policy: pick_first, zone_aware: off").name, "orders");
}

#[test]
fn a_list_of_as_many_endpoints_as_may_be_has_room_for_all_their_keys() {
    let entry = |number: usize| {
        let [.., high, low] = number.to_be_bytes();
        format!(
            "- {{address: '10.1.{high}.{low}:50051', weight: 2, priority: 1, draining: true, locality: {{region: r, zone: z, sub_zone: s}}}}\n"
        )
    };
    let text: String = (0..MAX_ENDPOINTS).map(entry).collect();
    let list = parse_endpoints("list", &text).unwrap();
    assert_eq!(list.len(), MAX_ENDPOINTS);
    let fault = parse_endpoints("list", &(text + &entry(0))).unwrap_err();
    assert_eq!(fault.errors()[0].fault.code(), "too_many");
}
