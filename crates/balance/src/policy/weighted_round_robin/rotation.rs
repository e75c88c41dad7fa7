//! The rotation: the choice of the class, and where each slot stands.

use core::ops::RangeInclusive;

use rand::rngs::SmallRng;

use super::stride::StrideClass;
use crate::balancer::Slot;

/// Classes by the power of two below the weight: 2^0 to 2^31.
const CLASSES: usize = 32;

/// A class and its credit in the smooth weighted round robin.
#[derive(Clone, Debug, Default)]
struct Class {
    strides: StrideClass,
    /// Gained with every pick, paid for being chosen; 0 while the class is empty.
    credit: i64,
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    class: u8,
    index: u32,
    /// 0 while the slot is not in the rotation.
    weight: u32,
}

/// Slots in turn, each as often as its weight says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotation {
    classes: [Class; CLASSES],
    /// Bit c says that class c has entries: empty classes are stepped over for free.
    occupied: u32,
    /// By slot.
    places: Vec<Place>,
    /// Sum of all weights.
    total: i64,
}

impl Rotation {
    /// Makes room for these slots, of which one may have any weight within each of these ranges.
    pub(crate) fn reserve(&mut self, slots: usize, ranges: impl Iterator<Item = RangeInclusive<u32>>) {
        if self.places.len() < slots {
            self.places.resize(slots, Place::default());
        }
        let mut counts = [0; CLASSES];
        for range in ranges {
            counts[class_of(*range.start())..=class_of(*range.end())]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
        for (class, count) in self.classes.iter_mut().zip(counts) {
            class.strides.reserve(count);
        }
    }

    /// The slot's weight; 0 if it is not in the rotation.
    pub(crate) fn weight(&self, slot: Slot) -> u32 {
        self.places[slot.index()].weight
    }

    /// Whether all slots in it weigh the same.
    pub(crate) fn is_even(&self) -> bool {
        self.occupied.is_power_of_two() && self.classes[self.occupied.ilog2() as usize].strides.is_even()
    }

    /// Gives a slot that is in the rotation another weight.
    pub(crate) fn reweigh(&mut self, slot: Slot, weight: u32, rng: &mut SmallRng) {
        let credit = self.take(slot);
        self.insert(slot, weight, rng);
        let class = usize::from(self.places[slot.index()].class);
        self.classes[class].credit += credit;
    }

    /// Takes a slot in; a weight of 0 counts as 1.
    pub(crate) fn insert(&mut self, slot: Slot, weight: u32, rng: &mut SmallRng) {
        let weight = weight.max(1);
        let class = class_of(weight);
        let strides = &mut self.classes[class].strides;
        let index = strides.insert(slot, weight, rng);
        self.occupied |= 1 << class;
        self.total += i64::from(weight);
        self.places[slot.index()].weight = weight;
        self.note_place(class, index);
        // What stood there is the last entry now.
        self.note_place(class, self.classes[class].strides.len() - 1);
    }

    /// Takes a slot out that is in the rotation.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let credit = self.take(slot);
        // The credits sum up to 0. Were what an emptied class had lost, they would drift, and a class that starts at 0
        // would be served too often or not at all.
        if self.occupied != 0 {
            self.classes[self.occupied.trailing_zeros() as usize].credit += credit;
        }
    }

    /// Takes a slot out, and with the last of a class the credit of the class.
    fn take(&mut self, slot: Slot) -> i64 {
        let Place { class, index, weight } = self.places[slot.index()];
        let class = usize::from(class);
        let strides = &mut self.classes[class].strides;
        let moved = strides.remove(index as usize);
        self.total -= i64::from(weight);
        self.places[slot.index()].weight = 0;
        let mut credit = 0;
        if strides.is_empty() {
            self.occupied &= !(1 << class);
            credit = core::mem::take(&mut self.classes[class].credit);
        }
        moved.into_iter().for_each(|index| self.note_place(class, index));
        credit
    }

    /// Notes the index of the entry that stands there now, if any.
    fn note_place(&mut self, class: usize, index: usize) {
        if let Some(slot) = self.classes[class].strides.slot_at(index) {
            let place = &mut self.places[slot.index()];
            place.class = u8::try_from(class).expect("there are 32 classes");
            place.index = u32::try_from(index).expect("there are at most as many entries as slots");
        }
    }

    /// The slot whose turn it is; there is at least one in the rotation.
    pub(crate) fn next(&mut self) -> Slot {
        let mut chosen = (i64::MIN, 0);
        let mut left = self.occupied;
        while left != 0 {
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            let class = &mut self.classes[place];
            // 65,536 weights of 32 bits sum up to 48 bits.
            class.credit += class.strides.total() as i64;
            // A choice between two numbers, and no branch: nobody can guess which class has more.
            chosen = if class.credit > chosen.0 { (class.credit, place) } else { chosen };
        }
        let class = &mut self.classes[chosen.1];
        class.credit -= self.total;
        class.strides.pick()
    }
}

fn class_of(weight: u32) -> usize {
    weight.max(1).ilog2() as usize
}
