//! What the tests of both directions share.

mod decoder;
mod encoder;
mod rfc;

use super::*;
use crate::field::{FieldBlock, FieldStore};

type Pairs = Vec<(String, String)>;

/// A decoder with all that it needs.
struct Peer {
    store: FieldStore,
    decoder: Decoder,
    limits: HeaderListLimits,
}

impl Peer {
    fn new(table_bytes: u32) -> Self {
        Self {
            store: FieldStore::new(1),
            decoder: Decoder::new(table_bytes),
            limits: HeaderListLimits::default(),
        }
    }

    fn decode(&mut self, block: &[u8]) -> Result<(ListVerdict, Pairs), HpackError> {
        let mut out = FieldBlock::new();
        let verdict = self.decoder.decode(block, &self.limits, &mut self.store, &mut out);
        let pairs = pairs(&self.store, &out);
        out.clear(&mut self.store);
        verdict.map(|verdict| (verdict, pairs))
    }

    /// The dynamic table, newest entry first.
    fn table(&mut self) -> Pairs {
        let limits =
            HeaderListLimits { list_bytes: usize::MAX, fields: usize::MAX, string_bytes: usize::MAX };
        let limits = core::mem::replace(&mut self.limits, limits);
        let mut block = Vec::new();
        for position in 0..self.decoder.table_len() as u32 {
            integer::encode(62 + position, 7, 0x80, &mut block);
        }
        let (_, entries) = self.decode(&block).unwrap();
        self.limits = limits;
        entries
    }

    /// Ends the connection and checks that nothing is left.
    fn close(mut self) {
        self.decoder.clear(&mut self.store);
        assert_eq!((self.store.references(), self.store.len()), (0, 0));
    }
}

fn pairs(store: &FieldStore, block: &FieldBlock) -> Pairs {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    block.iter(store).map(|field| (text(field.name), text(field.value))).collect()
}

fn expected(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A string as it is, with its length.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    integer::encode(text.len() as u32, 7, 0x00, &mut out);
    out.extend_from_slice(text);
    out
}

/// A Huffman-coded string with its length.
fn coded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    integer::encode(huffman::encoded_len(text) as u32, 7, 0x80, &mut out);
    huffman::encode(text, &mut out);
    out
}

/// A literal with a new name; `first` says which kind.
fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[first][..], &plain(name), &plain(value)].concat()
}

const INDEXED: u8 = 0x40;
const PLAIN: u8 = 0x00;
