//! Frames: nine bytes of header, then a payload (RFC 9113 section 4.1).
//!
//! A whole class of frame is checked by one table (`RULES`) instead of by a condition in each handler, so that
//! no handler can forget a check: it gives each type's place (stream 0, another, either), its length, and whether a
//! wrong length ends the stream or the connection. The shape is HAProxy's `h2_frame_definition`.

mod write;

pub use write::*;

use crate::error::Violation;

/// Bytes of a frame header.
pub const FRAME_HEADER_LEN: usize = 9;

/// The client connection preface (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The smallest and the initial SETTINGS_MAX_FRAME_SIZE, and what we advertise: larger frames only delay others.
pub const MAX_FRAME_SIZE: u32 = 16_384;

/// The largest SETTINGS_MAX_FRAME_SIZE a peer may ask for (RFC 9113 section 6.5.2).
pub const MAX_FRAME_SIZE_LIMIT: u32 = (1 << 24) - 1;

/// Frame types of RFC 9113 section 6.
pub mod kind {
    /// DATA (section 6.1).
    pub const DATA: u8 = 0x0;
    /// HEADERS (section 6.2).
    pub const HEADERS: u8 = 0x1;
    /// PRIORITY (section 6.3): validated and ignored.
    pub const PRIORITY: u8 = 0x2;
    /// RST_STREAM (section 6.4).
    pub const RST_STREAM: u8 = 0x3;
    /// SETTINGS (section 6.5).
    pub const SETTINGS: u8 = 0x4;
    /// PUSH_PROMISE (section 6.6): never accepted.
    pub const PUSH_PROMISE: u8 = 0x5;
    /// PING (section 6.7).
    pub const PING: u8 = 0x6;
    /// GOAWAY (section 6.8).
    pub const GOAWAY: u8 = 0x7;
    /// WINDOW_UPDATE (section 6.9).
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// CONTINUATION (section 6.10).
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags of RFC 9113 section 6.
pub mod flag {
    /// END_STREAM on DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// ACK on SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// END_HEADERS on HEADERS and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// PADDED on DATA and HEADERS.
    pub const PADDED: u8 = 0x8;
    /// PRIORITY on HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// A parsed frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Payload bytes.
    pub length: u32,
    /// One of [`kind`], or an unknown type.
    pub kind: u8,
    /// A set of [`flag`].
    pub flags: u8,
    /// Stream identifier, the reserved bit cleared.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads a header from the first nine bytes of `bytes`; `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; FRAME_HEADER_LEN] = bytes.first_chunk()?;
        Some(Self {
            length: u32::from_be_bytes([0, b[0], b[1], b[2]]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5], b[6], b[7], b[8]]) & 0x7fff_ffff,
        })
    }

    /// Whether `flag` is set.
    #[inline]
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Checks place and length against the type's rule, before the payload has arrived.
    ///
    /// # Errors
    /// [`Fault::Connection`] or [`Fault::Stream`] with the violation; unknown types pass.
    #[inline]
    pub fn check(&self, max_frame_size: u32) -> Result<(), Fault> {
        if self.length > max_frame_size {
            return Err(Fault::Connection(Violation::FrameTooLarge));
        }
        let Some(rule) = RULES.get(self.kind as usize) else { return Ok(()) };
        match rule.place {
            Place::Stream if self.stream == 0 => return Err(Fault::Connection(Violation::FrameStream)),
            Place::Connection if self.stream != 0 => return Err(Fault::Connection(Violation::FrameStream)),
            _ => {}
        }
        let fits = match rule.length {
            Length::Any => true,
            Length::Exactly(n) => self.length == n,
            Length::AtLeast(n) => self.length >= n,
            Length::MultipleOf(n) => self.length.is_multiple_of(n),
        };
        match (fits, rule.wrong_length) {
            (true, _) => Ok(()),
            (false, Scope::Connection) => Err(Fault::Connection(Violation::FrameLength)),
            (false, Scope::Stream) => Err(Fault::Stream(Violation::FrameLength)),
        }
    }
}

/// How far a violation reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Only the frame's stream is reset.
    Stream(Violation),
    /// The connection ends.
    Connection(Violation),
}

#[derive(Clone, Copy)]
enum Place {
    Stream,
    Connection,
    Either,
}

#[derive(Clone, Copy)]
enum Length {
    Any,
    Exactly(u32),
    AtLeast(u32),
    MultipleOf(u32),
}

#[derive(Clone, Copy)]
enum Scope {
    Stream,
    Connection,
}

struct Rule {
    place: Place,
    length: Length,
    wrong_length: Scope,
}

/// One row for each frame type, in the order of their numbers.
#[rustfmt::skip]
const RULES: [Rule; 10] = [
    Rule { place: Place::Stream,     length: Length::Any,           wrong_length: Scope::Connection }, // DATA
    Rule { place: Place::Stream,     length: Length::Any,           wrong_length: Scope::Connection }, // HEADERS
    Rule { place: Place::Stream,     length: Length::Exactly(5),    wrong_length: Scope::Stream },     // PRIORITY
    Rule { place: Place::Stream,     length: Length::Exactly(4),    wrong_length: Scope::Connection }, // RST_STREAM
    Rule { place: Place::Connection, length: Length::MultipleOf(6), wrong_length: Scope::Connection }, // SETTINGS
    Rule { place: Place::Stream,     length: Length::AtLeast(4),    wrong_length: Scope::Connection }, // PUSH_PROMISE
    Rule { place: Place::Connection, length: Length::Exactly(8),    wrong_length: Scope::Connection }, // PING
    Rule { place: Place::Connection, length: Length::AtLeast(8),    wrong_length: Scope::Connection }, // GOAWAY
    Rule { place: Place::Either,     length: Length::Exactly(4),    wrong_length: Scope::Connection }, // WINDOW_UPDATE
    Rule { place: Place::Stream,     length: Length::Any,           wrong_length: Scope::Connection }, // CONTINUATION
];

/// Strips padding from a DATA or HEADERS payload (RFC 9113 sections 6.1 and 6.2).
///
/// # Errors
/// [`Violation::Padding`] if the padding does not leave room for itself.
#[inline]
pub fn strip_padding(flags: u8, payload: &[u8]) -> Result<&[u8], Violation> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Violation::Padding)?;
    let end = rest.len().checked_sub(usize::from(padding)).ok_or(Violation::Padding)?;
    Ok(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, stream: u32, length: u32) -> FrameHeader {
        FrameHeader { length, kind, flags: 0, stream }
    }

    #[test]
    fn parses_what_it_writes_and_clears_the_reserved_bit() {
        let mut out = Vec::new();
        write_frame_header(&mut out, 0x01_02_03, kind::HEADERS, flag::END_STREAM, 5);
        out[5] |= 0x80;
        let parsed = FrameHeader { length: 0x01_02_03, kind: 1, flags: 1, stream: 5 };
        assert_eq!(FrameHeader::parse(&out), Some(parsed));
        assert_eq!(FrameHeader::parse(&out[..8]), None);
    }

    #[test]
    fn refuses_a_frame_one_byte_over_the_limit() {
        assert_eq!(header(kind::DATA, 1, 16_384).check(16_384), Ok(()));
        assert_eq!(
            header(kind::DATA, 1, 16_385).check(16_384),
            Err(Fault::Connection(Violation::FrameTooLarge))
        );
    }

    #[test]
    fn refuses_frames_in_the_wrong_place() {
        for (kind, stream) in [(kind::DATA, 0), (kind::HEADERS, 0), (kind::SETTINGS, 1), (kind::PING, 3)] {
            let length = if kind == kind::PING { 8 } else { 0 };
            assert_eq!(
                header(kind, stream, length).check(16_384),
                Err(Fault::Connection(Violation::FrameStream)),
                "type {kind}"
            );
        }
        assert_eq!(header(kind::WINDOW_UPDATE, 0, 4).check(16_384), Ok(()));
        assert_eq!(header(kind::WINDOW_UPDATE, 1, 4).check(16_384), Ok(()));
    }

    #[test]
    fn a_wrong_length_ends_the_stream_only_for_priority() {
        for (kind, stream, length) in [
            (kind::RST_STREAM, 1, 3),
            (kind::SETTINGS, 0, 7),
            (kind::GOAWAY, 0, 7),
            (kind::WINDOW_UPDATE, 0, 5),
        ] {
            assert_eq!(
                header(kind, stream, length).check(16_384),
                Err(Fault::Connection(Violation::FrameLength)),
                "type {kind}"
            );
        }
        assert_eq!(header(kind::PRIORITY, 1, 4).check(16_384), Err(Fault::Stream(Violation::FrameLength)));
    }

    #[test]
    fn lets_unknown_types_pass_anywhere() {
        assert_eq!(header(0xbe, 0, 0).check(16_384), Ok(()));
        assert_eq!(header(0x0a, 9, 77).check(16_384), Ok(()));
    }

    #[test]
    fn padding_may_fill_the_frame_but_not_exceed_it() {
        assert_eq!(strip_padding(0, b"abc"), Ok(&b"abc"[..]));
        assert_eq!(strip_padding(flag::PADDED, &[2, b'a', 0, 0]), Ok(&b"a"[..]));
        assert_eq!(strip_padding(flag::PADDED, &[3, 0, 0, 0]), Ok(&b""[..]));
        assert_eq!(strip_padding(flag::PADDED, &[4, 0, 0, 0]), Err(Violation::Padding));
        assert_eq!(strip_padding(flag::PADDED, &[]), Err(Violation::Padding));
    }
}
