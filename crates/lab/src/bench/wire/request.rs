//! Request header blocks, as gRPC clients write them (RFC 7541 §6).
//!
//! The stable fields (`:path`, `:authority`, `content-type`, ...) enter the peer's dynamic table with the first request and
//! are one-byte indexes from then on. With [`Shape::Churn`] each request also carries a fresh `grpc-timeout` and
//! `traceparent`, *with* incremental indexing, as grpc-go and (for the timeout) grpcio do: these push the stable ones
//! towards the table's end and out of it, after which they are inserted anew.
//!
//! The encoder keeps the sizes and the serial numbers of the entries in the peer's table; field number `serial` has the
//! index `62 + (inserted - 1 - serial)` while it is among the `entries` newest ones.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::Write as _;

/// Which fields the requests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The same fields in each request.
    Steady,
    /// A fresh deadline and trace id in each request.
    Churn,
}

/// First index of the dynamic table (RFC 7541 §2.3.3).
const DYNAMIC_FIRST: u64 = 62;
/// What an entry counts beside its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Size of the dynamic table these tools use if the peer allows it: HTTP/2's initial value.
pub(crate) const TABLE_BYTES: u32 = 4096;

/// The sizes of the entries in the peer's dynamic table.
struct Table {
    /// Newest first.
    sizes: VecDeque<usize>,
    bytes: usize,
    capacity: usize,
    inserted: u64,
}

impl Table {
    /// The index of the entry that was inserted as number `serial`, while it is in the table.
    fn index(&self, serial: Option<u64>) -> Option<u64> {
        let age = self.inserted.checked_sub(1 + serial?)?;
        (age < self.sizes.len() as u64).then_some(DYNAMIC_FIRST + age)
    }

    fn insert(&mut self, name: &str, value_bytes: usize) -> u64 {
        let size = name.len() + value_bytes + ENTRY_OVERHEAD;
        while self.bytes + size > self.capacity {
            let Some(oldest) = self.sizes.pop_back() else { break };
            self.bytes -= oldest;
        }
        // An entry larger than the table leaves it empty (RFC 7541 §4.4).
        if size <= self.capacity {
            self.sizes.push_front(size);
            self.bytes += size;
        }
        self.inserted += 1;
        self.inserted - 1
    }
}

/// A field that gets into the peer's table.
struct Field {
    name: &'static str,
    /// Index of the name in the static table, 0 if it is not there.
    static_name: u64,
    value: String,
    serial: Option<u64>,
}

impl Field {
    fn new(name: &'static str, static_name: u64, value: &str) -> Self {
        Self { name, static_name, value: value.to_owned(), serial: None }
    }

    /// A literal with incremental indexing; its name is an index if either table has it.
    fn put_literal(&mut self, table: &mut Table, out: &mut Vec<u8>) {
        let name =
            if self.static_name > 0 { self.static_name } else { table.index(self.serial).unwrap_or(0) };
        put_integer(out, name, 6, 0x40);
        if name == 0 {
            put_string(out, self.name.as_bytes());
        }
        put_string(out, self.value.as_bytes());
        self.serial = Some(table.insert(self.name, self.value.len()));
    }
}

pub(crate) struct RequestEncoder {
    table: Table,
    /// A size update that the first block must begin with.
    size_update: Option<u32>,
    stable: Vec<Field>,
    timeout: Field,
    trace: Field,
    shape: Shape,
    rng: SmallRng,
    /// The steady block, once it consists of indexes only.
    indexed: Vec<u8>,
}

impl RequestEncoder {
    /// An encoder for requests to `path` at `authority`, for a peer that allows `header_table` bytes of dynamic table.
    pub(crate) fn new(authority: &str, path: &str, shape: Shape, header_table: u32, seed: u64) -> Self {
        let capacity = header_table.min(TABLE_BYTES);
        Self {
            table: Table { sizes: VecDeque::new(), bytes: 0, capacity: capacity as usize, inserted: 0 },
            size_update: (capacity < TABLE_BYTES).then_some(capacity),
            stable: vec![
                Field::new(":path", 4, path),
                Field::new(":authority", 1, authority),
                Field::new("content-type", 31, "application/grpc"),
                Field::new("te", 0, "trailers"),
                Field::new("user-agent", 58, "evenkeel-lab"),
                Field::new("grpc-accept-encoding", 0, "identity, deflate, gzip"),
            ],
            timeout: Field::new("grpc-timeout", 0, ""),
            trace: Field::new("traceparent", 0, ""),
            shape,
            rng: SmallRng::seed_from_u64(seed),
            indexed: Vec::new(),
        }
    }

    /// Appends the header block of the next request.
    pub(crate) fn put_block(&mut self, out: &mut Vec<u8>) {
        if !self.indexed.is_empty() {
            out.extend_from_slice(&self.indexed);
            return;
        }
        let start = out.len();
        if let Some(size) = self.size_update.take() {
            put_integer(out, size.into(), 5, 0x20);
        }
        // :method POST and :scheme http are in the static table.
        out.extend_from_slice(&[0x83, 0x86]);
        let mut literals = 0;
        for field in &mut self.stable {
            if let Some(index) = self.table.index(field.serial) {
                put_integer(out, index, 7, 0x80);
            } else {
                field.put_literal(&mut self.table, out);
                literals += 1;
            }
        }
        match self.shape {
            Shape::Steady if literals == 0 => self.indexed.extend_from_slice(&out[start..]),
            Shape::Steady => {}
            Shape::Churn => self.put_fresh(out),
        }
    }

    fn put_fresh(&mut self, out: &mut Vec<u8>) {
        // Deadlines of 5 to 9.99 s in microseconds, the unit that C-core and grpc-go choose for such times.
        let micros = self.rng.random_range(5_000_000..9_999_999_u32);
        let (trace, span): (u128, u64) = (self.rng.random(), self.rng.random());
        rewrite(&mut self.timeout.value, format_args!("{micros}u"));
        rewrite(&mut self.trace.value, format_args!("00-{trace:032x}-{span:016x}-01"));
        self.timeout.put_literal(&mut self.table, out);
        self.trace.put_literal(&mut self.table, out);
    }
}

/// Replaces a value without a new allocation.
fn rewrite(value: &mut String, with: std::fmt::Arguments<'_>) {
    let mut bytes = std::mem::take(value).into_bytes();
    bytes.clear();
    bytes.write_fmt(with).expect("writing to a vector cannot fail");
    *value = String::from_utf8(bytes).expect("formatted text is UTF-8");
}

/// Appends an integer with a prefix of `bits` bits, the other bits of its first byte from `pattern` (RFC 7541 §5.1).
pub(crate) fn put_integer(out: &mut Vec<u8>, value: u64, bits: u8, pattern: u8) {
    let full = (1_u64 << bits) - 1;
    if value < full {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | full as u8);
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a string without Huffman coding (RFC 7541 §5.2).
pub(crate) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, text.len() as u64, 7, 0);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use loona_hpack::Decoder;

    fn decode(decoder: &mut Decoder<'_>, block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        decoder.decode(block).unwrap().into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn stable() -> Vec<(String, String)> {
        vec![
            field(":method", "POST"),
            field(":scheme", "http"),
            field(":path", "/a.B/C"),
            field(":authority", "lab:1"),
            field("content-type", "application/grpc"),
            field("te", "trailers"),
            field("user-agent", "evenkeel-lab"),
            field("grpc-accept-encoding", "identity, deflate, gzip"),
        ]
    }

    fn blocks(shape: Shape, header_table: u32, count: usize) -> Vec<Vec<u8>> {
        let mut encoder = RequestEncoder::new("lab:1", "/a.B/C", shape, header_table, 1);
        let block = |_| {
            let mut out = Vec::new();
            encoder.put_block(&mut out);
            out
        };
        (0..count).map(block).collect()
    }

    #[test]
    fn steady_requests_are_eight_bytes_from_the_second_on() {
        let mut decoder = Decoder::new();
        for (number, block) in blocks(Shape::Steady, 4096, 5).iter().enumerate() {
            assert_eq!(decode(&mut decoder, block), stable());
            assert!(number == 0 || block.len() == 8, "request {number} has {} bytes", block.len());
        }
    }

    #[test]
    fn churning_requests_stay_readable_while_the_table_turns_over() {
        let mut decoder = Decoder::new();
        let mut last = Vec::new();
        // An entry of each request is about 60 and 110 bytes: 500 requests fill 4096 bytes many times.
        for block in blocks(Shape::Churn, 4096, 500) {
            let fields = decode(&mut decoder, &block);
            assert_eq!(fields[..8], stable()[..]);
            assert_eq!((fields[8].0.as_str(), fields[9].0.as_str()), ("grpc-timeout", "traceparent"));
            assert_eq!((fields[8].1.len(), fields[9].1.len()), (8, 55));
            assert_ne!(fields, last, "nothing is fresh");
            last = fields;
        }
    }

    #[test]
    fn a_peer_without_a_table_gets_literals() {
        for shape in [Shape::Steady, Shape::Churn] {
            let mut decoder = Decoder::new();
            decoder.set_max_allowed_table_size(0);
            for block in blocks(shape, 0, 3) {
                assert_eq!(decode(&mut decoder, &block)[..8], stable()[..]);
            }
        }
    }

    #[test]
    fn integers_match_the_examples_of_the_rfc() {
        let encoded = |value, bits| {
            let mut out = Vec::new();
            put_integer(&mut out, value, bits, 0);
            out
        };
        // RFC 7541, appendix C.1.
        assert_eq!(encoded(10, 5), [10]);
        assert_eq!(encoded(1337, 5), [31, 154, 10]);
        assert_eq!(encoded(42, 8), [42]);
        assert_eq!((encoded(30, 5), encoded(31, 5)), (vec![30], vec![31, 0]));
    }
}
