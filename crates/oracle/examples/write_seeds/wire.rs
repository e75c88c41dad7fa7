//! A peer's bytes, written frame by frame.

use evenkeel_http2::frame::{PREFACE, flag, kind, write_frame_header};

/// A header list.
pub(crate) type List<'a> = &'a [(&'a str, &'a str)];

/// A call of gRPC.
pub(crate) const POST: List<'static> = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Orders/Get"),
    (":authority", "orders"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
];

/// A request that is within the tightest limits.
pub(crate) const GET: List<'static> =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// Bytes on their way.
#[derive(Clone, Default)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

pub(crate) fn wire() -> Wire {
    Wire::default()
}

/// A client that has seen the server's SETTINGS.
pub(crate) fn client() -> Wire {
    wire().preface().settings(&[]).settings_ack()
}

/// A server that has seen the client's SETTINGS.
pub(crate) fn server() -> Wire {
    wire().settings(&[(3, 100)]).settings_ack()
}

impl Wire {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        write_frame_header(&mut self.0, payload.len(), kind, flags, stream);
        self.raw(payload)
    }

    /// A frame whose header announces more than there is.
    pub(crate) fn header(mut self, length: usize, kind: u8, flags: u8, stream: u32) -> Self {
        write_frame_header(&mut self.0, length, kind, flags, stream);
        self
    }

    pub(crate) fn preface(self) -> Self {
        self.raw(PREFACE)
    }

    pub(crate) fn settings(self, entries: &[(u16, u32)]) -> Self {
        let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = entries.iter().flat_map(entry).collect();
        self.frame(kind::SETTINGS, 0, 0, &payload)
    }

    pub(crate) fn settings_ack(self) -> Self {
        self.frame(kind::SETTINGS, flag::ACK, 0, &[])
    }

    pub(crate) fn ping(self) -> Self {
        self.frame(kind::PING, 0, 0, b"01234567")
    }

    pub(crate) fn goaway(self, last: u32, code: u32, debug: &[u8]) -> Self {
        let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), debug].concat();
        self.frame(kind::GOAWAY, 0, 0, &payload)
    }

    pub(crate) fn window_update(self, stream: u32, increment: u32) -> Self {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }

    pub(crate) fn reset(self, stream: u32) -> Self {
        self.frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    }

    pub(crate) fn priority(self, stream: u32, depends_on: u32) -> Self {
        self.frame(kind::PRIORITY, 0, stream, &[&depends_on.to_be_bytes()[..], &[15]].concat())
    }

    pub(crate) fn data(self, stream: u32, bytes: &[u8], end: bool) -> Self {
        self.frame(kind::DATA, u8::from(end) * flag::END_STREAM, stream, bytes)
    }

    pub(crate) fn headers(self, stream: u32, list: List<'_>, end: bool) -> Self {
        let flags = flag::END_HEADERS | (u8::from(end) * flag::END_STREAM);
        self.frame(kind::HEADERS, flags, stream, &block(list))
    }

    /// A whole call with one message.
    pub(crate) fn call(self, stream: u32) -> Self {
        self.headers(stream, POST, false).data(stream, b"\0\0\0\0\x02hi", true)
    }

    pub(crate) fn times(self, count: usize) -> Self {
        Self(self.0.repeat(count))
    }

    pub(crate) fn then(self, more: &Self) -> Self {
        self.raw(&more.0)
    }

    /// The input of a connection's oracle: limits, steps, and these bytes.
    pub(crate) fn scheduled(self, limits: u8, steps: &[[u8; 3]]) -> Vec<u8> {
        let count = u8::try_from(steps.len()).expect("a schedule has a few steps");
        [&[limits, count][..], steps.as_flattened(), &self.0].concat()
    }

    /// The same, all at once.
    pub(crate) fn at_once(self) -> Vec<u8> {
        self.scheduled(0, &[])
    }
}

/// A header block of literals without indexing.
pub(crate) fn block(list: List<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).expect("seeds have short strings"));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}
