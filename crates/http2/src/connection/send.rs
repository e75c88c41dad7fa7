//! What the owner sends: streams, header sections, DATA, resets.
//!
//! DATA goes straight into the output while both windows and the output have room; only what is held back is
//! copied to the stream's own queue. The owner learns how much has left at once (the return value) or later
//! ([`Connection::poll_progress`]) and gives receive credit back on the stream that feeds this one: so a slow reader
//! stops its sender, and memory stays bounded by one window for each stream.

use core::time::Duration;

use super::memory::discard;
use super::{Connection, Fields, Phase, Role};
use crate::error::ErrorCode;
use crate::field::{FieldBlock, FieldStore};
use crate::frame::{
    FRAME_HEADER_LEN, flag, frame_header, kind, write_data, write_frame_header, write_ping, write_reset,
};
use crate::limits::{DATA_USEFUL_BYTES, DRIBBLE_WAIT, OUTPUT_HIGH_BYTES, OUTPUT_STOP_BYTES};
use crate::settings::INITIAL_WINDOW;
use crate::stream::{Cut, Half, Queue, QueueTail, StreamKey};

/// The most DATA bytes in one frame that we send: the initial maximum, whatever more the peer allows, so that streams
/// take turns.
const DATA_FRAME_MAX: usize = 16_384;

/// The newest DATA frame in the output: while nothing follows it and none of it has left, more DATA of the same stream
/// goes into the same frame. A peer that cuts a message into frames of a byte, ten bytes of wire for each, would else make
/// us send as many to whoever is behind us.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewestData {
    /// Where its header and its end are in the output.
    begin: usize,
    end: usize,
    stream: u32,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The peer's SETTINGS have not arrived, or the connection has ended.
    #[error("the connection is not open")]
    NotOpen,
    /// Either side is going away.
    #[error("the connection is going away")]
    GoingAway,
    /// As many streams as the peer's SETTINGS_MAX_CONCURRENT_STREAMS exist, or the peer does not read what was sent
    /// ([`OUTPUT_STOP_BYTES`] wait).
    #[error("the peer takes no more streams now")]
    Full,
    /// All stream identifiers were used (RFC 9113 section 5.1.1): a new connection is needed.
    #[error("stream identifiers are exhausted")]
    Exhausted,
}

/// Why something cannot be sent on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The stream does not exist any more or this side has ended it.
    #[error("the stream is closed")]
    Closed,
    /// A header section was already sent, or DATA or trailers came before one.
    #[error("out of order: a header section comes first and once")]
    OutOfOrder,
}

impl Connection {
    /// Whether [`Connection::open`] would succeed, or why not.
    ///
    /// # Errors
    /// As [`Connection::open`].
    #[inline]
    pub fn can_open(&self) -> Result<(), OpenError> {
        if self.phase != Phase::Open || self.role == Role::Server {
            return Err(OpenError::NotOpen);
        }
        if self.peer_goaway.is_some() || self.is_draining() {
            return Err(OpenError::GoingAway);
        }
        if self.next_local > 0x7fff_ffff {
            return Err(OpenError::Exhausted);
        }
        // A header section goes to the output whole: without this, one for each call would wait for a peer that stopped reading.
        let unread = self.output().len() >= OUTPUT_STOP_BYTES;
        if unread || self.is_full() {
            return Err(OpenError::Full);
        }
        Ok(())
    }

    /// Opens a stream; its header section must follow before any other stream is opened.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed then.
    pub fn open(&mut self, now: Duration, token: u32) -> Result<StreamKey, OpenError> {
        self.can_open()?;
        let id = self.next_local;
        self.next_local += 2;
        Ok(self.streams.insert(id, token, now, self.limits.stream_window_bytes))
    }

    /// Lets the next stream identifier be `id`, so that exhaustion can be reached without 2^30 streams.
    ///
    /// # Panics
    /// If `id` is even or lower than one that was used.
    pub fn skip_to_stream(&mut self, id: u32) {
        assert!(id % 2 == 1 && id >= self.next_local, "identifiers are odd and rise");
        self.next_local = id;
    }

    /// Sends the final header section: `block`, then `extra` as fields that differ call by call and are never put
    /// in the peer's table.
    ///
    /// # Errors
    /// [`SendError`]; nothing has been written then.
    pub fn send_headers(
        &mut self,
        store: &mut FieldStore,
        stream: StreamKey,
        block: &FieldBlock,
        extra: &[(&[u8], &[u8])],
        end: bool,
    ) -> Result<(), SendError> {
        let record = self.streams.get_mut(stream).ok_or(SendError::Closed)?;
        match record.send {
            Half::Head => {}
            Half::Body => return Err(SendError::OutOfOrder),
            Half::Closed => return Err(SendError::Closed),
        }
        record.send = if end { Half::Closed } else { Half::Body };
        self.write_block(store, stream.id(), block, extra, end);
        Ok(())
    }

    /// Sends an informational header section (1xx).
    ///
    /// # Errors
    /// [`SendError`]; nothing has been written then.
    pub fn send_informational(
        &mut self,
        store: &mut FieldStore,
        stream: StreamKey,
        block: &FieldBlock,
    ) -> Result<(), SendError> {
        match self.streams.get(stream).map(|record| record.send) {
            Some(Half::Head) => {}
            Some(Half::Body) => return Err(SendError::OutOfOrder),
            Some(Half::Closed) | None => return Err(SendError::Closed),
        }
        self.write_block(store, stream.id(), block, &[], false);
        Ok(())
    }

    /// Sends trailers, behind all DATA that is queued; ends this side of the stream.
    ///
    /// # Errors
    /// [`SendError`]; nothing has been written then.
    pub fn send_trailers(
        &mut self,
        store: &mut FieldStore,
        stream: StreamKey,
        block: &FieldBlock,
    ) -> Result<(), SendError> {
        let record = self.streams.get_mut(stream).ok_or(SendError::Closed)?;
        match record.send {
            Half::Body => {}
            Half::Head => return Err(SendError::OutOfOrder),
            Half::Closed => return Err(SendError::Closed),
        }
        if let Some(queue) = &mut record.queue {
            if !matches!(queue.tail, QueueTail::Open) {
                return Err(SendError::Closed);
            }
            let mut kept = FieldBlock::new();
            kept.copy_from(store, block);
            self.queued_memory += kept.size();
            queue.tail = QueueTail::Trailers(kept);
            return Ok(());
        }
        record.send = Half::Closed;
        self.write_block(store, stream.id(), block, &[], true);
        Ok(())
    }

    /// Sends DATA; `end` ends this side of the stream. Returns how many bytes left for the output at once; the rest is
    /// queued and reported by [`Connection::poll_progress`]. No bytes without an end are nothing: one peer's empty frames
    /// must not be held against this side by another (CVE-2019-9518).
    ///
    /// # Errors
    /// [`SendError`]; nothing has been taken then.
    #[inline]
    pub fn send_data(
        &mut self,
        now: Duration,
        stream: StreamKey,
        bytes: &[u8],
        end: bool,
    ) -> Result<usize, SendError> {
        let initial = self.peer.initial_window;
        let record = self.streams.get_mut(stream).ok_or(SendError::Closed)?;
        match record.send {
            Half::Body => {}
            Half::Head => return Err(SendError::OutOfOrder),
            Half::Closed => return Err(SendError::Closed),
        }
        if bytes.is_empty() && !end {
            return Ok(0);
        }
        let window = record.credit.window(initial).min(self.credit.window(INITIAL_WINDOW));
        let direct = record.queue.is_none()
            && bytes.len() <= DATA_FRAME_MAX
            && bytes.len() as i64 <= window.max(0)
            && self.output.len() < OUTPUT_HIGH_BYTES;
        if !direct {
            return self.queue_data(now, stream, bytes, end);
        }
        record.credit.spend(bytes.len());
        if end {
            record.send = Half::Closed;
        }
        self.credit.spend(bytes.len());
        self.note_data_sent(now);
        self.put_data(stream.id(), bytes, end);
        Ok(bytes.len())
    }

    /// Puts DATA into the output: behind that of the newest frame if it is the same stream's, else as a frame of its own.
    #[inline]
    fn put_data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let begin = self.output.len();
        if let Some(newest) = self.newest_data
            && newest.stream == stream
            && newest.end == begin
            && newest.begin >= self.output_sent
            && begin - newest.begin - FRAME_HEADER_LEN + bytes.len() <= DATA_FRAME_MAX
        {
            let length = begin - newest.begin - FRAME_HEADER_LEN + bytes.len();
            let flags = if end { flag::END_STREAM } else { 0 };
            let header = frame_header(length, kind::DATA, flags, stream);
            self.output[newest.begin..newest.begin + FRAME_HEADER_LEN].copy_from_slice(&header);
            self.output.extend_from_slice(bytes);
            self.newest_data = Some(NewestData { end: self.output.len(), ..newest });
            return;
        }
        write_data(&mut self.output, stream, bytes, end);
        self.newest_data = Some(NewestData { begin, end: self.output.len(), stream });
    }

    /// Queues DATA and sends what may leave now.
    fn queue_data(
        &mut self,
        now: Duration,
        stream: StreamKey,
        bytes: &[u8],
        end: bool,
    ) -> Result<usize, SendError> {
        let record = self.streams.get_mut(stream).ok_or(SendError::Closed)?;
        let queue = record.queue.get_or_insert_default();
        if !matches!(queue.tail, QueueTail::Open) {
            return Err(SendError::Closed);
        }
        let alone = queue.waiting().is_empty();
        let before = queue.memory_bytes();
        queue.push(bytes);
        self.queued_memory += queue.memory_bytes();
        self.queued_memory -= before;
        if end {
            queue.tail = QueueTail::End;
        }
        if !alone {
            self.list(stream);
            return Ok(0);
        }
        let mut left = 0;
        while let Some(sent) = self.send_queued(now, stream) {
            left += sent;
            // An end without bytes leaves as one empty frame; it cannot repeat.
            if sent == 0 {
                break;
            }
        }
        if self.streams.get(stream).is_some_and(|record| record.queue.is_some()) {
            self.list(stream);
        }
        Ok(left)
    }

    /// Sends one frame of a stream's queue. `None` if nothing may leave now.
    fn send_queued(&mut self, now: Duration, stream: StreamKey) -> Option<usize> {
        let initial = self.peer.initial_window;
        let record = self.streams.get_mut(stream)?;
        let queue = record.queue.as_mut()?;
        if self.output.len() >= OUTPUT_HIGH_BYTES {
            return None;
        }
        let waiting = queue.waiting();
        let window = record.credit.window(initial).min(self.credit.window(INITIAL_WINDOW)).max(0);
        let room = usize::try_from(window).unwrap_or(usize::MAX).min(DATA_FRAME_MAX);
        let count = waiting.len().min(room);
        let whole = count == waiting.len();
        if !whole && count < DATA_USEFUL_BYTES {
            let since = *record.dribble_since.get_or_insert(now);
            if count == 0 {
                record.dribble_since = None;
                return None;
            }
            if now.saturating_sub(since) < DRIBBLE_WAIT {
                self.dribble_since = Some(self.dribble_since.map_or(since, |at| at.min(since)));
                return None;
            }
        }
        record.dribble_since = None;
        let ends = whole && matches!(queue.tail, QueueTail::End);
        if count > 0 || ends {
            write_data(&mut self.output, record.id, &waiting[..count], ends);
        }
        queue.advance(count);
        record.credit.spend(count);
        self.credit.spend(count);
        if ends {
            record.send = Half::Closed;
        }
        if ends || queue.is_done() {
            self.queued_memory -= queue.memory_bytes();
            record.queue = None;
        }
        if count == 0 && !ends {
            return None;
        }
        self.note_data_sent(now);
        Some(count)
    }

    /// A DATA frame went into the output: it explains PINGs and WINDOW_UPDATEs of the peer.
    #[inline]
    fn note_data_sent(&mut self, now: Duration) {
        self.window_updates.data_sent(now);
        self.note_useful_output();
    }

    /// DATA or HEADERS left for the peer, so that a PING of it is no idle one (gRFC A8).
    #[inline]
    fn note_useful_output(&mut self) {
        self.ping_strikes = 0;
        self.ping_explained = true;
    }

    /// Notes that a stream may have something to send.
    pub(super) fn list(&mut self, stream: StreamKey) {
        if let Some(record) = self.streams.get_mut(stream)
            && !record.listed
        {
            record.listed = true;
            self.listed.push_back(stream);
        }
    }

    /// Moves queued DATA and trailers into the output as far as windows and the output allow, streams in turn. To be
    /// called before each flush, and again when the transport has taken output.
    pub fn flush_queues(&mut self, fields: &mut Fields, now: Duration) {
        if core::mem::take(&mut self.emptied) {
            self.last_active = self.last_active.max(now);
        }
        // Nothing follows a GOAWAY with an error.
        if self.listed.is_empty() || self.phase == Phase::Ended {
            return;
        }
        self.dribble_since = None;
        let mut idle_turns = 0;
        while idle_turns < self.listed.len() && self.output.len() < OUTPUT_HIGH_BYTES {
            let Some(stream) = self.listed.pop_front() else { break };
            if !self.has_queued(stream) {
                // It was cut off while it waited.
                if let Some(record) = self.streams.get_mut(stream) {
                    record.listed = false;
                }
                continue;
            }
            let sent = self.send_queued(now, stream);
            self.send_queued_trailers(fields, stream);
            let initial = self.peer.initial_window;
            let Some(record) = self.streams.get_mut(stream) else { continue };
            let finished = record.queue.is_none();
            if sent.is_some() || finished {
                self.progress.push((stream, record.token, sent.unwrap_or(0) as u32));
                idle_turns = 0;
            }
            // A stream whose own window is used up comes back with its WINDOW_UPDATE.
            record.listed = !finished && record.credit.window(initial) > 0;
            if record.listed {
                self.listed.push_back(stream);
                idle_turns += usize::from(sent.is_none());
            }
        }
    }

    fn send_queued_trailers(&mut self, fields: &mut Fields, stream: StreamKey) {
        let Some(record) = self.streams.get_mut(stream) else { return };
        let ready = record
            .queue
            .as_ref()
            .is_some_and(|queue| queue.waiting().is_empty() && matches!(queue.tail, QueueTail::Trailers(_)));
        if !ready {
            return;
        }
        record.send = Half::Closed;
        let Some(queue) = record.queue.take() else { return };
        self.queued_memory -= queue.memory_bytes();
        if let Queue { tail: QueueTail::Trailers(mut block), .. } = *queue {
            self.write_block(&mut fields.store, stream.id(), &block, &[], true);
            block.clear(&mut fields.store);
        }
    }

    /// The next stream whose queued output has moved, its token, and how many bytes of DATA left: 0 if only its end
    /// did. To be collected after each flush.
    #[inline]
    pub fn poll_progress(&mut self) -> Option<(StreamKey, u32, u32)> {
        self.progress.pop()
    }

    /// Whether a stream has output that waits for a window or the transport.
    #[must_use]
    pub fn has_queued(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_some_and(|record| record.queue.is_some())
    }

    /// Whether this side has ended a stream (or it is gone).
    #[must_use]
    pub fn send_half(&self, stream: StreamKey) -> Half {
        self.streams.get(stream).map_or(Half::Closed, |record| record.send)
    }

    /// Whether the peer has ended a stream (or it is gone).
    #[must_use]
    pub fn receive_half(&self, stream: StreamKey) -> Half {
        self.streams.get(stream).map_or(Half::Closed, |record| record.receive)
    }

    /// Resets a stream: RST_STREAM with this code, unless it is closed already. Queued output is dropped.
    pub fn reset(&mut self, fields: &mut Fields, stream: StreamKey, code: ErrorCode) {
        let Some(record) = self.streams.get_mut(stream) else { return };
        let owned = record.owned;
        if !record.is_closed() {
            let unsent = self.role == Role::Client && record.send == Half::Head;
            if let Some(queue) = record.cut_off(Cut::ByUs) {
                discard(fields, &mut self.queued_memory, *queue);
            }
            // A stream whose HEADERS were never written does not exist for the peer.
            if !unsent && self.phase != Phase::Ended {
                write_reset(&mut self.output, stream.id(), code);
            }
            self.remember_reset(stream.id());
        }
        if !owned {
            self.forget(fields, stream);
        }
    }

    /// Sends a PING; its answer is [`super::Event::PingAcknowledged`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.pings_open += 1;
        write_ping(&mut self.output, payload, false);
    }

    fn write_block(
        &mut self,
        store: &mut FieldStore,
        id: u32,
        block: &FieldBlock,
        extra: &[(&[u8], &[u8])],
        end: bool,
    ) {
        let start = self.output.len();
        self.output.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        self.encoder.encode_block(store, block, &mut self.output);
        for (name, value) in extra {
            self.encoder.literal(store, name, value, &mut self.output);
        }
        self.note_useful_output();
        let end_flag = if end { flag::END_STREAM } else { 0 };
        let length = self.output.len() - start - FRAME_HEADER_LEN;
        let most = self.peer.max_frame_size as usize;
        if length <= most {
            let header = frame_header(length, kind::HEADERS, flag::END_HEADERS | end_flag, id);
            self.output[start..start + FRAME_HEADER_LEN].copy_from_slice(&header);
            return;
        }
        let encoded = self.output.split_off(start + FRAME_HEADER_LEN);
        self.output.truncate(start);
        for (at, fragment) in encoded.chunks(most).enumerate() {
            let last = (at + 1) * most >= encoded.len();
            let flags = if last { flag::END_HEADERS } else { 0 };
            let (kind, flags) =
                if at == 0 { (kind::HEADERS, flags | end_flag) } else { (kind::CONTINUATION, flags) };
            write_frame_header(&mut self.output, fragment.len(), kind, flags, id);
            self.output.extend_from_slice(fragment);
        }
    }
}
