//! Endpoint lists: addresses and weights.

use std::net::SocketAddr;

use evenkeel_balance::{Address, MAX_ENDPOINTS};

use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, Span};
use crate::raw::{At, List, RawEndpoint, Text};
use crate::target::path_after_scheme;

/// The endpoints with a weight above 0.
pub(crate) fn resolve_endpoints(list: &At<List<RawEndpoint>>, reports: &mut Reports) -> Vec<(Address, u32)> {
    let count = list.value.written;
    if count > MAX_ENDPOINTS {
        reports.add(list.span, Fault::TooMany { what: "endpoints", count, max: MAX_ENDPOINTS });
    }
    let mut endpoints = Vec::new();
    for entry in list.value.entries.iter().take(MAX_ENDPOINTS) {
        let (address, weight) = match &entry.value {
            RawEndpoint::Address(address) => (resolve_address(address, entry.span, reports), 1),
            RawEndpoint::Weighted(endpoint) => {
                let address = endpoint.address.given();
                let address = address.and_then(|text| resolve_address(&text.value, text.span, reports));
                (address, value::count(&endpoint.weight, bounds::WEIGHT, reports))
            }
        };
        endpoints.extend(address.filter(|_| weight > 0).map(|address| (address, weight)));
    }
    // A list without entries says that there are no endpoints. One whose weights are all 0 is more likely a slip.
    if endpoints.is_empty() && count > 0 && reports.is_empty() {
        reports.add(list.span, Fault::AllWeightsZero { of: "endpoint" });
    }
    endpoints
}

fn resolve_address(text: &Text, at: Span, reports: &mut Reports) -> Option<Address> {
    let text = &text.0;
    let address = match text.strip_prefix("unix:") {
        Some(path) => path_after_scheme("unix", path).ok().map(Address::Unix),
        None => text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).map(Address::Tcp),
    };
    if address.is_none() || text.chars().any(char::is_control) {
        reports.add(at, Fault::InvalidEndpoint { text: text.clone() });
        return None;
    }
    address
}
