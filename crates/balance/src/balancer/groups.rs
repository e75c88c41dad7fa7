//! The balancer's groups of endpoints, one per priority and locality of the set: their health, and which one gets a call.
//!
//! Most clusters have one group, and pay nothing for it but a look at how many there are.

use core::time::Duration;
use std::sync::Arc;

use super::{Balancer, Slot};
use crate::call::Ask;
use crate::candidates::Candidates;
use crate::endpoint::EndpointSet;
use crate::health::{Class, Ineligible};
use crate::locality::Locality;
use crate::policy::{Picker, PolicyPicker};
use crate::spread::{GroupHealth, GroupKey, PanicChange, PanicCounts};

/// Changes that wait to be asked for; more are dropped. Each is a log line.
const CHANGES_MAX: usize = 16;

/// Endpoints among which the policy chooses.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) picker: PolicyPicker,
    pub(super) candidates: Candidates,
}

/// One priority, or one locality of it, as a worker sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupLoad {
    /// The priority.
    pub priority: u8,
    /// The locality; `None` where localities are not looked at, or nobody said.
    pub locality: Option<Arc<Locality>>,
    /// Its endpoints that this worker uses, but for those that drain.
    pub endpoints: u32,
    /// Those that are ready or may soon be, and that nothing withholds.
    pub available: u32,
    /// Those that may be picked now.
    pub candidates: u32,
    /// Its part of the worker's calls, 0 to 1; not worked out under pick_first, which has one endpoint.
    pub load: f64,
    /// Whether health is disregarded in its priority, as too few endpoints are available.
    pub is_panic: bool,
}

/// A rule by which a pick fails although endpoints are ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedBy {
    /// Too few endpoints of a priority are available, and calls fail then.
    Panic {
        /// The priority.
        priority: u8,
        /// Its endpoints that are available.
        available: u32,
        /// All of them, but for those that drain.
        total: u32,
    },
    /// The call's key belongs to an endpoint that cannot take it, and no other may.
    Affinity,
}

impl Balancer {
    /// Makes the first groups those of the set, in its order. Groups that it has no more stay behind them while endpoints
    /// that finish their calls refer to them.
    pub(super) fn regroup(&mut self, set: &EndpointSet) {
        self.join_panics(set);
        let is_same = |(key, group): (&GroupKey, &crate::endpoint::Group)| *key == group.key;
        if self.keys.len() == set.groups().len() && self.keys.iter().zip(set.groups()).all(is_same) {
            return;
        }
        let mut old: Vec<Option<Group>> = self.groups.drain(..).map(Some).collect();
        let mut moved = vec![u32::MAX; old.len()];
        for (place, group) in set.groups().iter().enumerate() {
            let known = self.keys.iter().position(|key| *key == group.key);
            if let Some(known) = known {
                moved[known] = place as u32;
            }
            let kept = known.and_then(|known| old[known].take());
            self.groups.push(kept.unwrap_or_else(|| Group {
                picker: PolicyPicker::new(self.config.policy, self.config.slow_start),
                candidates: Candidates::default(),
            }));
        }
        let mut is_used = vec![false; old.len()];
        self.slots.iter().for_each(|(slot, _)| is_used[self.slots.group(slot)] = true);
        for (place, group) in old.into_iter().enumerate() {
            let Some(group) = group else { continue };
            if is_used[place] {
                moved[place] = self.groups.len() as u32;
                self.groups.push(group);
            } else {
                self.past.0 = self.past.0 + group.picker.probe_counts();
                self.past.1 = self.past.1 + group.picker.load_reports();
            }
        }
        self.slots.regroup(&moved);
        self.keys = set.groups().iter().map(|group| group.key.clone()).collect();
        self.health = vec![GroupHealth::default(); self.groups.len()];
        let counted: Vec<(Slot, Class)> =
            self.slots.iter().filter_map(|(slot, entry)| entry.class.map(|class| (slot, class))).collect();
        for (slot, class) in counted {
            self.count(slot, class, 1);
        }
    }

    /// Panics are counted with the set, for all workers.
    fn join_panics(&mut self, set: &EndpointSet) {
        if Arc::ptr_eq(&self.panics, set.panics()) {
            return;
        }
        self.leave_panics();
        self.panics = Arc::clone(set.panics());
    }

    /// The group of the next call.
    pub(super) fn choose_group(&mut self, ask: &Ask) -> usize {
        if self.keys.len() <= 1 {
            return 0;
        }
        match &self.sequence {
            Some(sequence) => sequence.selected().map_or(0, |slot| self.slots.group(slot)),
            None => self.loads.choose(ask.hash),
        }
    }

    pub(super) fn has_candidates(&self) -> bool {
        match &self.groups[..] {
            [group] => !group.candidates.is_empty(),
            groups => groups.iter().any(|group| !group.candidates.is_empty()),
        }
    }

    /// Whether health is disregarded for an endpoint, and calls go there all the same.
    pub(super) fn is_panic_for(&self, slot: Slot) -> bool {
        if self.loads.panics() == 0 || self.set.as_ref().is_some_and(|set| set.spread().panic.fails) {
            return false;
        }
        let key = self.keys.get(self.slots.group(slot));
        key.is_some_and(|key| self.loads.is_panicking(key.priority))
    }

    /// Whether calls that fall to this group fail as too few endpoints are available.
    pub(super) fn fails_in_panic(&self, group: usize) -> bool {
        self.loads.panics() != 0
            && self.loads.is_panicking(self.keys[group].priority)
            && self.set.as_ref().is_some_and(|set| set.spread().panic.fails)
    }

    /// Counts an endpoint in its group as what it is now, and spreads the load anew if that changed anything.
    pub(super) fn recount(&mut self, slot: Slot) {
        let entry = self.slots.get(slot);
        let class = entry.listed.then(|| Class::of(entry.standing(), &entry.endpoint));
        let before = std::mem::replace(&mut self.slots.get_mut(slot).class, class);
        if let Some(before) = before {
            self.count(slot, before, -1);
        }
        if let Some(class) = class {
            self.count(slot, class, 1);
        }
    }

    fn count(&mut self, slot: Slot, class: Class, by: i32) {
        let health = &mut self.health[self.slots.group(slot)];
        if class != Class::Excluded {
            health.total = health.total.wrapping_add_signed(by);
        }
        if class == Class::Available {
            health.available = health.available.wrapping_add_signed(by);
        }
    }

    /// Works out which group gets how much. O(g); allocates nothing.
    pub(super) fn respread(&mut self) {
        let Some(set) = &self.set else { return };
        if self.sequence.is_some() {
            return;
        }
        let spread = set.spread();
        if self.keys.len() == 1 && spread.panic.threshold == 0 {
            return;
        }
        for (health, group) in self.health.iter_mut().zip(&self.groups) {
            health.candidates = group.candidates.len() as u32;
            health.weight = group.candidates.total_weight();
        }
        let before = self.loads.panics();
        self.loads.update(spread, &self.keys, &self.health[..self.keys.len()]);
        if self.loads.panics() != before {
            self.note_panics(before);
            // Others may be picked now than before.
            self.look_again();
        }
    }

    fn note_panics(&mut self, before: u16) {
        let Some(mode) = self.set.as_ref().map(|set| set.spread().panic) else { return };
        let now = self.loads.panics();
        for priority in (0_u8..16).filter(|priority| (before ^ now) & (1 << priority) != 0) {
            let began = now & (1 << priority) != 0;
            let is_news = if began { self.panics.begin(priority) } else { self.panics.end(priority) };
            if !is_news || self.panic_changes.len() >= CHANGES_MAX {
                continue;
            }
            let of_priority = self.keys.iter().zip(&self.health).filter(|(key, _)| key.priority == priority);
            let mut change = PanicChange {
                priority,
                began,
                available: 0,
                total: 0,
                threshold: mode.threshold,
                fails: mode.fails,
            };
            for (_, health) in of_priority {
                change.available += health.available;
                change.total += health.total;
            }
            self.panic_changes.push_back(change);
        }
    }

    /// Whether [`Balancer::poll_panic_change`] has something.
    #[must_use]
    #[inline]
    pub fn has_panic_change(&self) -> bool {
        !self.panic_changes.is_empty()
    }

    /// A priority whose health begins or ends to be disregarded by the workers, since this was last asked; at most 16 are
    /// kept. Of several workers, the first to begin and the last to end say so.
    pub fn poll_panic_change(&mut self) -> Option<PanicChange> {
        self.panic_changes.pop_front()
    }

    /// The set's groups, what this worker knows of each, and the part of the calls that each gets now; nothing before the
    /// first set.
    #[must_use]
    pub fn group_loads(&self) -> Vec<GroupLoad> {
        if self.set.is_none() {
            return Vec::new();
        }
        let groups = self.keys.iter().zip(&self.groups).zip(&self.health).enumerate();
        let describe = |(place, ((key, group), health)): (usize, ((&GroupKey, &Group), &GroupHealth))| {
            // The only group has all calls without a share worked out for it, but none if nothing in it can take one.
            let takes_any = health.available > 0 || !group.candidates.is_empty();
            let share = self.loads.shares().get(place).copied().unwrap_or(1.0);
            GroupLoad {
                priority: key.priority,
                locality: key.locality.clone(),
                endpoints: health.total,
                available: health.available,
                candidates: group.candidates.len() as u32,
                load: if takes_any { share } else { 0.0 },
                is_panic: self.loads.is_panicking(key.priority),
            }
        };
        groups.map(describe).collect()
    }

    /// Why the group of a listed endpoint gets no calls although it might take some; `None` if it gets some, or if that is for its
    /// endpoints' own states to tell.
    pub(super) fn why_without_share(&self, slot: Slot) -> Option<Ineligible> {
        /// All calls, but for what rounding may take off a sum.
        const ALL: f64 = 1.0 - 1e-6;
        let (place, shares) = (self.slots.group(slot), self.loads.shares());
        // pick_first has no shares, and the only group has none worked out.
        if self.sequence.is_some() || shares.get(place).is_none_or(|share| *share > 0.0) {
            return None;
        }
        let own = self.keys[place].priority;
        let (mut before, mut of_priority) = (0.0, 0.0);
        for (key, share) in self.keys.iter().zip(shares) {
            before += if key.priority < own { *share } else { 0.0 };
            of_priority += if key.priority == own { *share } else { 0.0 };
        }
        if before >= ALL {
            return Some(Ineligible::Standby);
        }
        let could_take_some = !self.groups[place].candidates.is_empty();
        (of_priority > 0.0 && could_take_some).then_some(Ineligible::LocalityWithoutShare)
    }

    /// Why a pick fails although endpoints are ready, if it is for the cluster's own rules:
    /// [`PanicMode::fails`](crate::PanicMode::fails) and [`Affinity::Fail`](crate::Affinity::Fail).
    #[must_use]
    pub fn refusal(&self) -> Option<RefusedBy> {
        let failing = self.keys.iter().enumerate().find(|(group, _)| self.fails_in_panic(*group));
        if let Some((_, GroupKey { priority, .. })) = failing {
            let of_priority = self.keys.iter().zip(&self.health).filter(|(key, _)| key.priority == *priority);
            let (available, total) = of_priority.fold((0, 0), |(available, total), (_, health)| {
                (available + health.available, total + health.total)
            });
            return Some(RefusedBy::Panic { priority: *priority, available, total });
        }
        (self.insists() && self.has_candidates()).then_some(RefusedBy::Affinity)
    }

    /// Under panic: takes note if something else withholds an endpoint than was known, or nothing does any more.
    pub(super) fn notice(&mut self, slot: Slot) {
        let entry = self.slots.get(slot);
        let class = Class::of(entry.standing(), &entry.endpoint);
        if entry.listed && entry.class != Some(class) {
            self.settle(slot);
        }
    }

    /// Whether a withheld endpoint that was chosen under panic gets the call; and whether as a trial.
    pub(super) fn chosen_in_panic(&mut self, slot: Slot, now: Duration) -> Option<super::Pick> {
        if !self.is_panic_for(slot) || self.endpoint(slot).is_draining() {
            return None;
        }
        self.notice(slot);
        if !self.is_panic_for(slot) {
            return None;
        }
        let is_trial = !self.insists() && self.claim_trial(slot, now);
        Some(if is_trial { super::Pick::Trial(slot) } else { super::Pick::Endpoint(slot) })
    }

    /// Ends all panics of this balancer: another set's, or it goes away.
    pub(super) fn leave_panics(&mut self) {
        let panics = self.loads.panics();
        for priority in (0_u8..16).filter(|priority| panics & (1 << priority) != 0) {
            PanicCounts::end(&self.panics, priority);
        }
        if panics != 0 {
            self.look_again();
        }
        self.loads.calm();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.leave_panics();
    }
}
