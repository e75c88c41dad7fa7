//! The schema, the examples and the reference agree with what is read.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_config::{endpoints_schema, parse, parse_endpoints, schema};
use serde_json::Value;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn yaml_files(folder: &Path) -> Vec<(String, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

fn to_json(yaml: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(yaml, options).unwrap()
}

/// Every object in the schema that has properties.
fn objects(node: &Value) -> Vec<&serde_json::Map<String, Value>> {
    let inner = match node {
        Value::Object(map) => map.values().flat_map(objects).collect(),
        Value::Array(list) => list.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    };
    let own = node.get("properties").and_then(Value::as_object);
    own.into_iter().chain(inner).collect()
}

#[test]
fn every_example_is_read_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let examples = yaml_files(&docs().join("examples"));
    assert!(examples.len() >= 5, "the examples are gone");
    for (name, text) in examples {
        if let Err(errors) = parse(&name, &text) {
            panic!("{}", errors.render(false));
        }
        let faults: Vec<String> =
            validator.iter_errors(&to_json(&text)).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

/// The places of all keys in the schema, each by the pointer of its object.
fn keys(node: &Value, pointer: &str, found: &mut BTreeSet<String>) {
    let properties = node.get("properties").and_then(Value::as_object);
    found.extend(properties.into_iter().flat_map(|map| map.keys()).map(|key| format!("{pointer}/{key}")));
    match node {
        Value::Object(map) => {
            map.iter().for_each(|(key, inner)| keys(inner, &format!("{pointer}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, inner)| keys(inner, &format!("{pointer}/{at}"), found));
        }
        _ => {}
    }
}

/// The places of the keys that a value has, as [`keys`] names them; under each of several alternatives that has them.
fn keys_of(root: &Value, pointer: &str, value: &Value, found: &mut BTreeSet<String>) {
    let node = root.pointer(pointer).unwrap();
    if let Some(Value::String(reference)) = node.get("$ref") {
        keys_of(root, reference.strip_prefix('#').unwrap(), value, found);
    }
    for kind in ["anyOf", "oneOf", "allOf"] {
        let alternatives = node.get(kind).and_then(Value::as_array).map_or(0, Vec::len);
        (0..alternatives).for_each(|at| keys_of(root, &format!("{pointer}/{kind}/{at}"), value, found));
    }
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter().filter(|(key, _)| node["properties"].get(key).is_some()) {
                found.insert(format!("{pointer}/{key}"));
                keys_of(root, &format!("{pointer}/properties/{key}"), inner, found);
            }
        }
        Value::Array(list) if node.get("items").is_some_and(Value::is_object) => {
            list.iter().for_each(|inner| keys_of(root, &format!("{pointer}/items"), inner, found));
        }
        _ => {}
    }
}

#[test]
fn the_full_example_has_every_key() {
    let (schema, mut all, mut shown) = (schema(), BTreeSet::new(), BTreeSet::new());
    keys(&schema, "", &mut all);
    assert!(all.len() > 200, "the schema is not understood: {all:?}");
    let full = fs::read_to_string(docs().join("examples/full.yaml")).unwrap();
    keys_of(&schema, "", &to_json(&full), &mut shown);
    let missing: Vec<&String> = all.difference(&shown).collect();
    assert!(missing.is_empty(), "add them to docs/examples/full.yaml: {missing:?}");
    for text in ["when_unavailable: fail", "invert: true", "queue: false"] {
        assert!(full.contains(text), "{text}");
    }
}

#[test]
fn every_example_of_an_endpoint_list_is_read_and_fits_its_schema() {
    let validator = jsonschema::validator_for(&endpoints_schema()).unwrap();
    let examples = yaml_files(&docs().join("examples/endpoints"));
    assert!(!examples.is_empty(), "the examples are gone");
    for (name, text) in examples {
        assert!(parse_endpoints(&name, &text).is_ok(), "{name}");
        assert!(validator.is_valid(&to_json(&text)), "{name}");
    }
}

#[test]
fn the_configurations_in_the_reference_are_read() {
    let reference = fs::read_to_string(docs().join("configuration.md")).unwrap();
    let blocks: Vec<&str> =
        reference.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let whole: Vec<&&str> = blocks.iter().filter(|block| block.starts_with("listeners:")).collect();
    assert_eq!(whole.len(), 2, "one at the beginning, and the one that stands for a command line");
    let written = whole[1].replace("ADDR", "0.0.0.0:50051").replace("TARGET", "dns:///orders:50051");
    for text in [*whole[0], &written] {
        assert!(parse("reference", text).is_ok(), "{text}");
    }
    let lists: Vec<&&str> = blocks.iter().filter(|block| block.starts_with("- ")).collect();
    assert_eq!(lists.len(), 1);
    assert_eq!(parse_endpoints("reference", lists[0]).unwrap().len(), 3);
}

/// A configuration that is right but for one place, and what is written there.
const REFUSED: &[&str] = &[
    "{}",
    "listeners: []",
    "[]",
    "clusters: [{name: orders}]",
    "clusters: []",
    "clusters: [{name: the orders, target: a}]",
    "clusters: [{name: orders, target: \"\"}]",
    "clusters: [{name: orders, target: []}]",
    "clusters: [{name: orders, target: [a, {priority: 1}]}]",
    "clusters: [{name: orders, target: [{target: a, priority: 16}]}]",
    "clusters: [{name: orders, target: a, polcy: random}]",
    "clusters: [{name: orders, target: a, policy: rendezvous}]",
    "clusters: [{name: orders, target: a, policy: {random: {x: 1}}}]",
    "clusters: [{name: orders, target: a, policy: {random: {}, pick_first: {}}}]",
    "clusters: [{name: orders, target: a, policy: {least_request: {choice_count: 11}}}]",
    "clusters: [{name: orders, target: a, policy: {peak_ewma: {decay: 10}}}]",
    "clusters: [{name: orders, target: a, policy: {weighted_round_robin: {load_reports: {error_utilization_penalty: -1}}}}]",
    "clusters: [{name: orders, target: a, policy: {weighted_round_robin: {load_reports: {enable_oob_load_report: 1}}}}]",
    "clusters: [{name: orders, target: a, policy: {weighted_round_robin: {load_reports: {metric_names_for_computing_utilization: [eps]}}}}]",
    "clusters: [{name: orders, target: a, policy: {ring_hash: {max_ring_size: 8388609}}, hash_by: [source_ip]}]",
    "clusters: [{name: orders, target: a, policy: {maglev: {when_unavailable: wait}}, hash_by: [source_ip]}]",
    "clusters: [{name: orders, target: a, policy: {maglev: {bounded_load: 100}}, hash_by: [source_ip]}]",
    "clusters: [{name: orders, target: a, policy: maglev, hash_by: [source]}]",
    "clusters: [{name: orders, target: a, policy: maglev, hash_by: [{metadata: \"x y\"}]}]",
    "clusters: [{name: orders, target: a, policy: maglev, hash_by: [{cookie: {ttl: 1h}}]}]",
    "clusters: [{name: orders, target: a, slow_start: {min_weight: 2}}]",
    "clusters: [{name: orders, target: a, subset: {kind: random}}]",
    "clusters: [{name: orders, target: a, overprovisioning_factor: 0.9}]",
    "clusters: [{name: orders, target: a, panic_threshold: 101}]",
    "clusters: [{name: orders, target: a, locality_weights: [{region: eu}]}]",
    "clusters: [{name: orders, target: a, zone_aware: {min_cluster_size: 0}}]",
    "node: {zone: \"\"}",
    "clusters: [{name: orders, target: a, health_check: {kind: http}}]",
    "clusters: [{name: orders, target: a, health_check: {healthy_threshold: 0}}]",
    "clusters: [{name: orders, target: a, health_check: on}]",
    "clusters: [{name: orders, target: a, connect_timeout: 5}]",
    "clusters: [{name: orders, target: a, connect_timeout: 5 s}]",
    "clusters: [{name: orders, target: a, connect_timeout: }]",
    "clusters: [{name: orders, target: a, max_pending: 0}]",
    "clusters: [{name: orders, target: a, max_pending: 1.5}]",
    "clusters: [{name: orders, target: a, backoff: {jitter: 1.5}}]",
    "clusters: [{name: orders, target: a, backoff: {multiplier: 0.9}}]",
    "listeners: [{address: localhost:50051, routes: [{cluster: orders}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: []}]",
    "listeners: [{address: \"0.0.0.0:50051\"}]",
    "listeners: [{address: \"0.0.0.0:50051\", limits: egde, routes: [{cluster: orders}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", limits: {max_header_list_size: 64KB}, routes: [{cluster: orders}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, match: {service: a/b}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, match: {authority: []}}]}]",
    "admin: false",
    "workers: 0",
    "access_log: stdot",
    "drain: {grace: 30}",
    "listeners: [{address: \"0.0.0.0:50051\", metadata: {forwarded: drop}, routes: [{cluster: orders}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", metadata: strip, routes: [{cluster: orders}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, request_metadata: {set: {\":path\": /}}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, request_metadata: {set: {x-a: 1}}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, fault: {abort: {code: OK}}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, fault: {delay: {fixed: 1s, percent: 101}}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, response_metadata: {remove: []}}]}]",
    "listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders, response_trailers: {add: {}}}]}]",
    "overload: {memory: half}",
    "overload: {memory: 1.5%}",
    "overload: {cpu: 90%}",
    "replay: {per_call: 64KB}",
    "replay: 64KiB",
];

#[test]
fn the_schema_refuses_what_is_refused() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = to_json(
        "{listeners: [{address: \"0.0.0.0:50051\", routes: [{cluster: orders}]}], clusters: [{name: orders, target: a}]}",
    );
    assert!(validator.is_valid(&good));
    for change in REFUSED {
        let mut changed = good.clone();
        match (to_json(change), &mut changed) {
            (Value::Object(keys), Value::Object(top)) if !keys.is_empty() => top.extend(keys),
            (whole, _) => changed = whole,
        }
        // JSON is YAML: the same text for both.
        assert!(parse("changed", &changed.to_string()).is_err(), "read: {change}");
        assert!(!validator.is_valid(&changed), "fits the schema: {change}");
    }
}

#[test]
fn every_key_is_described_in_the_schema_and_explained_in_the_reference() {
    let reference = fs::read_to_string(docs().join("configuration.md")).unwrap();
    let (schema, endpoints_schema) = (schema(), endpoints_schema());
    let mut names = BTreeSet::new();
    for object in objects(&schema).into_iter().chain(objects(&endpoints_schema)) {
        for (name, property) in object {
            names.insert(name.as_str());
            let is_policy =
                reference.contains(&format!("| `{name}` | each call")) || property.get("$ref").is_some();
            assert!(property.get("description").is_some() || is_policy, "{name} has no description");
        }
    }
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(reference.contains(&format!("| `{name}` | ")), "{name} has no line in docs/configuration.md");
    }
}

/// The defaults that the schema tells, written out, change nothing.
#[test]
fn the_defaults_of_the_schema_are_those_that_are_used() {
    let schema = schema();
    let defaults = |definition: &str| {
        let object = if definition.is_empty() { &schema } else { &schema["$defs"][definition] };
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut written = serde_json::Map::new();
        for (name, property) in object["properties"].as_object().unwrap() {
            match property.get("default") {
                Some(default) => _ = written.insert(name.clone(), default.clone()),
                // Only the machine knows how many cores it has.
                None => {
                    assert!(required.contains(&name.as_str()) || name == "workers", "{name} has no default");
                }
            }
        }
        written
    };
    let mut listener = serde_json::json!({ "address": "0.0.0.0:50051", "routes": [{ "cluster": "orders" }] });
    let mut cluster = serde_json::json!({ "name": "orders", "target": "dns:///orders:50051" });
    let bare = serde_json::json!({ "listeners": [&listener], "clusters": [&cluster] });
    listener["limits"] = defaults("Limits").into();
    listener["metadata"] = defaults("MetadataRules").into();
    cluster.as_object_mut().unwrap().extend(defaults("Cluster"));
    cluster["backoff"] = defaults("Backoff").into();
    cluster["dns"] = defaults("Dns").into();
    cluster["policy"] = serde_json::json!({ "least_request": defaults("LeastRequest") });
    cluster["policy"]["least_request"].as_object_mut().unwrap().remove("choice_count");
    let mut full = defaults("");
    full.insert("drain".into(), defaults("Drain").into());
    full.insert("overload".into(), defaults("Overload").into());
    full.insert("replay".into(), defaults("Replay").into());
    full.insert("listeners".into(), vec![listener].into());
    full.insert("clusters".into(), vec![cluster].into());
    let full = Value::Object(full).to_string();
    assert_eq!(parse("full", &full), parse("bare", &bare.to_string()));
}
