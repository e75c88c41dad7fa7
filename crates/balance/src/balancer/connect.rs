//! Connectivity: what changed, what to connect to next, and who is a candidate because of it.

use core::time::Duration;
use std::sync::Arc;

use super::{Balancer, Slot};
use crate::candidates::{Candidate, Presence};
use crate::connectivity::{Connectivity, Standing};
use crate::endpoint::Withheld;
use crate::health::Eligibility;
use crate::policy::Picker;
use crate::policy::pick_first::Step;

impl Balancer {
    /// Takes note of an endpoint's new state. Setting the same state again changes nothing.
    ///
    /// Report [`Connectivity::Idle`] when a connection that was ready ended, [`Connectivity::TransientFailure`] when an
    /// attempt failed or outlasted [`Balancer::connect_deadline`].
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn set_connectivity(&mut self, slot: Slot, state: Connectivity, now: Duration) {
        let before = self.slots.get(slot).connectivity;
        if before == state {
            return;
        }
        match state {
            Connectivity::Connecting => self.begin_attempt(slot, now),
            Connectivity::Ready => self.became_ready(slot, now),
            Connectivity::Idle | Connectivity::TransientFailure | Connectivity::Shutdown => {
                self.lost(slot, before, state, now);
            }
        }
    }

    /// The next endpoint to begin a connection attempt to, which counts as connecting from now on.
    ///
    /// `None` when nothing is to be done before [`Balancer::next_deadline`], or while [`Balancer::surplus_connection`]
    /// has not been asked until it said `None`. All policies connect to each endpoint of the worker's share, pick_first
    /// to one after the other, 250 ms apart at most, until one is ready.
    pub fn wants_connection(&mut self, now: Duration) -> Option<Slot> {
        if !self.surplus.is_empty() {
            return None;
        }
        let slot = match &self.sequence {
            None => self.first_due(now),
            Some(_) => self.next_in_sequence(now),
        }?;
        self.begin_attempt(slot, now);
        Some(slot)
    }

    /// The earliest time at which [`Balancer::wants_connection`] will have an endpoint, if nothing happens before; a time
    /// in the past means now.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.sequence {
            Some(sequence) if !sequence.is_retrying() => sequence.next_at(),
            _ => self.schedule.first().map(|(at, _)| *at),
        }
    }

    /// When the attempt under way must have succeeded: the longer of its backoff delay and the least connect timeout
    /// after its start. `None` for a slot that is not connecting.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[must_use]
    pub fn connect_deadline(&self, slot: Slot) -> Option<Duration> {
        let entry = self.slots.get(slot);
        (entry.connectivity == Connectivity::Connecting).then_some(entry.attempt_deadline)
    }

    /// An endpoint whose connection, or attempt, is no longer needed: pick_first has selected another. It counts as idle
    /// already and gets no new calls; give an attempt up at once, close a connection when its last call has ended.
    pub fn surplus_connection(&mut self) -> Option<Slot> {
        self.surplus.pop()
    }

    /// Whether discovery should look again, because an endpoint was lost or cannot be reached. Asking clears it.
    ///
    /// Discovery bounds how often it follows.
    pub fn wants_re_resolution(&mut self) -> bool {
        std::mem::take(&mut self.wants_re_resolution)
    }

    fn begin_attempt(&mut self, slot: Slot, now: Duration) {
        self.unschedule(slot);
        let entry = self.slots.get_mut(slot);
        let delay = entry.growth.next(&self.config.backoff, &mut self.rng);
        entry.attempt_at = now;
        entry.retry_not_before = now.saturating_add(delay);
        entry.attempt_deadline = now.saturating_add(delay.max(self.config.backoff.min_connect_timeout));
        let (failed, listed) = (entry.failed, entry.listed);
        self.set_state(slot, Connectivity::Connecting, failed);
        self.settle(slot);
        if let Some(sequence) = self.sequence.as_mut().filter(|_| listed) {
            sequence.attempt_began(slot, now);
        }
    }

    fn became_ready(&mut self, slot: Slot, now: Duration) {
        self.unschedule(slot);
        let base = self.config.backoff.base;
        let entry = self.slots.get_mut(slot);
        entry.growth.reset();
        if entry.failed || entry.warming_since.is_none() {
            entry.warming_since = Some(now);
            entry.endpoint.note_warming(now);
        }
        // Attempts stay a base delay apart, start to start, so that a server which accepts connections only to drop them
        // is not dialled in a tight loop. A connection that lived longer is replaced at once.
        entry.retry_not_before = entry.retry_not_before.min(entry.attempt_at.saturating_add(base));
        self.set_state(slot, Connectivity::Ready, false);
        self.settle(slot);
    }

    fn lost(&mut self, slot: Slot, before: Connectivity, state: Connectivity, now: Duration) {
        let failed = self.slots.get(slot).failed || state == Connectivity::TransientFailure;
        self.set_state(slot, state, failed);
        self.settle(slot);
        let entry = self.slots.get(slot);
        if !entry.listed {
            return;
        }
        let retry_at = entry.retry_not_before.max(now);
        match &mut self.sequence {
            None => {
                let was_lost = before == Connectivity::Ready;
                self.wants_re_resolution |= was_lost || state == Connectivity::TransientFailure;
            }
            Some(sequence) => {
                self.wants_re_resolution |= sequence.lost(slot);
            }
        }
        let waits = self.sequence.as_ref().is_some_and(|sequence| sequence.selected().is_some());
        if state != Connectivity::Shutdown && !waits {
            self.schedule_attempt(slot, retry_at);
        }
    }

    fn first_due(&self, now: Duration) -> Option<Slot> {
        self.schedule.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// pick_first's next endpoint. Ends: each step advances the pass, which goes over to retrying.
    fn next_in_sequence(&mut self, now: Duration) -> Option<Slot> {
        loop {
            let was_retrying = self.sequence.as_ref()?.is_retrying();
            match self.sequence.as_mut()?.next_step(now) {
                Step::Wait => return None,
                Step::Try(slot) => {
                    let entry = self.slots.get(slot);
                    let is_down =
                        matches!(entry.connectivity, Connectivity::Idle | Connectivity::TransientFailure);
                    if is_down && entry.retry_not_before <= now {
                        return Some(slot);
                    }
                    if is_down {
                        self.schedule_attempt(slot, entry.retry_not_before);
                    }
                }
                Step::TryAnyDue => {
                    if !was_retrying {
                        self.pass_ended();
                    }
                    return self.first_due(now);
                }
            }
        }
    }

    fn pass_ended(&mut self) {
        self.wants_re_resolution = true;
        let all_failed = self.tally.ready == 0 && self.tally.pending == 0;
        if let Some(sequence) = self.sequence.as_mut().filter(|_| all_failed) {
            sequence.set_failing();
        }
    }

    /// Sets a slot's state and all counts that depend on it.
    fn set_state(&mut self, slot: Slot, state: Connectivity, failed: bool) {
        let standing_before = self.slots.get(slot).standing();
        self.slots.set_connectivity(slot, state);
        let entry = self.slots.get_mut(slot);
        entry.failed = failed;
        if entry.listed {
            let standing = entry.standing();
            self.tally.remove(standing_before);
            self.tally.add(standing);
        }
    }

    /// Puts a slot among the candidates, the last resorts or neither, as its health and the policy say, and spreads the load
    /// anew.
    pub(super) fn settle(&mut self, slot: Slot) {
        self.settle_alone(slot);
        self.respread();
    }

    /// As [`Balancer::settle`], for several: the load is spread anew after the last.
    pub(super) fn settle_alone(&mut self, slot: Slot) {
        let entry = self.slots.get(slot);
        let eligibility = if entry.listed {
            Eligibility::of(entry.connectivity, &entry.endpoint, self.is_panic_for(slot))
        } else {
            Eligibility::Out
        };
        if self.sequence.is_some() {
            self.settle_in_sequence(slot, eligibility);
        } else {
            self.place(slot, eligibility);
        }
        self.recount(slot);
    }

    /// As pick_first has it: the selected endpoint is a candidate, and all others are not even connected. But none is selected while
    /// one before it in the order has not had the result of its first check, or the quickest check would choose.
    fn settle_in_sequence(&mut self, slot: Slot, eligibility: Eligibility) {
        let must_wait = eligibility == Eligibility::Candidate && self.is_behind_unchecked(slot);
        let Some(sequence) = &mut self.sequence else { return };
        let is_needed = match eligibility {
            Eligibility::Candidate if must_wait => {
                sequence.pass_over(slot);
                self.place(slot, Eligibility::LastResort);
                return;
            }
            Eligibility::Candidate => sequence.select(slot),
            Eligibility::LastResort => {
                self.wants_re_resolution |= sequence.deselect(slot);
                sequence.pass_over(slot);
                sequence.selected().is_none()
            }
            Eligibility::Out => {
                self.wants_re_resolution |= sequence.deselect(slot);
                true
            }
        };
        if !is_needed {
            self.make_surplus(slot);
            return;
        }
        self.place(slot, eligibility);
        if eligibility == Eligibility::Candidate {
            self.drop_all_but(slot);
        }
    }

    /// Whether an endpoint that comes before this one in pick_first's order is ready and may turn out to be healthy, and none is
    /// selected.
    fn is_behind_unchecked(&self, slot: Slot) -> bool {
        let Some(sequence) = self.sequence.as_ref().filter(|sequence| sequence.selected().is_none()) else {
            return false;
        };
        let is_unchecked = |slot: &Slot| {
            let entry = self.slots.get(*slot);
            entry.connectivity == Connectivity::Ready && entry.endpoint.is_withheld_as(Withheld::Unchecked)
        };
        sequence.order().iter().take_while(|other| **other != slot).any(is_unchecked)
    }

    /// Ends the attempts and connections that the selection of `selected` makes needless; O(n), once per selection.
    fn drop_all_but(&mut self, selected: Slot) {
        for index in 0..self.members.len() {
            let slot = self.members[index];
            if slot == selected {
                continue;
            }
            self.unschedule(slot);
            if matches!(self.slots.get(slot).connectivity, Connectivity::Connecting | Connectivity::Ready) {
                self.make_surplus(slot);
            }
        }
    }

    fn make_surplus(&mut self, slot: Slot) {
        let failed = self.slots.get(slot).failed;
        self.set_state(slot, Connectivity::Idle, failed);
        self.place(slot, Eligibility::Out);
        self.surplus.push(slot);
    }

    pub(super) fn place(&mut self, slot: Slot, eligibility: Eligibility) {
        let group = &mut self.groups[self.slots.group(slot)];
        if eligibility != Eligibility::Candidate
            && let Some(position) = group.candidates.position(slot)
        {
            let position = group.picker.removing(&mut group.candidates, position);
            group.candidates.swap_remove(position);
        }
        if eligibility != Eligibility::LastResort
            && let Some(position) = self.last_resort.position(slot)
        {
            self.last_resort.swap_remove(position);
        }
        let list = match eligibility {
            Eligibility::Candidate => &mut group.candidates,
            Eligibility::LastResort => &mut self.last_resort,
            Eligibility::Out => {
                self.note_absence(slot, eligibility);
                return;
            }
        };
        if list.position(slot).is_some() {
            return;
        }
        let entry = self.slots.get(slot);
        let candidate = Candidate { endpoint: Arc::clone(&entry.endpoint), slot, weight: entry.weight };
        let position = list.push(candidate, entry.warms_since().unwrap_or_default());
        if eligibility == Eligibility::Candidate {
            group.picker.added(&mut group.candidates, position, &mut self.rng);
        } else {
            self.note_absence(slot, eligibility);
        }
    }

    /// Tells policies that look for one certain endpoint why this one is no candidate.
    pub(super) fn note_absence(&mut self, slot: Slot, eligibility: Eligibility) {
        let entry = self.slots.get(slot);
        let presence = match eligibility {
            Eligibility::LastResort => Presence::Draining,
            _ if entry.listed && entry.standing() == Standing::Pending => Presence::Awaited,
            _ => Presence::Out,
        };
        self.groups[self.slots.group(slot)].candidates.set_absent(slot, presence);
    }

    pub(super) fn schedule_attempt(&mut self, slot: Slot, at: Duration) {
        self.unschedule(slot);
        self.slots.get_mut(slot).scheduled_at = Some(at);
        self.schedule.insert((at, slot));
    }

    pub(super) fn unschedule(&mut self, slot: Slot) {
        if let Some(at) = self.slots.get_mut(slot).scheduled_at.take() {
            self.schedule.remove(&(at, slot));
        }
    }
}
