//! HPACK: header compression for HTTP/2 (RFC 7541).
//!
//! Both tables hold [`crate::field::FieldId`]s, not strings, and belong to one connection; the strings are interned
//! for all connections of a thread. A decoder that reports an error is never used again, since from then on its table
//! differs from the peer's (CVE-2023-32731).

mod decoder;
mod encoder;
pub mod huffman;
mod huffman_code;
mod integer;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use static_table::STATIC_TABLE;

/// How large a decoded header list may be.
///
/// Sizes are counted as RFC 7541 section 4.1 says (name, value, 32 bytes), for every field that the peer sent, also
/// those that are dropped later: discarded `host` values that were not counted are Envoy's CVE-2026-73550.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderListLimits {
    /// The sum of all fields' sizes. Default 16 KiB, as hyper and nginx.
    pub list_bytes: usize,
    /// The number of fields. Default 100 (Envoy's); cookies count too.
    pub fields: usize,
    /// One name or value, decoded. Default 8 KiB.
    pub string_bytes: usize,
}

impl Default for HeaderListLimits {
    fn default() -> Self {
        Self { list_bytes: 16 * 1024, fields: 100, string_bytes: 8 * 1024 }
    }
}

/// How large the tables of a connection are before anything is agreed, in bytes (RFC 9113 section 6.5.2).
pub const INITIAL_TABLE_BYTES: u32 = 4096;

/// How many times a list may exceed [`HeaderListLimits::list_bytes`] or [`HeaderListLimits::fields`] before the
/// connection ends instead of the stream (the h2 crate's rule since 0.4.15).
pub const FAR_TOO_LARGE: usize = 4;

/// Why a header block cannot be decoded; the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HpackError {
    /// An integer takes more than five bytes or exceeds 2^32-1 (CVE-2023-33953).
    #[error("an integer is too long")]
    IntegerOverflow,
    /// The block ends within a field.
    #[error("the block ends within a field")]
    Truncated,
    /// An indexed field with index 0.
    #[error("index 0 is not used")]
    IndexZero,
    /// An index beyond both tables.
    #[error("index {index} is beyond the tables")]
    IndexOutOfTable {
        /// The index.
        index: u32,
    },
    /// A Huffman code that is not in the table, or EOS.
    #[error("a string is not valid Huffman code")]
    BadHuffman,
    /// Padding of a Huffman string that is too long or not all ones.
    #[error("the padding of a Huffman string is wrong")]
    HuffmanPadding,
    /// A table size update above the advertised limit.
    #[error("a table size of {bytes} is above the limit of {limit}")]
    TableSizeUpdateTooLarge {
        /// The size asked for.
        bytes: u32,
        /// SETTINGS_HEADER_TABLE_SIZE.
        limit: u32,
    },
    /// A table size update behind a field.
    #[error("a table size update is not at the block's beginning")]
    TableSizeUpdateLate,
    /// No table size update although the limit was lowered below the table's size (section 4.2).
    #[error("the table size was not lowered to the new limit")]
    TableSizeUpdateMissing,
    /// The list is more than [`FAR_TOO_LARGE`] times as large as allowed (the "HTTP/2 bomb", CVE-2026-49975).
    #[error("the header list is far larger than allowed")]
    ListFarTooLarge,
}

/// Whether a decoded list is within its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListVerdict {
    /// It is; the block holds all fields.
    Accepted,
    /// It is not; the block holds the fields up to the limit. Decoding went on, so that the tables stay right.
    TooLarge,
}
