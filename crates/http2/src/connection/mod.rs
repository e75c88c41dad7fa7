//! A connection: one peer's frames in, events out, and the reverse. No socket, no clock, no thread.
//!
//! # How to drive it
//! 1. Give it bytes: call [`Connection::next_event`] with everything that has arrived and is not yet used, until it
//!    returns `None`; it moves `at` forward over whole frames. Keep what is left and put newer bytes behind it.
//! 2. Act: `send_*`, [`Connection::reset`], [`Connection::consume`], [`Connection::release`].
//! 3. Call [`Connection::flush_queues`], write [`Connection::output`] to the transport, report with
//!    [`Connection::output_sent`], and collect [`Connection::poll_progress`].
//! 4. At [`Connection::deadline`], call [`Connection::handle_timeout`].
//!
//! Points in time are durations since the owner's epoch. Any split of the input bytes gives the same events.
//!
//! # Invariants
//! - What the peer may send on the connection plus what is held plus what is returned is constant
//!   ([`crate::flow`]); a stream that ends returns what it still held.
//! - A connection that has ended swallows input (nghttp2's CVE-2026-27135 went on parsing).
//! - Memory is bounded by [`Limits`]: streams times window, one header block, the output.

mod control;
mod drain;
mod event;
mod headers;
mod memory;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod timer;

pub use event::{Event, Fields, ListSize};
pub use send::{OpenError, SendError};

use core::time::Duration;
use std::collections::VecDeque;

use self::control::{QueuedAcks, WindowUpdateMeter};
use self::drain::Drain;
use self::headers::HeaderAssembly;
use self::send::NewestData;
use crate::error::{ConnectionError, ErrorCode, Violation};
use crate::flow::{ReceiveWindow, SendCredit};
use crate::frame::{MAX_FRAME_SIZE, PREFACE, write_goaway, write_settings, write_window_update};
use crate::hpack::{Decoder, Encoder};
use crate::ledger::{Ledger, Verdict, cost};
use crate::limits::{
    ACKS_QUEUED_STOP, DECODER_TABLE_BYTES, ENCODER_TABLE_BYTES, LATE_RESETS_FREE_MAX, Limits,
    OUTPUT_STOP_BYTES,
};
use crate::settings::{INITIAL_WINDOW, PeerSettings, id};
use crate::stream::{Cut, Half, StreamKey, StreamStore};

/// Which end of the connection this side is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// This side opens streams.
    Client,
    /// The peer opens streams.
    Server,
}

/// How far the connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A server waits for the client's preface.
    Preface,
    /// The preface has passed; the first frame must be SETTINGS.
    FirstSettings,
    /// Streams may be used.
    Open,
    /// GOAWAY with an error was written; input is swallowed.
    Ended,
}

/// Identifiers kept of streams that we reset: frames that were on their way may still come for them.
///
/// A proxy for hedging clients cancels thousands of calls a second on one connection to a backend. 1024 are 10,000 a second
/// at a round trip of 100 ms; 4 KiB at most, and only on connections that reset as many.
const RECENT_RESETS: usize = 1024;

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    phase: Phase,
    limits: Limits,
    peer: PeerSettings,
    decoder: Decoder,
    encoder: Encoder,
    streams: StreamStore,
    /// The next stream this side may open; above 2^31-1 when there is none left.
    next_local: u32,
    /// The highest stream that the peer opened.
    highest_peer: u32,
    window: ReceiveWindow,
    credit: SendCredit,
    assembly: Option<Box<HeaderAssembly>>,
    /// Streams that have something queued and may be able to send it.
    listed: VecDeque<StreamKey>,
    /// Streams that a GOAWAY cut off, still to be reported.
    refused: Vec<StreamKey>,
    progress: Vec<(StreamKey, u32, u32)>,
    recent_resets: VecDeque<u32>,
    ledger: Ledger,
    drain: Drain,
    peer_goaway: Option<(u32, ErrorCode)>,
    output: Vec<u8>,
    output_sent: usize,
    newest_data: Option<NewestData>,
    /// Bytes of memory that all streams' queues hold.
    queued_memory: usize,
    acks: QueuedAcks,
    settings_sent_at: Option<Duration>,
    settings_period: (Duration, u32),
    window_updates: WindowUpdateMeter,
    opened_at: Duration,
    last_active: Duration,
    /// The last stream went away since `last_active` was noted.
    emptied: bool,
    incomplete_since: Option<Duration>,
    dribble_since: Option<Duration>,
    last_ping_at: Option<Duration>,
    ping_strikes: u32,
    /// DATA or HEADERS left for the peer since its last PING.
    ping_explained: bool,
    /// PINGs of ours without an answer.
    pings_open: u32,
    /// Tricks of CVE-2025-8671 in the period that began at this time.
    stream_tricks: (Duration, u32),
    early_refusals: u32,
    /// Resets for ended streams that cost nothing: one for each stream that this side ended.
    late_resets_free: u32,
    streams_this_wake: u32,
    resets_this_wake: u32,
}

impl Connection {
    /// Starts a connection; the preface and SETTINGS wait in [`Connection::output`].
    #[must_use]
    pub fn new(role: Role, limits: Limits, now: Duration) -> Self {
        let mut connection = Self {
            role,
            phase: if role == Role::Server { Phase::Preface } else { Phase::FirstSettings },
            peer: PeerSettings::default(),
            decoder: Decoder::new(DECODER_TABLE_BYTES),
            encoder: Encoder::new(ENCODER_TABLE_BYTES),
            streams: StreamStore::default(),
            next_local: 1,
            highest_peer: 0,
            window: ReceiveWindow::new(INITIAL_WINDOW),
            credit: SendCredit::default(),
            assembly: None,
            listed: VecDeque::new(),
            refused: Vec::new(),
            progress: Vec::new(),
            recent_resets: VecDeque::new(),
            ledger: Ledger::new(now, limits.ledger_burst, limits.ledger_per_second),
            drain: Drain::None,
            peer_goaway: None,
            output: Vec::new(),
            output_sent: 0,
            newest_data: None,
            queued_memory: 0,
            acks: QueuedAcks::default(),
            settings_sent_at: Some(now),
            settings_period: (now, 0),
            window_updates: WindowUpdateMeter::new(now),
            opened_at: now,
            last_active: now,
            emptied: false,
            incomplete_since: None,
            dribble_since: None,
            last_ping_at: None,
            ping_strikes: 0,
            ping_explained: true,
            pings_open: 0,
            stream_tricks: (now, 0),
            early_refusals: 0,
            late_resets_free: 0,
            streams_this_wake: 0,
            resets_this_wake: 0,
            limits,
        };
        connection.write_preface();
        connection
    }

    /// This side's preface: SETTINGS, and the connection window's enlargement beyond 65 535 bytes.
    fn write_preface(&mut self) {
        let own = match self.role {
            Role::Client => (id::ENABLE_PUSH, 0),
            Role::Server => (id::MAX_CONCURRENT_STREAMS, self.limits.max_concurrent_streams),
        };
        if self.role == Role::Client {
            self.output.extend_from_slice(PREFACE);
        }
        let entries = [
            own,
            (id::INITIAL_WINDOW_SIZE, self.limits.stream_window_bytes),
            (id::MAX_FRAME_SIZE, MAX_FRAME_SIZE),
            (id::MAX_HEADER_LIST_SIZE, u32::try_from(self.limits.header_list.list_bytes).unwrap_or(u32::MAX)),
            (id::NO_RFC7540_PRIORITIES, 1),
        ];
        write_settings(&mut self.output, &entries);
        let more = self.limits.connection_window_bytes.saturating_sub(self.window.available());
        if more > 0 {
            self.window.enlarge(more);
            write_window_update(&mut self.output, 0, more);
        }
    }

    /// Which end this side is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Streams that exist: open ones, and closed ones whose owner has not released them.
    #[inline]
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Whether as many streams exist as the peer's SETTINGS allow.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.streams.len() >= self.peer.max_concurrent_streams as usize
    }

    /// The tokens of all streams whose owner has not released them.
    pub fn tokens(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.streams.iter_mut().filter(|stream| stream.owned).map(|stream| stream.token)
    }

    /// The highest stream that this side opened; 0 if none.
    #[inline]
    #[must_use]
    pub fn last_opened(&self) -> u32 {
        self.next_local.saturating_sub(2)
    }

    /// Whether a stream may have queued output that could leave now.
    #[inline]
    #[must_use]
    pub fn has_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// What the peer's SETTINGS say.
    #[must_use]
    pub fn peer_settings(&self) -> &PeerSettings {
        &self.peer
    }

    /// Whether the peer's SETTINGS have arrived and the connection has not ended.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the connection has ended with an error; only its output is left to be written.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The last stream and code of the peer's newest GOAWAY.
    #[must_use]
    pub fn peer_goaway(&self) -> Option<(u32, ErrorCode)> {
        self.peer_goaway
    }

    /// Sets the token that events of this stream carry.
    #[inline]
    pub fn set_token(&mut self, stream: StreamKey, token: u32) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.token = token;
        }
    }

    /// Whether input from this peer should be read now: not while it leaves our answers unread.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.output().len() < OUTPUT_STOP_BYTES && self.acks.count < ACKS_QUEUED_STOP
    }

    /// Begins a wake-up: the number of streams that the peer may open and reset before others get their turn starts
    /// anew.
    #[inline]
    pub fn begin_wake(&mut self, now: Duration) {
        self.streams_this_wake = 0;
        self.resets_this_wake = 0;
        if !self.streams.is_empty() {
            self.last_active = now;
        }
    }

    /// Gives the connection a buffer for its output, so that idle connections own none.
    #[inline]
    pub fn lend_output(&mut self, buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty() && self.output.is_empty(), "buffers change hands empty");
        self.output = buffer;
    }

    /// Whether the connection owns an output buffer.
    #[inline]
    #[must_use]
    pub fn has_output_buffer(&self) -> bool {
        self.output.capacity() > 0
    }

    /// Takes the output buffer back if nothing waits in it.
    #[inline]
    pub fn reclaim_output(&mut self) -> Option<Vec<u8>> {
        (self.output.is_empty() && self.output.capacity() > 0).then(|| core::mem::take(&mut self.output))
    }

    /// Bytes to write to the transport.
    #[inline]
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_sent..]
    }

    /// The transport took `count` bytes of [`Connection::output`].
    #[inline]
    pub fn output_sent(&mut self, count: usize) {
        self.output_sent += count;
        debug_assert!(self.output_sent <= self.output.len(), "no more is taken than was offered");
        if self.output_sent >= self.output.len() {
            self.output.clear();
            self.output_sent = 0;
            self.acks = QueuedAcks::default();
            self.newest_data = None;
            return;
        }
        self.acks.sent(self.output_sent, self.output.len());
        if self.output_sent * 2 >= self.output.len() {
            self.output.drain(..self.output_sent);
            self.acks.mark = self.acks.mark.saturating_sub(self.output_sent);
            self.newest_data = None;
            self.output_sent = 0;
        }
    }

    /// The owner is done with `bytes` of a stream's DATA: the peer may send as many more.
    #[inline]
    pub fn consume(&mut self, stream: StreamKey, bytes: u32) {
        // A stream that is gone returned everything it held when it went.
        let Some(record) = self.streams.get_mut(stream) else { return };
        record.window.release(bytes);
        self.window.release(bytes);
        if record.receive != Half::Closed
            && self.phase != Phase::Ended
            && let Some(increment) = record.window.announce(0)
        {
            write_window_update(&mut self.output, record.id, increment);
        }
        self.announce_connection();
    }

    #[inline]
    fn announce_connection(&mut self) {
        if self.phase != Phase::Ended
            && let Some(increment) = self.window.announce(self.limits.held_allowance_bytes)
        {
            write_window_update(&mut self.output, 0, increment);
        }
    }

    /// The owner has no more work for this stream. If it is still open it is reset with CANCEL.
    pub fn release(&mut self, fields: &mut Fields, stream: StreamKey) {
        let Some(record) = self.streams.get_mut(stream) else { return };
        record.owned = false;
        if record.is_closed() {
            self.forget(fields, stream);
        } else {
            self.reset(fields, stream, ErrorCode::CANCEL);
        }
    }

    /// Removes a closed and released stream and settles what it held.
    fn forget(&mut self, fields: &mut Fields, stream: StreamKey) {
        let Some(record) = self.streams.get_mut(stream) else { return };
        let (held, cut, queue) = (record.window.held(), record.cut, record.queue.take());
        self.streams.remove(stream);
        self.window.release(held);
        self.announce_connection();
        if let Some(queue) = queue {
            memory::discard(fields, &mut self.queued_memory, *queue);
        }
        self.emptied |= self.streams.is_empty();
        if cut != Cut::ByPeer {
            self.late_resets_free = (self.late_resets_free + 1).min(LATE_RESETS_FREE_MAX);
        }
    }

    /// The owner vouches for a stream of the peer: its work was done by whom it was meant for, and paid for by more than one
    /// frame. It gives the peer one point of the ledger back, so that a client which rightly cancels many calls beside those
    /// that complete is never asked to go. An answer that costs the peer nothing (a refusal, a wrong content-type)
    /// earns nothing, or resets could be paid for with it.
    #[inline]
    pub fn credit_completed(&mut self) {
        self.ledger.credit();
    }

    /// Ends the connection at once: GOAWAY with this code, then nothing more is read.
    pub fn shut(&mut self, code: ErrorCode, debug: &[u8]) {
        if self.phase != Phase::Ended {
            // A GOAWAY may lower the last stream of the one before, never raise it (RFC 9113 section 6.8).
            let last = self.highest_peer.min(self.last_accepted());
            write_goaway(&mut self.output, last, code, debug);
            self.phase = Phase::Ended;
        }
    }

    fn fail(&mut self, violation: Violation) -> ConnectionError {
        let text: &[u8] = match violation {
            // gRPC clients look for this very text before they slow down (gRFC A8).
            Violation::TooManyPings => b"too_many_pings",
            other => other.rule().as_bytes(),
        };
        self.shut(violation.code(), text);
        ConnectionError::PeerMisbehaved(violation)
    }

    /// Charges the ledger; a strained connection is drained, an exhausted one fails with `violation`.
    fn charge(&mut self, now: Duration, points: u32, violation: Violation) -> Result<(), Violation> {
        match self.ledger.charge(now, points) {
            Verdict::Fine => Ok(()),
            Verdict::Strained => {
                self.start_drain(now, b"calm_down");
                Ok(())
            }
            Verdict::Exhausted => Err(violation),
        }
    }

    /// Charges for a stream error that the peer made us answer.
    fn charge_stream_error(&mut self, now: Duration) -> Result<(), Violation> {
        self.charge(now, cost::STREAM_ERROR, Violation::ResetFlood)
    }

    /// Remembers a stream that we reset.
    fn remember_reset(&mut self, id: u32) {
        if self.recent_resets.len() == RECENT_RESETS {
            self.recent_resets.pop_front();
        }
        self.recent_resets.push_back(id);
    }

    /// Gives back all references to `fields`; the connection is not used afterwards.
    pub fn close(&mut self, fields: &mut Fields) {
        self.phase = Phase::Ended;
        self.decoder.clear(&mut fields.store);
        self.encoder.clear(&mut fields.store);
        for stream in self.streams.iter_mut() {
            if let Some(queue) = stream.queue.take() {
                memory::discard(fields, &mut self.queued_memory, *queue);
            }
        }
    }

    /// Bytes of DATA that arrived and were not yet consumed.
    #[must_use]
    pub fn held_bytes(&self) -> u32 {
        self.window.held()
    }
}
