//! The balancer: one worker's view of one cluster, and its choice of an endpoint for each call.
//!
//! # How a worker uses it
//! ```text
//! discovery's new set ------> update ------------> close connections of `removed` as their calls end, then `forget`
//! connection events --------> set_connectivity --> then, after every mutation and at `next_deadline`:
//!                                                    `surplus_connection` until None: give no new call, close when idle
//!                                                    `wants_connection`   until None: begin a connection attempt
//!                                                    `wants_re_resolution`: ask discovery to look again
//! a call --------------------> pick -------------> Endpoint(slot): call_started, ... call_finished
//!                                                  Queue: wait for a connectivity event; Fail: UNAVAILABLE
//! an attempt's end ----------> observe ----------> with a detector: ejects, returns; `sweep_outliers` at `next_sweep_at`
//! after a pick, and at `next_probe_deadline`: `wants_probe` until None: send it, then `probe_answered` or `probe_failed`
//! ```
//!
//! # Invariants
//! - The candidates are exactly the endpoints that are listed, ready and, as far as noticed, not withheld (draining,
//!   unhealthy, ejected); under pick_first the selected one of them.
//! - That one is withheld is noticed when it would be picked: it then leaves the candidates before another pick is made.
//! - Endpoints are in groups by priority and locality, see [`spread`](crate::spread); a group has its own candidates.
//! - Every listed endpoint that is neither ready nor connecting is scheduled for an attempt, unless pick_first has
//!   selected another or has not come to it.

mod connect;
mod groups;
mod heed;
mod outliers;
mod pick;
mod preview;
mod probe;
mod slots;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::backoff::BackoffConfig;
use crate::candidates::Candidates;
use crate::connectivity::{Connectivity, Tally};
use crate::endpoint::{Endpoint, EndpointSet};
use crate::health::Eligibility;
use crate::locality::MAX_PRIORITY;
use crate::outlier::{OutlierChange, OutlierDetector};
use crate::policy::pick_first::{Sequence, interleaved, shuffled};
use crate::policy::{LoadReportCounts, Picker, Policy, PolicyPicker, ProbeCounts, TableKind};
use crate::slow_start::SlowStart;
use crate::spread::{GroupHealth, GroupKey, Loads, PanicChange, PanicCounts};
use crate::subset::WorkerShare;

use groups::Group;
pub use groups::{GroupLoad, RefusedBy};
use outliers::TrialLooks;
pub use pick::Pick;
pub use preview::{Preview, Shares};
pub use slots::Slot;
use slots::Slots;
pub use standing::{SlotStatus, Warming};

/// What a balancer is made of.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct BalancerConfig {
    /// How an endpoint is chosen. Default: least_request with a sample of two.
    pub policy: Policy,
    /// When to try again to connect. Default: gRPC's, see [`BackoffConfig`].
    pub backoff: BackoffConfig,
    /// Which endpoints this worker connects to. Default: all. pick_first takes no heed of it, as it connects to one, nor do
    /// ring_hash and maglev, as the same key must meet the same endpoint through every worker.
    pub share: WorkerShare,
    /// How the share of a new endpoint grows, under the policies that heed weights. Default: it has its share at once.
    pub slow_start: Option<SlowStart>,
}

/// What an update changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use = "removed slots keep their memory until they are forgotten"]
pub struct Changes {
    /// Endpoints new to this balancer; idle.
    pub added: Vec<Slot>,
    /// Endpoints that get no new calls. Finish their calls, close their connections, then [`Balancer::forget`] them.
    pub removed: Vec<Slot>,
}

/// One worker's balancer for one cluster. The module's documentation shows how to drive it.
#[derive(Debug)]
pub struct Balancer {
    rng: SmallRng,
    config: BalancerConfig,
    slots: Slots,
    /// The listed slots, in the order of the ring.
    members: Vec<Slot>,
    /// Whether there was an update: before it there is nothing to fail about.
    is_resolved: bool,
    tally: Tally,
    /// Those of the set, in its order, at least one; then those that only finish calls.
    groups: Vec<Group>,
    /// The set's groups.
    keys: Vec<GroupKey>,
    /// By group.
    health: Vec<GroupHealth>,
    /// What became of probes and load reports in groups that are gone.
    past: (ProbeCounts, LoadReportCounts),
    loads: Loads,
    panics: Arc<PanicCounts>,
    panic_changes: VecDeque<PanicChange>,
    /// Ready but withheld: picked when there is no candidate.
    last_resort: Candidates,
    /// Where the next look at `last_resort` begins.
    last_resort_cursor: usize,
    trial_looks: TrialLooks,
    /// pick_first's order of attempts; `None` where all endpoints are connected to.
    sequence: Option<Sequence>,
    /// Attempts to come: (when, which). At most one per slot, equal to its `scheduled_at`.
    schedule: BTreeSet<(Duration, Slot)>,
    surplus: Vec<Slot>,
    wants_re_resolution: bool,
    /// The set of the newest update.
    set: Option<Arc<EndpointSet>>,
    /// Counts what begins or ceases to withhold the cluster's endpoints; the set's.
    changes: Arc<AtomicU64>,
    /// What it was when all endpoints were last looked at.
    heeded: u64,
    next_look_at: Duration,
    outliers: Option<Arc<OutlierDetector>>,
    outlier_changes: VecDeque<(Arc<str>, OutlierChange)>,
}

impl Balancer {
    /// A balancer without endpoints, with default backoff, for a worker that connects to all endpoints.
    #[must_use]
    pub fn new(policy: Policy, rng: SmallRng) -> Self {
        Self::with_config(BalancerConfig { policy, ..BalancerConfig::default() }, rng)
    }

    /// A balancer without endpoints.
    #[must_use]
    pub fn with_config(config: BalancerConfig, rng: SmallRng) -> Self {
        let picker = PolicyPicker::new(config.policy, config.slow_start);
        Self {
            loads: Loads::starting_at(rng.clone().random()),
            rng,
            config,
            slots: Slots::default(),
            members: Vec::new(),
            is_resolved: false,
            tally: Tally::default(),
            groups: vec![Group { picker, candidates: Candidates::default() }],
            keys: vec![GroupKey::default()],
            health: vec![GroupHealth::default()],
            past: Default::default(),
            panics: Arc::default(),
            panic_changes: VecDeque::new(),
            last_resort: Candidates::default(),
            last_resort_cursor: 0,
            trial_looks: TrialLooks::default(),
            sequence: matches!(config.policy, Policy::PickFirst { .. }).then(Sequence::new),
            schedule: BTreeSet::new(),
            surplus: Vec::new(),
            wants_re_resolution: false,
            set: None,
            changes: Arc::default(),
            heeded: 0,
            next_look_at: Duration::ZERO,
            outliers: None,
            outlier_changes: VecDeque::new(),
        }
    }

    /// Takes a new set of endpoints. Those that stay keep slot, connection state and backoff; O(n).
    pub fn update(&mut self, set: &Arc<EndpointSet>) -> Changes {
        self.is_resolved = true;
        self.regroup(set);
        if !Arc::ptr_eq(&self.changes, set.changes()) {
            self.changes = Arc::clone(set.changes());
            self.look_again();
        }
        self.set = Some(Arc::clone(set));
        let changes = self.replace_members(set);
        for slot in &changes.removed {
            self.unlist(*slot);
        }
        self.reserve();
        self.take_weights(set);
        for (place, group) in self.groups.iter_mut().take(self.keys.len()).enumerate() {
            group.picker.listed(set, place, &self.members);
        }
        for slot in &changes.added {
            self.note_absence(*slot, Eligibility::Out);
            self.recount(*slot);
        }
        self.respread();
        if self.sequence.is_some() {
            self.reorder_sequence(set);
        }
        if self.sequence.as_ref().is_none_or(|sequence| sequence.selected().is_none()) {
            for slot in &changes.added {
                self.schedule_attempt(*slot, Duration::ZERO);
            }
        }
        changes
    }

    /// The places on the set's ring that are this worker's: a share of each group.
    fn places(&self, set: &EndpointSet) -> impl Iterator<Item = usize> + use<> {
        // pick_first connects to one anyway. A key's endpoint must be in reach of every worker.
        let needs_all = self.sequence.is_some() || TableKind::of(self.config.policy).is_some();
        let share = if needs_all { WorkerShare::default() } else { self.config.share };
        let len = set.ring().len();
        let groups: Vec<_> = set.groups().iter().map(|group| group.places.clone()).collect();
        groups.into_iter().flat_map(move |places| {
            share.of_part(places.len(), len).places(places.len()).map(move |place| places.start + place)
        })
    }

    /// Walks the old members and the new ring side by side: both are sorted by (group, hash, address).
    fn replace_members(&mut self, set: &EndpointSet) -> Changes {
        let mut changes = Changes::default();
        let mut members = Vec::with_capacity(self.places(set).count());
        let groups = self.keys.len();
        let (known, gone): (Vec<Slot>, Vec<Slot>) =
            std::mem::take(&mut self.members).into_iter().partition(|slot| self.slots.group(*slot) < groups);
        changes.removed = gone;
        let mut old = known.into_iter().peekable();
        for place in self.places(set) {
            let entry = set.ring()[place];
            let endpoint = &set.endpoints()[entry.index as usize];
            let group = entry.group as usize;
            let mut kept = None;
            while let Some(&slot) = old.peek() {
                let known = self.slots.endpoint(slot);
                let known_group = self.slots.group(slot);
                // Most stay, and are known by where they are in memory: of 10,000 it takes long to read each one's hash.
                if known_group == group && Arc::ptr_eq(known, endpoint) {
                    kept = old.next();
                    break;
                }
                let is_behind = (known_group, known.hash(), known.address())
                    > (group, endpoint.hash(), endpoint.address());
                if is_behind {
                    break;
                }
                changes.removed.push(slot);
                old.next();
            }
            members.push(kept.unwrap_or_else(|| {
                let slot = self.slots.insert(Arc::clone(endpoint), entry.weight, entry.group);
                self.tally.add(self.slots.get(slot).standing());
                changes.added.push(slot);
                slot
            }));
        }
        changes.removed.extend(old);
        self.members = members;
        changes
    }

    /// Takes a removed endpoint out of everything that leads to new calls or attempts.
    fn unlist(&mut self, slot: Slot) {
        let entry = self.slots.get_mut(slot);
        entry.listed = false;
        self.tally.remove(entry.standing());
        self.unschedule(slot);
        self.place(slot, Eligibility::Out);
        self.recount(slot);
    }

    /// Makes room for all members as candidates, so that no pick or change of state has to.
    fn reserve(&mut self) {
        let (members, slots) = (self.members.len(), self.slots.len());
        let mut of_group = vec![0; self.groups.len()];
        self.members.iter().for_each(|slot| of_group[self.slots.group(*slot)] += 1);
        for (group, members) in self.groups.iter_mut().zip(of_group) {
            group.candidates.reserve(members, slots);
        }
        self.last_resort.reserve(members, slots);
        if self.sequence.is_some() {
            self.surplus.reserve(members);
        }
    }

    /// Hands the set's weights to the slots and the picker.
    fn take_weights(&mut self, set: &EndpointSet) {
        let places: Vec<usize> = self.places(set).collect();
        for (group, listed) in self.groups.iter_mut().zip(set.groups()) {
            let of_group = places.partition_point(|place| *place < listed.places.start)
                ..places.partition_point(|place| *place < listed.places.end);
            let mut weights = places[of_group].iter().map(|place| set.ring()[*place].weight);
            group.picker.reserve(self.slots.len(), &mut weights);
        }
        for (member, place) in places.into_iter().enumerate() {
            let (slot, weight) = (self.members[member], set.ring()[place].weight);
            if self.slots.get(slot).weight == weight {
                continue;
            }
            self.slots.get_mut(slot).weight = weight;
            let group = &mut self.groups[self.slots.group(slot)];
            if let Some(position) = group.candidates.position(slot) {
                group.candidates.set_weight(position, weight);
                group.picker.reweighed(&group.candidates, position, &mut self.rng);
            }
        }
    }

    /// Gives pick_first the members in discovery's order, or a shuffled one; either way the higher priorities first.
    fn reorder_sequence(&mut self, set: &EndpointSet) {
        let mut listed = vec![None; set.endpoints().len()];
        for (entry, slot) in set.ring().iter().zip(&self.members) {
            listed[entry.index as usize] = Some(*slot);
        }
        let listed = listed.into_iter().flatten();
        let mut order: Vec<Slot> = if self.config.policy == (Policy::PickFirst { shuffle: true }) {
            let weighted: Vec<_> = listed.map(|slot| (slot, self.slots.get(slot).weight)).collect();
            shuffled(&weighted, &mut self.rng)
        } else {
            listed.collect()
        };
        if set.has_several_families() {
            order = interleaved(&order, |slot| self.slots.endpoint(slot).address().family());
        }
        if self.keys.iter().any(|key| key.priority != self.keys[0].priority) {
            // Within a priority the families keep their turns.
            let mut queues = vec![Vec::new(); usize::from(MAX_PRIORITY) + 1];
            for slot in order {
                queues[usize::from(self.keys[self.slots.group(slot)].priority)].push(slot);
            }
            order = queues.concat();
        }
        if let Some(sequence) = &mut self.sequence {
            sequence.set_order(order);
        }
    }

    /// Releases a removed slot, once its calls have ended and its connections are closed.
    ///
    /// # Panics
    /// If the slot is still listed, or was forgotten before.
    pub fn forget(&mut self, slot: Slot) {
        assert!(!self.slots.get(slot).listed, "only a removed slot can be forgotten");
        self.surplus.retain(|surplus| *surplus != slot);
        self.slots.free(slot);
    }

    /// The state of the cluster, aggregated by gRPC's rules; [`Connectivity::Idle`] before the first update.
    #[must_use]
    pub fn state(&self) -> Connectivity {
        if !self.is_resolved {
            return Connectivity::Idle;
        }
        match self.tally.aggregate() {
            Connectivity::Connecting if self.is_sticky_failing() => Connectivity::TransientFailure,
            state => state,
        }
    }

    fn is_sticky_failing(&self) -> bool {
        self.sequence.as_ref().is_some_and(Sequence::is_failing)
    }

    /// How many listed endpoints are ready, draining ones included.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.tally.ready
    }

    /// The endpoint in a slot.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    #[inline]
    pub fn endpoint(&self, slot: Slot) -> &Arc<Endpoint> {
        self.slots.endpoint(slot)
    }

    /// The state last set for a slot.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn connectivity(&self, slot: Slot) -> Connectivity {
        self.slots.get(slot).connectivity
    }
}
