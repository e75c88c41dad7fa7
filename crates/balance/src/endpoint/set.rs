//! The endpoints of a cluster as discovery reported them: one immutable list, swapped as a whole.
//!
//! Workers compare two lists to learn what changed. To make that cheap where it hurts (on a worker's thread), the set
//! is sorted once, by the control plane, along a *ring*: by the hash of the address. Two rings are compared in one walk
//! without any table, and a [subset](crate::subset) is an arc of the ring. With several [groups](crate::spread) the ring is
//! one ring per group, one behind the other.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use std::sync::Arc;

use super::Endpoint;
use crate::address::Address;
use crate::locality::{EndpointSpec, Locality, MAX_PRIORITY};
use crate::policy::{HashTable, Policy, Share, TableKind};
use crate::spread::{GroupKey, Localities, PanicCounts, SpreadConfig};

/// Endpoints a set can hold. Those beyond it are left out, the last first; see [`EndpointSet::left_out`].
///
/// More than one DNS answer can hold (a message has at most 65,535 bytes), and a bound on what a broken source can make us
/// keep: at 384 bytes each, 24 MiB.
pub const MAX_ENDPOINTS: usize = 65_536;

/// Groups a set can have: priorities times the localities of each. With more, localities are not looked at; see
/// [`EndpointSet::has_too_many_localities`]. Each worker keeps tables of all endpoints per group: 4 bytes each, with
/// weights 16, and 40 for a full scan of least_request where the group has more than 128.
pub const MAX_GROUPS: usize = 64;

/// An immutable list of endpoints. Endpoints that stay from one set to the next keep their [`Arc`], so their counters
/// survive.
#[derive(Debug)]
pub struct EndpointSet {
    /// In discovery's order, which pick_first follows.
    endpoints: Box<[Arc<Endpoint>]>,
    /// By endpoint.
    places: Box<[Place]>,
    /// The same endpoints by (group, hash, address).
    ring: Box<[RingEntry]>,
    /// By priority, then locality; at least one.
    groups: Box<[Group]>,
    left_out: usize,
    has_too_many_localities: bool,
    has_several_families: bool,
    /// For policies that hash.
    table: Option<Arc<HashTable>>,
    spread: Arc<SpreadConfig>,
    /// Workers that disregard health; shared with this set's predecessors.
    panics: Arc<PanicCounts>,
    /// Shared with this set's predecessors and with all their endpoints, see [`EndpointSet::changes`].
    changes: Arc<AtomicU64>,
}

/// What is listed of an endpoint besides its address and weight.
#[derive(Clone, Debug)]
struct Place {
    priority: u8,
    locality: Option<Arc<Locality>>,
}

/// Endpoints among which a policy chooses.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    /// Their places on the ring.
    pub(crate) places: Range<usize>,
    /// Calls in flight at the group's endpoints, and its predecessors', of balancers that bound the load of an endpoint.
    pub(crate) bounded_calls: Arc<AtomicU64>,
}

/// One endpoint's place on the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingEntry {
    /// Index into [`EndpointSet::endpoints`].
    pub(crate) index: u32,
    /// The endpoint's weight in this set, at least 1: read without touching the endpoint's own memory.
    pub(crate) weight: u32,
    /// Index into [`EndpointSet::groups`].
    pub(crate) group: u32,
}

impl EndpointSet {
    /// A set of new endpoints, each with its weight.
    ///
    /// An address listed more than once counts once, with its first weight: gRPC's rule, and a name server that repeats
    /// an answer must not change the balance.
    #[must_use]
    pub fn new(addresses: &[(Address, u32)]) -> Self {
        Self::of(&specs(addresses), &Arc::default())
    }

    /// A set of new endpoints with priorities and localities, over which calls are spread as configured. As with
    /// [`EndpointSet::new`], an address counts once.
    #[must_use]
    pub fn of(listed: &[EndpointSpec], spread: &Arc<SpreadConfig>) -> Self {
        Self::build(listed, &[], spread, None)
    }

    /// The set that follows this one: endpoints with an equal address are reused, and take the weight given here. What
    /// this one was prepared for, the new one is prepared for as well.
    #[must_use]
    pub fn updated(&self, addresses: &[(Address, u32)]) -> Self {
        self.followed_by(&specs(addresses), &self.spread)
    }

    /// As [`EndpointSet::updated`], with priorities and localities, and perhaps another way to spread calls over them.
    #[must_use]
    pub fn followed_by(&self, listed: &[EndpointSpec], spread: &Arc<SpreadConfig>) -> Self {
        let mut known: Vec<&Arc<Endpoint>> = self.endpoints.iter().collect();
        known.sort_unstable_by(|a, b| a.address().cmp(b.address()));
        let mut next = Self::build(listed, &known, spread, Some(self));
        next.table = match &self.table {
            Some(table) if next.has_same_ring(self) => Some(Arc::clone(table)),
            Some(table) => Some(Arc::new(next.make_table(table.kind()))),
            None => None,
        };
        next
    }

    /// Prepared for this policy: ring_hash and maglev have their table made here, once for all workers, and not by each of
    /// them as it takes the set. Other policies need nothing. That takes from a millisecond to seconds, by the table's
    /// size; not on a worker's thread.
    #[must_use]
    pub fn prepared_for(mut self, policy: Policy) -> Self {
        self.table = TableKind::of(policy).map(|kind| self.table(kind));
        self
    }

    /// The table of this kind: the one that was prepared, or a new one.
    pub(crate) fn table(&self, kind: TableKind) -> Arc<HashTable> {
        match &self.table {
            Some(table) if table.kind() == kind => Arc::clone(table),
            _ => Arc::new(self.make_table(kind)),
        }
    }

    fn make_table(&self, kind: TableKind) -> HashTable {
        let share = |(entry, place): (&RingEntry, u32)| Share {
            key: self.endpoints[entry.index as usize].address().to_string(),
            weight: entry.weight,
            place,
            group: entry.group,
        };
        HashTable::new(kind, self.groups.len(), self.ring.iter().zip(0..).map(share).collect())
    }

    /// Whether the other has the same endpoints at the same places, with the same weights and in the same groups.
    fn has_same_ring(&self, other: &Self) -> bool {
        let listed = |set: &Self, entry: &RingEntry| Arc::as_ptr(&set.endpoints[entry.index as usize]);
        let is_same = |(a, b): (&RingEntry, &RingEntry)| {
            (a.weight, a.group) == (b.weight, b.group) && listed(self, a) == listed(other, b)
        };
        let sizes = |set: &Self| (set.ring.len(), set.groups.len());
        sizes(self) == sizes(other) && self.ring.iter().zip(&other.ring).all(is_same)
    }

    /// How many endpoints no key leads to, as the table this set was prepared with is too small for them; worth a warning
    /// unless 0.
    #[must_use]
    pub fn without_share(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.without_share())
    }

    /// Whether there would be more than [`MAX_GROUPS`] groups, so that localities are not looked at; worth a warning.
    #[must_use]
    pub fn has_too_many_localities(&self) -> bool {
        self.has_too_many_localities
    }

    /// How many workers disregard health in a priority, as too few of its endpoints are available.
    #[must_use]
    pub fn workers_in_panic(&self, priority: u8) -> u32 {
        self.panics.workers(priority)
    }

    pub(crate) fn panics(&self) -> &Arc<PanicCounts> {
        &self.panics
    }

    /// How often something began or ceased to withhold an endpoint of the cluster: so a worker need not look at all of them to
    /// know that nothing did.
    pub(crate) fn changes(&self) -> &Arc<AtomicU64> {
        &self.changes
    }

    /// How calls are spread over its priorities and localities.
    #[must_use]
    pub fn spread(&self) -> &Arc<SpreadConfig> {
        &self.spread
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The priority of the endpoint at this place of [`EndpointSet::endpoints`].
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn priority(&self, place: usize) -> u8 {
        self.places[place].priority
    }

    /// The locality of the endpoint at this place of [`EndpointSet::endpoints`], if somebody said.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn locality(&self, place: usize) -> Option<&Arc<Locality>> {
        self.places[place].locality.as_ref()
    }

    /// `known` is sorted by address.
    fn build(
        listed: &[EndpointSpec],
        known: &[&Arc<Endpoint>],
        spread: &Arc<SpreadConfig>,
        before: Option<&Self>,
    ) -> Self {
        let listed = without_duplicates(listed);
        let left_out = listed.len().saturating_sub(MAX_ENDPOINTS);
        let changes = before.map(|before| Arc::clone(&before.changes)).unwrap_or_default();
        let mut endpoints = Vec::with_capacity(listed.len() - left_out);
        let mut places = Vec::with_capacity(listed.len() - left_out);
        for spec in listed.iter().take(MAX_ENDPOINTS) {
            let (address, weight) = (&spec.address, spec.weight);
            let endpoint = match known.binary_search_by(|endpoint| endpoint.address().cmp(address)) {
                Ok(found) => {
                    known[found].set_weight(weight);
                    Arc::clone(known[found])
                }
                Err(_) => Arc::new(Endpoint::counting(address.clone(), weight, &changes)),
            };
            endpoint.set_draining(spec.draining);
            endpoints.push(endpoint);
            places.push(Place { priority: spec.priority.min(MAX_PRIORITY), locality: spec.locality.clone() });
        }
        let looks_at_localities = spread.localities != Localities::Alike;
        let mut keys = distinct_keys(&places, looks_at_localities);
        let has_too_many_localities = keys.len() > MAX_GROUPS;
        let has_localities = looks_at_localities && !has_too_many_localities;
        if has_too_many_localities {
            keys = distinct_keys(&places, false);
        }
        let weights = listed.iter().map(|spec| spec.weight.max(1));
        let entry = |((index, weight), place): ((u32, u32), &Place)| {
            let key = place.key(has_localities);
            let group = keys.binary_search(&key).expect("each endpoint's key was collected");
            RingEntry { index, weight, group: group as u32 }
        };
        let mut ring: Vec<RingEntry> = (0..).zip(weights).zip(&places).map(entry).collect();
        let place = |entry: &RingEntry| {
            let endpoint: &Endpoint = &endpoints[entry.index as usize];
            (entry.group, endpoint.hash(), endpoint.address())
        };
        ring.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let mut families = endpoints.iter().map(|endpoint| endpoint.address().family());
        let first = families.next();
        Self {
            has_several_families: families.any(|family| Some(family) != first),
            groups: make_groups(keys, &ring, before),
            endpoints: endpoints.into(),
            places: places.into(),
            ring: ring.into(),
            left_out,
            has_too_many_localities,
            table: None,
            spread: Arc::clone(spread),
            panics: before.map(|before| Arc::clone(&before.panics)).unwrap_or_default(),
            changes,
        }
    }

    /// The endpoints in the order discovery reported them.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// How many reported endpoints the set leaves out because of [`MAX_ENDPOINTS`]; worth a warning unless 0.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(crate) fn ring(&self) -> &[RingEntry] {
        &self.ring
    }

    /// Whether the addresses are of more than one family. Known here, as on a worker's thread 10,000 addresses take long to read.
    pub(crate) fn has_several_families(&self) -> bool {
        self.has_several_families
    }
}

impl Place {
    fn key(&self, with_locality: bool) -> GroupKey {
        GroupKey { priority: self.priority, locality: self.locality.clone().filter(|_| with_locality) }
    }
}

/// The keys of the endpoints' groups, in order; one even without endpoints.
fn distinct_keys(places: &[Place], with_localities: bool) -> Vec<GroupKey> {
    let mut keys: Vec<GroupKey> = places.iter().map(|place| place.key(with_localities)).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() { vec![GroupKey::default()] } else { keys }
}

fn make_groups(keys: Vec<GroupKey>, ring: &[RingEntry], before: Option<&EndpointSet>) -> Box<[Group]> {
    let end_of = |group: usize| ring.partition_point(|entry| entry.group as usize <= group);
    let mut start = 0;
    let make = |(group, key): (usize, GroupKey)| {
        let places = start..end_of(group);
        start = places.end;
        let same = before.and_then(|before| before.groups.iter().find(|old| old.key == key));
        let bounded_calls = same.map(|old| Arc::clone(&old.bounded_calls)).unwrap_or_default();
        Group { key, places, bounded_calls }
    };
    keys.into_iter().enumerate().map(make).collect()
}

fn specs(addresses: &[(Address, u32)]) -> Vec<EndpointSpec> {
    addresses.iter().cloned().map(EndpointSpec::from).collect()
}

/// The endpoints in their order, each address at its first occurrence only.
fn without_duplicates(listed: &[EndpointSpec]) -> Vec<&EndpointSpec> {
    let mut order: Vec<usize> = (0..listed.len()).collect();
    order.sort_unstable_by(|a, b| listed[*a].address.cmp(&listed[*b].address).then(a.cmp(b)));
    order.dedup_by(|later, first| listed[*later].address == listed[*first].address);
    order.sort_unstable();
    order.into_iter().map(|index| &listed[index]).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address(last: u16) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], last)))
    }

    #[test]
    fn endpoints_that_stay_keep_their_counters_and_take_the_new_weight() {
        let old = EndpointSet::new(&[(address(1), 1), (address(2), 5)]);
        old.endpoints()[1].call_started();
        let new = old.updated(&[(address(3), 1), (address(2), 7)]);
        assert!(Arc::ptr_eq(&old.endpoints()[1], &new.endpoints()[1]));
        assert_eq!(new.endpoints()[1].in_flight(), 1);
        assert_eq!(new.endpoints()[1].weight(), 7);
        assert_eq!(new.endpoints()[0].address(), &address(3));
        assert_eq!(new.endpoints().len(), 2);
    }

    #[test]
    fn an_address_listed_twice_counts_once_with_its_first_weight() {
        let set = EndpointSet::new(&[(address(2), 3), (address(1), 1), (address(2), 9)]);
        let listed: Vec<_> = set.endpoints().iter().map(|e| (e.address().clone(), e.weight())).collect();
        assert_eq!(listed, [(address(2), 3), (address(1), 1)]);
    }

    #[test]
    fn holds_the_maximum_and_leaves_out_one_more() {
        let many = |count: u32| -> Vec<_> {
            (0..count).map(|n| (Address::Tcp(SocketAddr::from((n.to_be_bytes(), 1))), 1)).collect()
        };
        let full = EndpointSet::new(&many(65_536));
        assert_eq!((full.endpoints().len(), full.left_out()), (MAX_ENDPOINTS, 0));
        let over = EndpointSet::new(&many(65_537));
        assert_eq!((over.endpoints().len(), over.left_out()), (MAX_ENDPOINTS, 1));
        assert_eq!(over.endpoints().last().unwrap().address(), full.endpoints().last().unwrap().address());
    }

    #[test]
    fn the_ring_holds_each_endpoint_once_in_the_order_of_its_hash() {
        let addresses: Vec<_> = (0..500).map(|port| (address(port), u32::from(port))).collect();
        let set = EndpointSet::new(&addresses);
        let hashes: Vec<u64> =
            set.ring().iter().map(|entry| set.endpoints()[entry.index as usize].hash()).collect();
        assert!(hashes.is_sorted());
        let mut indices: Vec<u32> = set.ring().iter().map(|entry| entry.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..500).collect::<Vec<_>>());
        assert!(
            set.ring().iter().all(|entry| entry.weight == set.endpoints()[entry.index as usize].weight())
        );
    }
}
