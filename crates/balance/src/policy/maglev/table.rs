//! The table, and how it is filled.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use twox_hash::XxHash64;

use super::TableSize;
use crate::policy::consistent::Share;

/// While a table is filled: an entry that nobody has taken. There are never so many shares.
const FREE: u32 = u32::MAX;

/// By entry: the number of the [`Share`] that has it.
#[derive(Debug)]
pub(crate) struct Maglev {
    owners: Box<[u32]>,
}

impl Maglev {
    /// A table for these shares, of which there is at least one, in the order of their keys.
    pub(crate) fn new(shares: &[Share], size: TableSize) -> Self {
        let mut owners = vec![FREE; size.get() as usize];
        let mut turns = Turns::new(shares);
        let mut preferences: Vec<Preferences> =
            shares.iter().map(|share| Preferences::new(&share.key, size)).collect();
        for _ in 0..owners.len() {
            let owner = turns.next();
            let preferences = &mut preferences[owner as usize];
            // Ends: a whole row of preferences holds each entry once, and one is free.
            let entry = core::iter::repeat_with(|| preferences.next())
                .find(|entry| owners[*entry] == FREE)
                .expect("an endless row has another element");
            owners[entry] = owner;
        }
        Self { owners: owners.into() }
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// The entry a hash belongs to.
    pub(crate) fn find(&self, hash: u64) -> usize {
        usize::try_from(hash % self.owners.len() as u64).expect("the table is in memory")
    }

    pub(crate) fn owner(&self, index: usize) -> u32 {
        self.owners[index]
    }

    /// The owners of all entries, in their order.
    pub(crate) fn owners(&self) -> impl Iterator<Item = u32> {
        self.owners.iter().copied()
    }
}

/// The entries an endpoint prefers, first choice first.
struct Preferences {
    next: u64,
    skip: u64,
    size: u64,
}

impl Preferences {
    fn new(key: &str, size: TableSize) -> Self {
        let size = u64::from(size.get());
        let hash = |seed| XxHash64::oneshot(seed, key.as_bytes());
        Self { next: hash(0) % size, skip: hash(1) % (size - 1) + 1, size }
    }

    fn next(&mut self) -> usize {
        let entry = self.next;
        self.next = (entry + self.skip) % self.size;
        usize::try_from(entry).expect("the table is in memory")
    }
}

/// Whose turn it is. Envoy asks every endpoint in every turn; with one weight a million times the others' that is a million
/// turns in which most are asked in vain. Here each is asked when it is due, in the same order.
struct Turns {
    /// Normalised, and what `turn * weight` must reach next.
    weights: Vec<(f64, f64)>,
    largest: f64,
    /// (turn, owner), first due first.
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Turns {
    fn new(shares: &[Share]) -> Self {
        let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        #[expect(clippy::cast_precision_loss, reason = "65,536 weights of 32 bits sum up to 48 bits")]
        let normalized = |share: &Share| f64::from(share.weight) / sum as f64;
        let weights: Vec<(f64, f64)> = shares.iter().map(|share| (normalized(share), 0.0)).collect();
        let largest = weights.iter().map(|(weight, _)| *weight).fold(0.0, f64::max);
        // With nothing to reach yet, all are due in the first turn.
        let due = (0..).take(shares.len()).map(|owner| Reverse((1, owner))).collect();
        Self { weights, largest, due }
    }

    fn next(&mut self) -> u32 {
        let mut first = self.due.peek_mut().expect("there is at least one share, and each has a next turn");
        let Reverse((turn, owner)) = *first;
        let (weight, target) = &mut self.weights[owner as usize];
        *target += self.largest;
        *first = Reverse((turn_reaching(*target, *weight, turn + 1), owner));
        owner
    }
}

/// The first turn from `from` on for which `turn * weight` is not below the target, by the same multiplication that Envoy
/// makes: a quotient may round to one turn more or less.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a turn is at most 2^23 entries times 2^32, the largest quotient of two weights, and some: few are above \
              2^53, and there a turn more or less is not worth a thought"
)]
fn turn_reaching(target: f64, weight: f64, from: u64) -> u64 {
    let near = (target / weight).floor() as u64;
    let mut turn = near.saturating_sub(1).max(from);
    // At most three steps: the quotient is exact to one.
    while turn <= near + 1 && (turn as f64) * weight < target {
        turn += 1;
    }
    turn
}
