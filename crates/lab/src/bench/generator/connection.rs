//! One client connection of the generator and the calls on it.

use super::message::{MessageScan, MessageSource};
use super::report::Tally;
use super::{GeneratorConfig, Workload};
use crate::bench::poll::Poll;
use crate::bench::wire::frame::{self, Head};
use crate::bench::wire::link::{Control, Link, OUTPUT_HIGH_BYTES, REFILL_BYTES};
use crate::bench::wire::request::{RequestEncoder, TABLE_BYTES};
use crate::bench::wire::response::ResponseDecoder;
use crate::bench::wire::{Fault, PREFIX_BYTES, put_message_prefix};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Largest header block of a response that is taken together from CONTINUATION frames.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Stream identifiers end here (RFC 9113 §5.1.1).
const STREAM_MAX: u32 = frame::WINDOW_MAX - 2;

/// One call in flight.
struct Call {
    due: Duration,
    http_status: Option<u16>,
    grpc_status: Option<u8>,
    /// Bytes of the response's body so far.
    received: u64,
    /// Of these, the ones since the stream's window was refilled.
    unrefilled: u32,
    endless: Option<Endless>,
}

/// The endless side of a call.
enum Endless {
    Download(MessageScan),
    Upload { source: MessageSource, window: i64 },
}

pub(super) struct Connection {
    link: Link,
    /// Made once the peer's SETTINGS are known.
    encoder: Option<RequestEncoder>,
    /// The table size that the encoder was made for.
    header_table: u32,
    decoder: ResponseDecoder,
    /// The message that each unary request carries, with its prefix.
    message: Vec<u8>,
    calls: HashMap<u32, Call, foldhash::fast::FixedState>,
    next_stream: u32,
    places: usize,
    workload: Workload,
    message_bytes: u32,
    response_bytes: Option<u64>,
    /// What the encoder is made from once the peer's settings are known.
    request: RequestTemplate,
    /// A response's header block whose end has not arrived.
    assembling: Option<(Head, Vec<u8>)>,
    going_away: bool,
    winding_up: bool,
    fault: Option<Fault>,
}

struct RequestTemplate {
    authority: String,
    path: String,
    shape: super::Shape,
    seed: u64,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        number: usize,
        address: SocketAddr,
        config: &GeneratorConfig,
        poll: &Poll,
    ) -> io::Result<Self> {
        let mut message = Vec::new();
        put_message_prefix(&mut message, config.message_bytes);
        message.resize(PREFIX_BYTES + config.message_bytes as usize, b'e');
        Ok(Self {
            link: Link::new(socket, number as u64, poll, true)?,
            encoder: None,
            header_table: 0,
            decoder: ResponseDecoder::new(),
            message,
            calls: HashMap::default(),
            next_stream: 1,
            places: config.streams,
            workload: config.workload,
            message_bytes: config.message_bytes,
            response_bytes: config.response_bytes.map(|bytes| u64::from(bytes) + PREFIX_BYTES as u64),
            request: RequestTemplate {
                authority: address.to_string(),
                path: config.path.clone(),
                shape: config.shape,
                seed: config.seed.wrapping_add(number as u64),
            },
            assembling: None,
            going_away: false,
            winding_up: false,
            fault: None,
        })
    }

    /// Whether the peer's SETTINGS have arrived.
    pub(super) fn is_ready(&self) -> bool {
        self.encoder.is_some()
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether calls can still be made or are still under way.
    pub(super) fn is_usable(&self) -> bool {
        self.fault.is_none() && !(self.going_away && self.calls.is_empty())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.fault.is_none() && !self.calls.is_empty()
    }

    /// Whether one more call can start now.
    pub(super) fn has_place(&self) -> bool {
        let places = self.places.min(self.link.peer.concurrent_streams as usize);
        let unary_bytes = match self.workload {
            Workload::Download | Workload::Upload => 0,
            _ => self.message.len() as i64,
        };
        self.is_ready()
            && self.fault.is_none()
            && !self.going_away
            && !self.winding_up
            && self.calls.len() < places
            && self.link.send_window >= unary_bytes
            && i64::from(self.link.peer.initial_window) >= unary_bytes
            && self.link.backlog() < OUTPUT_HIGH_BYTES
            && self.next_stream <= STREAM_MAX
    }

    /// Fills all free places.
    pub(super) fn start_all(&mut self, now: Duration) {
        while self.has_place() {
            self.start(now);
        }
    }

    /// Starts a call that is due at `due`. There must be a place for it.
    pub(super) fn start(&mut self, due: Duration) {
        let Some(encoder) = &mut self.encoder else { return };
        let stream = self.next_stream;
        self.next_stream += 2;
        let out = self.link.output();
        let head_at = out.len();
        frame::put_head(out, 0, frame::HEADERS, frame::END_HEADERS, stream);
        encoder.put_block(out);
        let block_bytes = out.len() - head_at - frame::HEAD_BYTES;
        // A block is far below 16 KiB: its length takes two bytes.
        out[head_at + 1..head_at + 3].copy_from_slice(&(block_bytes as u16).to_be_bytes());
        let endless = match self.workload {
            Workload::Closed | Workload::Open { .. } => {
                put_body(out, stream, &self.message, frame::END_STREAM);
                self.link.send_window -= self.message.len() as i64;
                None
            }
            Workload::Idle => {
                put_body(out, stream, &self.message, 0);
                self.link.send_window -= self.message.len() as i64;
                None
            }
            Workload::Download => {
                // An empty message asks for the stream.
                frame::put_head(out, PREFIX_BYTES, frame::DATA, frame::END_STREAM, stream);
                put_message_prefix(out, 0);
                self.link.send_window -= PREFIX_BYTES as i64;
                Some(Endless::Download(MessageScan::default()))
            }
            Workload::Upload => {
                let window = self.link.peer.initial_window.into();
                Some(Endless::Upload { source: MessageSource::new(self.message_bytes), window })
            }
        };
        let call = Call { due, http_status: None, grpc_status: None, received: 0, unrefilled: 0, endless };
        self.calls.insert(stream, call);
    }

    /// Reads what has arrived and counts the calls that ended.
    pub(super) fn handle_readable(&mut self, now: Duration, scratch: &mut [u8], tally: &mut Tally) {
        if self.fault.is_some() {
            return;
        }
        if let Err(fault) = self.read(now, scratch, tally) {
            self.fail(fault, tally);
        }
    }

    fn read(&mut self, now: Duration, scratch: &mut [u8], tally: &mut Tally) -> Result<(), Fault> {
        let Some(filled) = self.link.read(scratch)? else { return Ok(()) };
        let mut rest = &scratch[..filled];
        while let Some((head, payload)) = frame::next(rest)? {
            self.handle_frame(now, head, payload, tally)?;
            rest = &rest[frame::HEAD_BYTES + head.length..];
        }
        self.link.keep(rest);
        Ok(())
    }

    fn handle_frame(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        match self.link.control(head, payload)? {
            Control::Done => return Ok(()),
            Control::Settings { window_change } => return self.handle_settings(window_change),
            Control::GoAway { last_stream } => {
                self.handle_goaway(last_stream, tally);
                return Ok(());
            }
            Control::Stream => {}
        }
        match head.kind {
            frame::DATA => self.handle_data(now, head, payload, tally)?,
            frame::HEADERS if head.has(frame::END_HEADERS) => {
                self.handle_block(now, head, frame::content(head, payload)?, tally)?;
            }
            frame::HEADERS => self.assembling = Some((head, frame::content(head, payload)?.to_vec())),
            frame::CONTINUATION => self.handle_continuation(now, head, payload, tally)?,
            frame::RST_STREAM => {
                let code = frame::number(payload)?;
                let known = self.calls.remove(&head.stream);
                tally.failed(&format!("reset with code {code}"), known.iter().len() as u64);
            }
            frame::WINDOW_UPDATE => {
                if let Some(Call { endless: Some(Endless::Upload { window, .. }), .. }) =
                    self.calls.get_mut(&head.stream)
                {
                    *window += i64::from(frame::number(payload)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_settings(&mut self, window_change: i64) -> Result<(), Fault> {
        let table = self.link.peer.header_table;
        if self.encoder.is_none() {
            let RequestTemplate { authority, path, shape, seed } = &self.request;
            self.encoder = Some(RequestEncoder::new(authority, path, *shape, table, *seed));
            self.header_table = table;
        } else if table < self.header_table.min(TABLE_BYTES) {
            return Err(Fault::Protocol("SETTINGS_HEADER_TABLE_SIZE lowered after the first request"));
        }
        for call in self.calls.values_mut() {
            if let Some(Endless::Upload { window, .. }) = &mut call.endless {
                *window += window_change;
            }
        }
        Ok(())
    }

    fn handle_goaway(&mut self, last_stream: u32, tally: &mut Tally) {
        if !self.going_away {
            tally.failed("GOAWAY received", 1);
        }
        self.going_away = true;
        let before = self.calls.len();
        self.calls.retain(|stream, _| *stream <= last_stream);
        tally.failed("refused by GOAWAY", (before - self.calls.len()) as u64);
    }

    fn handle_continuation(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let Some((first, mut block)) = self.assembling.take() else {
            return Err(Fault::Protocol("CONTINUATION without HEADERS"));
        };
        block.extend_from_slice(payload);
        if block.len() > BLOCK_BYTES_MAX {
            return Err(Fault::Protocol("header block larger than 64 KiB"));
        }
        if head.has(frame::END_HEADERS) {
            return self.handle_block(now, first, &block, tally);
        }
        self.assembling = Some((first, block));
        Ok(())
    }

    fn handle_block(
        &mut self,
        now: Duration,
        head: Head,
        block: &[u8],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        // Decoded in any case: the block may change the table.
        let verdict = self.decoder.verdict(block)?;
        let Some(call) = self.calls.get_mut(&head.stream) else { return Ok(()) };
        call.http_status = call.http_status.filter(|status| *status >= 200).or(verdict.http_status);
        call.grpc_status = verdict.grpc_status.or(call.grpc_status);
        if head.has(frame::END_STREAM) {
            self.end(now, head.stream, tally);
        }
        Ok(())
    }

    fn handle_data(
        &mut self,
        now: Duration,
        head: Head,
        payload: &[u8],
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        self.link.count_received(head);
        let content = frame::content(head, payload)?;
        let Some(call) = self.calls.get_mut(&head.stream) else { return Ok(()) };
        call.received += content.len() as u64;
        if let Some(Endless::Download(scan)) = &mut call.endless {
            let before = scan.messages;
            if !scan.take(content, super::MESSAGE_BYTES_MAX) {
                return Err(Fault::Protocol("response body is not a sequence of messages"));
            }
            tally.streamed(content.len() as u64, scan.messages - before);
        }
        call.unrefilled += head.length as u32;
        let refill = call.unrefilled >= REFILL_BYTES;
        if head.has(frame::END_STREAM) {
            self.end(now, head.stream, tally);
        } else if refill {
            frame::put_number(self.link.output(), frame::WINDOW_UPDATE, head.stream, call.unrefilled);
            call.unrefilled = 0;
        }
        Ok(())
    }

    /// Takes the call off and judges its response.
    fn end(&mut self, now: Duration, stream: u32, tally: &mut Tally) {
        let Some(call) = self.calls.remove(&stream) else { return };
        let wrong_size =
            call.endless.is_none() && self.response_bytes.is_some_and(|bytes| bytes != call.received);
        let kind = match (call.http_status, call.grpc_status) {
            (Some(200), Some(0)) if wrong_size => "response of another size".to_owned(),
            (Some(200), Some(0)) => return tally.succeeded(call.due, now),
            (Some(200), Some(status)) => format!("grpc-status {status}"),
            (Some(200), None) => "no grpc-status".to_owned(),
            (Some(status), _) => format!("HTTP status {status}"),
            (None, _) => "no :status".to_owned(),
        };
        tally.failed(&kind, 1);
    }

    /// Appends as much of the endless requests as the windows and the output's bound allow; returns whether it was any.
    fn pump(&mut self) -> bool {
        if self.workload != Workload::Upload {
            return false;
        }
        let backlog_before = self.link.backlog();
        let mut progress = true;
        while progress && self.link.backlog() < OUTPUT_HIGH_BYTES {
            progress = false;
            for (stream, call) in &mut self.calls {
                let Some(Endless::Upload { source, window }) = &mut call.endless else { continue };
                let ended = self.winding_up && !source.is_inside();
                let credit = self.link.send_window.min(*window).max(0) as usize;
                let count = credit.min(source.left()).min(frame::PAYLOAD_BYTES_MAX);
                if ended || count == 0 {
                    continue;
                }
                let last = self.winding_up && count == source.left();
                let flags = if last { frame::END_STREAM } else { 0 };
                frame::put_head(self.link.output(), count, frame::DATA, flags, *stream);
                source.put(self.link.output(), count);
                self.link.send_window -= count as i64;
                *window -= count as i64;
                progress = true;
            }
        }
        self.link.backlog() > backlog_before
    }

    /// Ends what is endless: cancels downloads, completes the last message of uploads.
    pub(super) fn wind_up(&mut self, tally: &mut Tally) {
        self.winding_up = true;
        let out = self.link.output();
        match self.workload {
            Workload::Closed | Workload::Open { .. } => {}
            Workload::Download | Workload::Idle => {
                for stream in self.calls.keys() {
                    frame::put_number(out, frame::RST_STREAM, *stream, frame::CANCEL);
                }
                self.calls.clear();
            }
            Workload::Upload => {
                for (stream, call) in &self.calls {
                    if let Some(Endless::Upload { source, .. }) = &call.endless
                        && !source.is_inside()
                    {
                        frame::put_head(out, 0, frame::DATA, frame::END_STREAM, *stream);
                    }
                }
                for call in self.calls.values() {
                    if let Some(Endless::Upload { source, .. }) = &call.endless {
                        // The message that is still being sent counts: it will have been sent when the call ends.
                        let messages = source.messages + u64::from(source.is_inside());
                        tally.streamed(
                            messages * (PREFIX_BYTES as u64 + u64::from(self.message_bytes)),
                            messages,
                        );
                    }
                }
            }
        }
    }

    /// Counts the calls that did not end in time.
    pub(super) fn give_up(&mut self, tally: &mut Tally) {
        if !self.calls.is_empty() && self.fault.is_none() {
            tally.failed("not answered", self.calls.len() as u64);
        }
    }

    pub(super) fn flush(&mut self, poll: &Poll, tally: &mut Tally) {
        while self.fault.is_none() {
            if let Err(fault) = self.link.flush(poll) {
                self.fail(fault, tally);
            } else if self.link.backlog() > 0 || !self.pump() {
                // Either the socket will say when it takes more, or the windows will.
                return;
            }
        }
        self.link.close(poll);
    }

    fn fail(&mut self, fault: Fault, tally: &mut Tally) {
        tally.failed(&fault.to_string(), 1);
        if !self.calls.is_empty() {
            tally.failed("lost with its connection", self.calls.len() as u64);
            self.calls.clear();
        }
        self.fault = Some(fault);
    }
}

/// Appends a request's body as DATA frames, `last_flags` on the last one.
fn put_body(out: &mut Vec<u8>, stream: u32, body: &[u8], last_flags: u8) {
    let mut chunks = body.chunks(frame::PAYLOAD_BYTES_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_none() { last_flags } else { 0 };
        frame::put_head(out, chunk.len(), frame::DATA, flags, stream);
        out.extend_from_slice(chunk);
    }
}
