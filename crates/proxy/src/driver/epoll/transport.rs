//! The sockets of an event loop: connecting, reading, writing, closing.

use std::io;
use std::time::Duration;

use mio::Token;

use super::EventLoop;
use crate::driver::files::Seat;
use crate::driver::socket::{BACKEND_SILENT_MAX, Stream};
use crate::worker::{Action, ConnId, TransportEnd};

/// Reads from one connection before others get their turn.
const READS_PER_TURN: usize = 4;

/// Reads from a connection that cannot be written to any more. The kernel holds some MiB at most (tcp(7), `tcp_rmem`).
const BROKEN_READS_MAX: usize = 1024;

/// A connection's socket.
pub(super) struct Socket {
    id: ConnId,
    stream: Stream,
    connecting: bool,
    /// The socket may have bytes to read although no further event says so.
    readable: bool,
    /// The peer sends no more, or the connection is broken: a read that does not fill the buffer is not the last then,
    /// since no further event announces the end behind it.
    hung_up: bool,
    /// Stands in the list of sockets to read again.
    listed: bool,
    /// A client's place among all clients' connections; `None` for a backend.
    seat: Option<Seat>,
}

impl EventLoop {
    /// Registers a socket under its connection's identifier.
    pub(super) fn insert(
        &mut self,
        now: Duration,
        id: ConnId,
        mut stream: Stream,
        connecting: bool,
        seat: Option<Seat>,
    ) {
        if let Err(error) = stream.register(self.poll.registry(), Token(id.index())) {
            self.log_unwatched(now, &error);
            self.worker.ended(now, id, TransportEnd::Reset);
            return;
        }
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] =
            Some(Socket { id, stream, connecting, readable: true, hung_up: false, listed: false, seat });
    }

    pub(super) fn on_socket(&mut self, now: Duration, index: usize, event: &mio::event::Event) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        let id = socket.id;
        if socket.connecting {
            match socket.stream.is_connected() {
                Ok(false) => return,
                Ok(true) => {
                    socket.connecting = false;
                    let _ = socket.stream.tune(BACKEND_SILENT_MAX);
                    self.worker.connected(now, id);
                }
                Err(error) => {
                    self.worker.connect_failed(now, id, &error.to_string());
                    return;
                }
            }
        }
        if event.is_writable() {
            self.worker.writable(now, id);
        }
        let hung_up = event.is_read_closed() || event.is_error();
        if event.is_readable() || hung_up {
            if let Some(Some(socket)) = self.sockets.get_mut(index) {
                socket.readable = true;
                socket.hung_up |= hung_up;
            }
            self.read(now, index);
        }
    }

    /// Reads the sockets that others had their turn before.
    pub(super) fn read_rest(&mut self, now: Duration) {
        for socket in core::mem::take(&mut self.unread) {
            if let Some(Some(record)) = self.sockets.get_mut(socket) {
                record.listed = false;
                self.read(now, socket);
            }
        }
    }

    /// Reads a socket until it is empty, the worker wants no more, or others should have their turn.
    fn read(&mut self, now: Duration, index: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
            let id = socket.id;
            if !socket.readable || socket.connecting || !self.worker.wants_input(id) {
                return;
            }
            if self.worker.is_put_off(id) {
                break;
            }
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => {
                    socket.readable = false;
                    self.worker.received_last(now, id, &mut self.buffer, kept);
                    self.worker.ended(now, id, TransportEnd::Eof);
                    return;
                }
                Ok(count) => {
                    let more = socket.hung_up || kept + count == self.buffer.len();
                    socket.readable = more;
                    self.worker.received(now, id, &self.buffer[..kept + count]);
                    if !more {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                    // What was left over goes back to where it was.
                    if kept > 0 {
                        self.worker.received(now, id, &self.buffer[..kept]);
                    }
                    return;
                }
                Err(_) => {
                    socket.readable = false;
                    self.worker.received_last(now, id, &mut self.buffer, kept);
                    self.worker.ended(now, id, TransportEnd::Reset);
                    return;
                }
            }
        }
        self.list_unread(index);
    }

    /// A connection cannot be written to any more. What a backend said before that is processed first: it may be answers,
    /// and refusals that make calls safe to repeat. The kernel keeps it until it was read.
    fn read_broken(&mut self, now: Duration, id: ConnId) {
        for _ in 0..BROKEN_READS_MAX {
            let Some(Some(socket)) = self.sockets.get_mut(id.index()) else { return };
            if socket.seat.is_some() {
                // A client that is gone wants nothing any more.
                break;
            }
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(count) if count > 0 => self.worker.received_whole(now, id, &self.buffer[..kept + count]),
                _ => {
                    self.worker.received_last(now, id, &mut self.buffer, kept);
                    break;
                }
            }
        }
        self.worker.ended(now, id, TransportEnd::Reset);
    }

    fn list_unread(&mut self, index: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(index)
            && socket.readable
            && !socket.listed
        {
            socket.listed = true;
            self.unread.push(index);
        }
    }

    /// Does what the worker asks for.
    pub(super) fn act(&mut self, now: Duration) {
        while let Some(action) = self.worker.poll_action(now) {
            match action {
                Action::Connect { conn, address } => match Stream::connect(&address) {
                    Ok(stream) => self.insert(now, conn, stream, true, None),
                    Err(error) => self.worker.connect_failed(now, conn, &error.to_string()),
                },
                Action::Write { conn } => self.write(now, conn),
                Action::ShutWrite { conn } => {
                    if let Some(Some(socket)) = self.sockets.get_mut(conn.index()) {
                        // A peer that is gone already needs no goodbye.
                        let _ = socket.stream.shut_write();
                    }
                    self.list_unread(conn.index());
                }
                Action::Close { conn } => {
                    if let Some(socket) = self.sockets.get_mut(conn.index()) {
                        *socket = None;
                    }
                }
            }
        }
    }

    fn write(&mut self, now: Duration, id: ConnId) {
        let Some(Some(socket)) = self.sockets.get_mut(id.index()) else { return };
        match socket.stream.write(self.worker.output(id)) {
            Ok(count) => self.worker.written(now, id, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.worker.written(now, id, 0),
            Err(_) => {
                self.read_broken(now, id);
                return;
            }
        }
        // Reading may have stopped because this output was waiting.
        if self.worker.wants_input(id) {
            self.list_unread(id.index());
        }
    }
}
