//! Which targets of an SRV answer count: those of the best priority, each with its port and weight.
//!
//! Priorities other than the best are meant for when no target of a better one can be reached (RFC 2782). Whether an
//! endpoint can be reached is the balancer's business and not known here, so they are left out. A weight of 0 counts
//! as 1: "a very small chance of being selected", where our policies know whole weights only.

use std::collections::HashMap;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData};

use super::families::Families;

/// One host of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceTarget {
    pub(super) host: Name,
    pub(super) port: u16,
    pub(super) weight: u32,
}

/// The targets of `lookup` that count, in the order of the answer; none if the service is said to be not available
/// (a target of `.`).
pub(super) fn targets(lookup: &Lookup) -> Vec<ServiceTarget> {
    best(lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    }))
}

fn best<'a>(services: impl Iterator<Item = &'a SRV> + Clone) -> Vec<ServiceTarget> {
    let services = services.filter(|service| !service.target.is_root());
    let priority = services.clone().map(|service| service.priority).min();
    services
        .filter(|service| Some(service.priority) == priority)
        .map(|service| ServiceTarget {
            host: service.target.clone(),
            port: service.port,
            weight: u32::from(service.weight).max(1),
        })
        .collect()
}

/// The addresses the answer carries along for its targets (its additional section). CoreDNS sends all of them, so that
/// a headless Service costs one question.
pub(super) fn glue(lookup: &Lookup) -> HashMap<Name, Families> {
    let mut glue: HashMap<Name, Families> = HashMap::new();
    for record in lookup.additionals() {
        match &record.data {
            RData::A(address) => glue.entry(record.name.clone()).or_default().v4.push(address.0),
            RData::AAAA(address) => glue.entry(record.name.clone()).or_default().v6.push(address.0),
            _ => {}
        }
    }
    glue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(services: &[(u16, u16, u16, &str)]) -> Vec<(String, u16, u32)> {
        let services: Vec<SRV> = services
            .iter()
            .map(|(priority, weight, port, target)| {
                SRV::new(*priority, *weight, *port, Name::from_ascii(target).unwrap())
            })
            .collect();
        let targets = best(services.iter());
        targets.into_iter().map(|target| (target.host.to_ascii(), target.port, target.weight)).collect()
    }

    #[test]
    fn only_the_lowest_priority_counts() {
        let services = [(2, 1, 1, "c."), (1, 1, 1, "a."), (1, 1, 2, "b."), (3, 1, 1, "d.")];
        assert_eq!(chosen(&services), [("a.".to_owned(), 1, 1), ("b.".to_owned(), 2, 1)]);
    }

    #[test]
    fn weights_are_kept_and_zero_counts_as_one() {
        let services = [(0, 0, 1, "a."), (0, 1, 1, "b."), (0, u16::MAX, 1, "c.")];
        assert_eq!(chosen(&services).iter().map(|target| target.2).collect::<Vec<_>>(), [1, 1, 65_535]);
    }

    #[test]
    fn the_root_as_target_means_no_service() {
        assert_eq!(chosen(&[(0, 0, 0, ".")]), []);
        assert_eq!(chosen(&[(0, 0, 0, "."), (1, 1, 1, "a.")]).len(), 1);
        assert_eq!(chosen(&[]), []);
    }
}
