//! A connection under test with the owner's part played for it, and a raw peer on the other side.

use core::time::Duration;
use std::collections::BTreeMap;

use super::wire::{List, Wire, wire};
use crate::connection::{Connection, Event, Fields, ListSize, Role, SendError};
use crate::error::{ConnectionError, ErrorCode, StreamFailure, Violation};
use crate::field::FieldBlock;
use crate::frame::{FRAME_HEADER_LEN, FrameHeader, PREFACE, flag, kind};
use crate::hpack::{Decoder, HeaderListLimits};
use crate::limits::{DECODER_TABLE_BYTES, Limits};
use crate::stream::StreamKey;

/// When tests begin: not 0, so that a forgotten time shows.
pub(super) const T0: Duration = Duration::from_secs(1000);

/// An event, kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    Request { stream: u32, end: bool, size: ListSize },
    Response { stream: u32, status: u16, end: bool, size: ListSize },
    Informational(u32),
    Trailers(u32),
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    Failed(u32, StreamFailure),
    GoAway { last_stream: u32, code: ErrorCode, debug: Vec<u8> },
    Ready,
    Pong([u8; 8]),
    Error(ConnectionError),
}

impl Seen {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Request { stream, end, size } => Self::Request { stream: stream.id(), end, size },
            Event::Response { stream, status, end, size, .. } => {
                Self::Response { stream: stream.id(), status, end, size }
            }
            Event::Informational { stream, .. } => Self::Informational(stream.id()),
            Event::Trailers { stream, .. } => Self::Trailers(stream.id()),
            Event::Data { stream, bytes, end, .. } => {
                Self::Data { stream: stream.id(), bytes: bytes.to_vec(), end }
            }
            Event::Failed { stream, failure, .. } => Self::Failed(stream.id(), failure),
            Event::GoAway { last_stream, code, debug } => {
                Self::GoAway { last_stream, code, debug: debug.to_vec() }
            }
            Event::Ready => Self::Ready,
            Event::PingAcknowledged { payload } => Self::Pong(payload),
        }
    }
}

pub(super) fn request(stream: u32, end: bool) -> Seen {
    Seen::Request { stream, end, size: ListSize::Whole }
}

pub(super) fn response(stream: u32, end: bool) -> Seen {
    Seen::Response { stream, status: 200, end, size: ListSize::Whole }
}

pub(super) fn data(stream: u32, bytes: &[u8], end: bool) -> Seen {
    Seen::Data { stream, bytes: bytes.to_vec(), end }
}

/// The peer broke a rule on this stream.
pub(super) fn fault(stream: u32, violation: Violation) -> Seen {
    Seen::Failed(stream, StreamFailure::Violation(violation))
}

pub(super) fn peer_reset(stream: u32, code: ErrorCode) -> Seen {
    Seen::Failed(stream, StreamFailure::PeerReset(code))
}

/// The peer broke a rule, and the connection is over.
pub(super) fn fatal(violation: Violation) -> Seen {
    Seen::Error(ConnectionError::PeerMisbehaved(violation))
}

/// A frame that the connection sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Ping([u8; 8]),
    Pong([u8; 8]),
    GoAway { last_stream: u32, code: ErrorCode, debug: String },
    WindowUpdate(u32, u32),
    Reset(u32, ErrorCode),
    Headers { stream: u32, list: Vec<(String, String)>, end: bool },
    Data { stream: u32, bytes: Vec<u8>, end: bool },
}

pub(super) fn sent_data(stream: u32, bytes: &[u8], end: bool) -> Sent {
    Sent::Data { stream, bytes: bytes.to_vec(), end }
}

pub(super) fn sent_headers(stream: u32, list: List<'_>, end: bool) -> Sent {
    let list = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sent::Headers { stream, list, end }
}

pub(super) fn sent_goaway(last_stream: u32, code: ErrorCode, debug: &str) -> Sent {
    Sent::GoAway { last_stream, code, debug: debug.to_owned() }
}

/// What the peer understands of a connection's output.
struct Reader {
    fields: Fields,
    decoder: Decoder,
    block: Vec<u8>,
    end: bool,
}

impl Reader {
    fn new() -> Self {
        Self {
            fields: Fields::new(2),
            decoder: Decoder::new(DECODER_TABLE_BYTES),
            block: Vec::new(),
            end: false,
        }
    }

    /// The frames in `bytes`, a header block and its continuations as one.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<Sent> {
        bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
        let mut frames = Vec::new();
        while let Some(header) = FrameHeader::parse(bytes) {
            let (frame, rest) = bytes.split_at(FRAME_HEADER_LEN + header.length as usize);
            frames.extend(self.frame(header, &frame[FRAME_HEADER_LEN..]));
            bytes = rest;
        }
        assert!(bytes.is_empty(), "a connection writes whole frames");
        frames
    }

    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Option<Sent> {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let (stream, end) = (header.stream, header.has(flag::END_STREAM));
        Some(match header.kind {
            kind::DATA => Sent::Data { stream, bytes: payload.to_vec(), end },
            kind::HEADERS | kind::CONTINUATION => return self.fragment(header, payload),
            kind::RST_STREAM => Sent::Reset(stream, ErrorCode(word(0))),
            kind::SETTINGS if header.has(flag::ACK) => Sent::SettingsAck,
            kind::SETTINGS => {
                let entry = |entry: &[u8]| {
                    let value = u32::from_be_bytes(entry[2..].try_into().unwrap());
                    (u16::from_be_bytes([entry[0], entry[1]]), value)
                };
                Sent::Settings(payload.chunks(6).map(entry).collect())
            }
            kind::PING if header.has(flag::ACK) => Sent::Pong(payload.try_into().unwrap()),
            kind::PING => Sent::Ping(payload.try_into().unwrap()),
            kind::GOAWAY => {
                let debug = String::from_utf8(payload[8..].to_vec()).unwrap();
                Sent::GoAway { last_stream: word(0), code: ErrorCode(word(4)), debug }
            }
            kind::WINDOW_UPDATE => Sent::WindowUpdate(stream, word(0)),
            other => panic!("a frame of type {other} is never sent"),
        })
    }

    fn fragment(&mut self, header: FrameHeader, payload: &[u8]) -> Option<Sent> {
        if header.kind == kind::HEADERS {
            self.block.clear();
            self.end = header.has(flag::END_STREAM);
        }
        self.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return None;
        }
        let Fields { store, block, .. } = &mut self.fields;
        let limits = HeaderListLimits { list_bytes: 1 << 20, fields: 1000, string_bytes: 1 << 20 };
        self.decoder.decode(&self.block, &limits, store, block).unwrap();
        let list = pairs(&self.fields);
        self.fields.block.clear(&mut self.fields.store);
        Some(Sent::Headers { stream: header.stream, list, end: self.end })
    }
}

fn pairs(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.block.iter(&fields.store).map(|field| (text(field.name), text(field.value))).collect()
}

/// A connection and its owner.
pub(super) struct Subject {
    pub(super) http2: Connection,
    pub(super) fields: Fields,
    pub(super) now: Duration,
    /// Bytes that arrived and are not used yet.
    pub(super) input: Vec<u8>,
    pub(super) seen: Vec<Seen>,
    /// The newest header list.
    pub(super) list: Vec<(String, String)>,
    /// Keys of all streams that ever were, by identifier.
    keys: BTreeMap<u32, StreamKey>,
    /// Whether the owner is done with DATA at once.
    pub(super) consumes: bool,
    /// Whether the owner releases a stream that failed at once.
    pub(super) releases: bool,
    reader: Reader,
}

impl Subject {
    /// A connection before any byte of the peer; its preface waits in the output.
    pub(super) fn new(role: Role, limits: Limits) -> Self {
        Self {
            http2: Connection::new(role, limits, T0),
            fields: Fields::new(1),
            now: T0,
            input: Vec::new(),
            seen: Vec::new(),
            list: Vec::new(),
            keys: BTreeMap::new(),
            consumes: true,
            releases: true,
            reader: Reader::new(),
        }
    }

    /// A server whose client has sent its preface with these SETTINGS and acknowledged ours.
    pub(super) fn server_with(limits: Limits, settings: &[(u16, u32)]) -> Self {
        let mut subject = Self::new(Role::Server, limits);
        let seen = subject.feed(wire().preface().settings(settings).settings_ack());
        assert_eq!(seen, [Seen::Ready]);
        subject.sent();
        subject
    }

    pub(super) fn server() -> Self {
        Self::server_with(Limits::edge(), &[])
    }

    /// A client whose server has sent these SETTINGS and acknowledged ours.
    pub(super) fn client_with(limits: Limits, settings: &[(u16, u32)]) -> Self {
        let mut subject = Self::new(Role::Client, limits);
        assert_eq!(subject.feed(wire().settings(settings).settings_ack()), [Seen::Ready]);
        subject.sent();
        subject
    }

    pub(super) fn client() -> Self {
        Self::client_with(Limits::upstream(), &[])
    }

    /// The peer's bytes arrive; what the connection tells of them, up to its share of one wake-up.
    pub(super) fn feed(&mut self, mut wire: Wire) -> Vec<Seen> {
        self.input.append(&mut wire.0);
        self.wake();
        core::mem::take(&mut self.seen)
    }

    /// One wake-up: reads what has arrived, as far as the connection wants.
    pub(super) fn wake(&mut self) {
        let input = core::mem::take(&mut self.input);
        let mut at = 0;
        self.http2.begin_wake(self.now);
        loop {
            match self.http2.next_event(&mut self.fields, self.now, &input, &mut at) {
                Ok(Some(event)) => self.handle(&event),
                Ok(None) => break,
                Err(error) => {
                    self.seen.push(Seen::Error(error));
                    break;
                }
            }
        }
        self.input = input;
        self.input.drain(..at);
    }

    /// Keeps an event and does the owner's part.
    pub(super) fn handle(&mut self, event: &Event<'_>) {
        self.seen.push(Seen::of(event));
        match *event {
            Event::Request { stream, .. } => self.remember(stream),
            Event::Data { stream, bytes, .. } if self.consumes => {
                self.http2.consume(stream, bytes.len() as u32);
            }
            Event::Failed { stream, .. } if self.releases => self.http2.release(&mut self.fields, stream),
            _ => {}
        }
        let has_list = matches!(
            event,
            Event::Request { .. }
                | Event::Response { .. }
                | Event::Informational { .. }
                | Event::Trailers { .. }
        );
        if has_list {
            self.list = pairs(&self.fields);
        }
    }

    fn remember(&mut self, key: StreamKey) {
        self.keys.insert(key.id(), key);
    }

    /// The key of a stream that was ever opened.
    pub(super) fn key(&self, stream: u32) -> StreamKey {
        self.keys[&stream]
    }

    /// Takes what the connection has sent, as frames.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let bytes = self.take_output();
        self.reader.read(&bytes)
    }

    /// Takes what the connection has sent, as bytes.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            self.flush();
            if self.http2.output().is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(self.http2.output());
            self.http2.output_sent(self.http2.output().len());
        }
    }

    /// Moves what is queued into the output; how much DATA left on each stream, in no order.
    pub(super) fn flush(&mut self) -> Vec<(u32, u32)> {
        self.http2.flush_queues(&mut self.fields, self.now);
        core::iter::from_fn(|| self.http2.poll_progress()).map(|(key, _, bytes)| (key.id(), bytes)).collect()
    }

    /// Opens a stream of this side and sends a request.
    pub(super) fn request(&mut self, end: bool) -> u32 {
        let key = self.http2.open(self.now, 0).expect("the peer allows another stream");
        self.remember(key);
        self.headers(key.id(), super::wire::POST, end).expect("the stream was opened just now");
        key.id()
    }

    pub(super) fn headers(&mut self, stream: u32, list: List<'_>, end: bool) -> Result<(), SendError> {
        let key = self.key(stream);
        self.http2.send_headers(&mut self.fields.store, key, &literals(list), &[], end)
    }

    pub(super) fn informational(&mut self, stream: u32, list: List<'_>) -> Result<(), SendError> {
        let key = self.key(stream);
        self.http2.send_informational(&mut self.fields.store, key, &literals(list))
    }

    pub(super) fn trailers(&mut self, stream: u32) -> Result<(), SendError> {
        // Interned, so that a queue which is dropped must give a reference back.
        let (key, store) = (self.key(stream), &mut self.fields.store);
        let mut block = FieldBlock::new();
        let (name, value) = super::wire::STATUS_0[0];
        let id = store.intern(name.as_bytes(), value.as_bytes());
        block.push_id(store, id, false);
        let sent = self.http2.send_trailers(store, key, &block);
        block.clear(store);
        store.release(id);
        sent
    }

    pub(super) fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> Result<usize, SendError> {
        self.http2.send_data(self.now, self.key(stream), bytes, end)
    }

    pub(super) fn consume(&mut self, stream: u32, bytes: u32) {
        self.http2.consume(self.key(stream), bytes);
    }

    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        let key = self.key(stream);
        self.http2.reset(&mut self.fields, key, code);
    }

    pub(super) fn release(&mut self, stream: u32) {
        let key = self.key(stream);
        self.http2.release(&mut self.fields, key);
    }

    /// Answers a request without DATA, as a backend did, and lets the stream go.
    pub(super) fn answer(&mut self, stream: u32) {
        self.headers(stream, super::wire::OK, true).expect("a request takes one answer");
        self.http2.credit_completed();
        self.release(stream);
    }

    /// Time passes; what is due happens.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), ConnectionError> {
        self.now += time;
        match self.http2.deadline() {
            Some(deadline) if deadline <= self.now => self.http2.handle_timeout(&mut self.fields, self.now),
            _ => Ok(()),
        }
    }

    /// References that connections and blocks hold, once this one is closed.
    pub(super) fn close(&mut self) -> u64 {
        self.http2.close(&mut self.fields);
        self.fields.block.clear(&mut self.fields.store);
        self.fields.store.references()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let references = self.close();
        assert!(references == 0 || std::thread::panicking(), "a closed connection keeps no field");
        self.reader.decoder.clear(&mut self.reader.fields.store);
    }
}

pub(super) fn literals(list: List<'_>) -> FieldBlock {
    let mut block = FieldBlock::new();
    for (name, value) in list {
        block.push_literal(name.as_bytes(), value.as_bytes(), false);
    }
    block
}
