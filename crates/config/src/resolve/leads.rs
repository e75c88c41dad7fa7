//! Which calls come to a cluster: over which kind of listener, and by which kind of route.
//!
//! Worked out from the configuration as written, before anything is resolved: a key of a cluster may have no effect for what the
//! routes are that lead there. Where something is not known, as a name is misspelt, nothing is concluded.

use std::collections::{HashMap, HashSet};

use super::listener;
use crate::listen::ListenAddress;
use crate::model::MetadataRules;
use crate::raw::{List, RawConfig, RawListener, RawRoute, Text};

/// Which calls have the address of the client that they come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Addresses {
    /// All: they come over TCP.
    All,
    /// None: they come over Unix domain sockets.
    None,
    /// Some, or it is not known.
    Some,
}

/// What calls have of the clients that they come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clients {
    pub(super) addresses: Addresses,
    /// What all the listeners by which they come do about their metadata.
    rules: MetadataRules,
}

impl Clients {
    /// Nothing is known.
    pub(super) const ANY: Self = Self { addresses: Addresses::Some, rules: MetadataRules::NONE };

    /// Those of a listener.
    pub(super) fn of(raw: &RawListener) -> Self {
        let addresses = match raw.address.given().map(|given| &given.value) {
            Some(ListenAddress::Tcp(_)) => Addresses::All,
            Some(ListenAddress::Unix(_)) => Addresses::None,
            None => Addresses::Some,
        };
        Self { addresses, rules: listener::metadata_rules(raw).unwrap_or(MetadataRules::NONE) }
    }

    /// Why no call of theirs has a field of this name, given in lower case.
    pub(super) fn why_hidden(self, name: &str) -> Option<&'static str> {
        self.rules.why_hidden(name)
    }

    fn and(self, other: Self) -> Self {
        let addresses = if self.addresses == other.addresses { self.addresses } else { Addresses::Some };
        Self { addresses, rules: self.rules.both(other.rules) }
    }
}

/// What leads to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lead {
    /// The clients of all listeners with routes that lead there.
    pub(super) clients: Clients,
    /// Whether calls may be tried again or hedged there; true also where that is not known.
    pub(super) tries_again: bool,
}

impl Lead {
    /// Nothing is known.
    const UNKNOWN: Self = Self { clients: Clients::ANY, tries_again: true };
}

/// What leads to each cluster.
pub(super) struct Leads<'a> {
    known: HashMap<&'a str, Lead>,
}

impl<'a> Leads<'a> {
    /// Those of a configuration; none are known if anything about its routes is not.
    pub(super) fn of(raw: &'a RawConfig) -> Self {
        let mut leads = Self { known: HashMap::new() };
        let names: HashSet<&str> = raw.clusters.given().map_or_else(HashSet::new, |clusters| {
            let names = clusters.value.entries.iter().filter_map(|cluster| cluster.value.name.given());
            names.map(|name| name.value.0.as_str()).collect()
        });
        if let Some(listeners) = raw.listeners.given().filter(|listeners| listeners.is_whole) {
            leads.read(&listeners.value);
        }
        if leads.known.keys().any(|name| !names.contains(name)) {
            leads.known.clear();
        }
        leads
    }

    fn read(&mut self, listeners: &'a List<RawListener>) {
        for listener in listeners.entries.iter().map(|entry| &entry.value) {
            let clients = Clients::of(listener);
            for route in listener.routes.given().into_iter().flat_map(|routes| &routes.value.entries) {
                let tries_again = route.value.retry.given().is_some() || route.value.hedge.given().is_some();
                for name in answering(&route.value) {
                    self.add(name, Lead { clients, tries_again });
                }
                // Copies are sent once.
                if let Some(name) = route.value.mirror.given().and_then(|mirror| mirror.value.cluster.given())
                {
                    self.add(&name.value, Lead { clients, tries_again: false });
                }
            }
        }
    }

    fn add(&mut self, name: &'a Text, lead: Lead) {
        let known = self.known.entry(&name.0).or_insert(lead);
        known.clients = known.clients.and(lead.clients);
        known.tries_again |= lead.tries_again;
    }

    /// What leads to the cluster of this name. Of a cluster that nothing leads to nothing is known: it may be there for later.
    pub(super) fn to(&self, name: &str) -> Lead {
        self.known.get(name).copied().unwrap_or(Lead::UNKNOWN)
    }
}

/// The clusters that answer a route's calls.
pub(super) fn answering(route: &RawRoute) -> impl Iterator<Item = &Text> {
    let shares = route.split.given().into_iter().flat_map(|split| &split.value.entries);
    let split = shares.filter_map(|share| share.value.cluster.given());
    route.cluster.given().into_iter().chain(split).map(|name| &name.value)
}
