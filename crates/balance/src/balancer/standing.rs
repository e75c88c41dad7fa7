//! What the balancer says of its endpoints to those who ask why: whether each may be picked, and what keeps calls from it.

use core::time::Duration;
use std::sync::Arc;

use super::pick::works;
use super::{Balancer, Slot};
use crate::connectivity::Connectivity;
use crate::endpoint::Endpoint;
use crate::health::{Despite, Ineligible};
use crate::limit::Resource;
use crate::policy::{Learned, Picker, ReportedWeight};

/// What a balancer knows about one of its endpoints.
#[derive(Clone, Copy, Debug)]
pub struct SlotStatus<'a> {
    /// The slot.
    pub slot: Slot,
    /// The endpoint in it.
    pub endpoint: &'a Arc<Endpoint>,
    /// The connection's state.
    pub connectivity: Connectivity,
    /// Whether it failed and was not ready since.
    pub is_failing: bool,
    /// Whether it may get calls when ready; false for an endpoint that was removed.
    pub is_listed: bool,
    /// Whether a pick can return it now.
    pub is_candidate: bool,
}

/// How far an endpoint is in its slow start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Warming {
    /// The part of its weight that it has, above 0 and at most 1.
    pub share: f64,
    /// Until it has all of it.
    pub remaining: Duration,
}

impl Balancer {
    /// All endpoints the balancer holds, by slot.
    pub fn slots(&self) -> impl Iterator<Item = SlotStatus<'_>> {
        self.slots.iter().map(|(slot, entry)| SlotStatus {
            slot,
            endpoint: &entry.endpoint,
            connectivity: entry.connectivity,
            is_failing: entry.failed,
            is_listed: entry.listed,
            is_candidate: self.groups[self.slots.group(slot)].candidates.position(slot).is_some(),
        })
    }

    /// Everything that keeps calls from an endpoint while others can take them; empty for one that may be picked. It is what
    /// holds now, whether a pick has noticed it already or not.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn ineligible(&self, slot: Slot) -> Vec<Ineligible> {
        let entry = self.slots.get(slot);
        if !entry.listed {
            return vec![Ineligible::Removed];
        }
        let selected = self.sequence.as_ref().and_then(|sequence| sequence.selected());
        if selected.is_some_and(|selected| selected != slot) {
            return vec![Ineligible::NotSelected];
        }
        let reasons =
            self.why_without_share(slot).into_iter().chain(Ineligible::of_state(entry.connectivity));
        let at_limit = entry.endpoint.breaker().is_open(Resource::Requests).then_some(Ineligible::AtLimit);
        reasons.chain(at_limit).chain(Ineligible::of_withheld(&entry.endpoint)).collect()
    }

    /// Tells of endpoints why they get calls although something withholds them; `None` of one that nothing withholds, or that
    /// gets none. It is what holds since the newest pick. The answer panics for a slot that was forgotten.
    pub fn despite(&self) -> impl Fn(Slot) -> Option<Despite> + '_ {
        // Who gets the calls while there is no candidate, as `pick` has it.
        let takes_last: fn(&Endpoint) -> bool = if self.insists() {
            works
        } else if self.has_candidates() {
            |_| false
        } else if self.last_resort.iter().any(|one| works(&one.endpoint)) {
            works
        } else if self.awaits_service() {
            |_| false
        } else {
            |_| true
        };
        move |slot| {
            let entry = self.slots.get(slot);
            let can_take_one = entry.listed
                && entry.connectivity == Connectivity::Ready
                && !entry.endpoint.breaker().is_open(Resource::Requests);
            if !can_take_one || !entry.endpoint.is_withheld() || self.fails_in_panic(self.slots.group(slot)) {
                return None;
            }
            let is_heeded = !self.is_panic_for(slot) || entry.endpoint.is_draining();
            if !is_heeded && self.why_without_share(slot).is_none() {
                return Some(Despite::Panic);
            }
            takes_last(&entry.endpoint).then_some(Despite::NoOther)
        }
    }

    /// The weight by the load that an endpoint reported, before slow start; `None` where the policy knows no such weights, while
    /// none can be used yet, and after it has expired.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn reported_weight(&self, slot: Slot, now: Duration) -> Option<ReportedWeight> {
        self.groups[self.slots.group(slot)].picker.reported_weight(slot, now)
    }

    /// What this balancer learned of an endpoint from its calls and chooses by; `None` where it knows nothing, and where the policy
    /// goes by nothing of the kind.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn learned(&self, slot: Slot, now: Duration) -> Option<Learned> {
        self.groups[self.slots.group(slot)].picker.learned(slot, self.endpoint(slot), now)
    }

    /// How far an endpoint is in its slow start; `None` where none is configured, while it was never ready, and when it is
    /// over.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn warming(&self, slot: Slot, now: Duration) -> Option<Warming> {
        let slow_start = self.config.slow_start?;
        let age = now.saturating_sub(self.slots.get(slot).warms_since()?);
        let remaining = slow_start.window.checked_sub(age).filter(|remaining| !remaining.is_zero())?;
        Some(Warming { share: slow_start.factor(age), remaining })
    }
}
