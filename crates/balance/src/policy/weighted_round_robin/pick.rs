//! The picker of static weights: a rotation of the candidates.

use rand::rngs::SmallRng;

use super::Rotation;
use crate::balancer::Slot;
use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::{Picker, Verdict};

#[derive(Clone, Debug, Default)]
pub(crate) struct WeightedRoundRobin {
    rotation: Rotation,
}

impl WeightedRoundRobin {
    /// The candidate whose turn it is; there is at least one.
    pub(crate) fn next(&mut self) -> Slot {
        self.rotation.next()
    }

    /// Whether all candidates weigh the same.
    pub(crate) fn is_even(&self) -> bool {
        self.rotation.is_even()
    }
}

impl Picker for WeightedRoundRobin {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        self.rotation.reserve(slots, weights.map(|weight| weight..=weight));
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.rotation.insert(candidate.slot, candidate.weight, rng);
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        self.rotation.remove(candidates.get(position).slot);
        position
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.rotation.reweigh(candidate.slot, candidate.weight, rng);
    }

    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, _rng: &mut SmallRng) -> Verdict {
        Verdict::At(candidates.position(self.next()).expect("the rotation holds candidates only"))
    }
}
