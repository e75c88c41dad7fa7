//! One end of an HTTP/2 connection that is not the worker's: the engine, and its bytes to and from the network.

use core::time::Duration;

use evenkeel_http2::frame::write_goaway;
use evenkeel_http2::{Connection, ErrorCode, Event, Fields, Limits, Role};

use crate::net::{LinkId, Net, Read, Side};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) http2: Connection,
    pub(crate) link: LinkId,
    side: Side,
    input: Vec<u8>,
    /// Output that the network has not taken.
    output: Vec<u8>,
    /// When the engine's timer is set.
    timer_at: Option<Duration>,
    /// Whether the connection is over for its owner.
    pub(crate) is_gone: bool,
}

/// Why a peer's connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerEnd {
    Eof,
    Reset,
}

impl Peer {
    pub(crate) fn new(net: &Net, role: Role, limits: Limits, link: LinkId) -> Self {
        Self {
            http2: Connection::new(role, limits, net.now),
            link,
            side: if role == Role::Client { Side::Initiator } else { Side::Acceptor },
            input: Vec::new(),
            output: Vec::new(),
            timer_at: None,
            is_gone: false,
        }
    }

    /// Reads what has arrived. `Some` if the connection has ended.
    pub(crate) fn read(&mut self, net: &mut Net) -> Option<PeerEnd> {
        let most = net.shape(self.link).read_bytes_max;
        loop {
            match net.read(self.link, self.side, &mut self.input, most) {
                Read::Bytes(_) => {}
                Read::Nothing => return None,
                Read::Eof => return Some(PeerEnd::Eof),
                Read::Reset => return Some(PeerEnd::Reset),
            }
        }
    }

    /// Hands what was read to the engine, and each event to `on_event`.
    pub(crate) fn process(
        &mut self,
        fields: &mut Fields,
        net: &mut Net,
        mut on_event: impl FnMut(&mut Self, &mut Fields, &mut Net, Event<'_>),
    ) {
        let input = core::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            self.http2.begin_wake(net.now);
            loop {
                match self.http2.next_event(fields, net.now, &input, &mut at) {
                    Ok(Some(event)) => on_event(self, fields, net, event),
                    Ok(None) => break,
                    Err(error) => {
                        if let evenkeel_http2::ConnectionError::PeerMisbehaved(violation) = error {
                            let owner = net.owner(self.link, self.side);
                            net.violate(|| format!("the worker broke HTTP/2 towards {owner:?}: {violation}"));
                        }
                        return;
                    }
                }
            }
            if !self.http2.has_had_its_share() {
                break;
            }
        }
        self.input = input;
        self.input.drain(..at);
    }

    /// Moves the engine's output to the network, as far as it has room.
    pub(crate) fn flush(&mut self, fields: &mut Fields, net: &mut Net) {
        if self.is_gone {
            return;
        }
        self.http2.flush_queues(fields, net.now);
        while self.http2.poll_progress().is_some() {}
        self.take_output();
        if self.output.is_empty() {
            return;
        }
        match net.write(self.link, self.side, &self.output) {
            Ok(count) => {
                self.output.drain(..count);
            }
            // The reset arrives, or has arrived, as an event of its own.
            Err(_) => self.output.clear(),
        }
    }

    fn take_output(&mut self) {
        let output = self.http2.output();
        let count = output.len();
        self.output.extend_from_slice(output);
        self.http2.output_sent(count);
    }

    /// Writes a GOAWAY that the engine knows nothing of: servers that announce no two phases exist.
    pub(crate) fn write_single_goaway(&mut self, last: u32) {
        self.take_output();
        write_goaway(&mut self.output, last, ErrorCode::NO_ERROR, b"");
    }

    /// When the engine's timer must be set anew, if it must be.
    pub(crate) fn new_timer(&mut self) -> Option<Duration> {
        let deadline = self.http2.deadline()?;
        if self.is_gone || self.timer_at.is_some_and(|at| at <= deadline) {
            return None;
        }
        self.timer_at = Some(deadline);
        Some(deadline)
    }

    /// The engine's timer fired. Whether the connection goes on.
    pub(crate) fn on_timer(&mut self, fields: &mut Fields, net: &mut Net) -> bool {
        self.timer_at = None;
        !self.is_gone && self.http2.handle_timeout(fields, net.now).is_ok()
    }

    /// Whether all output was taken by the network.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty() && self.http2.output().is_empty()
    }

    /// Sends no more, and reads on until the worker has closed too.
    pub(crate) fn shut_write(&mut self, net: &mut Net) {
        net.shut_write(self.link, self.side);
    }

    /// Ends the connection for its owner, and gives all that it holds back.
    pub(crate) fn close(&mut self, fields: &mut Fields, net: &mut Net) {
        if !core::mem::replace(&mut self.is_gone, true) {
            self.http2.close(fields);
            net.close(self.link, self.side);
        }
    }
}
