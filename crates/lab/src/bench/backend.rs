//! A gRPC backend that costs next to nothing: one thread, pre-encoded frames, one write per read.
//!
//! It answers each request when its END_STREAM arrives and does not look at its header fields, so it needs no HPACK
//! decoder. The answer is one message of fixed size; a request of one empty message may ask for an endless sequence of
//! them instead. Request bodies are swallowed, and their windows refilled.

use super::poll::{Events, Interest, Poll, Ready};
use super::wire::frame::{self, Head};
use super::wire::link::{Control, Link, OUTPUT_HIGH_BYTES, REFILL_BYTES, SCRATCH_BYTES};
use super::wire::request::TABLE_BYTES;
use super::wire::response::ResponseBlocks;
use super::wire::{Fault, PREFIX_BYTES, put_message_prefix};
use crate::clock::Clock;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Connections served at once; further ones are closed.
const CONNECTIONS_MAX: usize = 50_000;
/// Streams with an unfinished request or response per connection; a peer that opens more is cut off.
const STREAMS_MAX: usize = 100_000;
/// Longest wait, so that the end of the run is noticed in time.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// First token of connections; smaller ones are listeners.
const CONNECTION_TOKENS: u64 = 1 << 32;

/// What calls are answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Bytes of the one message that answers a call.
    pub bytes: u32,
    /// If set, a request of one empty message asks for messages of this many bytes until the stream is reset.
    pub endless_bytes: Option<u32>,
}

impl Answer {
    /// One message of this many bytes for each call.
    #[must_use]
    pub fn unary(bytes: u32) -> Self {
        Self { bytes, endless_bytes: None }
    }
}

/// A backend that listens but does not yet serve.
pub struct BenchBackend {
    listeners: Vec<TcpListener>,
    poll: Poll,
    answer: Answer,
}

impl BenchBackend {
    /// Listens on all addresses; port 0 takes any free port.
    ///
    /// # Errors
    /// The system's answer if an address cannot be had.
    pub fn bind(addresses: &[SocketAddr], answer: Answer) -> io::Result<Self> {
        Self::new(addresses.iter().map(TcpListener::bind).collect::<io::Result<_>>()?, answer)
    }

    /// Takes listeners that are open already.
    pub(super) fn new(listeners: Vec<TcpListener>, answer: Answer) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            poll.add(listener, index as u64, Interest::Read)?;
        }
        Ok(Self { listeners, poll, answer })
    }

    /// The addresses it listens on.
    ///
    /// # Errors
    /// The system's answer, which an open listener does not give.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until `duration` has passed or `stop` is set; returns the calls answered to their end.
    ///
    /// # Errors
    /// If the event loop breaks; faults of single connections end these alone.
    pub fn run(self, duration: Duration, stop: &AtomicBool) -> io::Result<u64> {
        let clock = Clock::start();
        let mut scratch = vec![0; SCRATCH_BYTES].into_boxed_slice();
        let mut connections: Slab<Connection> = Slab::new();
        let mut events = Events::new();
        let mut answered = 0;
        while clock.now() < duration && !stop.load(Ordering::Relaxed) {
            self.poll.wait(WAIT_MAX, &mut events)?;
            for event in events.ready() {
                if event.token < CONNECTION_TOKENS {
                    self.accept(event.token as usize, &mut connections)?;
                    continue;
                }
                let key = (event.token - CONNECTION_TOKENS) as usize;
                let Some(connection) = connections.get_mut(key) else { continue };
                if connection.handle(*event, &mut scratch, &self.poll).is_err() {
                    answered += connection.answered;
                    connection.link.close(&self.poll);
                    connections.remove(key);
                }
            }
        }
        Ok(answered + connections.iter().map(|(_, connection)| connection.answered).sum::<u64>())
    }

    fn accept(&self, listener: usize, connections: &mut Slab<Connection>) -> io::Result<()> {
        loop {
            match self.listeners[listener].accept() {
                Ok((socket, _)) if connections.len() < CONNECTIONS_MAX => {
                    let entry = connections.vacant_entry();
                    let token = CONNECTION_TOKENS + entry.key() as u64;
                    let mut connection = Connection::new(socket, token, &self.poll, self.answer)?;
                    if connection.link.flush(&self.poll).is_ok() {
                        entry.insert(connection);
                    }
                }
                // Dropped, and thereby closed.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A connection that broke before it was accepted, or no descriptor left: the others live on.
                Err(_) => return Ok(()),
            }
        }
    }
}

/// A response that could not be sent at once.
struct Sending {
    /// Bytes of the body left; `None`: endless.
    left: Option<usize>,
    /// Place in the current message.
    at: usize,
    window: i64,
}

/// An unfinished request body.
#[derive(Default)]
struct Receiving {
    bytes: u64,
    /// Of these, the ones since the stream's window was refilled.
    unrefilled: u32,
}

fn message(bytes: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX_BYTES + bytes as usize);
    put_message_prefix(&mut message, bytes);
    message.resize(PREFIX_BYTES + bytes as usize, b'r');
    message
}

struct Connection {
    link: Link,
    /// Whether the client's preface has arrived.
    preface_seen: bool,
    /// Whether the first trailers have been sent: from then on the two newest entries of the peer's table are
    /// `grpc-status` and `content-type`, in this order.
    indexed: bool,
    first: ResponseBlocks,
    later: ResponseBlocks,
    /// The answer of a unary call: one message with its prefix.
    message: Vec<u8>,
    /// The message that endless answers repeat, empty if there are none.
    endless: Vec<u8>,
    receiving: HashMap<u32, Receiving, foldhash::fast::FixedState>,
    sending: HashMap<u32, Sending, foldhash::fast::FixedState>,
    /// The streams of `sending`, in the order of their turns; ended ones are skipped.
    turns: VecDeque<u32>,
    answered: u64,
}

impl Connection {
    fn new(socket: TcpStream, token: u64, poll: &Poll, answer: Answer) -> io::Result<Self> {
        Ok(Self {
            link: Link::new(socket, token, poll, false)?,
            preface_seen: false,
            indexed: false,
            first: ResponseBlocks::first(),
            later: ResponseBlocks::indexed(),
            message: message(answer.bytes),
            endless: answer.endless_bytes.map(message).unwrap_or_default(),
            receiving: HashMap::default(),
            sending: HashMap::default(),
            turns: VecDeque::new(),
            answered: 0,
        })
    }

    fn handle(&mut self, event: Ready, scratch: &mut [u8], poll: &Poll) -> Result<(), Fault> {
        if event.readable {
            self.read(scratch)?;
        }
        loop {
            self.pump();
            self.link.flush(poll)?;
            // With an empty output, only windows can hold back what is left.
            if self.link.backlog() > 0 || !self.can_send() {
                return Ok(());
            }
        }
    }

    fn read(&mut self, scratch: &mut [u8]) -> Result<(), Fault> {
        let Some(filled) = self.link.read(scratch)? else { return Ok(()) };
        let mut rest = &scratch[..filled];
        if !self.preface_seen {
            // A part of it is kept like an incomplete frame, so that it comes in one piece.
            let Some((preface, after)) = rest.split_at_checked(frame::PREFACE.len()) else {
                self.link.keep(rest);
                return Ok(());
            };
            if preface != frame::PREFACE {
                return Err(Fault::Protocol("not an HTTP/2 preface"));
            }
            (self.preface_seen, rest) = (true, after);
        }
        while let Some((head, payload)) = frame::next(rest)? {
            self.handle_frame(head, payload)?;
            rest = &rest[frame::HEAD_BYTES + head.length..];
        }
        self.link.keep(rest);
        Ok(())
    }

    fn handle_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match self.link.control(head, payload)? {
            Control::Stream => {}
            Control::Settings { window_change } => {
                self.choose_blocks()?;
                for sending in self.sending.values_mut() {
                    sending.window += window_change;
                }
                return Ok(());
            }
            Control::Done | Control::GoAway { .. } => return Ok(()),
        }
        match head.kind {
            frame::DATA => {
                self.link.count_received(head);
                if head.has(frame::END_STREAM) {
                    let before = self.receiving.remove(&head.stream).map_or(0, |receiving| receiving.bytes);
                    let bytes = before + frame::content(head, payload)?.len() as u64;
                    self.answer(head.stream, bytes == PREFIX_BYTES as u64 && !self.endless.is_empty());
                } else {
                    self.refill(head, frame::content(head, payload)?.len())?;
                }
            }
            frame::HEADERS if head.has(frame::END_STREAM) => {
                self.receiving.remove(&head.stream);
                self.answer(head.stream, false);
            }
            frame::RST_STREAM => {
                self.receiving.remove(&head.stream);
                self.sending.remove(&head.stream);
            }
            frame::WINDOW_UPDATE => {
                if let Some(sending) = self.sending.get_mut(&head.stream) {
                    sending.window += i64::from(frame::number(payload)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Does without the peer's dynamic table if it is smaller than usual.
    fn choose_blocks(&mut self) -> Result<(), Fault> {
        if self.link.peer.header_table < TABLE_BYTES {
            if self.answered > 0 || !self.sending.is_empty() {
                return Err(Fault::Protocol("SETTINGS_HEADER_TABLE_SIZE lowered after the first response"));
            }
            (self.first, self.later) = (ResponseBlocks::literal(true), ResponseBlocks::literal(false));
        }
        Ok(())
    }

    /// Counts a part of a request's body, and refills its stream's window when half of it is used.
    fn refill(&mut self, head: Head, content_bytes: usize) -> Result<(), Fault> {
        if self.receiving.len() >= STREAMS_MAX {
            return Err(Fault::Protocol("too many unfinished requests"));
        }
        let receiving = self.receiving.entry(head.stream).or_default();
        receiving.bytes += content_bytes as u64;
        receiving.unrefilled += head.length as u32;
        if receiving.unrefilled >= REFILL_BYTES {
            frame::put_number(self.link.output(), frame::WINDOW_UPDATE, head.stream, receiving.unrefilled);
            receiving.unrefilled = 0;
        }
        Ok(())
    }

    /// Sends a response: at once if the windows hold it, else as they allow.
    fn answer(&mut self, stream: u32, endless: bool) {
        let blocks = if self.indexed { &self.later } else { &self.first };
        let out = self.link.output();
        frame::put_head(out, blocks.headers().len(), frame::HEADERS, frame::END_HEADERS, stream);
        out.extend_from_slice(blocks.headers());
        let bytes = self.message.len();
        let fits = bytes <= frame::PAYLOAD_BYTES_MAX
            && self.link.send_window >= bytes as i64
            && i64::from(self.link.peer.initial_window) >= bytes as i64;
        if fits && !endless {
            let out = self.link.output();
            frame::put_head(out, bytes, frame::DATA, 0, stream);
            out.extend_from_slice(&self.message);
            self.link.send_window -= bytes as i64;
            self.put_trailers(stream);
            return;
        }
        let left = (!endless).then_some(bytes);
        let window = self.link.peer.initial_window.into();
        self.sending.insert(stream, Sending { left, at: 0, window });
        self.turns.push_back(stream);
    }

    fn put_trailers(&mut self, stream: u32) {
        let blocks = if self.indexed { &self.later } else { &self.first };
        let flags = frame::END_HEADERS | frame::END_STREAM;
        let out = self.link.output();
        frame::put_head(out, blocks.trailers().len(), frame::HEADERS, flags, stream);
        out.extend_from_slice(blocks.trailers());
        self.indexed = true;
        self.answered += 1;
    }

    fn can_send(&self) -> bool {
        self.link.send_window > 0 && self.sending.values().any(|sending| sending.window > 0)
    }

    /// Sends frames of unfinished responses in turns while the windows and the output's bound allow it.
    fn pump(&mut self) {
        let mut idle_turns = 0;
        while idle_turns < self.turns.len()
            && self.link.backlog() < OUTPUT_HIGH_BYTES
            && let Some(stream) = self.turns.pop_front()
        {
            let Some(sending) = self.sending.get_mut(&stream) else { continue };
            let message = if sending.left.is_some() { &self.message } else { &self.endless };
            let credit = self.link.send_window.min(sending.window).max(0) as usize;
            let room = (message.len() - sending.at).min(frame::PAYLOAD_BYTES_MAX);
            let count = credit.min(room).min(sending.left.unwrap_or(usize::MAX));
            if count == 0 && sending.left != Some(0) {
                idle_turns += 1;
                self.turns.push_back(stream);
                continue;
            }
            idle_turns = 0;
            let out = self.link.output();
            frame::put_head(out, count, frame::DATA, 0, stream);
            out.extend_from_slice(&message[sending.at..sending.at + count]);
            self.link.send_window -= count as i64;
            sending.window -= count as i64;
            sending.at = (sending.at + count) % message.len();
            sending.left = sending.left.map(|left| left - count);
            if sending.left == Some(0) {
                self.sending.remove(&stream);
                self.put_trailers(stream);
            } else {
                self.turns.push_back(stream);
            }
        }
    }
}
