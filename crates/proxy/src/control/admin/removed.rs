//! Endpoints that discovery dropped, or that a reload took away, until their calls have ended.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::worker::ClusterView;

/// An endpoint that takes no more calls and finishes those it has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RemovedBody {
    address: String,
    /// Always `REMOVED`; beside the states of the endpoints.
    state: &'static str,
    /// Connections that are left, over all workers.
    connections: usize,
    /// Calls that are left, over all workers.
    in_flight: u32,
}

/// The removed endpoints of a cluster as all workers see it, by address.
pub(super) fn removed(of_workers: &[&ClusterView]) -> Vec<RemovedBody> {
    let mut found: BTreeMap<String, RemovedBody> = BTreeMap::new();
    let gone = of_workers.iter().flat_map(|view| &view.endpoints).filter(|endpoint| !endpoint.is_listed);
    for endpoint in gone {
        let address = endpoint.address.to_string();
        let body = found.entry(address.clone()).or_insert(RemovedBody {
            address,
            state: "REMOVED",
            connections: 0,
            in_flight: 0,
        });
        body.connections += endpoint.connections_left;
        // The workers share the count, so each tells all of it.
        body.in_flight = body.in_flight.max(endpoint.in_flight);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::{Address, Connectivity};

    use super::*;
    use crate::worker::EndpointView;

    fn endpoint(port: u16, is_listed: bool, connections_left: usize, in_flight: u32) -> EndpointView {
        EndpointView {
            address: Address::Tcp(([127, 0, 0, 1], port).into()),
            connectivity: Connectivity::Ready,
            is_failing: false,
            is_candidate: is_listed,
            ineligible: Vec::new(),
            despite: None,
            warming: None,
            reported_weight: None,
            learned: None,
            is_listed,
            connections: 0,
            connections_left,
            in_flight,
        }
    }

    #[test]
    fn removed_endpoints_are_those_of_all_workers_with_their_shared_count() {
        let view = |endpoints| ClusterView {
            name: "orders".into(),
            pending: 0,
            probes: None,
            groups: Vec::new(),
            endpoints,
        };
        let first = view(vec![endpoint(1, true, 1, 5), endpoint(2, false, 1, 3), endpoint(3, false, 2, 1)]);
        let second = view(vec![endpoint(2, false, 2, 3)]);
        let found = removed(&[&first, &second]);
        let expected = |address: &str, connections, in_flight| RemovedBody {
            address: address.to_owned(),
            state: "REMOVED",
            connections,
            in_flight,
        };
        assert_eq!(found, [expected("127.0.0.1:2", 3, 3), expected("127.0.0.1:3", 2, 1)]);
        assert_eq!(removed(&[&view(vec![endpoint(1, true, 1, 5)])]), []);
    }
}
