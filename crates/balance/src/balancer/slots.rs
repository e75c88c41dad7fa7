//! What one worker knows about each endpoint it holds, by slot.

use core::time::Duration;
use std::sync::Arc;

use crate::backoff::Growth;
use crate::connectivity::{Connectivity, Standing};
use crate::endpoint::Endpoint;
use crate::health::Class;

/// The number under which a balancer, and its worker, know an endpoint.
///
/// It stays the same as long as the balancer holds the endpoint, and is given to another one after
/// [`Balancer::forget`](super::Balancer::forget). Slots are small numbers: a worker may keep its own table by
/// [`Slot::index`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u32);

impl Slot {
    /// The slot's place in a table, from 0 without large gaps.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) connectivity: Connectivity,
    /// Failed, and not ready since.
    pub(crate) failed: bool,
    /// In the current set, and in this worker's share of it; else the endpoint only finishes its calls.
    pub(crate) listed: bool,
    pub(crate) weight: u32,
    /// How its group counts it, if it does.
    pub(crate) class: Option<Class>,
    /// When the endpoint became ready for the first time, or again after attempts that failed: its slow start's begin.
    pub(crate) warming_since: Option<Duration>,
    pub(crate) growth: Growth,
    /// When the last attempt began.
    pub(crate) attempt_at: Duration,
    /// When the last attempt must have succeeded.
    pub(crate) attempt_deadline: Duration,
    /// No attempt begins before.
    pub(crate) retry_not_before: Duration,
    /// When the next attempt is due, if one is scheduled.
    pub(crate) scheduled_at: Option<Duration>,
}

impl Entry {
    fn new(endpoint: Arc<Endpoint>, weight: u32) -> Self {
        Self {
            endpoint,
            connectivity: Connectivity::Idle,
            failed: false,
            listed: true,
            weight,
            class: None,
            warming_since: None,
            growth: Growth::default(),
            attempt_at: Duration::ZERO,
            attempt_deadline: Duration::ZERO,
            retry_not_before: Duration::ZERO,
            scheduled_at: None,
        }
    }

    /// Since when the endpoint warms up, its connection and its health considered; `None` while it was never ready.
    pub(crate) fn warms_since(&self) -> Option<Duration> {
        self.warming_since.map(|since| since.max(self.endpoint.healthy_since()))
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.connectivity, self.failed)
    }
}

/// The table of slots. Bound: the endpoints of the current set, and those removed but not yet forgotten.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    entries: Vec<Option<Entry>>,
    /// The entries' endpoints once more, densely: what each call reads, and 10,000 entries do not fit into a near cache.
    endpoints: Vec<Option<Arc<Endpoint>>>,
    /// The entries' groups in the balancer, as densely.
    groups: Vec<u32>,
    free: Vec<Slot>,
    /// Whether this is a copy, which is not counted among the workers that share the endpoints.
    is_copy: bool,
}

impl Slots {
    /// A copy whose changes nobody else sees.
    pub(crate) fn copied(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            endpoints: self.endpoints.clone(),
            groups: self.groups.clone(),
            free: self.free.clone(),
            is_copy: true,
        }
    }

    /// Sets the state of a slot's connection, which all who share the endpoint see.
    pub(crate) fn set_connectivity(&mut self, slot: Slot, state: Connectivity) {
        let is_copy = self.is_copy;
        let entry = self.get_mut(slot);
        if !is_copy {
            entry.endpoint.worker_left(entry.connectivity);
            entry.endpoint.worker_entered(state);
        }
        entry.connectivity = state;
    }

    /// How many slots there are, free ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, slot: Slot) -> &Entry {
        self.find(slot).expect("the slot is in use: not forgotten yet")
    }

    pub(crate) fn find(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.index()).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries
            .get_mut(slot.index())
            .and_then(Option::as_mut)
            .expect("the slot is in use: not forgotten yet")
    }

    /// The endpoint in a slot.
    pub(crate) fn endpoint(&self, slot: Slot) -> &Arc<Endpoint> {
        let endpoint = self.endpoints.get(slot.index()).and_then(Option::as_ref);
        endpoint.expect("the slot is in use: not forgotten yet")
    }

    /// The group that a slot's endpoint is in.
    pub(crate) fn group(&self, slot: Slot) -> usize {
        self.groups[slot.index()] as usize
    }

    /// Gives each group's endpoints to the group that is now at this place.
    pub(crate) fn regroup(&mut self, moved: &[u32]) {
        for (group, entry) in self.groups.iter_mut().zip(&self.entries) {
            if entry.is_some() {
                *group = moved[*group as usize];
            }
        }
    }

    /// Takes the endpoint in, idle.
    pub(crate) fn insert(&mut self, endpoint: Arc<Endpoint>, weight: u32, group: u32) -> Slot {
        endpoint.worker_entered(Connectivity::Idle);
        let entry = Some(Entry::new(Arc::clone(&endpoint), weight));
        if let Some(slot) = self.free.pop() {
            self.entries[slot.index()] = entry;
            self.endpoints[slot.index()] = Some(endpoint);
            self.groups[slot.index()] = group;
            return slot;
        }
        let slot =
            Slot(u32::try_from(self.entries.len()).expect("fewer than 2^32 endpoints are held at once"));
        self.entries.push(entry);
        self.endpoints.push(Some(endpoint));
        self.groups.push(group);
        slot
    }

    pub(crate) fn free(&mut self, slot: Slot) {
        let entry = self.get(slot);
        entry.endpoint.worker_left(entry.connectivity);
        self.entries[slot.index()] = None;
        self.endpoints[slot.index()] = None;
        self.free.push(slot);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let used = |(index, entry): (u32, _)| Option::as_ref(entry).map(|entry| (Slot(index), entry));
        (0..).zip(&self.entries).filter_map(used)
    }
}

/// A balancer that goes away no longer counts among the workers that are connected.
impl Drop for Slots {
    fn drop(&mut self) {
        if self.is_copy {
            return;
        }
        for (_, entry) in self.iter() {
            entry.endpoint.worker_left(entry.connectivity);
        }
    }
}
