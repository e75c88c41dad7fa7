//! One class: candidates whose weights differ by less than a factor of two, served by static strides.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::balancer::Slot;

#[derive(Clone, Debug)]
struct Entry {
    slot: Slot,
    weight: u32,
    /// Below the class' largest weight.
    phase: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct StrideClass {
    entries: Vec<Entry>,
    /// Entries before it were met in this round, those from it on were not.
    cursor: usize,
    /// The largest weight; 0 while there is no entry.
    largest: u32,
    /// How many entries have the largest weight.
    largest_count: usize,
    /// Sum of the weights.
    total: u64,
}

impl StrideClass {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all weigh the same.
    pub(crate) fn is_even(&self) -> bool {
        self.largest_count == self.entries.len()
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn slot_at(&self, index: usize) -> Option<Slot> {
        self.entries.get(index).map(|entry| entry.slot)
    }

    /// Makes room for this many entries in all.
    pub(crate) fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries.saturating_sub(self.entries.len()));
    }

    /// Adds an entry at a random place among those not yet met. Returns its index; the entry that stood there is the
    /// last one now.
    pub(crate) fn insert(&mut self, slot: Slot, weight: u32, rng: &mut SmallRng) -> usize {
        if weight > self.largest {
            (self.largest, self.largest_count) = (weight, 0);
        }
        self.largest_count += usize::from(weight == self.largest);
        self.total += u64::from(weight);
        let last = self.entries.len();
        self.entries.push(Entry { slot, weight, phase: rng.random_range(0..self.largest) });
        let index = rng.random_range(self.cursor..=last);
        self.entries.swap(index, last);
        index
    }

    /// Removes an entry. Up to two others change their index to one of those returned: the gap, and the border of the
    /// entries met.
    pub(crate) fn remove(&mut self, index: usize) -> [usize; 2] {
        let mut gap = index;
        if index < self.cursor {
            self.cursor -= 1;
            gap = self.cursor;
            self.entries.swap(index, gap);
        }
        let removed = self.entries.swap_remove(gap);
        self.total -= u64::from(removed.weight);
        if removed.weight == self.largest {
            self.largest_count -= 1;
            if self.largest_count == 0 {
                self.find_largest();
            }
        }
        [index, gap]
    }

    fn find_largest(&mut self) {
        self.largest = self.entries.iter().map(|entry| entry.weight).max().unwrap_or(0);
        self.largest_count = self.entries.iter().filter(|entry| entry.weight == self.largest).count();
        for entry in &mut self.entries {
            entry.phase %= self.largest;
        }
    }

    /// The slot whose turn it is. There is at least one entry.
    pub(crate) fn pick(&mut self) -> Slot {
        loop {
            // Ends within two rounds: a weight is more than half of `largest`, so each entry is due at every second
            // meeting at the latest.
            if self.cursor >= self.entries.len() {
                self.cursor = 0;
            }
            let entry = &mut self.entries[self.cursor];
            self.cursor += 1;
            let phase = u64::from(entry.phase) + u64::from(entry.weight);
            let largest = u64::from(self.largest);
            let due = phase >= largest;
            let phase = if due { phase - largest } else { phase };
            entry.phase = u32::try_from(phase).expect("a phase is below the largest weight, a u32");
            if due {
                return entry.slot;
            }
        }
    }
}
