//! The ring, and how it is built.

use super::RingSize;
use crate::hash::hash_bytes;
use crate::policy::consistent::Share;

/// One entry; both parts together, as a lookup reads both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    pub(super) hash: u64,
    /// The number of a [`Share`].
    pub(super) owner: u32,
}

/// Entries in the order of their hashes.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: Box<[Entry]>,
    /// By the leading bits of a hash: the first entry whose leading bits are these or more.
    directory: Box<[u32]>,
    /// How far a hash is shifted to leave the leading bits.
    shift: u32,
}

impl Ring {
    /// A ring for these shares, of which there is at least one, in the order of their keys.
    pub(crate) fn new(shares: &[Share], size: RingSize) -> Self {
        let mut entries = entries(shares, size);
        // Equal hashes, which nothing is known to have, go by the order of the shares.
        entries.sort_unstable();
        Self::of_sorted(entries)
    }

    /// A ring of these entries, of which there is at least one: where each stands, and its owner. In order.
    pub(crate) fn of(stands: &[(u64, u32)]) -> Self {
        Self::of_sorted(stands.iter().map(|(hash, owner)| Entry { hash: *hash, owner: *owner }).collect())
    }

    fn of_sorted(entries: Vec<Entry>) -> Self {
        debug_assert!(entries.is_sorted(), "a lookup goes by the order");
        let bits = entries.len().next_power_of_two().ilog2().max(1);
        let shift = u64::BITS - bits;
        let mut directory = Vec::with_capacity(1 << bits);
        let mut index = 0;
        for bucket in 0..1_u64 << bits {
            while entries.get(index).is_some_and(|entry| entry.hash >> shift < bucket) {
                index += 1;
            }
            directory.push(u32::try_from(index).expect("a ring has at most 2^23 entries and some"));
        }
        Self { entries: entries.into(), directory: directory.into(), shift }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry a hash belongs to: the first at or behind it, or the ring's first.
    pub(crate) fn find(&self, hash: u64) -> usize {
        let bucket = usize::try_from(hash >> self.shift).expect("the directory is in memory");
        let mut index = self.directory[bucket] as usize;
        while self.entries.get(index).is_some_and(|entry| entry.hash < hash) {
            index += 1;
        }
        if index == self.entries.len() { 0 } else { index }
    }

    pub(crate) fn owner(&self, index: usize) -> u32 {
        self.entries[index].owner
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where each entry stands, and its owner, in their order.
    pub(crate) fn stands(&self) -> impl Iterator<Item = (u64, u32)> {
        self.entries.iter().map(|entry| (entry.hash, entry.owner))
    }
}

/// The entries in no order. Floating-point steps are those of grpc-go and Envoy, one by one, as the number of entries of
/// each endpoint depends on how they round.
fn entries(shares: &[Share], size: RingSize) -> Vec<Entry> {
    let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    #[expect(clippy::cast_precision_loss, reason = "65,536 weights of 32 bits sum up to 48 bits")]
    let normalized = |share: &Share| f64::from(share.weight) / sum as f64;
    let least = shares.iter().map(normalized).fold(1.0, f64::min);
    let scale = size.scale(least);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2^23")]
    let mut entries = Vec::with_capacity(scale.ceil() as usize);
    let (mut current, mut target) = (0.0, 0.0);
    let mut key = Vec::new();
    for (share, owner) in shares.iter().zip(0..) {
        target += scale * normalized(share);
        key.clear();
        key.extend_from_slice(share.key.as_bytes());
        key.push(b'_');
        let stem = key.len();
        let mut number = 0_u32;
        while current < target {
            key.truncate(stem);
            key.extend_from_slice(number.to_string().as_bytes());
            entries.push(Entry { hash: hash_bytes(&key), owner });
            number += 1;
            current += 1.0;
        }
    }
    entries
}
