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

    /// Where those that are still candidates stand, if they are none of these. The others have the first of these instead, and
    /// are told apart: to look at one in vain takes less time than to guess wrong whether there is one.
    pub(super) fn positions(&self, candidates: &Candidates, but: [usize; 2]) -> [(usize, bool); Self::MAX] {
        self.slots.map(|slot| {
            let position = slot.and_then(|slot| candidates.position(slot)).unwrap_or(but[0]);
            (position, position != but[0] && position != but[1])
        })
    }

    /// Of looks at four, the first two of which were drawn, remembers the best two, and returns the position of the very best.
    pub(super) fn keep_best(&mut self, looks: &[Look; 2 + Self::MAX]) -> usize {
        // Each as one number, so that no step depends on a guess which is better: a wrong guess costs as much as the rest.
        let [a, b, c, d] = core::array::from_fn(|index| indexed(looks[index].rank, index));
        let low = a.min(b).min(c.min(d));
        let second = a.min(b).max(c.min(d)).min(a.max(b).min(c.max(d)));
        let [best, second] = [low, second].map(|key| &looks[index_of(key)]);
        self.slots = [Some(best.slot), Some(second.slot)];
        best.position
    }
}
