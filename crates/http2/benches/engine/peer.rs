//! What the peer sends: bytes written once, before anything is counted, for both engines alike.
//!
//! Its HPACK is what grpc-go's is: every field goes into the table, strings are Huffman-coded where that is shorter. So
//! a call whose fields are those of the call before is nine indices, and one with a fresh deadline and trace id pushes
//! two entries into the table and two others out.

use std::collections::VecDeque;

use evenkeel_http2::frame::{
    PREFACE, flag, kind, write_data, write_frame_header, write_settings, write_settings_ack,
    write_window_update,
};
use evenkeel_http2::hpack::{INITIAL_TABLE_BYTES, STATIC_TABLE, huffman};
use evenkeel_http2::settings::id;

use super::{UNITS, WARM_UP};

/// What differs from call to call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Repeated,
    /// `grpc-timeout` and `traceparent`.
    Fresh,
}

/// The fields of every request.
pub(crate) const REQUEST: [(&str, &str); 7] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Orders/Get"),
    (":authority", "orders:50051"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-go/1.80.0"),
];

/// The fields of every response.
pub(crate) const RESPONSE: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

/// The trailers of every response.
pub(crate) const TRAILERS: [(&str, &str); 1] = [("grpc-status", "0")];

/// The message of a unary call in both directions, with gRPC's five bytes before it.
pub(crate) const MESSAGE: [u8; 105] = {
    let mut message = [7; 105];
    message[0] = 0;
    [message[1], message[2], message[3], message[4]] = 100_u32.to_be_bytes();
    message
};

/// A message of a large stream.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// The largest frame of both sides.
pub(crate) const FRAME_BYTES: usize = 16 * 1024;

/// Flow-control windows of both sides, for a stream and for the connection: sixteen large messages.
pub(crate) const WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams that are open at once when calls are interleaved.
pub(crate) const INTERLEAVED: usize = 100;

/// A deadline and a trace id that no other call has; each is valid gRPC and W3C trace context.
pub(crate) fn fresh(number: usize) -> [(&'static str, String); 2] {
    let random = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let trace = format!("00-{random:016x}{:016x}-{:016x}-01", random.rotate_left(17), random.rotate_left(41));
    [("grpc-timeout", format!("{}u", 10_000_000 + random % 80_000_000)), ("traceparent", trace)]
}

/// The blocks of [`WARM_UP`] and [`UNITS`] requests.
pub(crate) fn request_blocks(kind: Kind) -> Vec<Vec<u8>> {
    let mut writer = Writer::default();
    (0..WARM_UP + UNITS).map(|number| writer.request(kind, number)).collect()
}

/// What a client sends first, and the acknowledgement of the server's SETTINGS.
pub(crate) fn client_preface() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    write_settings(&mut out, &[(id::ENABLE_PUSH, 0), (id::INITIAL_WINDOW_SIZE, WINDOW_BYTES)]);
    // No call waits for the connection's window: unary calls are counted without WINDOW_UPDATE frames.
    write_window_update(&mut out, 0, 1 << 30);
    write_settings_ack(&mut out);
    out
}

/// What a server sends first, and the acknowledgement of the client's SETTINGS.
pub(crate) fn server_preface() -> Vec<u8> {
    let mut out = Vec::new();
    write_settings(&mut out, &[(id::INITIAL_WINDOW_SIZE, WINDOW_BYTES)]);
    write_window_update(&mut out, 0, 1 << 30);
    write_settings_ack(&mut out);
    out
}

/// Unary requests, `at_once` in each portion: first all their HEADERS, then all their DATA.
pub(crate) fn requests(kind: Kind, at_once: usize) -> Vec<Vec<u8>> {
    let blocks = request_blocks(kind);
    let mut stream = 1;
    let portion = |blocks: &[Vec<u8>]| {
        let mut out = Vec::new();
        let first = stream;
        for block in blocks {
            write_headers(&mut out, stream, block, 0);
            stream += 2;
        }
        (first..stream).step_by(2).for_each(|stream| write_data(&mut out, stream, &MESSAGE, true));
        out
    };
    blocks.chunks(at_once).map(portion).collect()
}

/// The answers to unary requests, one in each portion.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    let mut writer = Writer::default();
    let answer = |number| {
        let (mut out, stream) = (Vec::new(), 2 * number as u32 + 1);
        write_headers(&mut out, stream, &writer.block(&RESPONSE), 0);
        write_data(&mut out, stream, &MESSAGE, false);
        write_headers(&mut out, stream, &writer.block(&TRAILERS), flag::END_STREAM);
        out
    };
    (0..WARM_UP + UNITS).map(answer).collect()
}

/// One request that stays open; large messages follow, one in each portion.
pub(crate) fn upload() -> Vec<Vec<u8>> {
    let message = |_| {
        let mut out = Vec::new();
        (0..LARGE_BYTES / FRAME_BYTES).for_each(|_| write_data(&mut out, 1, &[7; FRAME_BYTES], false));
        out
    };
    (0..WARM_UP + UNITS).map(message).collect()
}

/// What opens stream 1 and leaves it open.
pub(crate) fn open_request() -> Vec<u8> {
    let mut out = Vec::new();
    write_headers(&mut out, 1, &Writer::default().request(Kind::Repeated, 0), 0);
    out
}

/// The WINDOW_UPDATE frames of a client that has read a large message, one pair in each portion.
pub(crate) fn credit() -> Vec<Vec<u8>> {
    let updates = |_| {
        let mut out = Vec::new();
        write_window_update(&mut out, 0, LARGE_BYTES as u32);
        write_window_update(&mut out, 1, LARGE_BYTES as u32);
        out
    };
    (0..WARM_UP + UNITS).map(updates).collect()
}

fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], flags: u8) {
    write_frame_header(out, block.len(), kind::HEADERS, flag::END_HEADERS | flags, stream);
    out.extend_from_slice(block);
}

/// An HPACK encoder with the simplest rule: whatever is not in a table goes into it.
#[derive(Default)]
struct Writer {
    /// Newest first.
    table: VecDeque<(String, String)>,
    bytes: usize,
}

impl Writer {
    fn request(&mut self, kind: Kind, number: usize) -> Vec<u8> {
        let fresh = fresh(number);
        let fresh = fresh.iter().map(|(name, value)| (*name, value.as_str()));
        let taken = if kind == Kind::Fresh { fresh.len() } else { 0 };
        let list: Vec<_> = REQUEST.into_iter().chain(fresh.take(taken)).collect();
        self.block(&list)
    }

    fn block(&mut self, list: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in list {
            if let Some(index) = self.index(|known, its_value| known == *name && its_value == *value) {
                integer(&mut out, 0x80, 7, index);
                continue;
            }
            match self.index(|known, _| known == *name) {
                Some(index) => integer(&mut out, 0x40, 6, index),
                None => {
                    out.push(0x40);
                    string(&mut out, name);
                }
            }
            string(&mut out, value);
            self.insert(name, value);
        }
        out
    }

    fn index(&self, is: impl Fn(&str, &str) -> bool) -> Option<usize> {
        let own = self.table.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        STATIC_TABLE.into_iter().chain(own).position(|(name, value)| is(name, value)).map(|at| at + 1)
    }

    fn insert(&mut self, name: &str, value: &str) {
        let size = |name: &str, value: &str| name.len() + value.len() + 32;
        self.bytes += size(name, value);
        self.table.push_front((name.to_owned(), value.to_owned()));
        while self.bytes > INITIAL_TABLE_BYTES as usize {
            let (name, value) = self.table.pop_back().expect("an empty table has no bytes");
            self.bytes -= size(&name, &value);
        }
    }
}

/// An integer behind the `bits` low bits of `first` (RFC 7541 section 5.1); no length or index here needs more than two
/// bytes.
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        out.push(first | value as u8);
    } else {
        out.push(first | most as u8);
        out.push(u8::try_from(value - most).expect("indices and lengths are small here"));
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    let coded = huffman::encoded_len(text.as_bytes());
    if coded < text.len() {
        integer(out, 0x80, 7, coded);
        huffman::encode(text.as_bytes(), out);
    } else {
        integer(out, 0, 7, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}
