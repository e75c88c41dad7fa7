//! The endpoints that may be picked now, as a dense list: what every policy chooses from.
//!
//! Why dense? Picking one of n at random, or looking at all, must not step over endpoints that are out. A table from slot
//! to position makes joining and leaving O(1); leaving moves the last candidate into the gap, so the order means nothing
//! unless a policy keeps it up (see [`Picker::removing`](crate::policy::Picker::removing)).
//!
//! Invariant: `list[positions[s]].slot == s` for each candidate's slot `s`; `positions` is [`ABSENT`] for all others.

use std::sync::Arc;

use crate::balancer::Slot;
use crate::endpoint::Endpoint;

/// In the table of positions: not a candidate.
const ABSENT: u32 = u32::MAX;

/// One endpoint that may be picked.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Held here too, so that a policy reads the counters without the detour over the slot.
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) slot: Slot,
    /// The endpoint's weight, at least 1, as of the balancer's last update.
    pub(crate) weight: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Candidates {
    list: Vec<Candidate>,
    positions: Vec<u32>,
}

impl Candidates {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.list.iter()
    }

    pub(crate) fn get(&self, position: usize) -> &Candidate {
        &self.list[position]
    }

    pub(crate) fn position(&self, slot: Slot) -> Option<usize> {
        let position = *self.positions.get(slot.index())?;
        (position != ABSENT).then_some(position as usize)
    }

    /// Makes room for `members` candidates of slots below `slots`, so that joining allocates nothing.
    pub(crate) fn reserve(&mut self, members: usize, slots: usize) {
        self.list.reserve(members.saturating_sub(self.list.len()));
        if self.positions.len() < slots {
            self.positions.resize(slots, ABSENT);
        }
    }

    /// Appends a candidate whose slot has none yet, and returns its position.
    pub(crate) fn push(&mut self, candidate: Candidate) -> usize {
        let position = self.list.len();
        debug_assert_eq!(self.positions[candidate.slot.index()], ABSENT, "a slot is a candidate once");
        self.positions[candidate.slot.index()] = position_u32(position);
        self.list.push(candidate);
        position
    }

    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.list.swap(a, b);
        for position in [a, b] {
            self.positions[self.list[position].slot.index()] = position_u32(position);
        }
    }

    /// Takes a candidate out; the last one takes its position.
    pub(crate) fn swap_remove(&mut self, position: usize) -> Candidate {
        let removed = self.list.swap_remove(position);
        self.positions[removed.slot.index()] = ABSENT;
        if let Some(moved) = self.list.get(position) {
            self.positions[moved.slot.index()] = position_u32(position);
        }
        removed
    }

    pub(crate) fn set_weight(&mut self, position: usize, weight: u32) {
        self.list[position].weight = weight;
    }
}

/// Slots are numbered by `u32`, and there are no more candidates than slots.
fn position_u32(position: usize) -> u32 {
    u32::try_from(position).expect("there are at most as many candidates as slots")
}
