//! Interned fields, counted by reference.

use core::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;

use super::{Meaning, Name};
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

/// Bytes that a freed slot keeps for the next field; more is given back.
const SPARE_BYTES_MAX: usize = 256;

/// Freed slots that keep their bytes, 1 MiB in all: several times what churn passes through at once on thousands of
/// connections. The others keep only themselves (68 bytes).
const WARM_SLOTS_MAX: usize = 4096;

/// Slots that a store without any field keeps; a crowd that has left does not leave its memory behind.
const IDLE_SLOTS_MAX: usize = 1024;

/// One cache line, so that a look at a field costs one miss at most.
#[derive(Debug)]
struct Slot {
    /// The name, then the value.
    bytes: Vec<u8>,
    name_len: u32,
    references: u64,
    hash: u64,
    note: u64,
    meaning: Meaning,
    /// Whether it stands in the hash table, so that it is found again by its bytes.
    shared: bool,
}

const _: () = assert!(size_of::<Slot>() <= 64, "a slot takes one cache line");

/// Every field that a dynamic table or a kept block refers to, once.
///
/// Bound: dynamic tables are at most 4096 bytes each way and an entry counts at least 32 of them, so a connection
/// keeps at most 256 fields alive, of 4 KiB each way; blocks keep 100 each (the defaults). A field takes 64 bytes
/// beyond its own.
#[derive(Debug)]
pub struct FieldStore {
    slots: Vec<Slot>,
    /// Free slots that kept their bytes; used first.
    warm: Vec<u32>,
    /// Free slots that did not.
    cold: Vec<u32>,
    table: HashTable<u32>,
    /// All keys of the hash function, not only its first: with foldhash's fixed ones, values that end in a certain
    /// eight bytes have the same hash whatever the seed is.
    keys: SharedSeed,
    seed: u64,
    /// Where strings are put together before they are interned; lent to the decoder, whose limits bound it.
    scratch: Vec<u8>,
}

impl FieldStore {
    /// A store with the static table. `seed` keys the hash table against chosen collisions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut store = Self {
            slots: Vec::with_capacity(128),
            warm: Vec::new(),
            cold: Vec::new(),
            table: HashTable::with_capacity(128),
            keys: SharedSeed::from_u64(seed),
            seed,
            scratch: Vec::new(),
        };
        for (name, value) in STATIC_TABLE {
            store.intern(name.as_bytes(), value.as_bytes());
        }
        store
    }

    /// The identifier of a field; the caller gets one reference to it.
    pub fn intern(&mut self, name: &[u8], value: &[u8]) -> FieldId {
        let hash = self.hash(name, value);
        let found = self.find_hashed(hash, name, value);
        let id = found.unwrap_or_else(|| self.insert(name, value, Meaning::of(name, value), Some(hash)));
        self.retain(id);
        id
    }

    /// As [`FieldStore::intern`], for a field that a table refers to and whose name is that of `like`, if there is one.
    ///
    /// One whose value differs call by call is kept for its table alone: nobody will look for it by its bytes.
    pub(crate) fn adopt(&mut self, name: &[u8], value: &[u8], like: Option<FieldId>) -> FieldId {
        let meaning = |store: &Self| match like {
            Some(like) => store.meaning(like).of_value(name, value),
            None => Meaning::of(name, value),
        };
        let volatile = like.map_or_else(|| Name::of(name), |like| self.meaning(like).name).is_volatile();
        let hash = (!volatile).then(|| self.hash(name, value));
        let found = hash.and_then(|hash| self.find_hashed(hash, name, value));
        let id = found.unwrap_or_else(|| self.insert(name, value, meaning(self), hash));
        self.retain(id);
        id
    }

    /// The identifier of a field that is interned already; no reference is taken.
    #[must_use]
    pub fn find(&self, name: &[u8], value: &[u8]) -> Option<FieldId> {
        self.find_hashed(self.hash(name, value), name, value)
    }

    fn find_hashed(&self, hash: u64, name: &[u8], value: &[u8]) -> Option<FieldId> {
        let found = self.table.find(hash, |&index| {
            let slot = &self.slots[index as usize];
            slot.name_len as usize == name.len()
                && slot.bytes.len() == name.len() + value.len()
                && slot.bytes.starts_with(name)
                && slot.bytes.ends_with(value)
        });
        found.map(|&index| FieldId(index))
    }

    /// Stores a field; without a hash it will not be found by its bytes.
    fn insert(&mut self, name: &[u8], value: &[u8], meaning: Meaning, hash: Option<u64>) -> FieldId {
        let shared = hash.is_some();
        let hash = hash.unwrap_or_default();
        let index = match self.warm.pop().or_else(|| self.cold.pop()) {
            Some(index) => index,
            None => {
                let slot =
                    Slot { bytes: Vec::new(), name_len: 0, references: 0, hash, note: 0, meaning, shared };
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
        slot.shared = shared;
        if shared {
            let slots = &self.slots;
            self.table.insert_unique(hash, index, |&other| slots[other as usize].hash);
        }
        FieldId(index)
    }

    fn hash(&self, name: &[u8], value: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.keys);
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
        if slot.shared
            && let Ok(entry) = self.table.find_entry(slot.hash, |&index| index == id.0)
        {
            entry.remove();
        }
        slot.bytes.clear();
        if self.warm.len() < WARM_SLOTS_MAX {
            slot.bytes.shrink_to(SPARE_BYTES_MAX);
            self.warm.push(id.0);
        } else {
            slot.bytes = Vec::new();
            self.cold.push(id.0);
        }
        if self.is_empty() && self.slots.len() > STATIC_TABLE.len() + IDLE_SLOTS_MAX {
            self.slots.truncate(STATIC_TABLE.len());
            self.slots.shrink_to(STATIC_TABLE.len() + IDLE_SLOTS_MAX);
            self.warm = Vec::new();
            self.cold = Vec::new();
            let slots = &self.slots;
            self.table.shrink_to(slots.len() + IDLE_SLOTS_MAX, |&index| slots[index as usize].hash);
        }
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
        self.slots.len() - STATIC_TABLE.len() - self.warm.len() - self.cold.len()
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

    /// References to fields beyond the static table: 0 once everything is closed.
    #[must_use]
    pub fn references(&self) -> u64 {
        self.slots.iter().map(|slot| slot.references).sum()
    }
}

#[cfg(test)]
mod tests {
    use core::hash::BuildHasher;
    use std::collections::HashSet;

    use foldhash::fast::FixedState;

    use super::*;

    fn number(at: u32) -> [u8; 4] {
        at.to_be_bytes()
    }

    /// Slots beyond the static table, and how many of the free ones kept their bytes.
    fn slots(store: &FieldStore) -> (usize, usize) {
        let warm = store.warm.iter().filter(|&&index| store.slots[index as usize].bytes.capacity() > 0);
        (store.slots.len() - STATIC_TABLE.len(), warm.count())
    }

    #[test]
    fn churn_uses_slots_and_their_bytes_again() {
        let mut store = FieldStore::new(7);
        for round in 0..10_000 {
            let id = store.intern(b"grpc-timeout", &number(round));
            assert_eq!(store.value(id), number(round));
            store.release(id);
        }
        assert_eq!(slots(&store), (1, 1));
    }

    #[test]
    fn a_freed_slot_keeps_little() {
        let mut store = FieldStore::new(7);
        for (length, kept) in [(SPARE_BYTES_MAX - 1, 256), (SPARE_BYTES_MAX, 256), (8000, 256)] {
            let id = store.intern(b"n", &vec![b'v'; length]);
            store.release(id);
            assert!(store.slots[id.0 as usize].bytes.capacity() <= kept, "{length}");
        }
    }

    #[test]
    fn only_so_many_freed_slots_keep_their_bytes_and_they_are_used_first() {
        let mut store = FieldStore::new(7);
        let anchor = store.intern(b"anchor", b"");
        let ids: Vec<FieldId> =
            (0..WARM_SLOTS_MAX as u32 + 10).map(|at| store.intern(b"x", &number(at))).collect();
        for id in ids {
            store.release(id);
        }
        assert_eq!(slots(&store), (WARM_SLOTS_MAX + 11, WARM_SLOTS_MAX));
        assert_eq!(store.cold.len(), 10);
        let next = store.intern(b"y", b"");
        assert_eq!((store.warm.len(), store.cold.len()), (WARM_SLOTS_MAX - 1, 10));
        store.release(next);
        store.release(anchor);
    }

    #[test]
    fn a_store_that_a_crowd_has_left_is_small_again_and_still_works() {
        let mut store = FieldStore::new(7);
        store.set_note(FieldId(3), 5);
        let ids: Vec<FieldId> =
            (0..IDLE_SLOTS_MAX as u32 + 1).map(|at| store.intern(b"x", &number(at))).collect();
        ids.iter().skip(1).for_each(|id| store.release(*id));
        assert_eq!(slots(&store).0, IDLE_SLOTS_MAX + 1);
        store.release(ids[0]);
        assert_eq!(slots(&store), (0, 0));
        assert!(store.table.capacity() < 2 * (STATIC_TABLE.len() + IDLE_SLOTS_MAX));
        assert_eq!((store.find(b":path", b"/"), store.note(FieldId(3))), (Some(FieldId(3)), 5));
        let id = store.intern(b"x", b"again");
        assert_eq!((store.pair(id), store.note(id)), ((&b"x"[..], &b"again"[..]), 0));
        store.release(id);
    }

    #[test]
    fn values_that_collide_under_fixed_keys_do_not_collide_here() {
        // With foldhash's own keys a string of 8 to 16 bytes that ends in the second key hashes to zero, whatever the
        // seed is: everyone could fill one chain of the table. The key is read from its debug form, the only one it
        // has.
        let shown = format!("{:?}", SharedSeed::global_fixed());
        let numbers =
            shown.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let key: u64 = numbers.map(|digits| digits.parse().unwrap()).nth(1).unwrap();
        let values: Vec<Vec<u8>> =
            (0..1000_u64).map(|at| [at.to_le_bytes(), key.to_ne_bytes()].concat()).collect();

        let fixed = |value: &Vec<u8>| {
            let mut hasher = FixedState::with_seed(12_345).build_hasher();
            hasher.write(value);
            hasher.finish()
        };
        assert_eq!(values.iter().map(fixed).collect::<HashSet<_>>().len(), 1, "the attack is a real one");
        let store = FieldStore::new(12_345);
        let hashes: HashSet<u64> = values.iter().map(|value| store.hash(b"x", value)).collect();
        assert_eq!(hashes.len(), 1000);
    }
}
