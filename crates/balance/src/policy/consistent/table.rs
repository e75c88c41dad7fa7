//! The table from a hash to the endpoint that owns it, and what it is made of.
//!
//! One table is made of all endpoints of a set, whatever group they are in; then each group gets its *part*: the entries of
//! its own endpoints, at the places that they have in the whole. A key's endpoint within a group is so the owner of the first of
//! the group's entries at or behind the key's, as if all others were stepped over. Why not step over them? With g groups
//! that is g steps for each call, and each waits for memory: at 10,000 endpoints in 24 groups far more than all the rest of a
//! pick. All parts together have as many entries as the whole.

use std::sync::Arc;

use crate::policy::Policy;
use crate::policy::maglev::{Maglev, TableSize};
use crate::policy::ring_hash::{Ring, RingSize};

/// One endpoint's part in a table.
#[derive(Debug)]
pub(crate) struct Share {
    /// What stands for the endpoint: its address.
    pub(crate) key: String,
    /// At least 1.
    pub(crate) weight: u32,
    /// The endpoint's place on the set's ring.
    pub(crate) place: u32,
    /// The endpoint's group in the set.
    pub(crate) group: u32,
}

/// Which table a policy needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TableKind {
    Ring(RingSize),
    Maglev(TableSize),
}

impl TableKind {
    /// `None` for policies that hash nothing.
    pub(crate) fn of(policy: Policy) -> Option<Self> {
        match policy {
            Policy::RingHash { size, .. } => Some(Self::Ring(size)),
            Policy::Maglev { size, .. } => Some(Self::Maglev(size)),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Entries {
    Ring(Ring),
    Maglev(Maglev),
    /// What one group has of a Maglev table: a ring on which an entry stands where its number leads.
    OfMaglev(Ring, Stretch),
}

impl Entries {
    fn len(&self) -> usize {
        match self {
            Self::Ring(ring) | Self::OfMaglev(ring, _) => ring.len(),
            Self::Maglev(table) => table.len(),
        }
    }

    /// The entry a hash belongs to.
    fn find(&self, hash: u64) -> usize {
        match self {
            Self::Ring(ring) => ring.find(hash),
            Self::Maglev(table) => table.find(hash),
            Self::OfMaglev(ring, stretch) => ring.find(stretch.hash(hash)),
        }
    }

    fn owner(&self, index: usize) -> u32 {
        match self {
            Self::Ring(ring) | Self::OfMaglev(ring, _) => ring.owner(index),
            Self::Maglev(table) => table.owner(index),
        }
    }
}

/// Where the entries of a Maglev table stand among all hashes: evenly.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Of the table.
    size: u64,
    /// From one entry to the next.
    step: u64,
}

impl Stretch {
    fn of(size: TableSize) -> Self {
        let size = size.get().into();
        Self { size, step: u64::MAX / size }
    }

    fn entry(self, number: u64) -> u64 {
        number * self.step
    }

    /// Where the entry stands that a hash belongs to.
    fn hash(self, hash: u64) -> u64 {
        self.entry(hash % self.size)
    }
}

/// A table over one set's endpoints; the same for all workers.
#[derive(Debug)]
pub(crate) struct HashTable {
    kind: TableKind,
    /// By group.
    parts: Vec<Arc<Part>>,
    without_share: usize,
}

/// What one group has of a table.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// `None` without entries.
    entries: Option<Entries>,
    /// By an entry's owner: the place on the set's ring.
    places: Box<[u32]>,
}

impl HashTable {
    /// A table for a set of so many groups, at least one. O(n log n) in the number of entries or endpoints, whichever is larger.
    pub(crate) fn new(kind: TableKind, groups: usize, mut shares: Vec<Share>) -> Self {
        shares.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // With where each entry stands among all hashes, and its owner.
        let (whole, stands): (Option<Entries>, Vec<(u64, u32)>) = match kind {
            _ if shares.is_empty() => (None, Vec::new()),
            TableKind::Ring(size) => {
                let ring = Ring::new(&shares, size);
                let stands = ring.stands().collect();
                (Some(Entries::Ring(ring)), stands)
            }
            TableKind::Maglev(size) => {
                let table = Maglev::new(&shares, size);
                let stretch = Stretch::of(size);
                let stands = (0..).map(|entry| stretch.entry(entry)).zip(table.owners()).collect();
                (Some(Entries::Maglev(table)), stands)
            }
        };
        let mut has_entry = vec![false; shares.len()];
        stands.iter().for_each(|(_, owner)| has_entry[*owner as usize] = true);
        let without_share = has_entry.into_iter().filter(|has_entry| !has_entry).count();
        let parts = if groups > 1 {
            parts(kind, &stands, groups, &shares)
        } else {
            vec![Part { entries: whole, places: shares.iter().map(|share| share.place).collect() }]
        };
        Self { kind, parts: parts.into_iter().map(Arc::new).collect(), without_share }
    }

    pub(crate) fn kind(&self) -> TableKind {
        self.kind
    }

    /// How many endpoints have no entry, as the table is too small.
    pub(crate) fn without_share(&self) -> usize {
        self.without_share
    }

    /// What a group has of it; nothing if there is no such group.
    pub(crate) fn part(&self, group: usize) -> Arc<Part> {
        self.parts.get(group).cloned().unwrap_or_default()
    }
}

/// The parts of the groups.
fn parts(kind: TableKind, stands: &[(u64, u32)], groups: usize, shares: &[Share]) -> Vec<Part> {
    let mut places: Vec<Vec<u32>> = vec![Vec::new(); groups];
    // The number of each owner among those of its group.
    let mut numbers = Vec::with_capacity(shares.len());
    for share in shares {
        let of_group = &mut places[share.group as usize];
        numbers.push(u32::try_from(of_group.len()).expect("a set has at most 65,536 endpoints"));
        of_group.push(share.place);
    }
    let mut of_groups: Vec<Vec<(u64, u32)>> = vec![Vec::new(); groups];
    for (hash, owner) in stands {
        let owner = *owner as usize;
        of_groups[shares[owner].group as usize].push((*hash, numbers[owner]));
    }
    let entries = |ring: Ring| match kind {
        TableKind::Ring(_) => Entries::Ring(ring),
        TableKind::Maglev(size) => Entries::OfMaglev(ring, Stretch::of(size)),
    };
    let part = |(stands, places): (Vec<(u64, u32)>, Vec<u32>)| Part {
        entries: (!stands.is_empty()).then(|| entries(Ring::of(&stands))),
        places: places.into(),
    };
    of_groups.into_iter().zip(places).map(part).collect()
}

impl Part {
    /// The place on the set's ring of each owner.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|place| *place as usize)
    }

    /// The owners of the hash's entry and of those behind it, once round the table.
    #[inline]
    pub(crate) fn walk(&self, hash: u64) -> Walk<'_> {
        let (next, left) = match &self.entries {
            Some(entries) => (entries.find(hash), entries.len()),
            None => (0, 0),
        };
        Walk { part: self, next, left }
    }
}

/// See [`Part::walk`].
pub(crate) struct Walk<'a> {
    part: &'a Part,
    next: usize,
    left: usize,
}

impl Iterator for Walk<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let entries = self.part.entries.as_ref()?;
        let owner = entries.owner(self.next);
        self.next = if self.next + 1 == entries.len() { 0 } else { self.next + 1 };
        Some(owner as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints in three groups of unlike sizes.
    fn shares() -> Vec<Share> {
        let share = |number: u32| Share {
            key: format!("127.0.0.{number}:90"),
            weight: 1 + number % 3,
            place: number,
            group: if number < 20 { 0 } else { 1 + number % 2 },
        };
        (0..40).map(share).collect()
    }

    #[test]
    fn a_groups_part_leads_where_stepping_over_all_others_does() {
        for kind in [TableKind::Ring(RingSize::default()), TableKind::Maglev(TableSize::default())] {
            let group_of: Vec<u32> = shares().iter().map(|share| share.group).collect();
            let whole = HashTable::new(kind, 1, shares()).part(0);
            let whole_places: Vec<usize> = whole.places().collect();
            let table = HashTable::new(kind, 3, shares());
            for group in 0..3 {
                let part = table.part(group);
                let places: Vec<usize> = part.places().collect();
                for key in 0..2_000_u64 {
                    let hash = crate::hash_bytes(&key.to_be_bytes());
                    let expected = whole.walk(hash).map(|owner| whole_places[owner]);
                    let expected = expected.filter(|place| group_of[*place] == group as u32);
                    let found = part.walk(hash).map(|owner| places[owner]);
                    assert!(found.take(10).eq(expected.take(10)), "{kind:?}, group {group}, key {key}");
                }
            }
        }
    }

    #[test]
    fn a_group_without_entries_leads_nowhere() {
        let kind = TableKind::Ring(RingSize::in_all(1, 1).unwrap());
        let table = HashTable::new(
            kind,
            2,
            vec![
                Share { key: "a".into(), weight: 1, place: 0, group: 0 },
                Share { key: "b".into(), weight: 1, place: 1, group: 1 },
            ],
        );
        assert_eq!([0, 1].map(|group| table.part(group).walk(7).count()), [1, 0]);
        assert_eq!([0, 1].map(|group| table.part(group).places().count()), [1, 1]);
        assert_eq!((table.without_share(), table.part(2).places().count()), (1, 0));
    }
}
