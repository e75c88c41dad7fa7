//! Interned fields, counted by reference.

use core::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Meaning;
use crate::hpack::STATIC_TABLE;

/// Names an interned field. 0 to 60 are the static table of RFC 7541 Appendix A.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FieldId(pub(crate) u32);

impl FieldId {
    /// The index in the static table, from 1, if it is there.
    #[inline]
    #[must_use]
    pub fn static_index(self) -> Option<u32> {
        (self.0 < STATIC_TABLE.len() as u32).then_some(self.0 + 1)
    }
}

/// Storage that a freed slot keeps for the next field; larger ones are given back.
const SPARE_BYTES_MAX: usize = 256;

#[derive(Debug)]
struct Slot {
    /// The name, then the value.
    bytes: Vec<u8>,
    name_len: u32,
    references: u32,
    hash: u64,
    note: u64,
    meaning: Meaning,
}

/// Every field that a dynamic table or a kept block refers to, once.
///
/// Bound: dynamic tables are at most 4096 bytes each way and an entry counts at least 33 of them, so a connection keeps
/// at most 248 fields alive; blocks keep 100 each.
#[derive(Debug)]
pub struct FieldStore {
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: FixedState,
    /// Where strings are put together before they are interned; lent to the decoder.
    scratch: Vec<u8>,
}

impl FieldStore {
    /// A store with the static table. `seed` keys the hash table against chosen collisions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut store = Self {
            slots: Vec::with_capacity(128),
            free: Vec::new(),
            table: HashTable::with_capacity(128),
            hasher: FixedState::with_seed(seed),
            scratch: Vec::new(),
        };
        for (name, value) in STATIC_TABLE {
            store.insert(name.as_bytes(), value.as_bytes());
        }
        store
    }

    /// The identifier of a field; the caller gets one reference to it.
    pub fn intern(&mut self, name: &[u8], value: &[u8]) -> FieldId {
        let id = self.find(name, value).unwrap_or_else(|| self.insert(name, value));
        self.retain(id);
        id
    }

    /// The identifier of a field that is interned already; no reference is taken.
    #[must_use]
    pub fn find(&self, name: &[u8], value: &[u8]) -> Option<FieldId> {
        let found = self.table.find(self.hash(name, value), |&index| {
            let slot = &self.slots[index as usize];
            slot.name_len as usize == name.len()
                && slot.bytes.len() == name.len() + value.len()
                && slot.bytes.starts_with(name)
                && slot.bytes.ends_with(value)
        });
        found.map(|&index| FieldId(index))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) -> FieldId {
        let hash = self.hash(name, value);
        let meaning = Meaning::of(name, value);
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let slot = Slot { bytes: Vec::new(), name_len: 0, references: 0, hash, note: 0, meaning };
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.bytes.is_empty() && slot.references == 0, "a free slot is empty");
        slot.bytes.extend_from_slice(name);
        slot.bytes.extend_from_slice(value);
        slot.name_len = name.len() as u32;
        slot.hash = hash;
        slot.note = 0;
        slot.meaning = meaning;
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |&other| slots[other as usize].hash);
        FieldId(index)
    }

    fn hash(&self, name: &[u8], value: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_usize(name.len());
        hasher.write(name);
        hasher.write(value);
        hasher.finish()
    }

    /// Takes one more reference.
    #[inline]
    pub fn retain(&mut self, id: FieldId) {
        if id.static_index().is_none() {
            self.slots[id.0 as usize].references += 1;
        }
    }

    /// Gives one reference back; the last one frees the field.
    #[inline]
    pub fn release(&mut self, id: FieldId) {
        if id.static_index().is_some() {
            return;
        }
        let slot = &mut self.slots[id.0 as usize];
        debug_assert!(slot.references > 0, "each reference is given back once");
        slot.references -= 1;
        if slot.references == 0 {
            self.free(id);
        }
    }

    fn free(&mut self, id: FieldId) {
        let slot = &mut self.slots[id.0 as usize];
        if let Ok(entry) = self.table.find_entry(slot.hash, |&index| index == id.0) {
            entry.remove();
        }
        slot.bytes.clear();
        slot.bytes.shrink_to(SPARE_BYTES_MAX);
        self.free.push(id.0);
    }

    /// A field's name.
    #[inline]
    #[must_use]
    pub fn name(&self, id: FieldId) -> &[u8] {
        let slot = &self.slots[id.0 as usize];
        &slot.bytes[..slot.name_len as usize]
    }

    /// A field's value.
    #[inline]
    #[must_use]
    pub fn value(&self, id: FieldId) -> &[u8] {
        let slot = &self.slots[id.0 as usize];
        &slot.bytes[slot.name_len as usize..]
    }

    /// A field's name and value.
    #[inline]
    #[must_use]
    pub fn pair(&self, id: FieldId) -> (&[u8], &[u8]) {
        let slot = &self.slots[id.0 as usize];
        slot.bytes.split_at(slot.name_len as usize)
    }

    /// What a field means.
    #[inline]
    #[must_use]
    pub fn meaning(&self, id: FieldId) -> Meaning {
        self.slots[id.0 as usize].meaning
    }

    /// What the owner noted about a field; 0 for a field that is new or whose slot was used again.
    #[inline]
    #[must_use]
    pub fn note(&self, id: FieldId) -> u64 {
        self.slots[id.0 as usize].note
    }

    /// Notes something about a field for as long as it is interned, such as the route of a path.
    #[inline]
    pub fn set_note(&mut self, id: FieldId, note: u64) {
        self.slots[id.0 as usize].note = note;
    }

    /// Fields beyond the static table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len() - STATIC_TABLE.len()
    }

    /// Whether only the static table is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends an empty buffer.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.scratch)
    }

    /// Takes the buffer back.
    pub(crate) fn give_scratch(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        self.scratch = scratch;
    }

    /// Slots that were ever needed at once, beyond the static table.
    #[cfg(test)]
    pub(super) fn slots_ever(&self) -> usize {
        self.slots.len() - STATIC_TABLE.len()
    }

    /// References to fields beyond the static table: 0 once everything is closed.
    #[must_use]
    pub fn references(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.references)).sum()
    }
}
