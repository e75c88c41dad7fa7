//! The choice of the class, and where each candidate stands.

use rand::rngs::SmallRng;

use super::stride::StrideClass;
use crate::balancer::Slot;
use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::{Picker, Verdict};

/// Classes by the power of two below the weight: 2^0 to 2^31.
const CLASSES: usize = 32;

/// A class and its credit in the smooth weighted round robin.
#[derive(Debug, Default)]
struct Class {
    strides: StrideClass,
    /// Gained with every pick, paid for being chosen; 0 while the class is empty.
    credit: i64,
}

/// Where a candidate stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    class: u8,
    index: u32,
}

#[derive(Debug, Default)]
pub(crate) struct WeightedRoundRobin {
    classes: [Class; CLASSES],
    /// Bit c says that class c has entries: empty classes are stepped over for free.
    occupied: u32,
    /// By slot; meaningful for candidates only.
    places: Vec<Place>,
    /// Sum of the weights of all candidates.
    total: i64,
}

impl WeightedRoundRobin {
    fn insert(&mut self, slot: Slot, weight: u32, rng: &mut SmallRng) {
        let class = class_of(weight);
        let strides = &mut self.classes[class].strides;
        let index = strides.insert(slot, weight, rng);
        self.occupied |= 1 << class;
        self.total += i64::from(weight);
        self.note_place(class, index);
        // What stood there is the last entry now.
        self.note_place(class, self.classes[class].strides.len() - 1);
    }

    fn remove(&mut self, slot: Slot) {
        let Place { class, index } = self.places[slot.index()];
        let class = usize::from(class);
        let strides = &mut self.classes[class].strides;
        let before = strides.total();
        let moved = strides.remove(index as usize);
        let weight = before - strides.total();
        self.total -= i64::try_from(weight).expect("one weight is a u32");
        if strides.is_empty() {
            self.occupied &= !(1 << class);
            self.classes[class].credit = 0;
        }
        moved.into_iter().for_each(|index| self.note_place(class, index));
    }

    /// Notes the index of the entry that stands there now, if any.
    fn note_place(&mut self, class: usize, index: usize) {
        if let Some(slot) = self.classes[class].strides.slot_at(index) {
            self.places[slot.index()] = Place {
                class: u8::try_from(class).expect("there are 32 classes"),
                index: u32::try_from(index).expect("there are at most as many entries as slots"),
            };
        }
    }
}

fn class_of(weight: u32) -> usize {
    weight.max(1).ilog2() as usize
}

impl Picker for WeightedRoundRobin {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        if self.places.len() < slots {
            self.places.resize(slots, Place::default());
        }
        let mut counts = [0; CLASSES];
        weights.for_each(|weight| counts[class_of(weight)] += 1);
        for (class, count) in self.classes.iter_mut().zip(counts) {
            class.strides.reserve(count);
        }
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.insert(candidate.slot, candidate.weight, rng);
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        self.remove(candidates.get(position).slot);
        position
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.remove(candidate.slot);
        self.insert(candidate.slot, candidate.weight, rng);
    }

    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, _rng: &mut SmallRng) -> Verdict {
        let mut chosen = self.occupied.trailing_zeros() as usize;
        let mut left = self.occupied;
        while left != 0 {
            let class = left.trailing_zeros() as usize;
            left &= left - 1;
            let gain = i64::try_from(self.classes[class].strides.total());
            self.classes[class].credit += gain.expect("65,536 weights of 32 bits sum up to 48 bits");
            if self.classes[class].credit > self.classes[chosen].credit {
                chosen = class;
            }
        }
        let class = &mut self.classes[chosen];
        class.credit -= self.total;
        let slot = class.strides.pick();
        Verdict::At(candidates.position(slot).expect("the picker knows candidates only"))
    }
}
