//! Frames by hand.

use evenkeel_http2::ErrorCode;
use evenkeel_http2::frame::{flag, kind, write_frame_header};

pub(super) type List<'a> = &'a [(&'a str, &'a str)];

pub(super) const POST: List<'static> =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "a")];

/// Bytes of a peer.
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

    pub(super) fn settings(self, id: u16, value: u32) -> Self {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.frame(kind::SETTINGS, 0, 0, &payload)
    }

    pub(super) fn window_update(self, stream: u32, increment: u32) -> Self {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }

    pub(super) fn reset(self, stream: u32) -> Self {
        self.frame(kind::RST_STREAM, 0, stream, &ErrorCode::CANCEL.0.to_be_bytes())
    }

    pub(super) fn priority(self, stream: u32, depends_on: u32) -> Self {
        let payload = [&depends_on.to_be_bytes()[..], &[15]].concat();
        self.frame(kind::PRIORITY, 0, stream, &payload)
    }

    pub(super) fn data(self, stream: u32, bytes: &[u8], end: bool) -> Self {
        self.frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, bytes)
    }

    pub(super) fn headers(self, stream: u32, list: List<'_>, end: bool) -> Self {
        self.block(stream, &block(list), end)
    }

    pub(super) fn block(self, stream: u32, block: &[u8], end: bool) -> Self {
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

    pub(super) fn times(mut self, count: usize) -> Self {
        self.0 = self.0.repeat(count);
        self
    }
}

/// A header block of literals without indexing.
pub(super) fn block(list: List<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("short"));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A list with more fields behind it.
pub(super) fn with<'a>(list: List<'a>, more: List<'a>) -> Vec<(&'a str, &'a str)> {
    list.iter().chain(more).copied().collect()
}
