//! Header blocks in: HEADERS, CONTINUATION, and what the decoded section means for its stream.
//!
//! A block is decoded in every case, even for a stream that is refused or gone: HPACK state belongs to the
//! connection, and a block that is skipped would make the two tables differ (CVE-2023-32731).

use core::time::Duration;

use super::receive::{Handled, refuse_self_dependency};
use super::{Connection, Event, Fields, ListSize, Role};
use crate::error::{ErrorCode, Violation};
use crate::frame::{Fault, FrameHeader, flag, kind, strip_padding, write_reset};
use crate::hpack::ListVerdict;
use crate::ledger::cost;
use crate::limits::{CONTINUATION_FRAMES_MAX, EARLY_REFUSALS_FREE, HEADER_BLOCK_BYTES_MAX};
use crate::message::{Head, Section, check};
use crate::stream::{Cut, Half, StreamKey};

/// A header block of which parts are still to come.
#[derive(Debug)]
pub(super) struct HeaderAssembly {
    stream: u32,
    flags: u8,
    self_dependent: bool,
    block: Vec<u8>,
    continuations: u32,
    pub(super) started_at: Duration,
}

impl HeaderAssembly {
    /// Whether a frame may come now: counted when its header is there, before its payload is waited for
    /// (nghttp2 commit 02788f1e).
    pub(super) fn admit(&self, header: &FrameHeader) -> Result<(), Fault> {
        if header.kind != kind::CONTINUATION || header.stream != self.stream {
            return Err(Fault::Connection(Violation::Continuation));
        }
        let bytes = self.block.len() + header.length as usize;
        if self.continuations == CONTINUATION_FRAMES_MAX || bytes > HEADER_BLOCK_BYTES_MAX {
            return Err(Fault::Connection(Violation::ContinuationFlood));
        }
        Ok(())
    }
}

impl Connection {
    pub(super) fn on_headers<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        header: FrameHeader,
        payload: &'a [u8],
    ) -> Handled<'a> {
        let mut fragment = strip_padding(header.flags, payload).map_err(Fault::Connection)?;
        let mut self_dependent = false;
        if header.has(flag::PRIORITY) {
            let (priority, rest) =
                fragment.split_at_checked(5).ok_or(Fault::Connection(Violation::FrameLength))?;
            self_dependent = refuse_self_dependency(header.stream, priority).is_err();
            fragment = rest;
        }
        self.ping_strikes = 0;
        if header.has(flag::END_HEADERS) {
            return self.on_block(fields, now, header.stream, header.flags, self_dependent, fragment);
        }
        if fragment.is_empty() {
            self.charge(now, cost::EMPTY_FRAME, Violation::Abuse).map_err(Fault::Connection)?;
        }
        self.assembly = Some(Box::new(HeaderAssembly {
            stream: header.stream,
            flags: header.flags,
            self_dependent,
            block: fragment.to_vec(),
            continuations: 0,
            started_at: now,
        }));
        Ok(None)
    }

    pub(super) fn on_continuation<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        header: FrameHeader,
        payload: &'a [u8],
    ) -> Handled<'a> {
        if payload.is_empty() && !header.has(flag::END_HEADERS) {
            self.charge(now, cost::EMPTY_FRAME, Violation::Abuse).map_err(Fault::Connection)?;
        }
        let assembly = self.assembly.as_mut().expect("a CONTINUATION is admitted only inside a block");
        assembly.block.extend_from_slice(payload);
        assembly.continuations += 1;
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let assembly = self.assembly.take().expect("it was there a moment ago");
        let HeaderAssembly { stream, flags, self_dependent, block, .. } = *assembly;
        self.on_block(fields, now, stream, flags, self_dependent, &block)
    }

    fn on_block<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        id: u32,
        flags: u8,
        self_dependent: bool,
        block: &[u8],
    ) -> Handled<'a> {
        fields.block.clear(&mut fields.store);
        let verdict = self
            .decoder
            .decode(block, &self.limits.header_list, &mut fields.store, &mut fields.block)
            .map_err(|error| Fault::Connection(Violation::HeaderBlock(error)))?;
        if self_dependent {
            self.open_in_passing(id);
            return Err(Fault::Stream(Violation::SelfDependency));
        }
        let size = match verdict {
            ListVerdict::Accepted => ListSize::Whole,
            ListVerdict::TooLarge => ListSize::OverLimit,
        };
        let end = flags & flag::END_STREAM != 0;
        match (self.streams.key(id), self.role) {
            (Some(key), Role::Server) => self.on_trailers(fields, now, key, end, size),
            (Some(key), Role::Client) => self.on_response(fields, now, key, end, size),
            (None, Role::Server) if self.is_peers(id) && id > self.highest_peer => {
                self.on_request(fields, now, id, end, size)
            }
            (None, _) if self.is_idle(id) => Err(Fault::Connection(Violation::StreamId)),
            (None, _) => {
                let header = FrameHeader { length: 0, kind: kind::HEADERS, flags, stream: id };
                self.on_frame_for_closed(now, header)?;
                Ok(None)
            }
        }
    }

    /// Streams with lower identifiers can no longer be opened, whatever becomes of this one.
    fn open_in_passing(&mut self, id: u32) {
        if self.is_peers(id) {
            self.highest_peer = self.highest_peer.max(id);
        }
    }

    fn on_request<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        id: u32,
        end: bool,
        size: ListSize,
    ) -> Handled<'a> {
        self.highest_peer = id;
        self.streams_this_wake += 1;
        let full = self.streams.len() >= self.limits.max_concurrent_streams as usize;
        if full || id > self.last_accepted() {
            write_reset(&mut self.output, id, ErrorCode::REFUSED_STREAM);
            self.remember_reset(id);
            // Before our SETTINGS are acknowledged the peer cannot know the limit (CVE-2026-47244 is enforcing none). After
            // the final GOAWAY it has known for a round trip that no stream is taken.
            let early = full && self.settings_sent_at.is_some();
            self.early_refusals += u32::from(early);
            if !early || self.early_refusals > EARLY_REFUSALS_FREE {
                self.charge(now, cost::REFUSED_STREAM, Violation::StreamLimit).map_err(Fault::Connection)?;
            }
            return Ok(None);
        }
        let head = self.check_section(Section::Request, fields, size).map_err(Fault::Stream)?;
        if end && head.content_length.is_some_and(|length| length > 0) {
            return Err(Fault::Stream(Violation::ContentLength));
        }
        let key = self.streams.insert(id, u32::MAX, now, self.limits.stream_window_bytes);
        let stream = self.streams.get_mut(key).expect("it was inserted just now");
        stream.receive = if end { Half::Closed } else { Half::Body };
        stream.content_left = head.content_length;
        Ok(Some(Event::Request { stream: key, end, size }))
    }

    fn check_section(
        &self,
        section: Section,
        fields: &mut Fields,
        size: ListSize,
    ) -> Result<Head, Violation> {
        match check(section, &fields.store, &fields.block, &mut fields.index) {
            // The part that is missing may be what made it well-formed; the owner answers the size.
            Err(_) if size == ListSize::OverLimit => Ok(Head { content_length: None, status: 200 }),
            checked => checked,
        }
    }

    fn on_trailers<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        key: StreamKey,
        end: bool,
        size: ListSize,
    ) -> Handled<'a> {
        let stream = self.streams.get(key).expect("the key was looked up just now");
        match stream.receive {
            Half::Closed if stream.cut == Cut::ByUs => {
                self.on_late_frame(
                    now,
                    FrameHeader { length: 0, kind: kind::HEADERS, flags: 0, stream: key.id() },
                )?;
                return Ok(None);
            }
            // RFC 9113 section 5.1: on a half-closed stream this is a stream error, with a finished one the
            // connection's.
            Half::Closed => return Err(Fault::Stream(Violation::ClosedStream)),
            Half::Head | Half::Body if !end => return Err(Fault::Stream(Violation::Trailers)),
            Half::Head | Half::Body => {}
        }
        if stream.content_left.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(Violation::ContentLength));
        }
        if size == ListSize::OverLimit {
            return Err(Fault::Stream(Violation::HeaderListTooLarge));
        }
        self.check_section(Section::Trailers, fields, size).map_err(Fault::Stream)?;
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        stream.receive = Half::Closed;
        Ok(Some(Event::Trailers { stream: key, token: stream.token, size }))
    }

    fn on_response<'a>(
        &mut self,
        fields: &mut Fields,
        now: Duration,
        key: StreamKey,
        end: bool,
        size: ListSize,
    ) -> Handled<'a> {
        let stream = self.streams.get(key).expect("the key was looked up just now");
        if stream.receive != Half::Head {
            return self.on_trailers(fields, now, key, end, size);
        }
        let head = self.check_section(Section::Response, fields, size).map_err(Fault::Stream)?;
        let informational = (100..200).contains(&head.status);
        // RFC 9113 section 8.6 leaves no use for 101; an informational response cannot end a stream (section 8.1).
        if informational && (end || head.status == 101) {
            return Err(Fault::Stream(Violation::MalformedMessage));
        }
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        let token = stream.token;
        if informational {
            return Ok(Some(Event::Informational { stream: key, token }));
        }
        // 204 and 304 have no content whatever their content-length says (RFC 9110 section 8.6).
        if end && head.content_length.is_some_and(|length| length > 0) && !matches!(head.status, 204 | 304) {
            return Err(Fault::Stream(Violation::ContentLength));
        }
        stream.receive = if end { Half::Closed } else { Half::Body };
        stream.content_left = head.content_length;
        Ok(Some(Event::Response { stream: key, token, status: head.status, end, size }))
    }
}
