//! The routes that lead to a cluster, for GET /clusters: which calls it gets, and what is done with them on the way.

use evenkeel_config::{Config, Listener, Route};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::worker::snapshot::Snapshot;

/// Routes that are listed of a cluster; their number is told besides.
const LISTED_MAX: usize = 100;

/// The routes that lead to one cluster.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct RoutesBody {
    /// The first 100 of them, in the order of the configuration.
    routes: Vec<RouteBody>,
    /// Those that are not listed; absent without any.
    #[serde(skip_serializing_if = "is_none")]
    routes_not_listed: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// One route.
#[derive(Debug, PartialEq, Serialize)]
struct RouteBody {
    /// Its listener's address, as configured.
    listener: String,
    /// How old clients' connections to the listener get, and their calls on top of it; absent without a bound.
    #[serde(flatten)]
    age: Map<String, Value>,
    /// Its place in the listener's list, from 0.
    route: usize,
    /// `calls`, or `copies` where it mirrors to the cluster.
    sends: &'static str,
    /// The part of its calls that is sent here: of a canary as it is now, and of a sticky split in the long run.
    percent: f64,
    /// The route as GET /config has it: what it matches, and what it does.
    settings: Value,
}

/// The routes to the cluster of this name. `snapshot` has the weights that are in force.
pub(super) fn routes_to(config: &Config, snapshot: &Snapshot, name: &str) -> RoutesBody {
    let mut body = RoutesBody::default();
    for (listener, in_force) in config.listeners.iter().zip(&snapshot.listeners) {
        for (number, route) in listener.routes.iter().enumerate() {
            let split = in_force.routes.get(number).map(|route| &route.destination);
            let weights = split.map_or_else(Vec::new, |split| split.weights().collect());
            for (sends, percent) in uses(route, &weights, name) {
                if body.routes.len() == LISTED_MAX {
                    body.routes_not_listed += 1;
                    continue;
                }
                body.routes.push(RouteBody {
                    listener: listener.address.to_string(),
                    age: age_of(listener),
                    route: number,
                    sends,
                    percent,
                    settings: serde_json::to_value(route).unwrap_or_default(),
                });
            }
        }
    }
    body
}

/// What GET /config says of the age of connections to a listener.
fn age_of(listener: &Listener) -> Map<String, Value> {
    let limits = serde_json::to_value(listener.limits).unwrap_or_default();
    let bounds = ["max_connection_age", "max_connection_age_grace"].map(|key| (key, limits.get(key)));
    let bounds = bounds.into_iter().filter_map(|(key, bound)| Some((key, bound?.as_str()?)));
    bounds.filter(|(_, bound)| *bound != "off").map(|(key, bound)| (key.to_owned(), bound.into())).collect()
}

/// What a route sends to the cluster, and of how many of its calls. `weights` are by the cluster's position.
fn uses<'r>(
    route: &'r Route,
    weights: &'r [(usize, u64)],
    name: &'r str,
) -> impl Iterator<Item = (&'static str, f64)> {
    let sum: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let shares = route.destination.shares.iter().filter(move |share| share.cluster.name == name);
    let calls = shares.map(move |share| {
        let weight = weights.iter().find(|(position, _)| *position == share.cluster.position);
        let part = weight.map_or(0.0, |(_, weight)| *weight as f64 / sum.max(1) as f64);
        // A hundredth is more than anybody reads.
        ("calls", (part * 10_000.0).round() / 100.0)
    });
    let copies = route.mirror.iter().filter(move |mirror| mirror.cluster.name == name);
    calls.chain(copies.map(|mirror| ("copies", f64::from(mirror.percent.millionths()) / 10_000.0)))
}

#[cfg(test)]
mod tests {
    use evenkeel_config::parse;
    use serde_json::json;

    use super::*;
    use crate::control::canary::Canaries;
    use crate::control::limits::RateLimits;
    use crate::control::snapshot;

    fn routes_of(text: &str, name: &str) -> Value {
        let config = parse("test", text).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let clusters = config.clusters.iter().map(|cluster| snapshot::configured(cluster).into()).collect();
        let (canaries, mut rates) = (Canaries::default(), RateLimits::default());
        let snapshot = snapshot::build(&config, clusters, &canaries, &mut rates, None, 1);
        serde_json::to_value(routes_to(&config, &snapshot, name)).unwrap()
    }

    #[test]
    fn each_route_is_told_with_its_part_and_what_it_does() {
        let text = "listeners:\n  - address: 127.0.0.1:50051\n    limits: { max_connection_age: 30m }\n    routes:\n\
             \x20     - { match: { service: a.A }, split: [{ cluster: one, weight: 2 }, { cluster: two, weight: 1 }], sticky_by: x-user }\n\
             \x20     - { cluster: two, timeout: 5s, mirror: { cluster: one, percent: 2.5 } }\n\
             clusters:\n  - { name: one, target: \"ipv4:127.0.0.1:1\" }\n  - { name: two, target: \"ipv4:127.0.0.1:2\" }\n";
        let route = |number, sends: &str, percent: f64, told: &Value| {
            assert_eq!((&told["listener"], &told["route"]), (&json!("127.0.0.1:50051"), &json!(number)));
            assert_eq!((&told["sends"], &told["percent"]), (&json!(sends), &json!(percent)));
            assert_eq!(
                (&told["max_connection_age"], &told["max_connection_age_grace"]),
                (&json!("30m"), &Value::Null)
            );
        };
        let one = routes_of(text, "one");
        assert_eq!(one["routes"].as_array().unwrap().len(), 2);
        route(0, "calls", 66.67, &one["routes"][0]);
        assert_eq!(one["routes"][0]["settings"]["sticky_by"], "x-user");
        route(1, "copies", 2.5, &one["routes"][1]);
        let two = routes_of(text, "two");
        route(0, "calls", 33.33, &two["routes"][0]);
        route(1, "calls", 100.0, &two["routes"][1]);
        assert_eq!(two["routes"][1]["settings"]["timeout"], "5s");
        assert_eq!(routes_of(text, "three"), json!({ "routes": [] }));
    }

    #[test]
    fn more_routes_than_are_listed_are_counted() {
        let routes: String = (0..130)
            .map(|number| format!("      - {{ match: {{ service: a.S{number} }}, cluster: one }}\n"))
            .collect();
        let text = format!(
            "listeners:\n  - address: 127.0.0.1:50051\n    routes:\n{routes}\
             clusters: [{{ name: one, target: \"ipv4:127.0.0.1:1\" }}]\n"
        );
        let told = routes_of(&text, "one");
        assert_eq!((told["routes"].as_array().unwrap().len(), &told["routes_not_listed"]), (100, &json!(30)));
    }
}
