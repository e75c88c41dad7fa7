//! The owner's part: it answers, waits, resets and releases, and holds every event against what came before.
//!
//! What it does with an event depends on that event and on earlier steps only, never on how the bytes were split.

mod act;

use core::time::Duration;
use std::collections::BTreeMap;

use evenkeel_http2::error::StreamFailure;
use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{
    Connection, ConnectionError, ErrorCode, Event, Fields, Half, Limits, ListSize, Role, SendError, StreamKey,
};

use super::output::Reader;

/// The time at which runs begin: not 0, so that a forgotten time shows.
const START: Duration = Duration::from_secs(1000);

/// Names and values of a header list.
type List = Vec<(Vec<u8>, Vec<u8>)>;

/// An event, kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    Head { stream: u32, status: Option<u16>, end: bool, size: ListSize, list: List },
    Trailers { stream: u32, list: List },
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    Failed(u32, StreamFailure),
    GoAway { last_stream: u32, code: ErrorCode, debug: Vec<u8> },
    Ready,
    Pong([u8; 8]),
    Error(ConnectionError),
}

/// What the owner knows of a stream.
struct Call {
    key: StreamKey,
    /// The peer's final header section has come.
    has_head: bool,
    /// The peer's half has ended.
    has_ended: bool,
    /// DATA that was not consumed.
    unread: u32,
    /// DATA that was given to the connection and has not left.
    queued: usize,
    /// The owner has sent all it had to.
    is_answered: bool,
}

/// A connection and its owner.
pub(super) struct Owner {
    http2: Connection,
    fields: Fields,
    now: Duration,
    limits: Limits,
    calls: BTreeMap<u32, Call>,
    /// How requests are answered and DATA is consumed.
    manner: u8,
    ready: bool,
    /// The highest stream of the peer.
    highest: u32,
    /// The connection has ended.
    over: bool,
    seen: Vec<Seen>,
    output: Vec<u8>,
    reader: Reader,
}

impl Owner {
    pub(super) fn new(role: Role, limits: Limits) -> Self {
        Self {
            http2: Connection::new(role, limits, START),
            fields: Fields::new(1),
            now: START,
            limits,
            calls: BTreeMap::new(),
            manner: 0,
            ready: false,
            highest: 0,
            over: false,
            seen: Vec::new(),
            output: Vec::new(),
            reader: Reader::new(role),
        }
    }

    /// Takes every event of what has arrived.
    pub(super) fn wake(&mut self, input: &[u8], at: &mut usize) {
        loop {
            self.http2.begin_wake(self.now);
            let before = *at;
            // A frame has nine bytes and makes one event at most; a GOAWAY makes one more for each stream.
            let most = (input.len() - before) / 9 + 2 * self.calls.len() + 2;
            let mut events = 0;
            loop {
                match self.http2.next_event(&mut self.fields, self.now, input, at) {
                    Ok(Some(event)) => self.on_event(&event),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error == ConnectionError::Ended, self.over, "an error is told once");
                        assert!(self.over || self.http2.has_ended());
                        self.end(error);
                        return;
                    }
                }
                events += 1;
                assert!(events <= most, "every event uses input");
            }
            assert!(!self.over, "a connection that has ended says so");
            if !self.http2.has_had_its_share() {
                return;
            }
            assert!(*at > before, "a share is had by using input");
        }
    }

    fn end(&mut self, error: ConnectionError) {
        if !self.over {
            self.seen.push(Seen::Error(error));
            self.over = true;
        }
    }

    fn on_event(&mut self, event: &Event<'_>) {
        assert!(!self.over, "no event follows an error");
        match *event {
            Event::Ready => {
                assert!(!core::mem::replace(&mut self.ready, true), "a connection is ready once");
                self.seen.push(Seen::Ready);
            }
            Event::PingAcknowledged { payload } => self.seen.push(Seen::Pong(payload)),
            Event::GoAway { last_stream, code, debug } => {
                assert_eq!(self.http2.peer_goaway(), Some((last_stream, code)));
                self.seen.push(Seen::GoAway { last_stream, code, debug: debug.to_vec() });
            }
            Event::Request { stream, end, size } => self.on_request(stream, end, size),
            Event::Response { stream, token, status, end, size } => {
                assert!((200..1000).contains(&status));
                let call = self.call(stream, token);
                assert!(!call.has_head, "a response has one final header section");
                call.has_head = true;
                let list = self.list();
                self.seen.push(Seen::Head { stream: stream.id(), status: Some(status), end, size, list });
                self.on_end(stream, end);
            }
            Event::Informational { stream, token } => {
                assert!(!self.call(stream, token).has_head, "informational responses come first");
                let list = self.list();
                let (status, size) = (Some(100), ListSize::Whole);
                self.seen.push(Seen::Head { stream: stream.id(), status, end: false, size, list });
            }
            Event::Trailers { stream, token, size } => {
                assert_eq!(size, ListSize::Whole, "trailers over the limit end the stream");
                let call = self.call(stream, token);
                assert!(call.has_head && !call.has_ended);
                let list = self.list();
                self.seen.push(Seen::Trailers { stream: stream.id(), list });
                self.on_end(stream, true);
            }
            Event::Data { stream, token, bytes, end } => self.on_data(stream, token, bytes, end),
            Event::Failed { stream, token, failure } => {
                self.call(stream, token);
                self.seen.push(Seen::Failed(stream.id(), failure));
                self.release(stream);
            }
        }
    }

    /// The call of an event: known, and not ended by an earlier one.
    fn call(&mut self, stream: StreamKey, token: u32) -> &mut Call {
        assert!(self.ready);
        assert_eq!(token, stream.id(), "events carry the token that the stream was given");
        self.calls.get_mut(&stream.id()).expect("no event comes for a stream that was released")
    }

    fn list(&self) -> List {
        let fields = self.fields.block.iter(&self.fields.store);
        fields.map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
    }

    fn on_request(&mut self, stream: StreamKey, end: bool, size: ListSize) {
        let id = stream.id();
        assert!(self.ready && self.http2.role() == Role::Server);
        assert!(id % 2 == 1 && id > self.highest, "identifiers rise");
        self.highest = id;
        self.add(stream, true);
        assert!(self.calls.len() <= self.limits.max_concurrent_streams as usize);
        let list = self.list();
        self.seen.push(Seen::Head { stream: id, status: None, end, size, list });
        if size == ListSize::OverLimit {
            self.http2.reset(&mut self.fields, stream, ErrorCode::ENHANCE_YOUR_CALM);
            return self.release(stream);
        }
        match self.manner % 8 {
            0 | 1 => self.answer(stream),
            2 => {
                self.answer(stream);
                self.release(stream);
            }
            3 => self.reset(stream, ErrorCode::REFUSED_STREAM),
            4 => {
                let block = literals(&[(":status", "103")]);
                let sent = self.http2.send_informational(&mut self.fields.store, stream, &block);
                assert_eq!(sent, Ok(()));
            }
            // At its end, or by a later step.
            _ => {}
        }
        if self.calls.contains_key(&id) {
            self.on_end(stream, end);
        }
    }

    fn add(&mut self, key: StreamKey, has_head: bool) {
        self.http2.set_token(key, key.id());
        let call = Call { key, has_head, has_ended: false, unread: 0, queued: 0, is_answered: false };
        assert!(self.calls.insert(key.id(), call).is_none());
    }

    fn on_data(&mut self, stream: StreamKey, token: u32, bytes: &[u8], end: bool) {
        let waits = self.manner & 0x10 != 0;
        let call = self.call(stream, token);
        assert!(call.has_head && !call.has_ended);
        call.unread += bytes.len() as u32;
        self.seen.push(Seen::Data { stream: stream.id(), bytes: bytes.to_vec(), end });
        if !waits {
            self.consume(stream, u32::MAX);
        }
        self.on_end(stream, end);
    }

    /// The peer's half may have ended.
    fn on_end(&mut self, stream: StreamKey, end: bool) {
        if !end {
            return;
        }
        let call = self.calls.get_mut(&stream.id()).expect("the event's call is known");
        call.has_ended = true;
        assert_eq!(self.http2.receive_half(stream), Half::Closed);
        if self.http2.role() == Role::Server && self.manner % 8 == 5 {
            self.answer(stream);
        }
        self.release_if_done(stream);
    }

    /// Sends a whole message, as far as nothing of it was sent before.
    fn answer(&mut self, stream: StreamKey) {
        if self.over || self.http2.send_half(stream) != Half::Head {
            return;
        }
        let store = &mut self.fields.store;
        let content_type = store.intern(b"content-type", b"application/grpc");
        let mut head = match self.http2.role() {
            Role::Server => literals(&[(":status", "200")]),
            Role::Client => literals(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/a.B/C"),
                (":authority", "a"),
            ]),
        };
        head.push_id(store, content_type, true);
        store.release(content_type);
        let sent = self.http2.send_headers(store, stream, &head, &[(b"x-id", b"1")], false);
        assert_eq!(sent, Ok(()), "a header section comes first");
        let body = vec![self.manner; usize::from(self.manner)];
        assert_eq!(self.send(stream, &body, false), Ok(()), "DATA follows it");
        // Fields of the peer go back to it: those of a table stay counted while they wait in a queue.
        let store = &mut self.fields.store;
        let mut trailers = FieldBlock::new();
        trailers.copy_from(store, &self.fields.block);
        trailers.retain_fields(store, |field| !field.name_token.is_pseudo() && field.fault.is_none());
        assert_eq!(self.http2.send_trailers(store, stream, &trailers), Ok(()), "trailers end it");
        trailers.clear(store);
        head.clear(store);
        self.calls.get_mut(&stream.id()).expect("it is answered once").is_answered = true;
    }

    fn send(&mut self, stream: StreamKey, bytes: &[u8], end: bool) -> Result<(), SendError> {
        let left = self.http2.send_data(self.now, stream, bytes, end)?;
        assert!(left <= bytes.len());
        let call = self.calls.get_mut(&stream.id()).expect("only known streams take DATA");
        call.queued += bytes.len() - left;
        call.is_answered |= end;
        Ok(())
    }

    /// The owner is done with some of what it holds.
    fn consume(&mut self, stream: StreamKey, most: u32) {
        let Some(call) = self.calls.get_mut(&stream.id()) else { return };
        let bytes = call.unread.min(most);
        call.unread -= bytes;
        if bytes > 0 {
            self.http2.consume(stream, bytes);
        }
    }

    fn reset(&mut self, stream: StreamKey, code: ErrorCode) {
        self.http2.reset(&mut self.fields, stream, code);
        self.release(stream);
    }

    fn release(&mut self, stream: StreamKey) {
        self.calls.remove(&stream.id());
        self.http2.release(&mut self.fields, stream);
        assert!(!self.http2.has_queued(stream), "a stream that is released holds nothing");
    }

    fn release_if_done(&mut self, stream: StreamKey) {
        let Some(call) = self.calls.get(&stream.id()) else { return };
        if call.has_ended && call.is_answered && !self.http2.has_queued(stream) {
            assert_eq!(self.http2.send_half(stream), Half::Closed);
            self.release(stream);
        }
    }

    /// The transport takes all there is, in two parts each time; what the queues move is noted.
    pub(super) fn settle(&mut self) {
        loop {
            self.http2.flush_queues(&mut self.fields, self.now);
            self.collect_progress();
            let waiting = self.http2.output().len();
            if waiting == 0 {
                break;
            }
            let begin = self.output.len();
            for part in [waiting / 2, waiting - waiting / 2] {
                self.output.extend_from_slice(&self.http2.output()[..part]);
                self.http2.output_sent(part);
            }
            self.reader.read(&self.output[begin..]);
        }
        assert_eq!(self.http2.has_ended(), self.reader.is_over(), "an end is told to the peer");
        let unread: u32 = self.calls.values().map(|call| call.unread).sum();
        assert_eq!(self.http2.held_bytes(), unread, "what is held is what was not consumed");
        assert_eq!(self.http2.stream_count(), self.calls.len());
        for call in self.calls.values() {
            assert!(call.queued == 0 || self.http2.has_queued(call.key), "no byte of a queue is lost");
        }
    }

    fn collect_progress(&mut self) {
        while let Some((stream, token, bytes)) = self.http2.poll_progress() {
            assert_eq!(token, stream.id());
            let call = self.calls.get_mut(&token).expect("progress is told of known streams only");
            call.queued = call.queued.checked_sub(bytes as usize).expect("no more leaves than was given");
            self.release_if_done(stream);
        }
    }

    /// The owner releases what is left, and the connection is closed.
    pub(super) fn finish(mut self) -> (Vec<Seen>, Vec<u8>) {
        let left: Vec<StreamKey> = self.calls.values().map(|call| call.key).collect();
        for stream in left {
            self.release(stream);
        }
        self.settle();
        assert_eq!((self.http2.stream_count(), self.http2.held_bytes()), (0, 0));
        self.http2.close(&mut self.fields);
        self.fields.block.clear(&mut self.fields.store);
        let store = &self.fields.store;
        assert_eq!((store.references(), store.len()), (0, 0), "a closed connection keeps no field");
        self.reader.close();
        (self.seen, self.output)
    }
}

fn literals(list: &[(&str, &str)]) -> FieldBlock {
    let mut block = FieldBlock::new();
    for (name, value) in list {
        block.push_literal(name.as_bytes(), value.as_bytes(), false);
    }
    block
}
