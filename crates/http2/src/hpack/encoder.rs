//! Encoding header blocks.
//!
//! What goes into the table is decided by one rule ([`Encoder::representation`]): a field that its sender itself uses
//! again, by reference, is worth an entry; one that came as a literal may never come again. So one client's one-off values
//! do not push useful entries out of a table that it shares with others, and the table stands still in steady state.

use hashbrown::HashTable;

use super::static_table::static_name_index;
use super::table::DynamicTable;
use super::{STATIC_TABLE, huffman, integer};
use crate::field::{Field, FieldBlock, FieldId, FieldStore, Name};

/// The encoder of one connection.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    /// Our own cap on the table.
    cap: u32,
    /// Entries ever inserted: entry `n` (from 1) has index `61 + 1 + inserted - n`.
    inserted: u32,
    /// Which insertion each field of the table was.
    position: HashTable<(FieldId, u32)>,
    /// The smallest and the newest size that the peer asked for since the last block.
    resize: Option<(u32, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Representation {
    Indexed(u32),
    Incremental(FieldId),
    Plain,
    Never,
}

impl Encoder {
    /// An encoder whose table is at most `cap` bytes, whatever the peer allows.
    #[must_use]
    pub fn new(cap: u32) -> Self {
        // RFC 9113 section 6.5.2: the peer's table has 4096 bytes until it says otherwise.
        Self {
            table: DynamicTable::new(cap.min(4096)),
            cap,
            inserted: 0,
            position: HashTable::new(),
            resize: None,
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
            let field = block.get(store, position);
            let representation = self.representation(&field);
            match representation {
                Representation::Indexed(index) => integer::encode(index, 7, 0x80, out),
                Representation::Incremental(_) => write_literal(&field, 6, 0x40, out),
                Representation::Plain => write_literal(&field, 4, 0x00, out),
                Representation::Never => write_literal(&field, 4, 0x10, out),
            }
            if let Representation::Incremental(id) = representation {
                self.insert(store, id);
            }
        }
    }

    /// How a field is written.
    #[inline]
    fn representation(&self, field: &Field<'_>) -> Representation {
        if field.never_index || field.name_token.is_secret() {
            return Representation::Never;
        }
        let Some(id) = field.id else { return Representation::Plain };
        if let Some(index) = id.static_index() {
            return Representation::Indexed(index);
        }
        if let Some(index) = self.index_of(id) {
            return Representation::Indexed(index);
        }
        let worth = field.by_reference && !field.name_token.is_volatile();
        if worth && field.size <= self.table.max_bytes() / 2 {
            Representation::Incremental(id)
        } else {
            Representation::Plain
        }
    }

    #[inline]
    fn index_of(&self, id: FieldId) -> Option<u32> {
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

    /// Writes a field that differs call by call: a literal without indexing.
    pub fn literal(&mut self, _store: &mut FieldStore, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match static_name_index(Name::of(name)) {
            Some(index) => integer::encode(index, 4, 0x00, out),
            None => {
                out.push(0x00);
                write_plain(name, out);
            }
        }
        write_plain(value, out);
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

fn write_literal(field: &Field<'_>, prefix_bits: u32, first: u8, out: &mut Vec<u8>) {
    let kept = first == 0x40;
    match static_name_index(field.name_token) {
        Some(index) => integer::encode(index, prefix_bits, first, out),
        None => {
            out.push(first);
            write_string(field.name, kept, out);
        }
    }
    write_string(field.value, kept, out);
}

/// Huffman coding saves bytes and costs time; it is worth that for a string which is sent once and then kept in the
/// peer's table, not for one that is sent with every call.
fn write_string(text: &[u8], kept: bool, out: &mut Vec<u8>) {
    if kept {
        let length = huffman::encoded_len(text);
        if length < text.len() {
            integer::encode(length as u32, 7, 0x80, out);
            huffman::encode(text, out);
            return;
        }
    }
    write_plain(text, out);
}

fn write_plain(text: &[u8], out: &mut Vec<u8>) {
    integer::encode(text.len() as u32, 7, 0x00, out);
    out.extend_from_slice(text);
}
