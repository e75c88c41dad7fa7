//! Clients: they open calls of all kinds, read slowly, cancel, lose interest, and connect again.

mod call;
mod events;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use evenkeel_grpc::print_timeout;
use evenkeel_http2::{ErrorCode, Fields, Limits, OpenError, Role};

pub(crate) use self::call::{CALL_FIELD, SESSION_COOKIE, SESSION_FIELD};
use self::call::{ClientCall, request_block};
use crate::event::{ClientTimer, Event};
use crate::ledger::{CallEnd, Ledger};
use crate::net::{LinkId, LinkShape, Net, Owner};
use crate::peer::Peer;
use crate::stats::Happening;

/// How long a client waits after a connection attempt failed.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How late a call may end behind its deadline, the network's share aside (reliability suite, I1).
const DEADLINE_TOLERANCE: Duration = Duration::from_millis(100);

/// How a client is set up.
#[derive(Clone, Copy, Debug)]
pub struct ClientSetup {
    /// What its engine holds and allows.
    pub limits: Limits,
    /// Its connections to the worker.
    pub shape: LinkShape,
}

#[derive(Debug)]
struct ClientConn {
    peer: Peer,
    is_connecting: bool,
    /// It opens no more calls.
    is_leaving: bool,
}

/// The part of a client that is not connections.
#[derive(Debug)]
struct Book {
    index: usize,
    calls: BTreeMap<u32, ClientCall>,
    waiting: VecDeque<u32>,
    /// Calls in ping-pong whose turn it is.
    to_send: Vec<u32>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    setup: ClientSetup,
    proxy: SocketAddr,
    fields: Fields,
    conns: Vec<ClientConn>,
    book: Book,
    paused: bool,
    has_left: bool,
}

impl Client {
    pub(crate) fn new(index: usize, setup: ClientSetup, proxy: SocketAddr) -> Self {
        Self {
            setup,
            proxy,
            fields: Fields::new(index as u64),
            conns: Vec::new(),
            book: Book { index, calls: BTreeMap::new(), waiting: VecDeque::new(), to_send: Vec::new() },
            paused: false,
            has_left: false,
        }
    }

    /// The connection that opens calls, or is about to.
    fn current(&self) -> Option<usize> {
        self.conns.iter().position(|conn| !conn.peer.is_gone && !conn.is_leaving)
    }

    fn by_link(&self, link: LinkId) -> Option<usize> {
        self.conns.iter().position(|conn| conn.peer.link == link && !conn.peer.is_gone)
    }

    /// Links of connections in use.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkId, u32)> + '_ {
        let live = self.conns.iter().filter(|conn| !conn.peer.is_gone && !conn.is_connecting);
        live.map(|conn| (conn.peer.link, conn.peer.http2.held_bytes()))
    }

    fn connect(&mut self, net: &mut Net) {
        let owner = Owner::Client(self.book.index);
        match net.connect(owner, self.proxy, self.setup.shape) {
            Ok(link) => {
                let peer = Peer::new(net, Role::Client, self.setup.limits, link);
                self.conns.push(ClientConn { peer, is_connecting: true, is_leaving: false });
            }
            Err(_) => self.pause(net),
        }
    }

    fn pause(&mut self, net: &mut Net) {
        if !core::mem::replace(&mut self.paused, true) {
            let timer = ClientTimer::Reconnect;
            net.after(RECONNECT_PAUSE, Event::Client { client: self.book.index, timer });
        }
    }

    pub(crate) fn on_timer(&mut self, net: &mut Net, ledger: &mut Ledger, timer: ClientTimer) {
        match timer {
            ClientTimer::Start(call) => self.on_start(net, ledger, call),
            ClientTimer::Send(call) => {
                self.send_next(net, ledger, call);
                self.flush_call(net, call);
            }
            ClientTimer::Consume(call) => {
                if let Some(record) = self.book.calls.get_mut(&call) {
                    let held = core::mem::take(&mut record.held);
                    self.conns[record.conn].peer.http2.consume(record.stream, held);
                    self.flush_call(net, call);
                }
            }
            ClientTimer::Cancel(call) => self.give_up(net, ledger, call, CallEnd::Cancelled),
            ClientTimer::Overdue(call) => self.on_overdue(net, ledger, call),
            ClientTimer::Reconnect => {
                self.paused = false;
                self.start_waiting(net, ledger);
            }
            ClientTimer::Engine(at) => {
                if self.conns[at].peer.on_timer(&mut self.fields, net) {
                    self.flush(net, at);
                } else {
                    self.lose(net, ledger, at);
                }
            }
        }
    }

    fn on_start(&mut self, net: &mut Net, ledger: &mut Ledger, call: u32) {
        if let Some(after) = ledger.plan(call).cancel_after {
            let timer = ClientTimer::Cancel(call);
            net.after(after, Event::Client { client: self.book.index, timer });
        }
        self.book.waiting.push_back(call);
        self.start_waiting(net, ledger);
    }

    /// Opens waiting calls as far as the connection allows, and sees to it that there is one.
    fn start_waiting(&mut self, net: &mut Net, ledger: &mut Ledger) {
        while !self.book.waiting.is_empty() {
            let Some(at) = self.current() else {
                if self.has_left {
                    self.drop_waiting(net, ledger);
                } else if !self.paused {
                    self.connect(net);
                }
                return;
            };
            match self.conns[at].peer.http2.can_open() {
                Ok(()) => {
                    if let Some(call) = self.book.waiting.pop_front() {
                        self.open(net, ledger, at, call);
                    }
                }
                Err(OpenError::Full) => {
                    net.stats.count(Happening::StreamLimit);
                    return;
                }
                Err(OpenError::NotOpen) => return,
                Err(_) => self.conns[at].is_leaving = true,
            }
        }
    }

    fn drop_waiting(&mut self, net: &mut Net, ledger: &mut Ledger) {
        for call in core::mem::take(&mut self.book.waiting) {
            ledger.end(net, call, CallEnd::NotSent);
        }
    }

    fn open(&mut self, net: &mut Net, ledger: &mut Ledger, at: usize, call: u32) {
        let plans = ledger.plans();
        let plan = &plans[call as usize];
        let peer = &mut self.conns[at].peer;
        let is_prompt = peer.is_flushed() && net.is_idle(peer.link);
        let Ok(stream) = peer.http2.open(net.now, call) else { return };
        let timeout = plan.timeout.map(print_timeout);
        let mut block = request_block(call, plan, timeout.as_ref().map(|text| text.as_bytes()));
        let end = plan.requests.is_empty() && !plan.lone_end;
        let sent = peer.http2.send_headers(&mut self.fields.store, stream, &block, &[], end);
        debug_assert!(sent.is_ok(), "a stream that was opened just now takes headers");
        block.clear(&mut self.fields.store);
        let mut record = ClientCall::new(at, stream, net.now, is_prompt);
        record.request_ended = end;
        let entry = &mut ledger.calls[call as usize];
        entry.sent_at = Some(net.now);
        entry.request = Some(record.request.summary());
        self.book.calls.insert(call, record);
        if let Some(timeout) = plan.timeout {
            let wait = timeout + DEADLINE_TOLERANCE + 2 * self.setup.shape.round_trip_max();
            let timer = ClientTimer::Overdue(call);
            net.after(wait, Event::Client { client: self.book.index, timer });
        }
        if plan.request_gap.is_zero() || plan.requests.len() == 1 {
            self.send_next(net, ledger, call);
        } else {
            self.send_later(net, plan.request_gap, call);
        }
        self.flush(net, at);
    }

    fn send_later(&mut self, net: &mut Net, wait: Duration, call: u32) {
        net.after(wait, Event::Client { client: self.book.index, timer: ClientTimer::Send(call) });
    }

    /// Sends the next message of a request, or its end.
    fn send_next(&mut self, net: &mut Net, ledger: &mut Ledger, call: u32) {
        let plans = ledger.plans();
        let plan = &plans[call as usize];
        loop {
            let Some(record) = self.book.calls.get_mut(&call) else { return };
            if record.request_ended {
                return;
            }
            let (bytes, end) = record.next_message(call, plan);
            let stream = record.stream;
            ledger.calls[call as usize].request = Some(record.request.summary());
            let http2 = &mut self.conns[record.conn].peer.http2;
            match http2.send_data(net.now, stream, &bytes, end) {
                Ok(sent) if sent < bytes.len() => net.stats.count(Happening::RequestWaitedForWindow),
                _ => {}
            }
            if end {
                return;
            }
            // In ping-pong the next message waits for the answer to this one; an end of its own waits for nothing.
            let more = (record.sent_messages as usize) < plan.requests.len();
            if plan.ping_pong && more {
                return;
            }
            if !plan.request_gap.is_zero() && more {
                self.send_later(net, plan.request_gap, call);
                return;
            }
        }
    }

    fn flush_call(&mut self, net: &mut Net, call: u32) {
        if let Some(record) = self.book.calls.get(&call) {
            let at = record.conn;
            self.flush(net, at);
        }
    }

    /// Writes what there is, sets the engine's timer, and closes a connection that has nothing left to do.
    fn flush(&mut self, net: &mut Net, at: usize) {
        let conn = &mut self.conns[at];
        if conn.is_connecting || conn.peer.is_gone {
            return;
        }
        conn.peer.flush(&mut self.fields, net);
        let is_done = conn.is_leaving && conn.peer.http2.stream_count() == 0 && conn.peer.is_flushed();
        if is_done {
            conn.peer.close(&mut self.fields, net);
        } else if let Some(deadline) = conn.peer.new_timer() {
            let timer = ClientTimer::Engine(at);
            net.queue.push(deadline.max(net.now), Event::Client { client: self.book.index, timer });
        }
    }

    /// Ends a call from this side.
    fn give_up(&mut self, net: &mut Net, ledger: &mut Ledger, call: u32, end: CallEnd) {
        if let Some(place) = self.book.waiting.iter().position(|waiting| *waiting == call) {
            self.book.waiting.remove(place);
            ledger.end(net, call, end);
            return;
        }
        let Some(record) = self.book.calls.remove(&call) else { return };
        let http2 = &mut self.conns[record.conn].peer.http2;
        http2.reset(&mut self.fields, record.stream, ErrorCode::CANCEL);
        http2.release(&mut self.fields, record.stream);
        ledger.end(net, call, end);
        self.flush(net, record.conn);
        self.start_waiting(net, ledger);
    }

    /// A call should have ended by now. It is the worker's fault if nothing on the way explains the delay.
    fn on_overdue(&mut self, net: &mut Net, ledger: &mut Ledger, call: u32) {
        let holds = !ledger.plan(call).client_holds.is_zero();
        let Some(record) = self.book.calls.get_mut(&call) else { return };
        let conn = &self.conns[record.conn];
        let held = conn.peer.http2.held_bytes() > 0;
        if !net.is_smooth(conn.peer.link, record.sent_at) || holds || held {
            self.give_up(net, ledger, call, CallEnd::Overdue);
            return;
        }
        let timeout = ledger.plan(call).timeout.unwrap_or_default();
        let is_idle = conn.peer.is_flushed() && net.is_idle(conn.peer.link);
        if is_idle {
            // A call whose header section was held up on its way has a later deadline in the worker's eyes.
            if record.is_prompt || record.overdue_looks > 0 {
                let record = &ledger.calls[call as usize];
                net.violate(|| format!("call {call} did not end by its deadline: {record:?}"));
                return;
            }
            record.overdue_looks += 1;
        }
        let wait = if is_idle { timeout + DEADLINE_TOLERANCE } else { DEADLINE_TOLERANCE };
        let timer = ClientTimer::Overdue(call);
        net.after(wait, Event::Client { client: self.book.index, timer });
    }

    /// Closes one connection in order, whatever calls it has.
    pub(crate) fn close_link(&mut self, net: &mut Net, ledger: &mut Ledger, link: LinkId) {
        if let Some(at) = self.by_link(link) {
            self.lose(net, ledger, at);
        }
    }

    /// The client begins no more connections: calls that have none are given up.
    pub(crate) fn stop_connecting(&mut self, net: &mut Net, ledger: &mut Ledger) {
        self.has_left = true;
        self.start_waiting(net, ledger);
    }

    /// The client makes no more calls and closes its connections.
    pub(crate) fn leave(&mut self, net: &mut Net, ledger: &mut Ledger) {
        self.has_left = true;
        self.drop_waiting(net, ledger);
        for at in 0..self.conns.len() {
            self.conns[at].is_leaving = true;
            self.flush(net, at);
        }
    }

    /// Gives everything back that the client's connections hold.
    pub(crate) fn dissolve(&mut self, net: &mut Net) {
        for conn in &mut self.conns {
            conn.peer.close(&mut self.fields, net);
        }
        self.fields.block.clear(&mut self.fields.store);
    }
}
