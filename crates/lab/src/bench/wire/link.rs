//! One connection: its socket, the peer's settings, and the connection-level windows.
//!
//! Bytes are read into a buffer that all connections of a loop share; only the tail of an incomplete frame is kept per
//! connection, so that ten thousand idle connections cost next to nothing here.

use super::Fault;
use super::frame::{self, Head};
use crate::bench::poll::{Interest, Poll};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

/// Size of the read buffer that all connections of a loop share.
pub(crate) const SCRATCH_BYTES: usize = 256 << 10;
/// Output that a body may add to before the socket must take some. Bounds what a slow peer makes us hold.
pub(crate) const OUTPUT_HIGH_BYTES: usize = 256 << 10;
/// Output above which a connection is given up: a peer that makes us answer but never reads.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Window that these tools grant each stream. Half of it may be used up before it is refilled.
pub(crate) const STREAM_WINDOW: u32 = 8 << 20;
/// Part of a window after which it is refilled.
pub(crate) const REFILL_BYTES: u32 = STREAM_WINDOW / 2;
/// What these tools allow a client to have in flight.
const CONCURRENT_STREAMS: u32 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    pub(crate) header_table: u32,
    pub(crate) concurrent_streams: u32,
    pub(crate) initial_window: u32,
}

impl Default for PeerSettings {
    /// The values in force before the first SETTINGS (RFC 9113 §6.5.2).
    fn default() -> Self {
        Self { header_table: 4096, concurrent_streams: u32::MAX, initial_window: frame::WINDOW_INITIAL }
    }
}

/// What a frame of the connection itself means to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// Dealt with.
    Done,
    /// The peer's SETTINGS are in [`Link::peer`]; each stream's send window changes by this much.
    Settings { window_change: i64 },
    /// The peer takes no streams above this one.
    GoAway { last_stream: u32 },
    /// A frame of a stream: the owner's.
    Stream,
}

pub(crate) struct Link {
    socket: TcpStream,
    token: u64,
    interest: Interest,
    /// Whether the socket is still watched.
    attached: bool,
    /// The start of a frame whose rest has not arrived.
    partial: Vec<u8>,
    output: Vec<u8>,
    /// Bytes at the start of `output` that the socket has taken.
    written: usize,
    pub(crate) peer: PeerSettings,
    /// What may still be sent on the connection.
    pub(crate) send_window: i64,
    /// DATA received since the connection's window was last refilled.
    unrefilled: u32,
}

impl Link {
    /// Takes a connected socket and writes the first frames; a client's also has the preface.
    pub(crate) fn new(socket: TcpStream, token: u64, poll: &Poll, client: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poll.add(&socket, token, Interest::Read)?;
        let mut output = Vec::new();
        if client {
            output.extend_from_slice(frame::PREFACE);
        }
        let settings = [
            (frame::SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frame::SETTINGS_MAX_FRAME_SIZE, frame::PAYLOAD_BYTES_MAX as u32),
            (frame::SETTINGS_MAX_CONCURRENT_STREAMS, CONCURRENT_STREAMS),
        ];
        frame::put_settings(&mut output, &settings);
        frame::put_number(&mut output, frame::WINDOW_UPDATE, 0, frame::WINDOW_MAX - frame::WINDOW_INITIAL);
        Ok(Self {
            socket,
            token,
            interest: Interest::Read,
            attached: true,
            partial: Vec::new(),
            output,
            written: 0,
            peer: PeerSettings::default(),
            send_window: frame::WINDOW_INITIAL.into(),
            unrefilled: 0,
        })
    }

    /// Reads what fits into `scratch`, after the partial frame kept from before; returns the filled length, or `None`
    /// if there was nothing to read.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> Result<Option<usize>, Fault> {
        let kept = self.partial.len();
        scratch[..kept].copy_from_slice(&self.partial);
        match self.socket.read(&mut scratch[kept..]) {
            Ok(0) => Err(Fault::Closed),
            Ok(read) => {
                self.partial.clear();
                Ok(Some(kept + read))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the bytes of an incomplete frame for the next read.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.partial.extend_from_slice(rest);
    }

    /// The buffer that frames are appended to; [`Link::flush`] sends it.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Bytes that the socket has not taken.
    pub(crate) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes as much as the socket takes, and asks to be woken for the rest.
    pub(crate) fn flush(&mut self, poll: &Poll) -> Result<(), Fault> {
        while self.backlog() > 0 {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(wrote) => self.written += wrote,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.backlog() == 0 {
            self.output.clear();
            self.written = 0;
        } else if self.written >= OUTPUT_HIGH_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
        if self.backlog() > OUTPUT_BYTES_MAX {
            return Err(Fault::Protocol("the peer reads nothing"));
        }
        let interest = if self.backlog() > 0 { Interest::ReadWrite } else { Interest::Read };
        if interest != self.interest {
            poll.modify(&self.socket, self.token, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Ends the connection: no event of it is reported any more, and the peer sees its end.
    pub(crate) fn close(&mut self, poll: &Poll) {
        if std::mem::take(&mut self.attached) {
            // Neither can fail on a socket that is open and watched; and nothing could be done about it.
            let _ = poll.remove(&self.socket);
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    /// Deals with frames of the connection itself.
    pub(crate) fn control(&mut self, head: Head, payload: &[u8]) -> Result<Control, Fault> {
        match (head.kind, head.stream) {
            (frame::SETTINGS, 0) if head.has(frame::ACK) => Ok(Control::Done),
            (frame::SETTINGS, 0) => {
                let window_before = i64::from(self.peer.initial_window);
                for (id, value) in frame::settings(payload)? {
                    match id {
                        frame::SETTINGS_HEADER_TABLE_SIZE => self.peer.header_table = value,
                        frame::SETTINGS_MAX_CONCURRENT_STREAMS => self.peer.concurrent_streams = value,
                        frame::SETTINGS_INITIAL_WINDOW_SIZE => self.peer.initial_window = value,
                        _ => {}
                    }
                }
                frame::put_head(&mut self.output, 0, frame::SETTINGS, frame::ACK, 0);
                Ok(Control::Settings { window_change: i64::from(self.peer.initial_window) - window_before })
            }
            (frame::PING, 0) => {
                if !head.has(frame::ACK) {
                    frame::put_head(&mut self.output, payload.len(), frame::PING, frame::ACK, 0);
                    self.output.extend_from_slice(payload);
                }
                Ok(Control::Done)
            }
            (frame::WINDOW_UPDATE, 0) => {
                self.send_window += i64::from(frame::number(payload)?);
                Ok(Control::Done)
            }
            (frame::GOAWAY, 0) => Ok(Control::GoAway { last_stream: frame::number(payload)? }),
            (frame::DATA | frame::HEADERS | frame::RST_STREAM | frame::CONTINUATION, 0) => {
                Err(Fault::Protocol("a stream's frame on stream 0"))
            }
            (frame::PUSH_PROMISE, _) => Err(Fault::Protocol("PUSH_PROMISE")),
            // Unknown frames and PRIORITY mean nothing here (RFC 9113 §4.1, §5.3.2).
            (
                frame::DATA | frame::HEADERS | frame::RST_STREAM | frame::WINDOW_UPDATE | frame::CONTINUATION,
                1..,
            ) => Ok(Control::Stream),
            _ => Ok(Control::Done),
        }
    }

    /// Counts a DATA frame's payload against the connection's window, and refills the window when half of it is used.
    pub(crate) fn count_received(&mut self, head: Head) {
        self.unrefilled += head.length as u32;
        if self.unrefilled >= frame::WINDOW_MAX / 2 {
            frame::put_number(&mut self.output, frame::WINDOW_UPDATE, 0, self.unrefilled);
            self.unrefilled = 0;
        }
    }
}
