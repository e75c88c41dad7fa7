//! Frames in, events out: the frames of streams, but for header blocks.

use core::time::Duration;

use super::memory::discard;
use super::{Connection, Event, Fields, Phase, Role};
use crate::error::{ConnectionError, ErrorCode, StreamFailure, Violation};
use crate::frame::{
    FRAME_HEADER_LEN, Fault, FrameHeader, MAX_FRAME_SIZE, PREFACE, flag, kind, strip_padding, write_reset,
};
use crate::ledger::cost;
use crate::limits::{RESETS_PER_WAKE_MAX, STREAM_TRICKS_MAX, STREAM_TRICKS_PERIOD, STREAMS_PER_WAKE_MAX};
use crate::settings::INITIAL_WINDOW;
use crate::stream::{Cut, Half, StreamKey};

/// What handling a frame comes to.
pub(super) type Handled<'a> = Result<Option<Event<'a>>, Fault>;

impl Connection {
    /// Reads frames from `input[*at..]` and returns the next event, or `None` when more bytes are needed (or when
    /// this peer had its share of the wake-up: then [`Connection::has_had_its_share`] is true and the rest of the
    /// input is to be offered again later). `at` moves forward over whole frames.
    ///
    /// # Errors
    /// [`ConnectionError::PeerMisbehaved`] once, with a GOAWAY in the output; [`ConnectionError::Ended`] afterwards.
    pub fn next_event<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        input: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Event<'a>>, ConnectionError> {
        loop {
            if self.phase == Phase::Ended {
                *at = input.len();
                return Err(ConnectionError::Ended);
            }
            if let Some(event) = self.next_refused(fields) {
                return Ok(Some(event));
            }
            let rest = &input[*at..];
            if self.phase == Phase::Preface {
                match read_preface(rest) {
                    Ok(true) => {
                        *at += PREFACE.len();
                        self.phase = Phase::FirstSettings;
                        continue;
                    }
                    Ok(false) => return Ok(None),
                    Err(violation) => return Err(self.fail(violation)),
                }
            }
            let Some((header, payload)) = self.split_frame(now, rest)? else { return Ok(None) };
            *at += FRAME_HEADER_LEN + payload.len();
            match self.on_frame(fields, now, header, payload) {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(Fault::Connection(violation)) => return Err(self.fail(violation)),
                Err(Fault::Stream(violation)) => {
                    match self.on_stream_fault(fields, now, header.stream, violation) {
                        Ok(Some(event)) => return Ok(Some(event)),
                        Ok(None) => {}
                        Err(violation) => return Err(self.fail(violation)),
                    }
                }
            }
        }
    }

    /// Whether the peer had its share of this wake-up; the rest of its input waits for the next.
    #[inline]
    #[must_use]
    pub fn has_had_its_share(&self) -> bool {
        self.streams_this_wake >= STREAMS_PER_WAKE_MAX || self.resets_this_wake >= RESETS_PER_WAKE_MAX
    }

    /// The next whole frame of `rest`, checked as far as its header allows, even before its payload is there.
    fn split_frame<'a>(
        &mut self,
        now: Duration,
        rest: &'a [u8],
    ) -> Result<Option<(FrameHeader, &'a [u8])>, ConnectionError> {
        if self.has_had_its_share() {
            return Ok(None);
        }
        let header = FrameHeader::parse(rest);
        if let Some(header) = header {
            if let Err(Fault::Connection(violation)) = self.admit(&header) {
                return Err(self.fail(violation));
            }
            let end = FRAME_HEADER_LEN + header.length as usize;
            if let Some(payload) = rest.get(FRAME_HEADER_LEN..end) {
                self.incomplete_since = None;
                return Ok(Some((header, payload)));
            }
        }
        if rest.is_empty() {
            self.incomplete_since = None;
        } else {
            self.incomplete_since.get_or_insert(now);
        }
        Ok(None)
    }

    /// Checks that need no payload, so that nothing is waited for or buffered in vain.
    fn admit(&self, header: &FrameHeader) -> Result<(), Fault> {
        match self.phase {
            Phase::FirstSettings if header.kind != kind::SETTINGS || header.has(flag::ACK) => {
                return Err(Fault::Connection(Violation::FirstFrame));
            }
            _ => {}
        }
        match &self.assembly {
            Some(assembly) => assembly.admit(header)?,
            None if header.kind == kind::CONTINUATION => {
                return Err(Fault::Connection(Violation::Continuation));
            }
            None => {}
        }
        header.check(MAX_FRAME_SIZE)
    }

    #[inline]
    fn on_frame<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        header: FrameHeader,
        payload: &'a [u8],
    ) -> Handled<'a> {
        match header.kind {
            kind::DATA => self.on_data(now, header, payload),
            kind::HEADERS => self.on_headers(fields, now, header, payload),
            kind::CONTINUATION => self.on_continuation(fields, now, header, payload),
            kind::WINDOW_UPDATE => self.on_window_update(now, header, payload),
            kind::RST_STREAM => self.on_reset(fields, now, header, payload),
            kind::PING => self.on_ping(now, header, payload),
            kind::SETTINGS => self.on_settings(now, header, payload),
            kind::GOAWAY => self.on_goaway(now, payload),
            kind::PRIORITY => {
                // The one type whose wrong length is the stream's error, which `admit` lets pass.
                header.check(MAX_FRAME_SIZE)?;
                self.charge(now, cost::PRIORITY, Violation::Abuse).map_err(Fault::Connection)?;
                refuse_self_dependency(header.stream, payload)?;
                Ok(None)
            }
            kind::PUSH_PROMISE => Err(Fault::Connection(Violation::PushPromise)),
            _ => {
                self.charge(now, cost::UNKNOWN_FRAME, Violation::Abuse).map_err(Fault::Connection)?;
                Ok(None)
            }
        }
    }

    fn on_data<'a>(&mut self, now: Duration, header: FrameHeader, payload: &'a [u8]) -> Handled<'a> {
        self.window.receive(header.length, 0).map_err(Fault::Connection)?;
        let taken = self.take_data(now, header, payload);
        if !matches!(taken, Ok(Some(_))) {
            // Nobody will consume these bytes: they go back at once, or the connection would stall one day.
            self.window.release(header.length);
        }
        // Also for bytes that are held: those within the allowance may never be consumed, and what waits for the window behind
        // them is somebody else's.
        self.announce_connection();
        taken
    }

    fn take_data<'a>(&mut self, now: Duration, header: FrameHeader, payload: &'a [u8]) -> Handled<'a> {
        let Some(key) = self.streams.key(header.stream) else {
            self.on_frame_for_closed(now, header)?;
            return Ok(None);
        };
        let bytes = strip_padding(header.flags, payload).map_err(Fault::Connection)?;
        let end = header.has(flag::END_STREAM);
        let grace = self.early_grace();
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        match stream.receive {
            Half::Head => return Err(Fault::Stream(Violation::DataBeforeHeaders)),
            Half::Closed if stream.cut == Cut::ByUs => {
                self.on_late_frame(now, header)?;
                return Ok(None);
            }
            Half::Closed => return Err(Fault::Stream(Violation::ClosedStream)),
            Half::Body => {}
        }
        if let Some(left) = &mut stream.content_left {
            *left = left
                .checked_sub(bytes.len() as u64)
                .filter(|left| !end || *left == 0)
                .ok_or(Fault::Stream(Violation::ContentLength))?;
        }
        stream.window.receive(header.length, grace).map_err(Fault::Stream)?;
        let token = stream.token;
        if end {
            stream.receive = Half::Closed;
        }
        let repeated_empty = bytes.is_empty() && !end && stream.empty_data;
        stream.empty_data = bytes.is_empty() && !end;
        if repeated_empty {
            self.charge(now, cost::EMPTY_FRAME, Violation::Abuse).map_err(Fault::Connection)?;
        }
        let padding = header.length - bytes.len() as u32;
        if padding > 0 {
            self.consume(key, padding);
        }
        self.ping_strikes = 0;
        Ok(Some(Event::Data { stream: key, token, bytes, end }))
    }

    /// How far a stream's window may be overdrawn: by the initial window of RFC 9113 until the peer has read ours.
    fn early_grace(&self) -> u32 {
        let unread = self.settings_sent_at.is_some();
        if unread { INITIAL_WINDOW.saturating_sub(self.limits.stream_window_bytes) } else { 0 }
    }

    /// A DATA or HEADERS frame for a stream that does not exist: idle, cut off by us, or ended for good.
    pub(super) fn on_frame_for_closed(&mut self, now: Duration, header: FrameHeader) -> Result<(), Fault> {
        let id = header.stream;
        if self.is_idle(id) {
            return Err(Fault::Connection(Violation::IdleStream));
        }
        let refused = self.is_peers(id) && id > self.last_accepted();
        if refused || self.recent_resets.contains(&id) {
            return self.on_late_frame(now, header);
        }
        if self.recent_resets.len() < super::RECENT_RESETS {
            return Err(Fault::Connection(Violation::ClosedStream));
        }
        // We have reset so many since that this one may be among them: the connection lives. A backend answers calls that
        // we cancelled; a client is told.
        if self.role == Role::Client {
            return Ok(());
        }
        write_reset(&mut self.output, id, ErrorCode::STREAM_CLOSED);
        self.charge_stream_error(now).map_err(Fault::Connection)
    }

    /// A frame for a stream that we cut off. RFC 9113 section 5.1: what was on its way is ignored.
    pub(super) fn on_late_frame(&mut self, now: Duration, header: FrameHeader) -> Result<(), Fault> {
        let (points, violation) = match header.kind {
            // A backend sends two header blocks for each call that was cancelled. A client has none to send, and could
            // make us decode for nothing.
            kind::HEADERS if self.role == Role::Server => (cost::LATE_HEADERS, Violation::ResetFlood),
            kind::DATA if header.length == 0 && !header.has(flag::END_STREAM) => {
                (cost::EMPTY_FRAME, Violation::Abuse)
            }
            _ => return Ok(()),
        };
        self.charge(now, points, violation).map_err(Fault::Connection)
    }

    pub(super) fn is_peers(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }

    /// Whether a stream was never opened (RFC 9113 section 5.1, "idle").
    pub(super) fn is_idle(&self, id: u32) -> bool {
        if self.is_peers(id) { id > self.highest_peer } else { id >= self.next_local || id.is_multiple_of(2) }
    }

    fn on_reset(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        header: FrameHeader,
        payload: &[u8],
    ) -> Handled<'static> {
        self.resets_this_wake += 1;
        let Some(key) = self.streams.key(header.stream) else {
            if self.is_idle(header.stream) {
                return Err(Fault::Connection(Violation::IdleStream));
            }
            if self.role == Role::Server {
                match self.late_resets_free.checked_sub(1) {
                    Some(left) => self.late_resets_free = left,
                    None => {
                        self.charge(now, cost::LATE_RESET, Violation::ResetFlood)
                            .map_err(Fault::Connection)?;
                    }
                }
            }
            return Ok(None);
        };
        let stream = self.streams.get(key).expect("the key was looked up just now");
        let young = now.saturating_sub(stream.opened_at) < Duration::from_secs(1);
        if self.role == Role::Server && stream.send == Half::Head && young {
            self.charge(now, cost::PREMATURE_RESET, Violation::ResetFlood).map_err(Fault::Connection)?;
        }
        let failure = StreamFailure::PeerReset(ErrorCode(be32(payload)));
        Ok(self.cut_off(fields, key, Cut::ByPeer, failure))
    }

    /// Cuts a stream off; the event tells the owner once, if it still has work for the stream.
    pub(super) fn cut_off(
        &mut self,
        fields: &mut Fields,
        key: StreamKey,
        by: Cut,
        failure: StreamFailure,
    ) -> Option<Event<'static>> {
        let stream = self.streams.get_mut(key)?;
        let told = stream.cut != Cut::No;
        let queue = stream.cut_off(by);
        let event = Event::Failed { stream: key, token: stream.token, failure };
        if let Some(queue) = queue {
            discard(fields, &mut self.queued_memory, *queue);
        }
        if by == Cut::ByUs {
            self.remember_reset(key.id());
        }
        (!told).then_some(event)
    }

    /// Counts a trick of CVE-2025-8671; how many there were in this period.
    fn tricks_this_period(&mut self, now: Duration) -> u32 {
        let (since, count) = &mut self.stream_tricks;
        if now.saturating_sub(*since) >= STREAM_TRICKS_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count
    }

    /// Resets a stream on which the peer broke a rule. `Err` if it did so too often.
    fn on_stream_fault(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        id: u32,
        violation: Violation,
    ) -> Result<Option<Event<'static>>, Violation> {
        // RFC 9113 section 6.4: an idle stream cannot be reset.
        if id == 0 || self.is_idle(id) {
            return Err(violation);
        }
        // The six frames with which a client makes a server reset streams for it (CVE-2025-8671) are no accident
        // when they come again and again.
        let trick = matches!(
            violation,
            Violation::WindowOverflow
                | Violation::WindowIncrement
                | Violation::ClosedStream
                | Violation::FrameLength
                | Violation::SelfDependency
        );
        if trick && self.tricks_this_period(now) > STREAM_TRICKS_MAX {
            return Err(violation);
        }
        write_reset(&mut self.output, id, violation.code());
        // A backend whose trailers are too long for us breaks its own call: those of others on the connection go on.
        if self.role == Role::Server || violation != Violation::HeaderListTooLarge {
            self.charge_stream_error(now)?;
        }
        match self.streams.key(id) {
            Some(key) => Ok(self.cut_off(fields, key, Cut::ByUs, StreamFailure::Violation(violation))),
            None => {
                self.remember_reset(id);
                Ok(None)
            }
        }
    }
}

/// Whether the client preface is complete.
///
/// # Errors
/// [`Violation::Preface`] as soon as one byte differs.
fn read_preface(rest: &[u8]) -> Result<bool, Violation> {
    let length = rest.len().min(PREFACE.len());
    if rest[..length] != PREFACE[..length] {
        return Err(Violation::Preface);
    }
    Ok(length == PREFACE.len())
}

/// The first four bytes of a payload that the frame table guarantees to have them.
pub(super) fn be32(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// A stream cannot depend on itself (RFC 7540 section 5.3.1; the fields are otherwise ignored, RFC 9113
/// section 5.3.2).
pub(super) fn refuse_self_dependency(stream: u32, priority: &[u8]) -> Result<(), Fault> {
    if be32(priority) & 0x7fff_ffff == stream {
        return Err(Fault::Stream(Violation::SelfDependency));
    }
    Ok(())
}
