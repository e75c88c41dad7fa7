//! A peer's frames, written by hand: a test reads like a trace.

use crate::error::ErrorCode;
use crate::frame::{PREFACE, flag, kind, write_frame_header};

/// A header list.
pub(super) type List<'a> = &'a [(&'a str, &'a str)];

pub(super) const POST: List<'static> =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "a")];
pub(super) const OK: List<'static> = &[(":status", "200"), ("content-type", "application/grpc")];
pub(super) const EARLY_HINTS: List<'static> = &[(":status", "103"), ("link", "</a>")];
pub(super) const STATUS_0: List<'static> = &[("grpc-status", "0")];

/// Bytes to be fed to the connection under test.
#[derive(Clone, Default)]
pub(super) struct Wire(pub(super) Vec<u8>);

pub(super) fn wire() -> Wire {
    Wire::default()
}

impl Wire {
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        write_frame_header(&mut self.0, payload.len(), kind, flags, stream);
        self.raw(payload)
    }

    pub(super) fn preface(self) -> Self {
        self.raw(PREFACE)
    }

    pub(super) fn settings(self, entries: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (id, value) in entries {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &payload)
    }

    pub(super) fn settings_ack(self) -> Self {
        self.frame(kind::SETTINGS, flag::ACK, 0, &[])
    }

    pub(super) fn ping(self, payload: &[u8; 8]) -> Self {
        self.frame(kind::PING, 0, 0, payload)
    }

    pub(super) fn ping_ack(self, payload: &[u8; 8]) -> Self {
        self.frame(kind::PING, flag::ACK, 0, payload)
    }

    pub(super) fn goaway(self, last_stream: u32, code: ErrorCode) -> Self {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend_from_slice(&code.0.to_be_bytes());
        self.frame(kind::GOAWAY, 0, 0, &payload)
    }

    pub(super) fn window_update(self, stream: u32, increment: u32) -> Self {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }

    pub(super) fn reset(self, stream: u32, code: ErrorCode) -> Self {
        self.frame(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes())
    }

    pub(super) fn priority(self, stream: u32, depends_on: u32) -> Self {
        let mut payload = depends_on.to_be_bytes().to_vec();
        payload.push(15);
        self.frame(kind::PRIORITY, 0, stream, &payload)
    }

    pub(super) fn data(self, stream: u32, bytes: &[u8]) -> Self {
        self.frame(kind::DATA, 0, stream, bytes)
    }

    pub(super) fn last_data(self, stream: u32, bytes: &[u8]) -> Self {
        self.frame(kind::DATA, flag::END_STREAM, stream, bytes)
    }

    /// DATA with this many bytes of padding, and the byte that says so.
    pub(super) fn padded_data(self, stream: u32, bytes: &[u8], padding: u8) -> Self {
        let mut payload = vec![padding];
        payload.extend_from_slice(bytes);
        payload.resize(payload.len() + usize::from(padding), 0);
        self.frame(kind::DATA, flag::PADDED, stream, &payload)
    }

    /// HEADERS with the whole block, and perhaps END_STREAM.
    pub(super) fn headers(self, stream: u32, list: List<'_>, end: bool) -> Self {
        self.headers_block(stream, &block(list), end)
    }

    pub(super) fn headers_block(self, stream: u32, block: &[u8], end: bool) -> Self {
        let end = if end { flag::END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flag::END_HEADERS | end, stream, block)
    }

    /// A request whose DATA is still to come.
    pub(super) fn open(self, stream: u32) -> Self {
        self.headers(stream, POST, false)
    }

    /// A whole request.
    pub(super) fn call(self, stream: u32) -> Self {
        self.headers(stream, POST, true)
    }

    /// HEADERS without END_HEADERS, but with END_STREAM.
    pub(super) fn unfinished_headers(self, stream: u32, fragment: &[u8]) -> Self {
        self.frame(kind::HEADERS, flag::END_STREAM, stream, fragment)
    }

    pub(super) fn continuation(self, stream: u32, fragment: &[u8], last: bool) -> Self {
        self.frame(kind::CONTINUATION, if last { flag::END_HEADERS } else { 0 }, stream, fragment)
    }

    /// The same again, `count` times.
    pub(super) fn times(mut self, count: usize) -> Self {
        self.0 = self.0.repeat(count);
        self
    }
}

/// A header block of literals without indexing: it leaves no trace in the decoder's table.
pub(super) fn block(list: List<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer strings need a longer length");
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A list with more fields behind it.
pub(super) fn with<'a>(list: List<'a>, more: List<'a>) -> Vec<(&'a str, &'a str)> {
    list.iter().chain(more).copied().collect()
}
