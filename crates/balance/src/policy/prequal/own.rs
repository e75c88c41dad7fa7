//! The choice by what the proxy knows itself, where endpoints do not answer.
//!
//! What the proxy knows of an endpoint is of this very moment and costs no probe, so there is nothing to keep in a pool.
//! Rule: of two random candidates and the [`Remembered::MAX`] best of those looked at for the last call, the best by the
//! hot-cold lexicographic rule. Why remember? A choice of two that remembers its best is as good as one of many more
//! (Mitzenmacher, Prabhakar and Shah, "Load balancing with memory", FOCS 2002).

use crate::balancer::Slot;
use crate::candidates::Candidates;

use super::pool::{index_of, indexed};

/// A candidate that was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// See [`Answer::rank`](super::pool::Answer::rank).
    pub(super) rank: u64,
    pub(super) position: usize,
    pub(super) slot: Slot,
}

/// The best candidates of those looked at last. They may have left the candidates since.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    slots: [Option<Slot>; Self::MAX],
}

impl Remembered {
    /// How many are remembered.
    pub(super) const MAX: usize = 2;

    /// Where those that are still candidates stand, if they are none of these.
    pub(super) fn positions(&self, candidates: &Candidates, but: [usize; 2]) -> [Option<usize>; Self::MAX] {
        let position = |slot| candidates.position(slot).filter(|position| !but.contains(position));
        self.slots.map(|slot| slot.and_then(position))
    }

    /// Looks at these, the first two at least, remembers the best, and returns the position of the very best.
    pub(super) fn keep_best(&mut self, first: [Look; 2], others: [Option<Look>; Self::MAX]) -> usize {
        let looks = [first[0], first[1], others[0].unwrap_or(first[0]), others[1].unwrap_or(first[0])];
        // Each as one number, so that no step depends on a guess which is better: a wrong guess costs as much as the rest. Those
        // that are not there come last, and never second, as there are two others.
        let key = |index: usize| indexed(looks[index].rank, index);
        let absent = |index: usize| if others[index - 2].is_some() { key(index) } else { u64::MAX };
        let [a, b, c, d] = [key(0), key(1), absent(2), absent(3)];
        let (low, high) = (a.min(b).min(c.min(d)), a.min(b).max(c.min(d)));
        let second = high.min(a.max(b).min(c.max(d)));
        let [best, second] = [low, second].map(|key| looks[index_of(key)]);
        self.slots = [Some(best.slot), Some(second.slot)];
        best.position
    }
}
