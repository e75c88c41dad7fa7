//! The table from a hash to the endpoint that owns it, and what it is made of.

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
}

/// A table over one set's endpoints; the same for all workers.
#[derive(Debug)]
pub(crate) struct HashTable {
    kind: TableKind,
    /// `None` without endpoints.
    entries: Option<Entries>,
    /// By an entry's owner: the place on the set's ring.
    places: Box<[u32]>,
    without_share: usize,
}

macro_rules! each_entries {
    ($this:expr, $entries:ident => $body:expr) => {
        match $this {
            Entries::Ring($entries) => $body,
            Entries::Maglev($entries) => $body,
        }
    };
}

impl HashTable {
    /// O(n log n) in the number of entries or endpoints, whichever is larger.
    pub(crate) fn new(kind: TableKind, mut shares: Vec<Share>) -> Self {
        shares.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let entries = (!shares.is_empty()).then(|| match kind {
            TableKind::Ring(size) => Entries::Ring(Ring::new(&shares, size)),
            TableKind::Maglev(size) => Entries::Maglev(Maglev::new(&shares, size)),
        });
        let mut has_entry = vec![false; shares.len()];
        if let Some(entries) = &entries {
            each_entries!(entries, table => table.owners().for_each(|owner| has_entry[owner as usize] = true));
        }
        let without_share = has_entry.into_iter().filter(|has_entry| !has_entry).count();
        Self { kind, entries, places: shares.into_iter().map(|share| share.place).collect(), without_share }
    }

    pub(crate) fn kind(&self) -> TableKind {
        self.kind
    }

    /// How many endpoints have no entry, as the table is too small.
    pub(crate) fn without_share(&self) -> usize {
        self.without_share
    }

    /// The place on the set's ring of each owner.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|place| *place as usize)
    }

    /// The owners of the hash's entry and of those behind it, once round the table.
    pub(crate) fn walk(&self, hash: u64) -> Walk<'_> {
        let (next, left) = match &self.entries {
            Some(entries) => each_entries!(entries, table => (table.find(hash), table.len())),
            None => (0, 0),
        };
        Walk { table: self, next, left }
    }
}

/// See [`HashTable::walk`].
pub(crate) struct Walk<'a> {
    table: &'a HashTable,
    next: usize,
    left: usize,
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let entries = self.table.entries.as_ref()?;
        let (owner, len) = each_entries!(entries, table => (table.owner(self.next), table.len()));
        self.next = if self.next + 1 == len { 0 } else { self.next + 1 };
        Some(owner as usize)
    }
}
