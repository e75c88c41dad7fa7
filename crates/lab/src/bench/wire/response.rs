//! Response header blocks: written by the backend, read by the generator.
//!
//! Reading goes through an HPACK library. A block that does not change the decoder's table means the same as long as no
//! other block changes it, so its meaning is kept: in steady state a response costs a comparison of a few bytes.

use super::Fault;
use super::request::put_string;
use loona_hpack::Decoder;

/// Meanings kept at a time; peers use two or three different blocks in steady state.
const MEMO_MAX: usize = 8;
/// Longest block whose meaning is kept.
const MEMO_BLOCK_BYTES_MAX: usize = 256;

/// What a response's header block says about its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    /// `:status`.
    pub(crate) http_status: Option<u16>,
    /// `grpc-status`, at most 255.
    pub(crate) grpc_status: Option<u8>,
}

pub(crate) struct ResponseDecoder {
    decoder: Decoder<'static>,
    memo: Vec<(Vec<u8>, Verdict)>,
}

impl ResponseDecoder {
    pub(crate) fn new() -> Self {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(4096);
        Self { decoder, memo: Vec::new() }
    }

    pub(crate) fn verdict(&mut self, block: &[u8]) -> Result<Verdict, Fault> {
        if let Some((_, verdict)) = self.memo.iter().find(|(known, _)| known == block) {
            return Ok(*verdict);
        }
        let mut verdict = Verdict::default();
        self.decoder
            .decode_with_cb(block, |name, value| note(&mut verdict, &name, &value))
            .map_err(|_| Fault::Protocol("header block that cannot be decoded"))?;
        if changes_table(block) {
            self.memo.clear();
        } else if self.memo.len() < MEMO_MAX && block.len() <= MEMO_BLOCK_BYTES_MAX {
            self.memo.push((block.to_vec(), verdict));
        }
        Ok(verdict)
    }
}

fn note(verdict: &mut Verdict, name: &[u8], value: &[u8]) {
    let text = || std::str::from_utf8(value).ok();
    match name {
        b":status" => verdict.http_status = text().and_then(|text| text.parse().ok()),
        b"grpc-status" => verdict.grpc_status = text().and_then(|text| text.parse().ok()),
        _ => {}
    }
}

/// Whether a (valid) block inserts into the dynamic table or resizes it. When in doubt: yes.
fn changes_table(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let literal = match first {
            0x80.. => false,
            0x20..0x80 => return true,
            _ => true,
        };
        let (prefix_bits, strings) = match (literal, first & 0x0f) {
            (false, _) => (7, 0),
            (true, 0) => (4, 2),
            (true, _) => (4, 1),
        };
        let Some((_, mut rest)) = take_integer(block, prefix_bits) else { return true };
        for _ in 0..strings {
            let Some((length, text)) = take_integer(rest, 7) else { return true };
            let Some(after) = text.get(length..) else { return true };
            rest = after;
        }
        block = rest;
    }
    false
}

/// Takes an integer with a prefix of `bits` bits off the front; `None` if it is cut off or absurdly large.
fn take_integer(bytes: &[u8], bits: u8) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let full = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & full;
    if value == full {
        for shift in [0, 7, 14] {
            let (byte, after) = rest.split_first()?;
            value += usize::from(byte & 0x7f) << shift;
            rest = after;
            if byte & 0x80 == 0 {
                return Some((value, rest));
            }
        }
        return None;
    }
    Some((value, rest))
}

/// The backend's two blocks: response headers and trailers of a call that succeeded.
pub(crate) struct ResponseBlocks {
    headers: Vec<u8>,
    trailers: Vec<u8>,
}

impl ResponseBlocks {
    /// The blocks of the first response on a connection, which put their fields into the peer's table.
    pub(crate) fn first() -> Self {
        // :status 200 is static; content-type has the name index 31.
        let mut headers = vec![0x88, 0x40 | 31];
        put_string(&mut headers, b"application/grpc");
        let mut trailers = vec![0x40];
        put_string(&mut trailers, b"grpc-status");
        put_string(&mut trailers, b"0");
        Self { headers, trailers }
    }

    /// The blocks of all later responses: indexes into the table as the first ones left it, `grpc-status` being newest.
    pub(crate) fn indexed() -> Self {
        Self { headers: vec![0x88, 0x80 | 63], trailers: vec![0x80 | 62] }
    }

    /// The blocks for a peer whose table is smaller than usual: literals without indexing. The very first block on a
    /// connection tells the peer that its table stays empty (RFC 7541 §4.2).
    pub(crate) fn literal(first: bool) -> Self {
        let mut headers = if first { vec![0x20] } else { Vec::new() };
        headers.extend_from_slice(&[0x88, 0x0f, 31 - 0x0f]);
        put_string(&mut headers, b"application/grpc");
        let mut trailers = vec![0x00];
        put_string(&mut trailers, b"grpc-status");
        put_string(&mut trailers, b"0");
        Self { headers, trailers }
    }

    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers
    }

    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loona_hpack::Encoder;

    const HEADERS: Verdict = Verdict { http_status: Some(200), grpc_status: None };
    const TRAILERS: Verdict = Verdict { http_status: None, grpc_status: Some(0) };

    #[test]
    fn the_backends_blocks_are_read_back() {
        let mut decoder = ResponseDecoder::new();
        for blocks in [ResponseBlocks::first(), ResponseBlocks::indexed(), ResponseBlocks::indexed()] {
            assert_eq!(decoder.verdict(blocks.headers()).unwrap(), HEADERS);
            assert_eq!(decoder.verdict(blocks.trailers()).unwrap(), TRAILERS);
        }
        let mut fresh = ResponseDecoder::new();
        for first in [true, false, false] {
            let literal = ResponseBlocks::literal(first);
            assert_eq!(fresh.verdict(literal.headers()).unwrap(), HEADERS);
            assert_eq!(fresh.verdict(literal.trailers()).unwrap(), TRAILERS);
        }
    }

    #[test]
    fn a_kept_meaning_ends_when_the_table_changes() {
        let mut decoder = ResponseDecoder::new();
        let insert = |value: &[u8]| {
            let mut block = vec![0x40];
            put_string(&mut block, b"grpc-status");
            put_string(&mut block, value);
            block
        };
        let newest = [0x80 | 62];
        decoder.verdict(&insert(b"0")).unwrap();
        assert_eq!(decoder.verdict(&newest).unwrap().grpc_status, Some(0));
        decoder.verdict(&insert(b"14")).unwrap();
        assert_eq!(decoder.verdict(&newest).unwrap().grpc_status, Some(14));
    }

    #[test]
    fn blocks_of_another_encoder_are_understood() {
        let (mut encoder, mut decoder) = (Encoder::new(), ResponseDecoder::new());
        for status in ["0", "13", "0", "0", "4"] {
            let fields =
                [(&b":status"[..], &b"200"[..]), (b"server", b"x"), (b"grpc-status", status.as_bytes())];
            let verdict = decoder.verdict(&encoder.encode(fields)).unwrap();
            assert_eq!(verdict, Verdict { http_status: Some(200), grpc_status: status.parse().ok() });
        }
    }

    #[test]
    fn a_block_that_cannot_be_decoded_is_a_fault() {
        assert!(matches!(ResponseDecoder::new().verdict(&[0x80 | 70]), Err(Fault::Protocol(_))));
    }

    #[test]
    fn only_insertions_and_resizes_change_the_table() {
        assert!(!changes_table(ResponseBlocks::literal(false).headers()));
        assert!(!changes_table(ResponseBlocks::literal(false).trailers()));
        assert!(!changes_table(ResponseBlocks::indexed().headers()));
        assert!(changes_table(ResponseBlocks::first().headers()));
        assert!(changes_table(&[0x20]));
        // Never indexed, with a long value: the length takes two bytes.
        let mut long = vec![0x10, 1, b'a'];
        put_string(&mut long, &[b'x'; 200]);
        assert!(!changes_table(&long));
        // Cut off: in doubt.
        assert!(changes_table(&long[..100]));
    }
}
