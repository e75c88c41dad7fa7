//! HPACK: whatever a list's limits drop, both ends keep the same table, and no reference is lost.

use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_http2::hpack::{Decoder, Encoder, HeaderListLimits, HpackError, ListVerdict};
use evenkeel_http2::limits::ENCODER_TABLE_BYTES;

/// Limits that nearly every list breaks.
const TIGHT: HeaderListLimits = HeaderListLimits { list_bytes: 100, fields: 2, string_bytes: 8 };

/// Limits that no list breaks: a block of one byte in the input stands for 4 KiB at most, and a block has 255 of them.
const WIDE: HeaderListLimits =
    HeaderListLimits { list_bytes: 1 << 22, fields: 1 << 10, string_bytes: 1 << 22 };

/// Names and values of a header list.
type List = Vec<(Vec<u8>, Vec<u8>)>;

/// One side's decoder with the fields that it knows.
struct Reader {
    store: FieldStore,
    decoder: Decoder,
    limits: HeaderListLimits,
}

impl Reader {
    fn new(limits: HeaderListLimits) -> Self {
        Self { store: FieldStore::new(7), decoder: Decoder::new(ENCODER_TABLE_BYTES), limits }
    }

    fn read(&mut self, block: &[u8]) -> Result<(ListVerdict, List), HpackError> {
        let mut fields = FieldBlock::new();
        let verdict = self.decoder.decode(block, &self.limits, &mut self.store, &mut fields);
        let list = list(&fields, &self.store);
        let sizes = list.iter().map(|(name, value)| name.len() + value.len() + 32);
        assert_eq!(fields.size(), sizes.sum::<usize>(), "sizes are those of RFC 7541 section 4.1");
        assert!(fields.size() <= self.limits.list_bytes && fields.len() <= self.limits.fields);
        fields.clear(&mut self.store);
        verdict.map(|verdict| (verdict, list))
    }

    fn table(&self) -> (usize, usize) {
        (self.decoder.table_bytes(), self.decoder.table_len())
    }

    fn close(mut self) {
        self.decoder.clear(&mut self.store);
        assert_eq!((self.store.references(), self.store.len()), (0, 0), "every reference was given back");
    }
}

fn list(fields: &FieldBlock, store: &FieldStore) -> List {
    fields.iter(store).map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// Takes one byte.
fn byte(data: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = data.split_first()?;
    *data = rest;
    Some(first)
}

/// Takes as many bytes as the next one says, or what is left.
fn bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(byte(data)?);
    let (taken, rest) = data.split_at(length.min(data.len()));
    *data = rest;
    Some(taken)
}

/// Blocks of one connection, each behind a byte with its length. A decoder with tight limits keeps the same table as one
/// with wide limits and finds the beginning of the same list; the whole list comes through our encoder unchanged.
///
/// # Panics
/// If that does not hold.
pub fn hpack_decode(data: &[u8]) {
    let mut rest = data;
    let (mut wide, mut tight, mut link) = (Reader::new(WIDE), Reader::new(TIGHT), Link::new());
    while let Some(block) = bytes(&mut rest) {
        let (read, cut) = (wide.read(block), tight.read(block));
        match (read, cut) {
            (Ok((verdict, whole)), Ok((cut_verdict, part))) => {
                assert_eq!(verdict, ListVerdict::Accepted, "the wide limits hold any block of 255 bytes");
                assert!(whole.starts_with(&part), "{part:?} begins {whole:?}");
                assert_eq!(cut_verdict == ListVerdict::Accepted, whole == part);
                assert_eq!(wide.table(), tight.table(), "a list's limits do not change the table");
                for (at, (name, value)) in whole.iter().enumerate() {
                    link.push(at % 2 == 0, name, value);
                }
                link.send();
            }
            // A list beyond all measure ends a connection, and so does whatever comes later in the block.
            (_, Err(HpackError::ListFarTooLarge)) => break,
            (read, cut) => {
                assert_eq!(read.err(), cut.err());
                break;
            }
        }
    }
    wide.close();
    tight.close();
    link.close();
}

/// Our encoder and the decoder at the other end.
struct Link {
    store: FieldStore,
    encoder: Encoder,
    block: FieldBlock,
    reader: Reader,
}

impl Link {
    fn new() -> Self {
        Self {
            store: FieldStore::new(8),
            encoder: Encoder::new(ENCODER_TABLE_BYTES),
            block: FieldBlock::new(),
            reader: Reader::new(WIDE),
        }
    }

    /// Adds a field to the list, as one that its sender uses by reference or as a literal.
    fn push(&mut self, by_reference: bool, name: &[u8], value: &[u8]) {
        if by_reference {
            let id = self.store.intern(name, value);
            self.block.push_id(&mut self.store, id, true);
            self.store.release(id);
        } else {
            self.block.push_literal(name, value, value.len() % 5 == 4);
        }
    }

    /// Sends the list. The other end reads the same and has the same table, which keeps to the size agreed.
    fn send(&mut self) {
        let mut encoded = Vec::new();
        self.encoder.encode_block(&mut self.store, &self.block, &mut encoded);
        let sent = list(&self.block, &self.store);
        self.block.clear(&mut self.store);
        assert_eq!(self.reader.read(&encoded), Ok((ListVerdict::Accepted, sent)));
        assert_eq!(self.reader.table(), (self.encoder.table_bytes(), self.encoder.table_len()));
        assert!(self.encoder.table_bytes() <= ENCODER_TABLE_BYTES as usize);
    }

    /// The other end allows a table of this size.
    fn resize(&mut self, bytes: u32) {
        self.encoder.set_peer_limit(bytes);
        self.reader.decoder.set_table_limit(bytes);
    }

    fn close(mut self) {
        self.block.clear(&mut self.store);
        self.encoder.clear(&mut self.store);
        assert_eq!((self.store.references(), self.store.len()), (0, 0), "every reference was given back");
        self.reader.close();
    }
}

/// Names that the encoder treats differently: in the static table, volatile, secret, unknown.
const NAMES: [&[u8]; 8] =
    [b":path", b":status", b"content-type", b"user-agent", b"grpc-timeout", b"authorization", b"te", b"x-a"];

/// Operations on an encoder: fields, ends of lists, changes of the table's size. The decoder at the other end reads every
/// list as it was written.
///
/// # Panics
/// If that does not hold.
pub fn hpack_round_trip(data: &[u8]) {
    let mut rest = data;
    let mut link = Link::new();
    while let Some(operation) = byte(&mut rest) {
        let by_reference = operation & 0x10 != 0;
        match operation & 0x0f {
            at @ 0..=7 => {
                let value = bytes(&mut rest).unwrap_or_default();
                link.push(by_reference, NAMES[usize::from(at)], value);
            }
            8 | 9 => {
                let (name, value) =
                    (bytes(&mut rest).unwrap_or_default(), bytes(&mut rest).unwrap_or_default());
                link.push(by_reference, name, value);
            }
            10 => {
                // A long value: entries that fill or empty the table.
                let length = usize::from(byte(&mut rest).unwrap_or_default()) * 17;
                link.push(by_reference, b"x-long", &vec![operation; length]);
            }
            11 => link.resize(u32::from(byte(&mut rest).unwrap_or_default())),
            12 => link.resize(u32::from(byte(&mut rest).unwrap_or_default()) * 33),
            _ => link.send(),
        }
    }
    link.send();
    link.close();
}
