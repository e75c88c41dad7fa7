//! Decoding header blocks.

use super::table::DynamicTable;
use super::{FAR_TOO_LARGE, HeaderListLimits, HpackError, ListVerdict, STATIC_TABLE, huffman, integer};
use crate::field::{FieldBlock, FieldId, FieldStore};

/// The decoder of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// Our SETTINGS_HEADER_TABLE_SIZE.
    limit: u32,
    /// The peer must lower the table's size with its next block.
    must_shrink: bool,
}

/// The sizes that were charged while a block is decoded.
struct Charge<'a> {
    limits: &'a HeaderListLimits,
    bytes: usize,
    fields: usize,
}

impl Charge<'_> {
    /// Charges a field before it is copied, kept or dropped. Whether the list is still within its limits.
    #[inline]
    fn field(&mut self, size: usize) -> Result<bool, HpackError> {
        self.bytes += size;
        self.fields += 1;
        let far = FAR_TOO_LARGE;
        if self.bytes > self.limits.list_bytes * far || self.fields > self.limits.fields * far {
            return Err(HpackError::ListFarTooLarge);
        }
        Ok(self.is_within())
    }

    fn is_within(&self) -> bool {
        self.bytes <= self.limits.list_bytes && self.fields <= self.limits.fields
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
    #[must_use]
    pub fn new(table_bytes: u32) -> Self {
        Self { table: DynamicTable::new(table_bytes), limit: table_bytes, must_shrink: false }
    }

    /// Our SETTINGS_HEADER_TABLE_SIZE is now `bytes`, acknowledged by the peer.
    pub fn set_table_limit(&mut self, bytes: u32) {
        self.limit = bytes;
        self.must_shrink = self.table.max_bytes() > bytes;
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
        let mut charge = Charge { limits, bytes: 0, fields: 0 };
        let mut at = 0;
        let mut begun = false;
        while let Some(&first) = block.get(at) {
            if first & 0xe0 == 0x20 {
                if begun {
                    return Err(HpackError::TableSizeUpdateLate);
                }
                let bytes = integer::decode(block, &mut at, 5)?;
                self.resize(store, bytes)?;
                continue;
            }
            if self.must_shrink {
                return Err(HpackError::TableSizeUpdateMissing);
            }
            begun = true;
            if first & 0x80 != 0 {
                let index = integer::decode(block, &mut at, 7)?;
                let id = self.entry(index)?;
                if charge.field(store.meaning(id).size as usize)? {
                    out.push_id(store, id, true);
                }
            } else {
                self.decode_literal(block, &mut at, first, &mut charge, store, out)?;
            }
        }
        Ok(if charge.is_within() { ListVerdict::Accepted } else { ListVerdict::TooLarge })
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
        let mut scratch = store.take_scratch();
        let named = if index == 0 {
            let name = read_text(block, at)?;
            expand(name, charge.limits, &mut scratch)?
        } else {
            let id = self.entry(index)?;
            scratch.extend_from_slice(store.name(id));
            true
        };
        let name_len = scratch.len();
        let value = read_text(block, at)?;
        let whole = expand(value, charge.limits, &mut scratch)? && named;
        let within = if whole {
            charge.field(scratch.len() + 32)?
        } else {
            // Longer than any limit: charged as what it was at least, so that the list counts as too large.
            charge.field(charge.limits.list_bytes.max(charge.limits.string_bytes) + 1)?
        };
        let (name, value) = scratch.split_at(name_len);
        if indexing && whole && scratch.len() + 32 <= self.table.max_bytes() as usize {
            let id = store.intern(name, value);
            self.table.insert(store, id, |_| {});
            if within {
                out.push_retained(store, id, false);
            } else {
                store.release(id);
            }
        } else {
            if indexing {
                // An entry larger than the table empties it (section 4.4).
                self.table.clear(store);
            }
            if within {
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
        self.must_shrink = false;
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

/// The string at `*at`; its length is checked before anything is copied.
#[inline]
fn read_text<'a>(block: &'a [u8], at: &mut usize) -> Result<Text<'a>, HpackError> {
    let huffman = block.get(*at).ok_or(HpackError::Truncated)? & 0x80 != 0;
    let length = integer::decode(block, at, 7)? as usize;
    let bytes = block.get(*at..).and_then(|rest| rest.get(..length)).ok_or(HpackError::Truncated)?;
    *at += length;
    Ok(Text { bytes, huffman })
}

/// Appends a string as plain bytes. `false`, and nothing appended, if it is longer than the limit: never less than the
/// largest table, so that such a string cannot be part of a table entry.
fn expand(text: Text<'_>, limits: &HeaderListLimits, scratch: &mut Vec<u8>) -> Result<bool, HpackError> {
    let most = limits.string_bytes.max(crate::limits::DECODER_TABLE_BYTES as usize);
    let before = scratch.len();
    if !text.huffman {
        if text.bytes.len() > most {
            return Ok(false);
        }
        scratch.extend_from_slice(text.bytes);
        return Ok(true);
    }
    // A block is at most 32 KiB, so this is at most 51 KiB; it is cut back at once if it is too long.
    huffman::decode(text.bytes, scratch)?;
    if scratch.len() - before > most {
        scratch.truncate(before);
        return Ok(false);
    }
    Ok(true)
}
