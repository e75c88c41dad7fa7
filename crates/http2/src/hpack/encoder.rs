//! Encoding header blocks.
//!
//! # What goes into the table
//! One rule ([`Encoder::representation`]), the first line that applies:
//!
//! | field | representation |
//! |---|---|
//! | never-indexed at the peer, a secret ([`Name::is_secret`]), or `-bin`, as tokens often are | literal, never indexed |
//! | in the static table | index |
//! | in this connection's table | index |
//! | not interned, or differs call by call ([`Name::is_volatile`]) | literal |
//! | its sender uses it by reference, and it takes at most half the table | literal, into the table |
//! | any other | literal |
//!
//! A field that its sender itself uses again, by reference, is worth an entry; one that came as a literal may never
//! come again. So one client's one-off values do not push useful entries out of a table that it shares with others,
//! and the table stands still in steady state.
//!
//! # How strings are written
//! Huffman coding saves a fifth to a quarter of the bytes and takes time on both sides: 1.2 ns a byte here and 2.6 ns
//! to undo it ([`super::huffman`]), so 15 ns for each byte saved, which at 10 Gbit/s takes 0.8 ns to send. So a
//! string that enters the table is coded (it is sent once and then referred to), and one that is sent with every call
//! is not.

use hashbrown::HashTable;

use super::static_table::static_name_index;
use super::table::DynamicTable;
use super::{INITIAL_TABLE_BYTES, STATIC_TABLE, huffman, integer};
use crate::field::{Field, FieldBlock, FieldId, FieldStore, Name};

/// The encoder of one connection.
///
/// It holds references in a [`FieldStore`]: [`Encoder::clear`] it before it is dropped.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    /// Our own cap on the table.
    cap: u32,
    /// Entries ever inserted: entry `n` (from 1) has index `61 + 1 + inserted - n`.
    inserted: u32,
    /// Which insertion each field of the table was: at most `cap / 32` entries, none before the first.
    position: HashTable<(FieldId, u32)>,
    /// The smallest and the newest size that the peer asked for since the last block.
    resize: Option<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Representation {
    Incremental(FieldId),
    Plain,
    Never,
}

impl Encoder {
    /// An encoder whose table is at most `cap` bytes, whatever the peer allows.
    #[must_use]
    pub fn new(cap: u32) -> Self {
        // The peer begins with a table of the initial size; a smaller one is a change that it must be told.
        Self {
            table: DynamicTable::new(INITIAL_TABLE_BYTES),
            cap,
            inserted: 0,
            position: HashTable::new(),
            resize: (cap < INITIAL_TABLE_BYTES).then_some((cap, cap)),
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE is now `bytes`. The next block says what becomes of the table.
    pub fn set_peer_limit(&mut self, bytes: u32) {
        let wanted = bytes.min(self.cap);
        let smallest = self.resize.map_or(wanted, |(smallest, _)| smallest.min(wanted));
        let now = self.table.max_bytes();
        self.resize = (smallest != now || wanted != now).then_some((smallest, wanted));
    }

    /// Writes what must stand at a block's beginning: table size updates, the smallest first (section 4.2).
    pub fn begin_block(&mut self, store: &mut FieldStore, out: &mut Vec<u8>) {
        let Some((smallest, wanted)) = self.resize.take() else { return };
        if smallest < wanted {
            self.update_size(store, smallest, out);
        }
        self.update_size(store, wanted, out);
    }

    fn update_size(&mut self, store: &mut FieldStore, bytes: u32, out: &mut Vec<u8>) {
        let position = &mut self.position;
        self.table.resize(store, bytes, |id| forget(position, id));
        integer::encode(bytes, 5, 0x20, out);
    }

    /// Writes a header list.
    pub fn encode_block(&mut self, store: &mut FieldStore, block: &FieldBlock, out: &mut Vec<u8>) {
        self.begin_block(store, out);
        for position in 0..block.len() {
            self.field(store, block, position, out);
        }
    }

    /// Writes the field at `position` of `block`, between [`Encoder::begin_block`] and the block's end. It is named
    /// by its position because a [`Field`] borrows from the store, which may have to count one more reference.
    ///
    /// # Panics
    /// If the block has no such field.
    #[inline]
    pub fn field(&mut self, store: &mut FieldStore, block: &FieldBlock, position: usize, out: &mut Vec<u8>) {
        // In steady state nearly every field has an index, for which its bytes need not be looked at.
        if let Some(index) = block.id(position).and_then(|id| self.index_of(store, id)) {
            integer::encode(index, 7, 0x80, out);
            return;
        }
        let field = block.get(store, position);
        match self.representation(&field) {
            Representation::Incremental(id) => {
                write_name(field.name_token, field.name, 6, 0x40, write_shorter, out);
                write_shorter(field.value, out);
                self.insert(store, id);
            }
            Representation::Plain => write_literal(field.name_token, field.name, field.value, 0x00, out),
            Representation::Never => write_literal(field.name_token, field.name, field.value, 0x10, out),
        }
    }

    /// How a field without an index is written.
    #[inline]
    fn representation(&self, field: &Field<'_>) -> Representation {
        if field.never_index || field.name_token.is_secret() || field.binary {
            return Representation::Never;
        }
        let Some(id) = field.id else { return Representation::Plain };
        let worth = field.by_reference && !field.name_token.is_volatile();
        if worth && field.size <= self.table.max_bytes() / 2 {
            Representation::Incremental(id)
        } else {
            Representation::Plain
        }
    }

    /// The index of a field that may be sent as one. Secrets have none: they never enter the table, and those of the
    /// static table, whose values are empty, are written out all the same.
    #[inline]
    fn index_of(&self, store: &FieldStore, id: FieldId) -> Option<u32> {
        if let Some(index) = id.static_index() {
            return (!store.meaning(id).name.is_secret()).then_some(index);
        }
        let &(_, insertion) = self.position.find(spread(id), |&(other, _)| other == id)?;
        Some(STATIC_TABLE.len() as u32 + 1 + self.inserted.wrapping_sub(insertion))
    }

    fn insert(&mut self, store: &mut FieldStore, id: FieldId) {
        let position = &mut self.position;
        if self.table.insert(store, id, |evicted| forget(position, evicted)) {
            self.inserted = self.inserted.wrapping_add(1);
            position.insert_unique(spread(id), (id, self.inserted), |&(other, _)| spread(other));
        }
    }

    /// Writes a field that differs call by call and so is worth neither an entry nor a look at the table: a literal
    /// without indexing, or never indexed if its name is a secret's.
    pub fn literal(&mut self, _store: &mut FieldStore, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let token = Name::of(name);
        write_literal(token, name, value, if token.is_secret() { 0x10 } else { 0x00 }, out);
    }

    /// Gives all references back; for the end of the connection.
    pub fn clear(&mut self, store: &mut FieldStore) {
        self.table.clear(store);
        self.position.clear();
    }

    /// Bytes in the table, by RFC 7541 section 4.1.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.bytes() as usize
    }

    /// Entries in the table.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.table.len()
    }
}

fn forget(position: &mut HashTable<(FieldId, u32)>, id: FieldId) {
    if let Ok(entry) = position.find_entry(spread(id), |&(other, _)| other == id) {
        entry.remove();
    }
}

/// Identifiers are small numbers of our own choosing: spreading them needs no secret.
#[inline]
fn spread(id: FieldId) -> u64 {
    u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A literal that stays out of the table; `first` says whether it is never to enter one.
fn write_literal(token: Name, name: &[u8], value: &[u8], first: u8, out: &mut Vec<u8>) {
    write_name(token, name, 4, first, write_plain, out);
    write_plain(value, out);
}

/// The first byte of a literal and its name: an index of the static table, or the bytes as `write` writes them. Names
/// that only the dynamic table has are written out: a look at it costs as much as copying them.
#[inline]
fn write_name(
    token: Name,
    name: &[u8],
    prefix_bits: u32,
    first: u8,
    write: fn(&[u8], &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    match static_name_index(token, name) {
        Some(index) => integer::encode(index, prefix_bits, first, out),
        None => {
            out.push(first);
            write(name, out);
        }
    }
}

/// A string in the shorter of its two forms.
fn write_shorter(text: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_len(text);
    if length < text.len() {
        integer::encode(length as u32, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        write_plain(text, out);
    }
}

/// A string as it is.
#[inline]
fn write_plain(text: &[u8], out: &mut Vec<u8>) {
    integer::encode(text.len() as u32, 7, 0x00, out);
    out.extend_from_slice(text);
}
