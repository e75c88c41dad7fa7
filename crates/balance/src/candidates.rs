//! The endpoints that may be picked now, as a dense list: what every policy chooses from.
//!
//! Why dense? Picking one of n at random, or looking at all, must not step over endpoints that are out. A table from slot
//! to position makes joining and leaving O(1); leaving moves the last candidate into the gap, so the order means nothing
//! unless a policy keeps it up (see [`Picker::removing`](crate::policy::Picker::removing)).
//!
//! Besides, the table tells what a slot that is no candidate is instead, for policies that look for one certain endpoint.
//!
//! Invariants: `list` and `warming_since` are as long; `list[positions[s]].slot == s` for each candidate's slot `s`; for all others `positions[s]` is [`OUT`],
//! [`DRAINING`] or [`AWAITED`]. `total_weight` is the sum of the list's weights.

use core::time::Duration;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::balancer::Slot;
use crate::endpoint::Endpoint;
use crate::slow_start::SlowStart;

/// In the table of positions: neither a candidate nor about to be one.
const OUT: u32 = u32::MAX;
/// In the table of positions: ready, but draining.
const DRAINING: u32 = u32::MAX - 1;
/// In the table of positions: listed and not ready, but not known to fail.
const AWAITED: u32 = u32::MAX - 2;

/// What a slot is to a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// A candidate, at this position.
    At(usize),
    /// May become a candidate soon: idle or connecting, and not known to fail.
    Awaited,
    /// Still serves, but asked for no new calls.
    Draining,
    /// Nothing to a policy.
    Out,
}

/// One endpoint that may be picked; aligned so that none is in two cache lines, and small so that thousands stay in a cache.
#[derive(Clone, Debug)]
#[repr(align(16))]
pub(crate) struct Candidate {
    /// Held here too, so that a policy reads the counters without the detour over the slot.
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) slot: Slot,
    /// The endpoint's weight, at least 1, as of the balancer's last update.
    pub(crate) weight: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    list: Vec<Candidate>,
    /// Since when each of them warms up, see [`slow_start`](crate::slow_start); apart, as most picks do not ask.
    warming_since: Vec<Duration>,
    /// The least of those, as of the last candidate that joined.
    warm_longest: Duration,
    /// Whether the candidate of that has left since.
    warm_longest_left: bool,
    /// Nobody has been warming up for less, since the list was last empty.
    warm_shortest: Duration,
    positions: Vec<u32>,
    total_weight: u64,
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
        (position < AWAITED).then_some(position as usize)
    }

    pub(crate) fn warming_since(&self, position: usize) -> Duration {
        self.warming_since[position]
    }

    /// The part of its weight that a candidate has while it warms up; 1 without a slow start.
    pub(crate) fn warmth(&self, position: usize, slow_start: Option<&SlowStart>, now: Duration) -> f64 {
        slow_start
            .map_or(1.0, |slow_start| slow_start.factor(now.saturating_sub(self.warming_since(position))))
    }

    /// Whether a candidate takes part in a choice that draws: one that warms up does with the probability of its share, by that
    /// of the one that is warm the longest. Why not a lower weight? Where the best of a sample is taken, what counts a tenth
    /// of the others loses each time, and gets nothing at all until it is warm.
    #[inline]
    pub(crate) fn takes_part(
        &self,
        position: usize,
        slow_start: Option<&SlowStart>,
        now: Duration,
        rng: &mut SmallRng,
    ) -> bool {
        // Most of the time all are warm, or equally new: then none is looked at.
        let are_alike = |slow_start: &SlowStart| {
            self.warm_shortest == self.warm_longest
                || now.saturating_sub(self.warm_shortest) >= slow_start.window
        };
        slow_start.is_none_or(|slow_start| {
            are_alike(slow_start) || self.is_drawn_warming(position, slow_start, now, rng)
        })
    }

    fn is_drawn_warming(
        &self,
        position: usize,
        slow_start: &SlowStart,
        now: Duration,
        rng: &mut SmallRng,
    ) -> bool {
        let since = self.warming_since(position);
        if since <= self.warm_longest {
            return true;
        }
        let [warmth, most] =
            [since, self.warm_longest].map(|since| slow_start.factor(now.saturating_sub(since)));
        warmth >= most || rng.random::<f64>() * most < warmth
    }

    /// The sum of the candidates' weights.
    pub(crate) fn total_weight(&self) -> u64 {
        self.total_weight
    }

    pub(crate) fn presence(&self, slot: Slot) -> Presence {
        match self.positions.get(slot.index()) {
            None | Some(&OUT) => Presence::Out,
            Some(&DRAINING) => Presence::Draining,
            Some(&AWAITED) => Presence::Awaited,
            Some(position) => Presence::At(*position as usize),
        }
    }

    /// Notes what a slot that is no candidate is instead.
    pub(crate) fn set_absent(&mut self, slot: Slot, presence: Presence) {
        let Some(position) = self.positions.get_mut(slot.index()) else { return };
        debug_assert!(*position >= AWAITED, "a candidate is taken out first");
        *position = match presence {
            Presence::Awaited => AWAITED,
            Presence::Draining => DRAINING,
            Presence::At(_) | Presence::Out => OUT,
        };
    }

    /// Makes room for `members` candidates of slots below `slots`, so that joining allocates nothing.
    pub(crate) fn reserve(&mut self, members: usize, slots: usize) {
        let joining = members.saturating_sub(self.list.len());
        self.list.reserve(joining);
        self.warming_since.reserve(joining);
        if self.positions.len() < slots {
            self.positions.resize(slots, OUT);
        }
    }

    /// Appends a candidate whose slot has none yet, and returns its position.
    pub(crate) fn push(&mut self, candidate: Candidate, warming_since: Duration) -> usize {
        let position = self.list.len();
        debug_assert!(self.positions[candidate.slot.index()] >= AWAITED, "a slot is a candidate once");
        self.positions[candidate.slot.index()] = position_u32(position);
        self.total_weight += u64::from(candidate.weight);
        self.list.push(candidate);
        self.warming_since.push(warming_since);
        if self.list.len() == 1 || self.warm_longest_left {
            self.warm_longest = self.warming_since.iter().copied().min().unwrap_or_default();
            self.warm_longest_left = false;
        }
        self.warm_longest = self.warm_longest.min(warming_since);
        self.warm_shortest =
            if position == 0 { warming_since } else { self.warm_shortest.max(warming_since) };
        position
    }

    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.list.swap(a, b);
        self.warming_since.swap(a, b);
        for position in [a, b] {
            self.positions[self.list[position].slot.index()] = position_u32(position);
        }
    }

    /// Takes a candidate out; the last one takes its position.
    pub(crate) fn swap_remove(&mut self, position: usize) -> Candidate {
        let removed = self.list.swap_remove(position);
        let since = self.warming_since.swap_remove(position);
        self.warm_longest_left |= since == self.warm_longest;
        self.positions[removed.slot.index()] = OUT;
        self.total_weight -= u64::from(removed.weight);
        if let Some(moved) = self.list.get(position) {
            self.positions[moved.slot.index()] = position_u32(position);
        }
        removed
    }

    pub(crate) fn set_weight(&mut self, position: usize, weight: u32) {
        let before = std::mem::replace(&mut self.list[position].weight, weight);
        self.total_weight = self.total_weight - u64::from(before) + u64::from(weight);
    }
}

/// Slots are numbered by `u32`, and there are no more candidates than slots.
fn position_u32(position: usize) -> u32 {
    u32::try_from(position).expect("there are at most as many candidates as slots")
}
