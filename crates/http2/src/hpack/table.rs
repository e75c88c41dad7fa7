//! A dynamic table: identifiers of interned fields, newest first (RFC 7541 sections 2.3.2 and 4).

use std::collections::VecDeque;

use crate::field::{FieldId, FieldStore};

/// The dynamic table of one direction of one connection. It holds a reference to each of its fields; an idle
/// connection that has sent nothing owns no memory here.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<FieldId>,
    bytes: u32,
    max_bytes: u32,
}

impl DynamicTable {
    pub(super) fn new(max_bytes: u32) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max_bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(super) fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    /// The entry at a position, 0 being the newest.
    #[inline]
    pub(super) fn get(&self, position: usize) -> Option<FieldId> {
        self.entries.get(position).copied()
    }

    /// Changes the size; entries that no longer fit leave, oldest first, and are handed to `evicted`.
    pub(super) fn resize(&mut self, store: &mut FieldStore, max_bytes: u32, evicted: impl FnMut(FieldId)) {
        self.max_bytes = max_bytes;
        self.make_room(store, 0, evicted);
    }

    /// Adds a field and takes a reference to it, unless it is larger than the table, which then is empty (section 4.4).
    /// Whether it was added.
    pub(super) fn insert(
        &mut self,
        store: &mut FieldStore,
        id: FieldId,
        evicted: impl FnMut(FieldId),
    ) -> bool {
        let size = store.meaning(id).size;
        // The reference comes first: the field may be one that is evicted to make room for it.
        store.retain(id);
        self.make_room(store, size, evicted);
        if size > self.max_bytes {
            store.release(id);
            return false;
        }
        self.bytes += size;
        self.entries.push_front(id);
        true
    }

    /// Empties the table as an entry would that is larger than it.
    pub(super) fn clear(&mut self, store: &mut FieldStore) {
        for id in self.entries.drain(..) {
            store.release(id);
        }
        self.bytes = 0;
    }

    fn make_room(&mut self, store: &mut FieldStore, size: u32, mut evicted: impl FnMut(FieldId)) {
        while self.bytes.saturating_add(size) > self.max_bytes {
            let Some(id) = self.entries.pop_back() else { break };
            self.bytes -= store.meaning(id).size;
            evicted(id);
            store.release(id);
        }
    }
}
