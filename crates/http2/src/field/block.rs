//! A decoded header list: references to interned fields, and the bytes of those that are not.

use super::meaning::FIELD_OVERHEAD;
use super::{FieldFault, FieldId, FieldStore, Meaning, Name};

/// Bytes of literals that a cleared block keeps room for; gRPC calls have a few hundred. More is given back, so that
/// one large list does not stay with a block that is used again and again.
const SPARE_BYTES_MAX: usize = 4096;

/// Fields that a cleared block keeps room for; gRPC calls have about ten.
const SPARE_ENTRIES_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Entry {
    Interned {
        id: FieldId,
        /// The peer sent an index: it uses the field again and again.
        by_reference: bool,
    },
    /// The name, then the value, at `at` in the block's bytes.
    Literal {
        at: u32,
        name_len: u32,
        value_len: u32,
        // A `Meaning` without the size, which the lengths tell.
        name: Name,
        fault: Option<FieldFault>,
        binary: bool,
        never_index: bool,
    },
}

// A call in progress keeps a block or two; what a reference costs there is what an "HTTP/2 bomb" multiplies.
const _: () = assert!(size_of::<Entry>() == 16, "a field of a block takes 16 bytes");

/// One field of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Which of the known names it has.
    pub name_token: Name,
    /// The name.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Its identifier, if it is interned.
    pub id: Option<FieldId>,
    /// Whether the peer sent it as an index, so that it is worth an entry in another table too.
    pub by_reference: bool,
    /// Whether the peer forbids that it is ever put in a table (RFC 7541 section 6.2.3).
    pub never_index: bool,
    /// Why a message that contains it is malformed.
    pub fault: Option<FieldFault>,
    /// Whether the name ends in `-bin`.
    pub binary: bool,
    /// Its size by RFC 7541 section 4.1.
    pub size: u32,
}

/// A header list, in order.
///
/// It holds references in a [`FieldStore`], so it must be [`FieldBlock::clear`]ed before it is dropped. Bound: the
/// decoder adds no more than [`crate::hpack::HeaderListLimits`] allow.
#[derive(Debug, Default)]
pub struct FieldBlock {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    size: usize,
}

impl FieldBlock {
    /// An empty block; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the block owns storage that is worth keeping for another list.
    #[must_use]
    pub fn has_storage(&self) -> bool {
        self.entries.capacity() > 0
    }

    /// How many fields there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no field.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the fields' sizes by RFC 7541 section 4.1.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Removes all fields and gives their references back.
    pub fn clear(&mut self, store: &mut FieldStore) {
        for entry in &self.entries {
            if let Entry::Interned { id, .. } = *entry {
                store.release(id);
            }
        }
        self.entries.clear();
        self.bytes.clear();
        self.size = 0;
        if self.bytes.capacity() > SPARE_BYTES_MAX {
            self.bytes = Vec::new();
        }
        if self.entries.capacity() > SPARE_ENTRIES_MAX {
            self.entries = Vec::new();
        }
    }

    /// Adds an interned field and takes a reference to it.
    #[inline]
    pub fn push_id(&mut self, store: &mut FieldStore, id: FieldId, by_reference: bool) {
        store.retain(id);
        self.push_retained(store, id, by_reference);
    }

    /// Adds an interned field whose reference the caller hands over.
    #[inline]
    pub(crate) fn push_retained(&mut self, store: &FieldStore, id: FieldId, by_reference: bool) {
        self.push_sized(id, store.meaning(id).size, by_reference);
    }

    /// As [`FieldBlock::push_retained`], for a caller who has looked the size up.
    #[inline]
    pub(crate) fn push_sized(&mut self, id: FieldId, size: u32, by_reference: bool) {
        self.size += size as usize;
        self.entries.push(Entry::Interned { id, by_reference });
    }

    /// Adds a field that is not interned, with a copy of its bytes.
    ///
    /// # Panics
    /// If the block's bytes exceed 4 GiB; a decoded block has a few KiB.
    pub fn push_literal(&mut self, name: &[u8], value: &[u8], never_index: bool) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a header list has less than 4 GiB");
        let Meaning { name: token, fault, size, binary } = Meaning::of(name, value);
        self.size += size as usize;
        self.entries.push(Entry::Literal {
            at: at as u32,
            name_len: name.len() as u32,
            value_len: value.len() as u32,
            name: token,
            fault,
            binary,
            never_index,
        });
    }

    /// Room for bytes of literals, and for fields.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.entries.capacity())
    }

    /// The field at a position.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    #[must_use]
    pub fn get<'a>(&'a self, store: &'a FieldStore, position: usize) -> Field<'a> {
        self.field(store, &self.entries[position])
    }

    /// The identifier of the field at a position, if it is interned.
    #[inline]
    pub(crate) fn id(&self, position: usize) -> Option<FieldId> {
        match self.entries[position] {
            Entry::Interned { id, .. } => Some(id),
            Entry::Literal { .. } => None,
        }
    }

    /// What the fields mean, in order: without their bytes, which most checks need not touch.
    #[inline]
    pub(crate) fn names<'a>(
        &'a self,
        store: &'a FieldStore,
    ) -> impl Iterator<Item = (Name, Option<FieldFault>)> + 'a {
        self.entries.iter().map(|entry| match *entry {
            Entry::Interned { id, .. } => {
                let Meaning { name, fault, .. } = store.meaning(id);
                (name, fault)
            }
            Entry::Literal { name, fault, .. } => (name, fault),
        })
    }

    #[inline]
    fn field<'a>(&'a self, store: &'a FieldStore, entry: &Entry) -> Field<'a> {
        let (id, by_reference, never_index, meaning, (name, value)) = match *entry {
            Entry::Interned { id, by_reference } => {
                (Some(id), by_reference, false, store.meaning(id), store.pair(id))
            }
            Entry::Literal { at, name_len, value_len, name, fault, binary, never_index } => {
                let bytes = &self.bytes[at as usize..][..name_len as usize + value_len as usize];
                let size = name_len + value_len + FIELD_OVERHEAD;
                (
                    None,
                    false,
                    never_index,
                    Meaning { name, fault, size, binary },
                    bytes.split_at(name_len as usize),
                )
            }
        };
        let Meaning { name: name_token, fault, size, binary } = meaning;
        Field { name_token, name, value, id, by_reference, never_index, fault, binary, size }
    }

    /// The fields in order.
    pub fn iter<'a>(&'a self, store: &'a FieldStore) -> impl Iterator<Item = Field<'a>> {
        self.entries.iter().map(|entry| self.field(store, entry))
    }

    /// The first field with a known name.
    #[must_use]
    pub fn find<'a>(&'a self, store: &'a FieldStore, name: Name) -> Option<Field<'a>> {
        self.iter(store).find(|field| field.name_token == name)
    }

    /// The first field with this name.
    #[must_use]
    pub fn find_bytes<'a>(&'a self, store: &'a FieldStore, name: &[u8]) -> Option<Field<'a>> {
        self.iter(store).find(|field| field.name == name)
    }

    /// Removes the fields that `keep` refuses; the others keep their order.
    pub fn retain_fields(&mut self, store: &mut FieldStore, mut keep: impl FnMut(&Field<'_>) -> bool) {
        let mut entries = core::mem::take(&mut self.entries);
        entries.retain(|entry| {
            let field = self.field(store, entry);
            let (kept, size) = (keep(&field), field.size as usize);
            if !kept {
                self.size -= size;
                if let Entry::Interned { id, .. } = *entry {
                    store.release(id);
                }
            }
            kept
        });
        self.entries = entries;
    }

    /// Adds all fields of another block.
    ///
    /// # Panics
    /// As [`FieldBlock::push_literal`].
    pub fn copy_from(&mut self, store: &mut FieldStore, other: &Self) {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a header list has less than 4 GiB");
        for entry in &other.entries {
            self.entries.push(match *entry {
                Entry::Interned { id, by_reference } => {
                    store.retain(id);
                    Entry::Interned { id, by_reference }
                }
                Entry::Literal { at, name_len, value_len, name, fault, binary, never_index } => {
                    Entry::Literal { at: at + offset, name_len, value_len, name, fault, binary, never_index }
                }
            });
        }
        self.size += other.size;
    }
}

#[cfg(debug_assertions)]
impl Drop for FieldBlock {
    fn drop(&mut self) {
        let leaks = self
            .entries
            .iter()
            .any(|entry| matches!(entry, Entry::Interned { id, .. } if id.static_index().is_none()));
        debug_assert!(
            !leaks || std::thread::panicking(),
            "a block gives its references back before it is dropped"
        );
    }
}
