//! Decoding header blocks.
//!
//! A block is always read to its end, whatever is too large in it, because the table must stay equal to the peer's. So
//! three things are kept apart: what a field counts (always charged), what the table takes (always exact), and what the
//! list takes (up to its limits). Nothing is copied that neither of the two takes.

use super::table::DynamicTable;
use super::{FAR_TOO_LARGE, HeaderListLimits, HpackError, INITIAL_TABLE_BYTES, ListVerdict};
use super::{STATIC_TABLE, huffman, integer};
use crate::field::{FIELD_OVERHEAD, FieldBlock, FieldId, FieldStore};

/// The decoder of one connection.
///
/// It holds references in a [`FieldStore`]: [`Decoder::clear`] it before it is dropped.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// Our SETTINGS_HEADER_TABLE_SIZE.
    limit: u32,
    /// The next block must begin with a table size of at most this many bytes.
    must_shrink_to: Option<u32>,
}

/// The sizes that were charged while a block is decoded.
struct Charge<'a> {
    limits: &'a HeaderListLimits,
    bytes: usize,
    fields: usize,
    within: bool,
}

impl Charge<'_> {
    /// Charges a field before it is copied, kept or dropped. Whether the list is still within its limits.
    #[inline]
    fn field(&mut self, size: usize) -> Result<bool, HpackError> {
        self.bytes += size;
        self.fields += 1;
        if self.bytes > self.limits.list_bytes || self.fields > self.limits.fields {
            self.exceed()?;
        }
        Ok(self.within)
    }

    #[cold]
    fn exceed(&mut self) -> Result<(), HpackError> {
        self.within = false;
        let far = |limit: usize| limit.saturating_mul(FAR_TOO_LARGE);
        if self.bytes > far(self.limits.list_bytes) || self.fields > far(self.limits.fields) {
            return Err(HpackError::ListFarTooLarge);
        }
        Ok(())
    }

    /// Charges a string's length; one that is too long makes the list too large.
    fn string(&mut self, length: usize) {
        self.within &= length <= self.limits.string_bytes;
    }

    /// The longest string that may still become part of the list, in a field of which `taken` bytes are known.
    fn string_most(&self, taken: usize) -> usize {
        let left = self.limits.list_bytes.saturating_sub(self.bytes + taken);
        if self.within { left.min(self.limits.string_bytes) } else { 0 }
    }
}

/// A string within a block.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl Decoder {
    /// A decoder that offers a table of `table_bytes` (our SETTINGS_HEADER_TABLE_SIZE).
    ///
    /// RFC 9113 section 6.5.2 has both sides begin with 4096 bytes: for a smaller table begin with 4096 too, and call
    /// [`Decoder::set_table_limit`] when the peer has acknowledged it. A larger one may be given at once; it is used
    /// when the peer says so in a block.
    #[must_use]
    pub fn new(table_bytes: u32) -> Self {
        let table = DynamicTable::new(table_bytes.min(INITIAL_TABLE_BYTES));
        Self { table, limit: table_bytes, must_shrink_to: None }
    }

    /// Our SETTINGS_HEADER_TABLE_SIZE is now `bytes`, acknowledged by the peer.
    pub fn set_table_limit(&mut self, bytes: u32) {
        self.limit = bytes;
        // Between two blocks the smallest counts (RFC 7541 section 4.2).
        if bytes < self.must_shrink_to.unwrap_or(self.table.max_bytes()) {
            self.must_shrink_to = Some(bytes);
        }
    }

    /// Decodes a whole header block and adds its fields to `out`.
    ///
    /// # Errors
    /// [`HpackError`]: the table is undefined then, and the connection must end.
    pub fn decode(
        &mut self,
        block: &[u8],
        limits: &HeaderListLimits,
        store: &mut FieldStore,
        out: &mut FieldBlock,
    ) -> Result<ListVerdict, HpackError> {
        let mut charge = Charge { limits, bytes: 0, fields: 0, within: true };
        let mut at = self.begin_block(block, store)?;
        while let Some(&first) = block.get(at) {
            if first & 0x80 != 0 {
                let index = integer::decode(block, &mut at, 7)?;
                let id = self.entry(index)?;
                let size = store.meaning(id).size;
                if charge.field(size as usize)? {
                    store.retain(id);
                    out.push_sized(id, size, true);
                }
            } else if first & 0xe0 == 0x20 {
                return Err(HpackError::TableSizeUpdateLate);
            } else {
                self.decode_literal(block, &mut at, first, &mut charge, store, out)?;
            }
        }
        Ok(if charge.within { ListVerdict::Accepted } else { ListVerdict::TooLarge })
    }

    /// Takes the size updates with which a block begins; the place of its first field.
    fn begin_block(&mut self, block: &[u8], store: &mut FieldStore) -> Result<usize, HpackError> {
        let mut at = 0;
        while block.get(at).is_some_and(|first| first & 0xe0 == 0x20) {
            let bytes = integer::decode(block, &mut at, 5)?;
            self.resize(store, bytes)?;
        }
        if self.must_shrink_to.is_some() && at < block.len() {
            return Err(HpackError::TableSizeUpdateMissing);
        }
        Ok(at)
    }

    fn decode_literal(
        &mut self,
        block: &[u8],
        at: &mut usize,
        first: u8,
        charge: &mut Charge<'_>,
        store: &mut FieldStore,
        out: &mut FieldBlock,
    ) -> Result<(), HpackError> {
        let indexing = first & 0x40 != 0;
        let never_index = first & 0xf0 == 0x10;
        let index = integer::decode(block, at, if indexing { 6 } else { 4 })?;
        let name_of = if index == 0 { None } else { Some(self.entry(index)?) };
        // What an entry may take: a longer one only empties the table (section 4.4).
        let table_most =
            if indexing { self.table.max_bytes().saturating_sub(FIELD_OVERHEAD) as usize } else { 0 };

        let mut scratch = store.take_scratch();
        let name_len = match name_of {
            Some(id) => {
                scratch.extend_from_slice(store.name(id));
                scratch.len()
            }
            None => read_text(block, at)?.expand(table_most.max(charge.string_most(0)), &mut scratch)?,
        };
        charge.string(name_len);
        let most = table_most.saturating_sub(name_len).max(charge.string_most(name_len));
        let value_len = read_text(block, at)?.expand(most, &mut scratch)?;
        charge.string(value_len);
        let size = name_len + value_len + FIELD_OVERHEAD as usize;
        let within = charge.field(size)?;

        if indexing && size <= self.table.max_bytes() as usize {
            let (name, value) = scratch.split_at(name_len);
            let id = store.adopt(name, value, name_of);
            self.table.insert(store, id, |_| {});
            if within {
                out.push_retained(store, id, false);
            } else {
                store.release(id);
            }
        } else {
            if indexing {
                self.table.clear(store);
            }
            if within {
                let (name, value) = scratch.split_at(name_len);
                out.push_literal(name, value, never_index);
            }
        }
        store.give_scratch(scratch);
        Ok(())
    }

    fn resize(&mut self, store: &mut FieldStore, bytes: u32) -> Result<(), HpackError> {
        if bytes > self.limit {
            return Err(HpackError::TableSizeUpdateTooLarge { bytes, limit: self.limit });
        }
        if self.must_shrink_to.is_some_and(|most| bytes > most) {
            return Err(HpackError::TableSizeUpdateMissing);
        }
        self.must_shrink_to = None;
        self.table.resize(store, bytes, |_| {});
        Ok(())
    }

    /// The field behind an index of either table (section 2.3.3).
    #[inline]
    fn entry(&self, index: u32) -> Result<FieldId, HpackError> {
        let statics = STATIC_TABLE.len() as u32;
        match index {
            0 => Err(HpackError::IndexZero),
            _ if index <= statics => Ok(FieldId(index - 1)),
            _ => {
                let position = (index - statics - 1) as usize;
                self.table.get(position).ok_or(HpackError::IndexOutOfTable { index })
            }
        }
    }

    /// Gives all references back; for the end of the connection.
    pub fn clear(&mut self, store: &mut FieldStore) {
        self.table.clear(store);
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

/// The string at `*at`, not copied.
#[inline]
fn read_text<'a>(block: &'a [u8], at: &mut usize) -> Result<Text<'a>, HpackError> {
    let huffman = block.get(*at).ok_or(HpackError::Truncated)? & 0x80 != 0;
    let length = integer::decode(block, at, 7)? as usize;
    let bytes = block.get(*at..).and_then(|rest| rest.get(..length)).ok_or(HpackError::Truncated)?;
    *at += length;
    Ok(Text { bytes, huffman })
}

impl Text<'_> {
    /// How long the string is as plain bytes. They are appended to `scratch`, unless there are more than `most`.
    #[inline]
    fn expand(self, most: usize, scratch: &mut Vec<u8>) -> Result<usize, HpackError> {
        if self.huffman {
            let before = scratch.len();
            let length = huffman::decode_up_to(self.bytes, most, scratch)?;
            if length > most {
                scratch.truncate(before);
            }
            return Ok(length);
        }
        if self.bytes.len() <= most {
            scratch.extend_from_slice(self.bytes);
        }
        Ok(self.bytes.len())
    }
}
