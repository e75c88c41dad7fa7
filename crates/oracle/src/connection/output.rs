//! What a connection writes, judged as its peer would: whole frames, in an order that RFC 9113 allows.

use std::collections::BTreeSet;

use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_http2::frame::{FRAME_HEADER_LEN, FrameHeader, MAX_FRAME_SIZE, PREFACE, flag, kind};
use evenkeel_http2::hpack::{Decoder, HeaderListLimits, ListVerdict};
use evenkeel_http2::limits::ENCODER_TABLE_BYTES;
use evenkeel_http2::{ErrorCode, Role};

/// The reader at the other end.
pub(super) struct Reader {
    role: Role,
    store: FieldStore,
    decoder: Decoder,
    begun: bool,
    /// The last stream of the newest GOAWAY.
    last_stream: u32,
    /// GOAWAY with an error: nothing may follow.
    over: bool,
    /// The highest stream that a client opened.
    opened: u32,
    /// Streams that were ended or reset: no DATA or HEADERS may follow.
    ended: BTreeSet<u32>,
}

impl Reader {
    /// `role` is that of the connection that writes.
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            store: FieldStore::new(9),
            decoder: Decoder::new(ENCODER_TABLE_BYTES),
            begun: false,
            last_stream: u32::MAX,
            over: false,
            opened: 0,
            ended: BTreeSet::new(),
        }
    }

    /// Whether a GOAWAY with an error was read.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Reads all that was written since the last time.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        if !self.begun && self.role == Role::Client {
            bytes = bytes.strip_prefix(PREFACE).expect("a client begins with its preface");
        }
        while let Some(header) = FrameHeader::parse(bytes) {
            assert_eq!(header.check(MAX_FRAME_SIZE), Ok(()), "{header:?}");
            let (frame, rest) = bytes.split_at(FRAME_HEADER_LEN + header.length as usize);
            self.frame(header, &frame[FRAME_HEADER_LEN..]);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "a connection writes whole frames");
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) {
        assert!(!self.over, "{header:?} follows a GOAWAY with an error");
        let first = header.kind == kind::SETTINGS && !header.has(flag::ACK);
        assert!(self.begun || first, "the first frame is SETTINGS");
        self.begun = true;
        match header.kind {
            kind::HEADERS => self.headers(header, payload),
            kind::DATA => self.body(header),
            kind::RST_STREAM => drop(self.ended.insert(header.stream)),
            kind::GOAWAY => {
                let last = word(payload) & 0x7fff_ffff;
                assert!(last <= self.last_stream, "a GOAWAY never raises its last stream");
                self.last_stream = last;
                self.over = ErrorCode(word(&payload[4..])) != ErrorCode::NO_ERROR;
            }
            kind::WINDOW_UPDATE => assert!((1..1 << 31).contains(&word(payload))),
            kind::SETTINGS | kind::PING => {}
            other => panic!("a frame of type {other} is never written"),
        }
    }

    fn headers(&mut self, header: FrameHeader, payload: &[u8]) {
        assert!(header.has(flag::END_HEADERS), "the owner's header lists fit one frame");
        if self.role == Role::Client && header.stream > self.opened {
            assert_eq!(header.stream % 2, 1);
            self.opened = header.stream;
        }
        self.body(header);
        let mut fields = FieldBlock::new();
        let limits = HeaderListLimits::default();
        let verdict = self.decoder.decode(payload, &limits, &mut self.store, &mut fields);
        assert_eq!(verdict, Ok(ListVerdict::Accepted));
        assert!(fields.iter(&self.store).all(|field| field.fault.is_none()));
        fields.clear(&mut self.store);
    }

    /// A frame of a message: its stream must be open on this side.
    fn body(&mut self, header: FrameHeader) {
        assert!(!self.ended.contains(&header.stream), "{header:?} follows its stream's end");
        if header.has(flag::END_STREAM) {
            self.ended.insert(header.stream);
        }
    }

    pub(super) fn close(mut self) {
        self.decoder.clear(&mut self.store);
        assert_eq!(self.store.references(), 0);
    }
}

/// The first four bytes as a number.
fn word(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().expect("the frame's length was checked"))
}
