//! Endpoint lists: addresses, weights, priorities and localities.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_balance::{Address, EndpointSpec, Locality, MAX_ENDPOINTS};

use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, Span};
use crate::raw::{At, List, RawEndpoint, RawWeighted, Text};
use crate::target::path_after_scheme;

/// The endpoints with a weight above 0.
pub(crate) fn resolve_endpoints(list: &At<List<RawEndpoint>>, reports: &mut Reports) -> Vec<EndpointSpec> {
    let count = list.value.written;
    if count > MAX_ENDPOINTS {
        reports.add(list.span, Fault::TooMany { what: "endpoints", count, max: MAX_ENDPOINTS });
    }
    let mut endpoints = Vec::new();
    let mut known = HashMap::new();
    let mut places = Places::default();
    for entry in list.value.entries.iter().take(MAX_ENDPOINTS) {
        let spec = match &entry.value {
            RawEndpoint::Address(address) => {
                resolve_address(address, entry.span, reports).map(|address| (address, 1).into())
            }
            RawEndpoint::Weighted(endpoint) => places.resolve(endpoint, reports),
        };
        // Without a weight it is as if it were not listed.
        let Some(spec) = spec.filter(|spec: &EndpointSpec| spec.weight > 0) else { continue };
        match known.entry(spec.address.clone()) {
            Entry::Vacant(vacant) => drop(vacant.insert((entry.span, endpoints.len()))),
            Entry::Occupied(earlier) => {
                let (at, index) = *earlier.get();
                // A list that was put together from several says some endpoints twice, which does no harm.
                if endpoints[index] != spec {
                    let address = spec.address.to_string();
                    reports.add_related(entry.span, Fault::RepeatedEndpoint { address }, at);
                }
                continue;
            }
        }
        endpoints.push(spec);
    }
    // A list without entries says that there are no endpoints. One whose weights are all 0 is more likely a slip.
    if endpoints.is_empty() && count > 0 && reports.is_empty() {
        reports.add(list.span, Fault::AllWeightsZero { of: "endpoint" });
    }
    endpoints
}

/// The localities of a list: one value for all endpoints that have the same.
#[derive(Default)]
struct Places(HashSet<Arc<Locality>>);

impl Places {
    fn resolve(&mut self, raw: &RawWeighted, reports: &mut Reports) -> Option<EndpointSpec> {
        let address = raw.address.given();
        let address = address.and_then(|text| resolve_address(&text.value, text.span, reports));
        let weight = value::count(&raw.weight, bounds::WEIGHT, reports);
        let priority = value::count(&raw.priority, bounds::PRIORITY, reports) as u8;
        let locality = raw.locality.given();
        let locality = locality.and_then(|place| super::spread::resolve_locality(&place.value, reports));
        let locality = locality.map(|place| self.shared(place));
        let draining = raw.draining.given().is_some_and(|draining| draining.value.0);
        Some(EndpointSpec { address: address?, weight, priority, locality, draining })
    }

    fn shared(&mut self, place: Locality) -> Arc<Locality> {
        if let Some(known) = self.0.get(&place) {
            return Arc::clone(known);
        }
        let place = Arc::new(place);
        self.0.insert(Arc::clone(&place));
        place
    }
}

fn resolve_address(text: &Text, at: Span, reports: &mut Reports) -> Option<Address> {
    let text = &text.0;
    let address = match text.strip_prefix("unix:") {
        Some(path) => path_after_scheme("unix", path).ok().map(Address::Unix),
        None => text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).map(Address::from),
    };
    if address.is_none() || text.chars().any(char::is_control) {
        reports.add(at, Fault::InvalidEndpoint { text: text.clone() });
        return None;
    }
    address
}
