//! A preview: which endpoint a call would get now, without sending one.
//!
//! Why a copy and not a second way to choose? What explains a pick must be what picks, or it lies on the day it is needed. So a
//! [`Preview`] is the balancer itself, copied with its picker, its candidates and their states, and its picks are picks.
//! What a pick would change in endpoints that workers share is left out of the copy: it is not counted among them, and it
//! tries no ejected endpoint, as that takes the trial's place.
//!
//! Rule for the shares: as many picks as asked for, one after the other, so that what goes in turn shows its turns; calls in
//! flight stay as they are. Prequal uses its probes up, hence each of its picks begins from a fresh copy. Where a pick leaves
//! nothing to chance, one is enough. An endpoint that does not take its call, as its circuit breaker is open, is passed over for
//! another, as an attempt does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Balancer, Pick, RefusedBy, Slot};
use crate::call::Ask;
use crate::endpoint::Endpoint;
use crate::policy::{Picker, Policy, TableKind};

/// Copies that a prequal's shares are found with at most: each costs O(n).
const COPIES_MAX: usize = 64;

/// A copy of a balancer that may pick as it likes: nobody notices. See the module's documentation.
#[derive(Debug)]
pub struct Preview {
    balancer: Balancer,
}

/// How a preview's picks went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shares {
    /// Picks by endpoint, most first; those without any are left out.
    pub endpoints: Vec<(Slot, usize)>,
    /// Picks that would have let their call wait.
    pub queued: usize,
    /// Picks that would have failed their call.
    pub failed: usize,
    /// Picks after which no endpoint took the call.
    pub refused: usize,
}

/// What becomes of one call.
enum Chosen {
    Endpoint(Slot),
    Queued,
    Failed,
    Refused,
}

impl Shares {
    /// All picks.
    #[must_use]
    pub fn picks(&self) -> usize {
        self.queued
            + self.failed
            + self.refused
            + self.endpoints.iter().map(|(_, count)| count).sum::<usize>()
    }
}

impl Balancer {
    /// A copy for previews, whose random numbers are of this seed; O(n) in the endpoints.
    #[must_use]
    pub fn preview(&self, seed: u64) -> Preview {
        Preview { balancer: self.copied(seed) }
    }

    /// Picks for a call that each endpoint takes or not; after `passed_over_max` that did not, it waits.
    fn choose(&mut self, ask: &Ask, passed_over_max: usize, takes: &impl Fn(&Endpoint) -> bool) -> Chosen {
        let mut passed_over = Vec::new();
        let mut pick = self.pick(ask);
        while let Some(slot) = pick.slot() {
            if takes(self.endpoint(slot)) {
                return Chosen::Endpoint(slot);
            }
            if passed_over.len() == passed_over_max {
                return Chosen::Queued;
            }
            passed_over.push(slot);
            pick = self.pick_excluding(ask, &passed_over);
        }
        match pick {
            _ if !passed_over.is_empty() => Chosen::Refused,
            Pick::Queue => Chosen::Queued,
            _ => Chosen::Failed,
        }
    }

    fn copied(&self, seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            config: self.config,
            slots: self.slots.copied(),
            members: self.members.clone(),
            is_resolved: self.is_resolved,
            tally: self.tally,
            groups: self.groups.clone(),
            keys: self.keys.clone(),
            health: self.health.clone(),
            past: self.past,
            loads: self.loads.clone(),
            panics: Arc::new(self.panics.copied()),
            panic_changes: VecDeque::new(),
            last_resort: self.last_resort.clone(),
            last_resort_cursor: self.last_resort_cursor,
            trial_looks: self.trial_looks,
            sequence: self.sequence.clone(),
            schedule: BTreeSet::new(),
            surplus: Vec::new(),
            wants_re_resolution: false,
            set: self.set.clone(),
            changes: Arc::clone(&self.changes),
            heeded: self.heeded,
            next_look_at: self.next_look_at,
            outliers: None,
            outlier_changes: VecDeque::new(),
        }
    }
}

impl Preview {
    /// Chooses an endpoint as [`Balancer::pick`] does.
    pub fn pick(&mut self, ask: &Ask) -> Pick {
        self.balancer.pick(ask)
    }

    /// Which endpoints get how many of `picks` calls of this kind, at least one, all chosen now.
    pub fn shares(&mut self, ask: &Ask, picks: usize) -> Shares {
        self.shares_of_takers(ask, picks, 0, |_| true)
    }

    /// The same where endpoints may turn calls away: one that does not take a call is passed over for another, and after
    /// `passed_over_max` of them the call waits.
    pub fn shares_of_takers(
        &mut self,
        ask: &Ask,
        picks: usize,
        passed_over_max: usize,
        takes: impl Fn(&Endpoint) -> bool,
    ) -> Shares {
        let picks = if self.leaves_nothing_to_chance(ask) { 1 } else { picks.max(1) };
        let mut counts = vec![0; self.balancer.slots.len()];
        let mut shares = Shares::default();
        let is_used_up = matches!(self.balancer.config.policy, Policy::Prequal(_));
        for _ in 0..if is_used_up { picks.min(COPIES_MAX) } else { picks } {
            let chosen = if is_used_up {
                let seed = self.balancer.rng.next_u64();
                self.balancer.copied(seed).choose(ask, passed_over_max, &takes)
            } else {
                self.balancer.choose(ask, passed_over_max, &takes)
            };
            match chosen {
                Chosen::Endpoint(slot) => counts[slot.index()] += 1,
                Chosen::Queued => shares.queued += 1,
                Chosen::Failed => shares.failed += 1,
                Chosen::Refused => shares.refused += 1,
            }
        }
        let slots = self.balancer.slots.iter().map(|(slot, _)| (slot, counts[slot.index()]));
        shares.endpoints = slots.filter(|(_, count)| *count > 0).collect();
        shares.endpoints.sort_by_key(|(slot, count)| (core::cmp::Reverse(*count), *slot));
        shares
    }

    /// Whether the same endpoint gets every such call as long as no state changes: it follows from the call's key, or there
    /// is one for all.
    #[must_use]
    pub fn leaves_nothing_to_chance(&self, ask: &Ask) -> bool {
        self.balancer.sequence.is_some()
            || (TableKind::of(self.balancer.config.policy).is_some() && ask.hash.is_some())
    }

    /// The endpoint that the call's key belongs to, of the group that gets the call, in whatever state it is: not the one that
    /// stands in for it. `None` without a key, and under policies that do not hash.
    #[must_use]
    pub fn owner(&mut self, ask: &Ask) -> Option<Slot> {
        let group = self.balancer.choose_group(ask);
        self.balancer.groups[group].picker.home(ask.hash?)
    }

    /// Why a pick fails although endpoints are ready: see [`Balancer::refusal`].
    #[must_use]
    pub fn refusal(&self) -> Option<RefusedBy> {
        self.balancer.refusal()
    }

    /// The endpoint in a slot.
    ///
    /// # Panics
    /// If the slot is not of this preview's balancer.
    #[must_use]
    pub fn endpoint(&self, slot: Slot) -> &Arc<Endpoint> {
        self.balancer.endpoint(slot)
    }
}
