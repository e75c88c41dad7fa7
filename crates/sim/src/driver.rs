//! The driver of the real worker on the simulated network: what `evenkeel_proxy::driver` does on epoll, step by step.
//!
//! Edge-triggered readiness, reads that stop when the worker wants no more, leftover bytes put in front of the next read,
//! a bounded number of reads for each turn, writes that the transport takes in part: all of it as in production, except
//! that a turn begins a random moment after its cause, so that causes gather as they do on a busy machine.
//!
//! It also watches for turns that never rest: actions without end, and turns at one and the same time.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_balance::Address;
use evenkeel_http2::Violation;
use evenkeel_proxy::worker::snapshot::Snapshot;
use evenkeel_proxy::worker::{Action, ConnId, Observer, PeerName, TransportEnd, Worker, WorkerConfig};
use evenkeel_telemetry::{Options, Telemetry};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::event::Event;
use crate::net::{LinkId, LinkShape, Net, Owner, Read, Side};
use crate::setup::Setup;
use crate::stats::Happening;

/// Reads from one connection before others get their turn; epoll's driver has the same number.
const READS_PER_TURN: usize = 4;

/// Reads from a connection that cannot be written to any more; epoll's driver has the same number.
const BROKEN_READS_MAX: usize = 1024;

/// Actions of one turn beyond which the worker is taken to go round in circles. A turn of these worlds has some dozens.
const ACTIONS_PER_TURN_MAX: usize = 5_000;

/// Turns at one point in time beyond which the worker is taken to wake itself up for nothing.
const TURNS_AT_ONCE_MAX: usize = 500;

/// The time between two turns of a worker that has more to do at once.
const BUSY_TURN: Duration = Duration::from_micros(1);

/// A read may be as large as this part of the frame that lies there already. What is left over is copied with each read: a
/// frame of 16 KiB in pieces of 8 bytes costs as much as a thousand calls, and shows no more than its first ones.
const LEFTOVER_SHARE: usize = 8;

/// The driver's receive buffer.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Socket {
    id: ConnId,
    link: LinkId,
    side: Side,
    /// Where to, of a connection to a backend.
    address: Option<SocketAddr>,
    began_at: Duration,
    connecting: bool,
    readable: bool,
    /// The peer sends no more, so that a short read is not the last.
    hung_up: bool,
    listed: bool,
    /// A write was cut short.
    blocked: bool,
}

/// What the network said about a socket since the last turn.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    readable: bool,
    hung_up: bool,
    writable: bool,
    connected: bool,
    refused: bool,
}

/// The worker with its sockets.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) worker: Worker,
    /// Where the worker counts.
    pub(crate) telemetry: Arc<Telemetry>,
    upstream: LinkShape,
    wake_delay_max: Duration,
    /// By connection.
    sockets: Vec<Option<Socket>>,
    by_link: BTreeMap<LinkId, usize>,
    ready: BTreeMap<LinkId, Ready>,
    accepts: Vec<(LinkId, usize)>,
    unread: Vec<usize>,
    buffer: Vec<u8>,
    /// When the next turn comes.
    turn_at: Option<Duration>,
    /// Times for which the queue holds an event of ours, void ones included.
    queued: BTreeSet<Duration>,
    turns_at_once: (Duration, usize),
    /// When the two newest connection attempts to each address began, of those that failed.
    failed_dials: BTreeMap<SocketAddr, [Option<Duration>; 2]>,
    /// The time within which no more than two attempts may fail: a first connection and one next to it have a backoff each.
    dial_gap_min: Duration,
}

impl Driver {
    pub(crate) fn new(net: &Net, seed: u64, setup: &Setup, snapshot: &Arc<Snapshot>) -> Self {
        let config = WorkerConfig { index: 0, count: 1, seed };
        let telemetry =
            Arc::new(Telemetry::new(Options { version: "sim", protocol_rules: Violation::RULES }));
        let mut worker = Worker::new(config, snapshot, net.now);
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        Self {
            worker,
            telemetry,
            upstream: setup.upstream,
            wake_delay_max: setup.wake_delay_max,
            sockets: Vec::new(),
            by_link: BTreeMap::new(),
            ready: BTreeMap::new(),
            accepts: Vec::new(),
            unread: Vec::new(),
            buffer: Vec::with_capacity(READ_BYTES),
            turn_at: None,
            queued: BTreeSet::new(),
            turns_at_once: (Duration::ZERO, 0),
            failed_dials: BTreeMap::new(),
            dial_gap_min: setup.backoff.base.mul_f64(1.0 - setup.backoff.jitter),
        }
    }

    /// Does what the worker wants before anything has happened.
    pub(crate) fn start(&mut self, net: &mut Net) {
        self.act(net);
        self.plan_next(net);
    }

    /// A client connected.
    pub(crate) fn on_accepted(&mut self, net: &mut Net, link: LinkId, listener: usize) {
        self.accepts.push((link, listener));
        self.wake(net);
    }

    pub(crate) fn on_connected(&mut self, net: &mut Net, link: LinkId) {
        self.note(net, link, |ready| ready.connected = true);
    }

    pub(crate) fn on_refused(&mut self, net: &mut Net, link: LinkId) {
        self.note(net, link, |ready| ready.refused = true);
    }

    /// Bytes have arrived, or their end.
    pub(crate) fn on_readable(&mut self, net: &mut Net, link: LinkId, side: Side) {
        let hung_up = net.has_hung_up(link, side);
        self.note(net, link, |ready| {
            ready.readable = true;
            ready.hung_up |= hung_up;
        });
    }

    pub(crate) fn on_writable(&mut self, net: &mut Net, link: LinkId) {
        self.note(net, link, |ready| ready.writable = true);
    }

    fn note(&mut self, net: &mut Net, link: LinkId, note: impl FnOnce(&mut Ready)) {
        note(self.ready.entry(link).or_default());
        self.wake(net);
    }

    /// Sees to it that a turn comes soon.
    fn wake(&mut self, net: &mut Net) {
        let wait = net.rng.random_range(0..=self.wake_delay_max.as_nanos() as u64);
        self.turn_by(net, net.now + Duration::from_nanos(wait));
    }

    fn turn_by(&mut self, net: &mut Net, at: Duration) {
        if self.turn_at.is_none_or(|planned| at < planned) {
            self.turn_at = Some(at);
            if self.queued.insert(at) {
                net.queue.push(at, Event::WorkerTurn);
            }
        }
    }

    /// Discovery found another set of endpoints: those that come back begin anew.
    pub(crate) fn forget_dials(&mut self) {
        self.failed_dials.clear();
    }

    /// The operator does something to the worker.
    pub(crate) fn command(&mut self, net: &mut Net, command: impl FnOnce(&mut Worker, Duration)) {
        command(&mut self.worker, net.now);
        self.act(net);
        self.plan_next(net);
    }

    /// Whether a turn at this time is not void.
    pub(crate) fn has_turn(&self, now: Duration) -> bool {
        self.turn_at == Some(now)
    }

    /// One turn of the loop; void if another came before it and changed the plan.
    pub(crate) fn turn(&mut self, net: &mut Net) {
        self.queued.remove(&net.now);
        if self.turn_at != Some(net.now) {
            return;
        }
        self.turn_at = None;
        if self.turns_at_once.0 != net.now {
            self.turns_at_once = (net.now, 0);
        }
        self.turns_at_once.1 += 1;
        if self.turns_at_once.1 > TURNS_AT_ONCE_MAX {
            net.violate(|| "the worker wakes itself up without end".to_owned());
            return;
        }
        self.worker.woke();
        for (link, listener) in core::mem::take(&mut self.accepts) {
            self.accept(net, link, listener);
        }
        let mut ready: Vec<(LinkId, Ready)> = core::mem::take(&mut self.ready).into_iter().collect();
        ready.shuffle(&mut net.rng);
        for (link, ready) in ready {
            self.on_socket(net, link, ready);
        }
        self.worker.timeout(net.now);
        if self.worker.has_unfinished_input() {
            self.worker.resume(net.now);
        }
        for socket in core::mem::take(&mut self.unread) {
            if let Some(Some(record)) = self.sockets.get_mut(socket) {
                record.listed = false;
                self.read(net, socket);
            }
        }
        self.act(net);
        while self.worker.poll_lost_cluster().is_some() {
            net.stats.count(Happening::ReResolutionAsked);
        }
        if self.worker.pending_count() > 0 {
            net.stats.count(Happening::WorkerQueued);
        }
        net.trace.note(net.now, &[6, self.worker.call_count() as u64, self.worker.conn_count() as u64]);
        self.plan_next(net);
    }

    fn plan_next(&mut self, net: &mut Net) {
        if self.worker.has_unfinished_input() || !self.unread.is_empty() {
            self.turn_by(net, net.now + BUSY_TURN);
        }
        if let Some(deadline) = self.worker.deadline() {
            self.turn_by(net, deadline.max(net.now));
        }
    }

    fn accept(&mut self, net: &mut Net, link: LinkId, listener: usize) {
        let address = SocketAddr::from(([127, 0, 0, 1], (link % 60_000) as u16 + 1));
        match self.worker.accepted(net.now, listener, PeerName::Ip(address)) {
            Some(id) => self.insert(net.now, id, link, None),
            None => net.close(link, Side::Acceptor),
        }
        // Bytes may have arrived before it was registered: epoll says so at once.
        let hung_up = net.has_hung_up(link, Side::Acceptor);
        self.ready.insert(link, Ready { readable: true, hung_up, ..Ready::default() });
    }

    /// Registers a socket: one that a client connected, or one that connects to an address.
    fn insert(&mut self, now: Duration, id: ConnId, link: LinkId, address: Option<SocketAddr>) {
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        let (side, connecting) = match address {
            Some(_) => (Side::Initiator, true),
            None => (Side::Acceptor, false),
        };
        let socket = Socket {
            id,
            link,
            side,
            address,
            began_at: now,
            connecting,
            readable: true,
            hung_up: false,
            listed: false,
            blocked: false,
        };
        self.sockets[id.index()] = Some(socket);
        self.by_link.insert(link, id.index());
    }

    fn on_socket(&mut self, net: &mut Net, link: LinkId, ready: Ready) {
        let Some(index) = self.by_link.get(&link).copied() else { return };
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        let id = socket.id;
        if socket.connecting {
            if ready.refused {
                self.worker.connect_failed(net.now, id, "connection refused");
                return;
            }
            if !ready.connected {
                return;
            }
            socket.connecting = false;
            self.worker.connected(net.now, id);
        }
        if ready.writable {
            if core::mem::take(&mut socket.blocked) {
                net.stats.count(Happening::WorkerBlocked);
            }
            self.worker.writable(net.now, id);
        }
        if ready.readable || ready.connected {
            socket.readable = true;
            socket.hung_up |= ready.hung_up;
            self.read(net, index);
        }
    }

    /// Reads a socket until it is empty, the worker wants no more, or others should have their turn.
    fn read(&mut self, net: &mut Net, index: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
            let (id, link, side) = (socket.id, socket.link, socket.side);
            if !socket.readable || socket.connecting || !self.worker.wants_input(id) {
                return;
            }
            if self.worker.is_put_off(id) {
                break;
            }
            self.buffer.resize(self.worker.leftover_len(id), 0);
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            let most = net.shape(link).read_bytes_max.max(kept / LEFTOVER_SHARE).min(READ_BYTES - kept);
            let most = net.rng.random_range(1..=most);
            let result = net.read(link, side, &mut self.buffer, most);
            let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
            match result {
                Read::Bytes(count) => {
                    let more = count == most || socket.hung_up;
                    socket.readable = more;
                    self.worker.received(net.now, id, &self.buffer);
                    if !more {
                        return;
                    }
                }
                Read::Nothing => {
                    socket.readable = false;
                    // What was left over goes back to where it was.
                    self.worker.received(net.now, id, &self.buffer);
                    return;
                }
                Read::Eof => {
                    socket.readable = false;
                    self.worker.received_last(net.now, id, &mut self.buffer, kept);
                    self.worker.ended(net.now, id, TransportEnd::Eof);
                    return;
                }
                Read::Reset => {
                    socket.readable = false;
                    self.worker.received_last(net.now, id, &mut self.buffer, kept);
                    self.worker.ended(net.now, id, TransportEnd::Reset);
                    return;
                }
            }
        }
        self.list_unread(index);
    }

    /// A connection cannot be written to any more: what a backend said before that is processed first.
    fn read_broken(&mut self, net: &mut Net, id: ConnId) {
        for _ in 0..BROKEN_READS_MAX {
            let Some(Some(socket)) = self.sockets.get(id.index()) else { return };
            if socket.address.is_none() {
                break;
            }
            let (link, side) = (socket.link, socket.side);
            self.buffer.resize(self.worker.leftover_len(id), 0);
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match net.read(link, side, &mut self.buffer, READ_BYTES - kept) {
                Read::Bytes(_) => self.worker.received_whole(net.now, id, &self.buffer),
                Read::Nothing | Read::Eof | Read::Reset => {
                    self.worker.received_last(net.now, id, &mut self.buffer, kept);
                    break;
                }
            }
        }
        self.worker.ended(net.now, id, TransportEnd::Reset);
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
    fn act(&mut self, net: &mut Net) {
        for _ in 0..ACTIONS_PER_TURN_MAX {
            let Some(action) = self.worker.poll_action(net.now) else { return };
            match action {
                Action::Connect { conn, address } => self.connect(net, conn, &address),
                Action::Write { conn } => self.write(net, conn),
                Action::ShutWrite { conn } => {
                    if let Some(Some(socket)) = self.sockets.get(conn.index()) {
                        net.shut_write(socket.link, socket.side);
                    }
                    self.list_unread(conn.index());
                }
                Action::Close { conn } => {
                    if let Some(place) = self.sockets.get_mut(conn.index())
                        && let Some(socket) = place.take()
                    {
                        self.by_link.remove(&socket.link);
                        if let Some(address) = socket.address.filter(|_| socket.connecting) {
                            let [_, newest] = self.failed_dials.get(&address).copied().unwrap_or_default();
                            self.failed_dials.insert(address, [newest, Some(socket.began_at)]);
                        }
                        net.close(socket.link, socket.side);
                    }
                }
            }
        }
        net.violate(|| "the worker asks for actions without end".to_owned());
    }

    fn connect(&mut self, net: &mut Net, conn: ConnId, address: &Address) {
        let Address::Tcp(address) = address else {
            self.worker.connect_failed(net.now, conn, "no such file");
            return;
        };
        net.trace.note(net.now, &[7, u64::from(address.port())]);
        net.stats.count(Happening::Dialled);
        if let Some([Some(first), Some(_)]) = self.failed_dials.get(address)
            && net.now < *first + self.dial_gap_min
        {
            net.violate(|| format!("{address} is dialled in vain again and again, without a pause"));
        }
        match net.connect(Owner::Worker, *address, self.upstream) {
            Ok(link) => {
                if self.sockets.iter().flatten().any(|socket| socket.address == Some(*address)) {
                    net.stats.count(Happening::SecondConnection);
                }
                self.insert(net.now, conn, link, Some(*address));
            }
            Err(error) => {
                let [_, newest] = self.failed_dials.get(address).copied().unwrap_or_default();
                self.failed_dials.insert(*address, [newest, Some(net.now)]);
                self.worker.connect_failed(net.now, conn, error);
            }
        }
    }

    fn write(&mut self, net: &mut Net, id: ConnId) {
        let Some(Some(socket)) = self.sockets.get_mut(id.index()) else { return };
        let output = self.worker.output(id);
        match net.write(socket.link, socket.side, output) {
            Ok(count) => {
                socket.blocked = count < output.len();
                self.worker.written(net.now, id, count);
            }
            Err(_) => {
                self.read_broken(net, id);
                return;
            }
        }
        // Reading may have stopped because this output was waiting.
        if self.worker.wants_input(id) {
            self.list_unread(id.index());
        }
    }

    /// The links of all connections, with the worker's side.
    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkId, Side)> + '_ {
        self.sockets.iter().flatten().map(|socket| (socket.link, socket.side))
    }
}
