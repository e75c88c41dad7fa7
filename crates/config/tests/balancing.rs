//! What the keys mean that say how a cluster is balanced, and which of them contradict each other.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use core::time::Duration;

use evenkeel_balance::{
    Affinity, Factor, LoadSource, LoadWeightConfig, PeakEwmaConfig, Policy, PrequalConfig, ProbeSource,
    RingSize, SlowStart,
};
use evenkeel_config::{Cluster, Config, Cookie, Fault, Flags, HashBy, Subset, SubsetKind, parse};
use evenkeel_grpc::UtilizationMetric;

const GOOD: &str = "listeners: [{address: '0.0.0.0:50051', routes: [{cluster: orders}]}]
clusters: [{name: orders, target: 'dns:///orders:50051'}]
";

/// The codes of all that is wrong, with the path of each.
fn faults(text: &str) -> Vec<(&'static str, String)> {
    let errors = parse("text", text).unwrap_err();
    errors.errors().iter().map(|error| (error.fault.code(), error.place.path.clone())).collect()
}

/// The only cluster of a configuration with these keys besides its name and target.
fn cluster(keys: &str) -> Cluster {
    let text = GOOD.replace("target:", &format!("{keys}, target:"));
    parse("cluster", &text).unwrap_or_else(|errors| panic!("{}", errors.render(false))).clusters.remove(0)
}

/// What is wrong with a cluster with these keys.
fn cluster_faults(keys: &str) -> Vec<(&'static str, String)> {
    faults(&GOOD.replace("target:", &format!("{keys}, target:")))
}

#[test]
fn policies_that_measure_have_parameters() {
    let policy = |written: &str| cluster(&format!("policy: {written}")).balancing.policy;
    let decay = |seconds| Policy::PeakEwma(PeakEwmaConfig { decay: Duration::from_secs(seconds) });
    assert_eq!(policy("peak_ewma"), decay(10));
    assert_eq!(policy("{peak_ewma: {decay: 5s}}"), decay(5));
    assert_eq!(policy("weighted_round_robin"), Policy::WeightedRoundRobin);
    assert_eq!(policy("{weighted_round_robin: {}}"), Policy::WeightedRoundRobin);
    let by_load = Policy::LoadWeightedRoundRobin;
    assert_eq!(policy("{weighted_round_robin: {load_reports: {}}}"), by_load(LoadWeightConfig::default()));
    let written = "{blackout_period: 0s, weight_expiration_period: 1m, weight_update_period: 100ms, \
                   error_utilization_penalty: 1.5}";
    assert_eq!(
        policy(&format!("{{weighted_round_robin: {{load_reports: {written}}}}}")),
        by_load(LoadWeightConfig {
            blackout_period: Duration::ZERO,
            weight_expiration_period: Duration::from_secs(60),
            weight_update_period: Duration::from_millis(100),
            error_utilization_penalty: Factor::from_thousandths(1_500),
            source: LoadSource::Calls,
        })
    );
    assert_eq!(
        cluster_faults("policy: {peak_ewma: {decay: 9ms}}"),
        [("out_of_bounds", "clusters[0].policy.peak_ewma.decay".into())]
    );
}

#[test]
fn load_may_be_reported_apart_from_calls_and_be_another_metric_than_the_processors() {
    let balancing = |keys: &str| {
        cluster(&format!("policy: {{weighted_round_robin: {{load_reports: {{{keys}}}}}}}")).balancing
    };
    let source = |keys: &str| match balancing(keys).policy {
        Policy::LoadWeightedRoundRobin(config) => config.source,
        other => panic!("{other:?}"),
    };
    let out_of_band = |millis| LoadSource::OutOfBand { period: Duration::from_millis(millis) };
    assert_eq!(source(""), LoadSource::Calls);
    assert_eq!(source("enable_oob_load_report: false"), LoadSource::Calls);
    assert_eq!(source("enable_oob_load_report: true"), out_of_band(10_000));
    assert_eq!(source("enable_oob_load_report: true, oob_reporting_period: 100ms"), out_of_band(100));
    let metrics = |list: &str| {
        balancing(&format!("metric_names_for_computing_utilization: {list}")).utilization_metrics
    };
    assert_eq!(*metrics("[]"), []);
    assert_eq!(
        *metrics("[mem_utilization, named_metrics.queue.depth, utilization.gpu]"),
        [
            UtilizationMetric::Memory,
            UtilizationMetric::Named("queue.depth".into()),
            UtilizationMetric::Utilization("gpu".into())
        ]
    );
    let eight: Vec<String> = (0..8).map(|number| format!("utilization.u{number}")).collect();
    assert_eq!(metrics(&format!("[{}]", eight.join(", "))).len(), 8);
}

#[test]
fn metrics_that_no_report_has_and_a_period_of_nothing_are_refused() {
    let of = |keys: &str| {
        let mut faults =
            cluster_faults(&format!("policy: {{weighted_round_robin: {{load_reports: {{{keys}}}}}}}"));
        assert_eq!(faults.len(), 1, "{keys}: {faults:?}");
        let (code, path) = faults.remove(0);
        (code, path.trim_start_matches("clusters[0].policy.weighted_round_robin.load_reports.").to_owned())
    };
    let names = "metric_names_for_computing_utilization";
    let long = "n".repeat(115);
    let nine = ["utilization.a"; 9].join(", ");
    for (keys, code, path) in [
        ("oob_reporting_period: 5s".to_owned(), "no_effect", "oob_reporting_period".to_owned()),
        (
            "enable_oob_load_report: false, oob_reporting_period: 5s".into(),
            "no_effect",
            "oob_reporting_period".into(),
        ),
        (
            "enable_oob_load_report: true, oob_reporting_period: 99ms".into(),
            "out_of_bounds",
            "oob_reporting_period".into(),
        ),
        (
            "enable_oob_load_report: true, oob_reporting_period: 3601s".into(),
            "out_of_bounds",
            "oob_reporting_period".into(),
        ),
        ("enable_oob_load_report: 1".into(), "wrong_type", "enable_oob_load_report".into()),
        (format!("{names}: [cpu_utilisation]"), "unknown_name", format!("{names}[0]")),
        (format!("{names}: [cpu_utilization, named_metrics.]"), "unknown_name", format!("{names}[1]")),
        (format!("{names}: [eps]"), "unknown_name", format!("{names}[0]")),
        (format!("{names}: [\"\"]"), "unmatchable", format!("{names}[0]")),
        (format!("{names}: [named_metrics.{long}]"), "unmatchable", format!("{names}[0]")),
        (format!("{names}: [utilization.a, utilization.a]"), "no_effect", format!("{names}[1]")),
        (format!("{names}: cpu_utilization"), "wrong_type", names.into()),
    ] {
        assert_eq!(of(&keys), (code, path), "{keys}");
    }
    let codes: Vec<&str> =
        cluster_faults(&format!("policy: {{weighted_round_robin: {{load_reports: {{{names}: [{nine}]}}}}}}"))
            .into_iter()
            .map(|(code, _)| code)
            .collect();
    assert_eq!(codes.iter().filter(|code| **code == "too_many").count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == "no_effect").count(), 7, "of the first eight");
}

#[test]
fn policies_that_hash_have_sizes_and_say_what_becomes_of_a_lost_endpoint() {
    let policy =
        |written: &str| cluster(&format!("policy: {written}, hash_by: [source_ip]")).balancing.policy;
    let ring = |size: RingSize, affinity| Policy::RingHash { size, affinity };
    assert_eq!(policy("ring_hash"), ring(RingSize::default(), Affinity::Rehash));
    assert_eq!(
        policy("{ring_hash: {min_ring_size: 1024, max_ring_size: 4096, when_unavailable: fail}}"),
        ring(RingSize::GRPC, Affinity::Fail)
    );
    let each = |entries, max| RingSize::each(entries, max).unwrap();
    assert_eq!(policy("{ring_hash: {entries_per_endpoint: 7}}"), ring(each(7, 32_768), Affinity::Rehash));
    assert_eq!(policy("{ring_hash: {max_ring_size: 100}}"), ring(each(100, 100), Affinity::Rehash));
    let bounded = |percent: u32| Affinity::Bounded(percent.try_into().unwrap());
    assert_eq!(
        policy("{ring_hash: {when_unavailable: rehash, bounded_load: 101}}"),
        ring(RingSize::default(), bounded(101))
    );
    let maglev = |size: u32, affinity| Policy::Maglev { size: size.try_into().unwrap(), affinity };
    assert_eq!(policy("maglev"), maglev(65_537, Affinity::Rehash));
    assert_eq!(policy("{maglev: {table_size: 3, bounded_load: 125}}"), maglev(3, bounded(125)));
}

#[test]
fn a_ring_or_table_has_an_entry_for_each_endpoint_that_the_target_lists() {
    let read = |policy: &str, target: &str| {
        let target = format!("target: {target}, policy: {policy}, hash_by: [source_ip]");
        parse("text", &GOOD.replace("target: 'dns:///orders:50051'", &target))
    };
    let six = "['ipv4:1.0.0.1:1,1.0.0.2:1,1.0.0.3:1', {target: 'ipv6:[::1]:1', priority: 1}, 'unix:/a', \
                {target: 'file:/b', weight: 2}, {target: 'ipv4:1.0.0.4:1', weight: 3}]";
    for (policy, key, entries, is_enough) in [
        ("{maglev: {table_size: 5}}", "table_size", 5, false),
        ("{maglev: {table_size: 7}}", "table_size", 7, true),
        ("{ring_hash: {max_ring_size: 5}}", "max_ring_size", 5, false),
        ("{ring_hash: {max_ring_size: 6}}", "max_ring_size", 6, true),
        ("{ring_hash: {min_ring_size: 1, max_ring_size: 6}}", "max_ring_size", 6, true),
    ] {
        match read(policy, six) {
            Ok(_) => assert!(is_enough, "{policy}"),
            Err(errors) => {
                let [error] = errors.errors() else { panic!("{errors}") };
                assert_eq!(error.fault, Fault::TooFewEntries { entries, endpoints: 6 }, "{policy}");
                assert!(!is_enough && error.place.path.ends_with(key), "{policy}: {}", error.place.path);
            }
        }
    }
    let subset = "'ipv4:1.0.0.1:1,1.0.0.2:1,1.0.0.3:1,1.0.0.4:1', subset: {size: 3}";
    read("{maglev: {table_size: 3}}", subset).unwrap();
    let without_weight = "['ipv4:1.0.0.1:1,1.0.0.2:1,1.0.0.3:1', {target: 'ipv4:1.0.0.4:1', weight: 0}]";
    read("{maglev: {table_size: 3}}", without_weight).unwrap();
    read("{maglev: {table_size: 3}}", "'dns:///many:1'").unwrap();
}

#[test]
fn what_would_have_no_effect_on_a_cluster_is_refused() {
    for (keys, path) in [
        ("slow_start: {min_weight: 1}", "slow_start"),
        ("circuit_breakers: {max_pending: off, per_endpoint: {max_requests: off}}", "circuit_breakers"),
        ("circuit_breakers: {max_pending: 0}, wait_for_ready: true", "wait_for_ready"),
    ] {
        assert_eq!(cluster_faults(keys), [("no_effect", format!("clusters[0].{path}"))], "{keys}");
    }
    cluster("slow_start: {min_weight: 0.999}");
    cluster("circuit_breakers: {max_pending: off}");
    cluster("circuit_breakers: {max_pending: 1}, wait_for_ready: true");
    cluster("circuit_breakers: {max_pending: 0}, wait_for_ready: false");
    let of_load = |keys: &str| format!("policy: {{weighted_round_robin: {{load_reports: {{{keys}}}}}}}");
    let out_of_band = "enable_oob_load_report: true, weight_expiration_period: 20s, oob_reporting_period";
    assert_eq!(
        cluster_faults(&of_load(&format!("{out_of_band}: 20001ms"))),
        [(
            "disordered",
            "clusters[0].policy.weighted_round_robin.load_reports.oob_reporting_period".to_owned()
        )]
    );
    cluster(&of_load(&format!("{out_of_band}: 20s")));
}

#[test]
fn prequal_has_the_papers_defaults_and_every_parameter_its_bounds() {
    let policy = |written: &str| cluster(&format!("policy: {written}")).balancing.policy;
    assert_eq!(policy("prequal"), Policy::Prequal(PrequalConfig::default()));
    let all = "{prequal: {source: own, probes_per_call: 0.5, pool_size: 64, max_age: 1m, removals_per_call: 0.25, \
               reuse_delta: 2, rif_quantile: 0.6}}";
    let period = |written: &str| match policy(&format!("{{prequal: {{{written}}}}}")) {
        Policy::Prequal(config) => config.report_period,
        other => panic!("{other:?}"),
    };
    assert_eq!(period("oob_reporting_period: 1s"), Some(Duration::from_secs(1)));
    assert_eq!(period("oob_reporting_period: 1m, max_age: 1m"), Some(Duration::from_secs(60)));
    assert_eq!(
        policy(all),
        Policy::Prequal(PrequalConfig {
            source: ProbeSource::Own,
            probes_per_call: Factor::from_thousandths(500),
            pool_size: 64,
            max_age: Duration::from_secs(60),
            removals_per_call: Factor::from_thousandths(250),
            reuse_delta: Factor::from_thousandths(2_000),
            rif_quantile: Factor::from_thousandths(600),
            ..PrequalConfig::default()
        })
    );
    for (parameter, code) in [
        ("source: orca", "unknown_name"),
        ("probes_per_call: 0", "out_of_bounds"),
        ("probes_per_call: 16.1", "out_of_bounds"),
        ("pool_size: 1", "out_of_bounds"),
        ("pool_size: 65", "out_of_bounds"),
        ("max_age: 9ms", "out_of_bounds"),
        ("max_age: 61s", "out_of_bounds"),
        ("removals_per_call: 17", "out_of_bounds"),
        ("reuse_delta: 11", "out_of_bounds"),
        ("rif_quantile: 1.01", "out_of_bounds"),
        ("oob_reporting_period: 99ms", "out_of_bounds"),
        ("oob_reporting_period: 61s", "out_of_bounds"),
        ("oob_reporting_period: 1001ms", "disordered"),
        ("oob_reporting_period: 1s, source: own", "no_effect"),
    ] {
        let key = parameter.split(':').next().unwrap();
        let path = format!("clusters[0].policy.prequal.{key}");
        assert_eq!(cluster_faults(&format!("policy: {{prequal: {{{parameter}}}}}")), [(code, path)]);
    }
}

#[test]
fn sizes_and_behaviours_that_contradict_each_other_are_refused() {
    let of = |policy: &str| {
        let mut faults = cluster_faults(&format!("policy: {policy}, hash_by: [source_ip]"));
        assert_eq!(faults.len(), 1, "{policy}: {faults:?}");
        let (code, path) = faults.remove(0);
        (code, path.trim_start_matches("clusters[0].policy.").to_owned())
    };
    for (policy, code, path) in [
        ("{ring_hash: {min_ring_size: 9, entries_per_endpoint: 9}}", "exclusive", "ring_hash.min_ring_size"),
        ("{ring_hash: {min_ring_size: 9, max_ring_size: 8}}", "disordered", "ring_hash.min_ring_size"),
        (
            "{ring_hash: {entries_per_endpoint: 9, max_ring_size: 8}}",
            "disordered",
            "ring_hash.entries_per_endpoint",
        ),
        ("{ring_hash: {max_ring_size: 0}}", "out_of_bounds", "ring_hash.max_ring_size"),
        ("{ring_hash: {max_ring_size: 8388609}}", "out_of_bounds", "ring_hash.max_ring_size"),
        ("{maglev: {table_size: 65536}}", "not_prime", "maglev.table_size"),
        ("{maglev: {table_size: 2}}", "out_of_bounds", "maglev.table_size"),
        ("{maglev: {table_size: 5000012}}", "out_of_bounds", "maglev.table_size"),
        ("{maglev: {bounded_load: 100}}", "out_of_bounds", "maglev.bounded_load"),
        ("{maglev: {bounded_load: 125, when_unavailable: fail}}", "exclusive", "maglev.bounded_load"),
        ("{maglev: {when_unavailable: wait}}", "unknown_name", "maglev.when_unavailable"),
    ] {
        assert_eq!(of(policy), (code, path.to_owned()), "{policy}");
    }
}

#[test]
fn keys_come_from_metadata_cookies_and_addresses() {
    let hash_by = |written: &str| cluster(&format!("policy: maglev, hash_by: {written}")).hash_by;
    let cookie = |name: &str, ttl, path: Option<&str>| {
        HashBy::Cookie(Cookie { name: name.into(), ttl, path: path.map(str::to_owned) })
    };
    assert_eq!(
        hash_by("[{metadata: X-Client-Id}, {cookie: {name: a}}, source_ip]"),
        [HashBy::Metadata("x-client-id".into()), cookie("a", None, None), HashBy::SourceIp]
    );
    assert_eq!(
        hash_by("[{metadata: a}, {cookie: {name: sid, ttl: 1h, path: /shop}}]"),
        [HashBy::Metadata("a".into()), cookie("sid", Some(Duration::from_secs(3_600)), Some("/shop"))]
    );
    assert_eq!(hash_by("[{cookie: {name: sid, ttl: 0s}}]"), [cookie("sid", Some(Duration::ZERO), None)]);
    assert_eq!(cluster("hash_by: []").hash_by, []);
}

#[test]
fn a_key_that_decides_nothing_and_a_policy_without_a_key_are_refused() {
    let at = |code, place: &str| vec![(code, format!("clusters[0].{place}"))];
    assert_eq!(cluster_faults("hash_by: [source_ip]"), at("no_effect", "hash_by"));
    assert_eq!(cluster_faults("policy: random, hash_by: [source_ip]"), at("no_effect", "hash_by"));
    for policy in ["ring_hash", "maglev", "{maglev: {table_size: 3}}"] {
        assert_eq!(cluster_faults(&format!("policy: {policy}")), at("no_hash_key", "policy"));
        assert_eq!(cluster_faults(&format!("policy: {policy}, hash_by: []")), at("no_hash_key", "policy"));
    }
    let of = |list: &str| cluster_faults(&format!("policy: maglev, hash_by: {list}"));
    assert_eq!(of("[{cookie: {name: a, ttl: 1h}}, source_ip]"), at("no_effect", "hash_by[1]"));
    assert_eq!(of("[{metadata: a}, source_ip, {metadata: A}]"), at("no_effect", "hash_by[2]"));
    assert_eq!(of("[{metadata: a-bin}]"), at("unmatchable", "hash_by[0].metadata"));
    assert_eq!(of("[{metadata: ':path'}]"), at("unmatchable", "hash_by[0].metadata"));
    assert_eq!(of("[{cookie: {name: 'a;b'}}]"), at("unmatchable", "hash_by[0].cookie.name"));
    assert_eq!(of("[{cookie: {name: a, path: /}}]"), at("needs", "hash_by[0].cookie.path"));
    assert_eq!(of("[{cookie: {name: a, ttl: 1s, path: '/;'}}]"), at("unmatchable", "hash_by[0].cookie.path"));
    assert_eq!(of("[{cookie: {name: a, ttl: 366d}}]"), at("out_of_bounds", "hash_by[0].cookie.ttl"));
    assert_eq!(of("[source_op]"), at("unknown_name", "hash_by[0]"));
    assert_eq!(of("[{metadata: a, cookie: {name: a}}]"), at("wrong_type", "hash_by[0]"));
    let many = |count: usize| {
        let list: Vec<String> = (0..count).map(|number| format!("{{metadata: x-{number}}}")).collect();
        format!("[{}]", list.join(", "))
    };
    assert_eq!(cluster(&format!("policy: maglev, hash_by: {}", many(8))).hash_by.len(), 8);
    assert_eq!(of(&many(9)), at("too_many", "hash_by"));
}

#[test]
fn new_endpoints_start_slowly_where_there_are_weights() {
    let slow_start = |written: &str| cluster(written).slow_start;
    assert_eq!(slow_start("slow_start: off"), None);
    assert_eq!(slow_start("slow_start: {}"), Some(SlowStart::default()));
    let faster = SlowStart {
        window: Duration::from_secs(10),
        aggression: Factor::from_thousandths(2_000),
        min_weight: Factor::ZERO,
    };
    let written = "slow_start: {window: 10s, aggression: 2, min_weight: 0}";
    for policy in ["least_request", "weighted_round_robin", "peak_ewma", "prequal"] {
        assert_eq!(slow_start(&format!("policy: {policy}, {written}")), Some(faster));
    }
    for policy in ["round_robin", "random", "pick_first", "ring_hash, hash_by: [source_ip]"] {
        let expected = [("no_effect", "clusters[0].slow_start".into())];
        assert_eq!(cluster_faults(&format!("policy: {policy}, {written}")), expected, "{policy}");
    }
    assert_eq!(
        cluster_faults("slow_start: {window: 999ms, aggression: 10.1, min_weight: 1.1}"),
        ["window", "aggression", "min_weight"]
            .map(|key| ("out_of_bounds", format!("clusters[0].slow_start.{key}")))
    );
}

#[test]
fn subsets_are_drawn_or_numbered() {
    let subset = |size: u32, kind| Some(Subset { size: size.try_into().unwrap(), kind });
    assert_eq!(cluster("subset: off").subset, None);
    assert_eq!(cluster("subset: {size: 20}").subset, subset(20, SubsetKind::Random));
    assert_eq!(
        cluster("subset: {size: 1, kind: deterministic, client_index: 7}").subset,
        subset(1, SubsetKind::Deterministic { client_index: 7 })
    );
    let of = |written: &str| {
        let mut faults = cluster_faults(&format!("subset: {{{written}}}"));
        assert_eq!(faults.len(), 1, "{written}: {faults:?}");
        faults.remove(0)
    };
    let at = |code, place: &str| (code, format!("clusters[0].subset{place}"));
    assert_eq!(of("size: 0"), at("out_of_bounds", ".size"));
    assert_eq!(of("size: 65537"), at("out_of_bounds", ".size"));
    assert_eq!(of("kind: random"), at("missing_key", ""));
    assert_eq!(of("size: 2, kind: deterministic"), at("needs", ".kind"));
    assert_eq!(of("size: 2, client_index: 1"), at("no_effect", ".client_index"));
    assert_eq!(of("size: 2, kind: any"), at("unknown_name", ".kind"));
}

#[test]
fn what_is_shown_of_a_policy_can_be_read_and_means_the_same() {
    for keys in [
        "policy: {pick_first: {shuffle: true}}, subset: {size: 2}",
        "policy: {least_request: {choice_count: 3}}, slow_start: {aggression: 1.5}",
        "policy: {weighted_round_robin: {}}, subset: {size: 9, kind: deterministic, client_index: 3}",
        "policy: {weighted_round_robin: {load_reports: {blackout_period: 1s}}}, slow_start: {}",
        "policy: {weighted_round_robin: {load_reports: {enable_oob_load_report: true, oob_reporting_period: 30s}}}",
        "policy: {weighted_round_robin: {load_reports: {metric_names_for_computing_utilization: [utilization.a]}}}",
        "policy: {peak_ewma: {decay: 1m}}",
        "policy: {prequal: {oob_reporting_period: 250ms}}",
        "policy: {prequal: {source: own, probes_per_call: 0.5, max_age: 250ms, rif_quantile: 0.6}}, slow_start: {}",
        "policy: {ring_hash: {min_ring_size: 9, max_ring_size: 10}}, hash_by: [source_ip]",
        "policy: {ring_hash: {entries_per_endpoint: 9, bounded_load: 150}}, hash_by: [{metadata: a}, source_ip]",
        "policy: {maglev: {when_unavailable: fail}}, hash_by: [{cookie: {name: a, ttl: 90m, path: /a}}]",
        "policy: {maglev: {table_size: 101}}, hash_by: [{cookie: {name: a}}]",
    ] {
        let config = parse("cluster", &GOOD.replace("target:", &format!("{keys}, target:"))).unwrap();
        let shown = serde_json::to_string(&config).unwrap();
        assert_eq!(parse("shown", &shown), Ok(config), "{keys}: {shown}");
    }
}

#[test]
fn the_command_line_takes_policies_that_need_no_more_than_their_name() {
    let config = |policy| {
        let (listen, to) = ("127.0.0.1:0", "ipv4:127.0.0.1:1");
        Config::from_flags(&Flags { listen, to, policy: Some(policy), ..Flags::default() })
    };
    let policy = config("peak_ewma").unwrap().clusters[0].balancing.policy;
    assert_eq!(policy, Policy::PeakEwma(PeakEwmaConfig::default()));
    for policy in ["ring_hash", "maglev"] {
        assert_eq!(
            config(policy).unwrap_err().to_string(),
            format!(
                "command line:1:53: --policy: `{policy}` needs `hash_by`: what calls have in common that are to meet \
                 the same endpoint; add to the cluster for example `hash_by: [{{metadata: x-client-id}}]`, \
                 in a configuration file"
            )
        );
    }
}
