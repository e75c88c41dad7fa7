//! What a client hears: from the network, and from its engine.

use evenkeel_http2::{Event, Fields, StreamFailure};

use super::call::{echo, message, pushback, status};
use super::{Book, Client};
use crate::event::{ClientTimer, Event as WorldEvent};
use crate::ledger::{CallEnd, Ledger};
use crate::net::{LinkId, Net};
use crate::peer::Peer;
use crate::stats::Happening;

impl Client {
    pub(crate) fn on_connected(&mut self, net: &mut Net, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.conns[at].is_connecting = false;
            self.flush(net, at);
        }
    }

    pub(crate) fn on_refused(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.conns[at].peer.close(&mut self.fields, net);
            self.pause(net);
            self.start_waiting(net, ledger);
        }
    }

    pub(crate) fn on_writable(&mut self, net: &mut Net, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.flush(net, at);
        }
    }

    pub(crate) fn on_reset(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.lose(net, ledger, at);
        }
    }

    pub(crate) fn on_readable(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        let Some(at) = self.by_link(link) else { return };
        let ended = self.conns[at].peer.read(net);
        let Self { conns, fields, book, .. } = self;
        let mut is_leaving = conns[at].is_leaving;
        conns[at].peer.process(fields, net, |peer, fields, net, event| {
            if matches!(event, Event::GoAway { .. }) {
                net.stats.count(Happening::ClientGoAway);
                is_leaving = true;
                return;
            }
            book.on_event(at, peer, fields, net, ledger, event);
        });
        self.conns[at].is_leaving = is_leaving;
        for call in core::mem::take(&mut self.book.to_send) {
            self.send_next(net, ledger, call);
        }
        if ended.is_some() {
            self.lose(net, ledger, at);
        } else {
            self.flush(net, at);
        }
        self.start_waiting(net, ledger);
    }

    /// A connection is over: its calls have ended.
    pub(super) fn lose(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize) {
        self.conns[at].peer.close(&mut self.fields, net);
        let lost: Vec<u32> =
            self.book.calls.iter().filter(|(_, call)| call.conn == at).map(|(id, _)| *id).collect();
        for call in lost {
            self.book.calls.remove(&call);
            ledger.end(net, call, CallEnd::Disconnected);
        }
        self.start_waiting(net, ledger);
    }
}

impl Book {
    fn on_event(
        &mut self,
        at: usize,
        peer: &mut Peer,
        fields: &mut Fields,
        net: &mut Net,
        ledger: &mut Ledger,
        event: Event<'_>,
    ) {
        let (stream, token) = match event {
            Event::Response { stream, token, .. }
            | Event::Data { stream, token, .. }
            | Event::Trailers { stream, token, .. }
            | Event::Failed { stream, token, .. } => (stream, token),
            _ => return,
        };
        let is_mine = |call: &&mut super::ClientCall| call.conn == at && call.stream == stream;
        let Some(call) = self.calls.get_mut(&token).filter(is_mine) else {
            if let Event::Data { bytes, .. } = event {
                peer.http2.consume(stream, bytes.len() as u32);
            }
            return;
        };
        let end = match event {
            Event::Response { end: false, .. } => None,
            Event::Response { .. } | Event::Trailers { .. } => Some(match status(fields) {
                Some(code) => CallEnd::Status(code, call.response.summary()),
                None => CallEnd::NoStatus(call.response.summary()),
            }),
            Event::Data { bytes, end, .. } => {
                let completed = call.response.add(bytes);
                let plan = ledger.plan(token);
                if plan.ping_pong && completed > 0 {
                    self.to_send.push(token);
                }
                if plan.client_holds.is_zero() {
                    peer.http2.consume(stream, bytes.len() as u32);
                } else {
                    if call.held == 0 && !bytes.is_empty() {
                        net.stats.count(Happening::SlowClient);
                        let timer = ClientTimer::Consume(token);
                        net.after(plan.client_holds, WorldEvent::Client { client: self.index, timer });
                    }
                    call.held += bytes.len() as u32;
                }
                end.then(|| CallEnd::NoStatus(call.response.summary()))
            }
            Event::Failed { failure, .. } => Some(failed(net, token, failure)),
            _ => None,
        };
        let Some(end) = end else { return };
        let record = &mut ledger.calls[token as usize];
        // Only these come with a header list.
        if matches!(event, Event::Response { .. } | Event::Trailers { .. }) {
            record.message = message(fields);
            record.echo = echo(fields);
            record.pushback = pushback(fields);
        }
        self.calls.remove(&token);
        peer.http2.release(fields, stream);
        ledger.end(net, token, end);
    }
}

/// A stream failed. That a worker takes a call and then says it did not is no excuse: it drains in two phases, and these
/// clients keep to its limits.
fn failed(net: &mut Net, call: u32, failure: StreamFailure) -> CallEnd {
    match failure {
        StreamFailure::PeerReset(code) | StreamFailure::GoAway(code) => CallEnd::Reset(code),
        other => {
            net.violate(|| format!("the worker broke a rule on the stream of call {call}: {other:?}"));
            CallEnd::Disconnected
        }
    }
}
