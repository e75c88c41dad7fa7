//! The endpoints of a cluster as discovery reported them: one immutable list, swapped as a whole.
//!
//! Workers compare two lists to learn what changed. To make that cheap where it hurts (on a worker's thread), the set
//! is sorted once, by the control plane, along a *ring*: by the hash of the address. Two rings are compared in one walk
//! without any table, and a [subset](crate::subset) is an arc of the ring.

use core::sync::atomic::AtomicU64;
use std::sync::Arc;

use super::Endpoint;
use crate::address::Address;
use crate::policy::{HashTable, Policy, Share, TableKind};

/// Endpoints a set can hold. Those beyond it are left out, the last first; see [`EndpointSet::left_out`].
///
/// More than one DNS answer can hold (a message has at most 65,535 bytes), and a bound on what a broken source can make us
/// keep: at 256 bytes each, 16 MiB.
pub const MAX_ENDPOINTS: usize = 65_536;

/// An immutable list of endpoints. Endpoints that stay from one set to the next keep their [`Arc`], so their counters
/// survive.
#[derive(Debug)]
pub struct EndpointSet {
    /// In discovery's order, which pick_first follows.
    endpoints: Box<[Arc<Endpoint>]>,
    /// The same endpoints by (hash, address).
    ring: Box<[RingEntry]>,
    left_out: usize,
    /// For policies that hash.
    table: Option<Arc<HashTable>>,
    /// Calls in flight at this set's endpoints and its predecessors', of balancers that bound the load of an endpoint.
    bounded_calls: Arc<AtomicU64>,
}

/// One endpoint's place on the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingEntry {
    /// Index into [`EndpointSet::endpoints`].
    pub(crate) index: u32,
    /// The endpoint's weight in this set, at least 1: read without touching the endpoint's own memory.
    pub(crate) weight: u32,
}

impl EndpointSet {
    /// A set of new endpoints, each with its weight.
    ///
    /// An address listed more than once counts once, with its first weight: gRPC's rule, and a name server that repeats
    /// an answer must not change the balance.
    #[must_use]
    pub fn new(addresses: &[(Address, u32)]) -> Self {
        Self::build(addresses, &[])
    }

    /// The set that follows this one: endpoints with an equal address are reused, and take the weight given here. What
    /// this one was prepared for, the new one is prepared for as well.
    #[must_use]
    pub fn updated(&self, addresses: &[(Address, u32)]) -> Self {
        let mut known: Vec<&Arc<Endpoint>> = self.endpoints.iter().collect();
        known.sort_unstable_by(|a, b| a.address().cmp(b.address()));
        let mut next = Self::build(addresses, &known);
        next.bounded_calls = Arc::clone(&self.bounded_calls);
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
        };
        HashTable::new(kind, self.ring.iter().zip(0..).map(share).collect())
    }

    /// Whether the other has the same endpoints at the same places, with the same weights.
    fn has_same_ring(&self, other: &Self) -> bool {
        let listed = |set: &Self, entry: &RingEntry| Arc::as_ptr(&set.endpoints[entry.index as usize]);
        let is_same =
            |(a, b): (&RingEntry, &RingEntry)| a.weight == b.weight && listed(self, a) == listed(other, b);
        self.ring.len() == other.ring.len() && self.ring.iter().zip(&other.ring).all(is_same)
    }

    /// How many endpoints no key leads to, as the table this set was prepared with is too small for them; worth a warning
    /// unless 0.
    #[must_use]
    pub fn without_share(&self) -> usize {
        self.table.as_ref().map_or(0, |table| table.without_share())
    }

    pub(crate) fn bounded_calls(&self) -> &Arc<AtomicU64> {
        &self.bounded_calls
    }

    /// `known` is sorted by address.
    fn build(addresses: &[(Address, u32)], known: &[&Arc<Endpoint>]) -> Self {
        let listed = without_duplicates(addresses);
        let left_out = listed.len().saturating_sub(MAX_ENDPOINTS);
        let mut endpoints = Vec::with_capacity(listed.len() - left_out);
        let mut ring = Vec::with_capacity(listed.len() - left_out);
        for ((address, weight), index) in listed.into_iter().zip(0..).take(MAX_ENDPOINTS) {
            let endpoint = match known.binary_search_by(|endpoint| endpoint.address().cmp(address)) {
                Ok(found) => {
                    known[found].set_weight(*weight);
                    Arc::clone(known[found])
                }
                Err(_) => Arc::new(Endpoint::new(address.clone(), *weight)),
            };
            endpoints.push(endpoint);
            ring.push(RingEntry { index, weight: (*weight).max(1) });
        }
        let place = |entry: &RingEntry| {
            let endpoint: &Endpoint = &endpoints[entry.index as usize];
            (endpoint.hash(), endpoint.address())
        };
        ring.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        Self {
            endpoints: endpoints.into(),
            ring: ring.into(),
            left_out,
            table: None,
            bounded_calls: Arc::default(),
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
}

/// The addresses in their order, each at its first occurrence only.
fn without_duplicates(addresses: &[(Address, u32)]) -> Vec<&(Address, u32)> {
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_unstable_by(|a, b| addresses[*a].0.cmp(&addresses[*b].0).then(a.cmp(b)));
    order.dedup_by(|later, first| addresses[*later].0 == addresses[*first].0);
    order.sort_unstable();
    order.into_iter().map(|index| &addresses[index]).collect()
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
