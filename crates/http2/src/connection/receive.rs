//! Frames in, events out: everything but header blocks.

use core::time::Duration;

use super::drain::DRAIN_PING;
use super::{Connection, Event, Fields, Phase, Role};
use crate::error::{ConnectionError, ErrorCode, StreamFailure, Violation};
use crate::frame::{
    FRAME_HEADER_LEN, Fault, FrameHeader, MAX_FRAME_SIZE, PREFACE, flag, kind, strip_padding, write_ping,
    write_reset, write_settings_ack,
};
use crate::ledger::cost;
use crate::limits::{
    ACKS_QUEUED_MAX, RESETS_PER_WAKE_MAX, SETTINGS_FRAMES_MAX, SETTINGS_PERIOD, STREAMS_PER_WAKE_MAX,
};
use crate::stream::{Half, StreamKey};

/// WINDOW_UPDATE frames and what explains them, since the start of a second. Counts of one second only: a budget
/// that grew with all streams ever opened could be inflated (envoyproxy/envoy#45077).
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowUpdateMeter {
    since: Duration,
    updates: u32,
    pub(super) data_frames_sent: u32,
}

impl WindowUpdateMeter {
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, updates: 0, data_frames_sent: 0 }
    }

    /// Counts one update; whether it is beyond 5 + 2 x (active streams + 10 x DATA frames sent), Envoy's allowance.
    fn exceeds(&mut self, now: Duration, active: usize) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.updates += 1;
        let explained = u64::from(self.data_frames_sent) * 10 + active as u64;
        u64::from(self.updates) > u64::from(cost::WINDOW_UPDATES_FREE) + 2 * explained
    }
}

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
            if let Some(event) = self.next_refused() {
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
        header.check(MAX_FRAME_SIZE)?;
        match header.kind {
            kind::DATA => self.on_data(now, header, payload),
            kind::HEADERS => self.on_headers(fields, now, header, payload),
            kind::CONTINUATION => self.on_continuation(fields, now, header, payload),
            kind::WINDOW_UPDATE => self.on_window_update(now, header, payload),
            kind::RST_STREAM => self.on_reset(fields, now, header, payload),
            kind::PING => self.on_ping(now, header, payload),
            kind::SETTINGS => self.on_settings(now, header, payload),
            kind::GOAWAY => self.on_goaway(payload),
            kind::PRIORITY => {
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
        self.window.receive(header.length).map_err(Fault::Connection)?;
        let taken = self.take_data(now, header, payload);
        if !matches!(taken, Ok(Some(_))) {
            // Nobody will consume these bytes: they go back at once, or the connection would stall one day.
            self.window.release(header.length);
            self.announce_connection();
        }
        taken
    }

    fn take_data<'a>(&mut self, now: Duration, header: FrameHeader, payload: &'a [u8]) -> Handled<'a> {
        let Some(key) = self.streams.key(header.stream) else {
            self.on_frame_for_closed(now, header)?;
            return Ok(None);
        };
        let bytes = strip_padding(header.flags, payload).map_err(Fault::Connection)?;
        let end = header.has(flag::END_STREAM);
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        match stream.receive {
            Half::Head => return Err(Fault::Stream(Violation::DataBeforeHeaders)),
            Half::Closed if self.recent_resets.contains(&header.stream) => return Ok(None),
            Half::Closed => return Err(Fault::Stream(Violation::ClosedStream)),
            Half::Body => {}
        }
        if let Some(left) = &mut stream.content_left {
            *left = left
                .checked_sub(bytes.len() as u64)
                .filter(|left| !end || *left == 0)
                .ok_or(Fault::Stream(Violation::ContentLength))?;
        }
        stream.window.receive(header.length).map_err(Fault::Stream)?;
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

    /// A frame for a stream that does not exist: idle, reset a moment ago, or ended for good.
    pub(super) fn on_frame_for_closed(&mut self, now: Duration, header: FrameHeader) -> Result<(), Fault> {
        let id = header.stream;
        if self.is_idle(id) {
            return Err(Fault::Connection(Violation::IdleStream));
        }
        if id > self.last_accepted() && self.is_peers(id) {
            return Ok(());
        }
        if self.recent_resets.contains(&id) {
            // RFC 9113 section 5.1: frames that were on their way when we reset the stream are ignored.
            return Ok(());
        }
        if self.recent_resets.len() < super::RECENT_RESETS
            || self.recent_resets.front().is_some_and(|&o| id > o)
        {
            return Err(Fault::Connection(Violation::ClosedStream));
        }
        // So many were reset since that this one may be among them: answer, but let the connection live.
        write_reset(&mut self.output, id, ErrorCode::STREAM_CLOSED);
        self.charge_stream_error(now).map_err(Fault::Connection)
    }

    pub(super) fn is_peers(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }

    /// Whether a stream was never opened (RFC 9113 section 5.1, "idle").
    pub(super) fn is_idle(&self, id: u32) -> bool {
        if self.is_peers(id) { id > self.highest_peer } else { id >= self.next_local || id % 2 == 0 }
    }

    fn on_window_update(&mut self, now: Duration, header: FrameHeader, payload: &[u8]) -> Handled<'static> {
        if self.window_updates.exceeds(now, self.streams.len()) {
            self.charge(now, cost::WINDOW_UPDATE, Violation::Abuse).map_err(Fault::Connection)?;
        }
        let increment = be32(payload) & 0x7fff_ffff;
        if header.stream == 0 {
            if increment == 0 {
                return Err(Fault::Connection(Violation::WindowIncrement));
            }
            // The connection's window starts at 65 535 whatever SETTINGS say (RFC 9113 section 6.9.2).
            self.credit.grow(increment, 65_535).map_err(Fault::Connection)?;
            return Ok(None);
        }
        let Some(key) = self.streams.key(header.stream) else {
            // Updates may come for streams that have just ended (section 6.9): only idle ones are an error.
            return if self.is_idle(header.stream) {
                Err(Fault::Connection(Violation::IdleStream))
            } else {
                Ok(None)
            };
        };
        if increment == 0 {
            return Err(Fault::Stream(Violation::WindowIncrement));
        }
        let initial = self.peer.initial_window;
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        stream.credit.grow(increment, initial).map_err(Fault::Stream)?;
        if stream.queue.is_some() {
            self.list(key);
        }
        Ok(None)
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
            return if self.is_idle(header.stream) {
                Err(Fault::Connection(Violation::IdleStream))
            } else {
                Ok(None)
            };
        };
        let stream = self.streams.get(key).expect("the key was looked up just now");
        let young = now.saturating_sub(stream.opened_at) < Duration::from_secs(1);
        if self.role == Role::Server && stream.send == Half::Head && young {
            self.charge(now, cost::PREMATURE_RESET, Violation::ResetFlood).map_err(Fault::Connection)?;
        }
        let failure = StreamFailure::PeerReset(ErrorCode(be32(payload)));
        Ok(self.close_stream(fields, key, failure))
    }

    /// Closes both halves; the event tells the owner, if it still has work for the stream.
    fn close_stream(
        &mut self,
        fields: &mut Fields,
        key: StreamKey,
        failure: StreamFailure,
    ) -> Option<Event<'static>> {
        self.remember_reset(key.id());
        let stream = self.streams.get_mut(key)?;
        stream.receive = Half::Closed;
        stream.send = Half::Closed;
        if let Some(queue) = stream.queue.take() {
            super::discard(fields, *queue);
        }
        if stream.owned {
            return Some(Event::Failed { stream: key, token: stream.token, failure });
        }
        self.forget(fields, key);
        None
    }

    fn next_refused(&mut self) -> Option<Event<'static>> {
        while let Some(key) = self.refused.pop() {
            let code = self.peer_goaway.map_or(ErrorCode::NO_ERROR, |(_, code)| code);
            let stream = self.streams.get_mut(key)?;
            stream.receive = Half::Closed;
            stream.send = Half::Closed;
            if stream.owned {
                let failure = StreamFailure::GoAway(code);
                return Some(Event::Failed { stream: key, token: stream.token, failure });
            }
        }
        None
    }

    /// Resets a stream on which the peer broke a rule. `Err` if it did so too often.
    fn on_stream_fault(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        id: u32,
        violation: Violation,
    ) -> Result<Option<Event<'static>>, Violation> {
        if id == 0 || (self.is_idle(id) && violation != Violation::SelfDependency && !self.is_peers(id)) {
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
        self.stream_tricks += u32::from(trick);
        if self.stream_tricks > super::send::STREAM_TRICKS_MAX {
            return Err(violation);
        }
        write_reset(&mut self.output, id, violation.code());
        self.charge_stream_error(now)?;
        match self.streams.key(id) {
            Some(key) => Ok(self.close_stream(fields, key, StreamFailure::Violation(violation))),
            None => {
                self.remember_reset(id);
                Ok(None)
            }
        }
    }

    fn on_ping(&mut self, now: Duration, header: FrameHeader, payload: &[u8]) -> Handled<'static> {
        let payload: [u8; 8] = payload.try_into().expect("the frame table admits 8 bytes only");
        if header.has(flag::ACK) {
            if payload == DRAIN_PING {
                self.finish_drain();
                return Ok(None);
            }
            return Ok(Some(Event::PingAcknowledged { payload }));
        }
        self.charge(now, cost::PING, Violation::PingFlood).map_err(Fault::Connection)?;
        self.strike(now).map_err(Fault::Connection)?;
        self.queue_ack().map_err(Fault::Connection)?;
        write_ping(&mut self.output, payload, true);
        Ok(None)
    }

    /// gRFC A8: keepalive PINGs that come too often, with nothing in between that would make them useful.
    fn strike(&mut self, now: Duration) -> Result<(), Violation> {
        let early =
            self.last_ping_at.is_some_and(|at| now.saturating_sub(at) < self.limits.ping_interval_min);
        self.last_ping_at = Some(now);
        if self.role == Role::Client || !early {
            return Ok(());
        }
        self.ping_strikes += 1;
        if self.ping_strikes > self.limits.ping_strikes { Err(Violation::TooManyPings) } else { Ok(()) }
    }

    fn queue_ack(&mut self) -> Result<(), Violation> {
        self.acks_queued += 1;
        if self.acks_queued > ACKS_QUEUED_MAX { Err(Violation::PingFlood) } else { Ok(()) }
    }

    fn on_settings(&mut self, now: Duration, header: FrameHeader, payload: &[u8]) -> Handled<'static> {
        if header.has(flag::ACK) {
            return match (header.length, self.settings_sent_at.take()) {
                (0, Some(_)) => Ok(None),
                (0, None) => Err(Fault::Connection(Violation::SettingsAck)),
                _ => Err(Fault::Connection(Violation::FrameLength)),
            };
        }
        let first = self.phase == Phase::FirstSettings;
        if !first {
            self.meter_settings(now).map_err(Fault::Connection)?;
        }
        let before = self.peer;
        self.peer.apply(payload, self.role == Role::Client).map_err(Fault::Connection)?;
        if self.peer.header_table_bytes != before.header_table_bytes {
            self.encoder.set_peer_limit(self.peer.header_table_bytes);
        }
        self.on_initial_window(now, before.initial_window).map_err(Fault::Connection)?;
        self.queue_ack().map_err(Fault::Connection)?;
        write_settings_ack(&mut self.output);
        self.phase = Phase::Open;
        Ok(first.then_some(Event::Ready))
    }

    fn meter_settings(&mut self, now: Duration) -> Result<(), Violation> {
        self.charge(now, cost::SETTINGS, Violation::SettingsFlood)?;
        let (since, count) = &mut self.settings_period;
        if now.saturating_sub(*since) >= SETTINGS_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > SETTINGS_FRAMES_MAX { Err(Violation::SettingsFlood) } else { Ok(()) }
    }

    /// All streams' windows follow the initial window by definition ([`crate::flow::SendCredit`]); what remains is
    /// to see that none overflows and to wake those that wait.
    fn on_initial_window(&mut self, now: Duration, before: u32) -> Result<(), Violation> {
        let initial = self.peer.initial_window;
        if initial < before {
            return self.charge(now, cost::WINDOW_REDUCTION, Violation::SettingsFlood);
        }
        if initial > before && !self.streams.is_empty() {
            if self.streams.iter_mut().any(|stream| stream.credit.window(initial) > crate::flow::WINDOW_MAX) {
                return Err(Violation::WindowOverflow);
            }
            let waiting: Vec<StreamKey> = self.streams.keys().collect();
            for key in waiting {
                if self.streams.get(key).is_some_and(|stream| stream.queue.is_some()) {
                    self.list(key);
                }
            }
        }
        Ok(())
    }

    fn on_goaway<'a>(&mut self, payload: &'a [u8]) -> Handled<'a> {
        let last_stream = be32(payload) & 0x7fff_ffff;
        let code = ErrorCode(be32(&payload[4..]));
        if self.peer_goaway.is_some_and(|(before, _)| last_stream > before) {
            return Err(Fault::Connection(Violation::GoAwayRaised));
        }
        self.peer_goaway = Some((last_stream, code));
        if self.role == Role::Client {
            let above = self.streams.keys().filter(|key| key.id() > last_stream);
            self.refused.extend(above);
        }
        Ok(Some(Event::GoAway { last_stream, code, debug: &payload[8..] }))
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
fn be32(payload: &[u8]) -> u32 {
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
