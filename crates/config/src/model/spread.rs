//! Where things run, and how calls are spread over places: in the form that is read.

use evenkeel_balance::{Localities, Locality, SpreadConfig};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

pub(super) fn serialize_spread<S: Serializer>(
    spread: &SpreadConfig,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut keys = Map::new();
    let factor = f64::from(spread.overprovisioning.percent()) / 100.0;
    keys.insert("overprovisioning_factor".into(), json!(factor));
    keys.insert("panic_threshold".into(), json!(spread.panic.threshold));
    keys.insert("fail_traffic_on_panic".into(), json!(spread.panic.fails));
    match &spread.localities {
        Localities::Alike => {
            keys.insert("zone_aware".into(), json!("off"));
        }
        Localities::Weighted(weights) => {
            keys.insert("locality_weights".into(), written_weights(weights));
        }
        Localities::ZoneAware(zones) => {
            let written = json!({
                "min_cluster_size": zones.min_cluster_size,
                "routing_enabled": zones.routing_enabled,
                "proxies": written_weights(&zones.proxies),
            });
            keys.insert("zone_aware".into(), written);
        }
    }
    keys.serialize(serializer)
}

fn written_weights(weights: &[(Locality, u32)]) -> Value {
    let written = |(place, weight): &(Locality, u32)| {
        let mut keys = written_locality(place);
        keys.insert("weight".into(), json!(weight));
        Value::Object(keys)
    };
    weights.iter().map(written).collect()
}

pub(super) fn written_locality(place: &Locality) -> Map<String, Value> {
    let parts = [("region", &place.region), ("zone", &place.zone), ("sub_zone", &place.sub_zone)];
    let given = parts.into_iter().filter(|(_, part)| !part.is_empty());
    given.map(|(key, part)| (key.to_owned(), json!(part))).collect()
}

pub(super) fn serialize_node<S: Serializer>(
    node: &Option<Locality>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    node.as_ref().map(written_locality).serialize(serializer)
}
