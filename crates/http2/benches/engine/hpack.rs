//! HPACK alone: request blocks decoded, and request lists encoded.

use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_http2::hpack::{Decoder, Encoder, HeaderListLimits, INITIAL_TABLE_BYTES};

use super::peer::{self, Kind, REQUEST};
use super::{Hop, UNITS, WARM_UP, Warm};

pub(crate) struct BlockDecoder {
    decoder: Decoder,
    store: FieldStore,
    block: FieldBlock,
    limits: HeaderListLimits,
    done: usize,
}

impl Hop for BlockDecoder {
    fn wake(&mut self, input: &[u8]) {
        self.block.clear(&mut self.store);
        let verdict = self.decoder.decode(input, &self.limits, &mut self.store, &mut self.block);
        verdict.expect("an honest peer");
        self.done += usize::from(self.block.len() >= REQUEST.len());
    }

    fn done(&self) -> usize {
        self.done
    }
}

impl Drop for BlockDecoder {
    fn drop(&mut self) {
        self.block.clear(&mut self.store);
        self.decoder.clear(&mut self.store);
    }
}

pub(crate) fn decoder(kind: Kind) -> Warm<BlockDecoder> {
    let decoder = BlockDecoder {
        decoder: Decoder::new(INITIAL_TABLE_BYTES),
        store: FieldStore::new(1),
        block: FieldBlock::new(),
        limits: HeaderListLimits::default(),
        done: 0,
    };
    Warm::new(decoder, peer::request_blocks(kind))
}

/// Deadlines and trace ids for encoders, one pair for each wake-up, which needs no other input.
struct Lists {
    fresh: Vec<[(&'static str, String); 2]>,
}

impl Lists {
    fn new(kind: Kind) -> Self {
        let count = if kind == Kind::Fresh { WARM_UP + UNITS } else { 0 };
        Self { fresh: (0..count).map(peer::fresh).collect() }
    }

    fn fresh(&self, number: usize) -> impl Iterator<Item = (&[u8], &[u8])> {
        let fields = self.fresh.get(number).into_iter().flatten();
        fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn wakes() -> Vec<Vec<u8>> {
        vec![Vec::new(); WARM_UP + UNITS]
    }
}

pub(crate) struct ListEncoder {
    encoder: Encoder,
    store: FieldStore,
    request: FieldBlock,
    lists: Lists,
    out: Vec<u8>,
    done: usize,
}

impl Hop for ListEncoder {
    fn wake(&mut self, _input: &[u8]) {
        self.out.clear();
        self.encoder.encode_block(&mut self.store, &self.request, &mut self.out);
        for (name, value) in self.lists.fresh(self.done) {
            self.encoder.literal(&mut self.store, name, value, &mut self.out);
        }
        self.done += usize::from(self.out.len() >= REQUEST.len());
    }

    fn done(&self) -> usize {
        self.done
    }
}

impl Drop for ListEncoder {
    fn drop(&mut self) {
        self.request.clear(&mut self.store);
        self.encoder.clear(&mut self.store);
    }
}

pub(crate) fn encoder(kind: Kind) -> Warm<ListEncoder> {
    let (mut store, mut request) = (FieldStore::new(1), FieldBlock::new());
    for (name, value) in REQUEST {
        let id = store.intern(name.as_bytes(), value.as_bytes());
        request.push_id(&mut store, id, true);
        store.release(id);
    }
    let encoder = Encoder::new(INITIAL_TABLE_BYTES);
    let lists = Lists::new(kind);
    Warm::new(ListEncoder { encoder, store, request, lists, out: Vec::new(), done: 0 }, Lists::wakes())
}
