//! A worker among peers on the project's own engine, turn by turn: no socket, no clock.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]
#![allow(dead_code, reason = "each test file uses its part")]

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_balance::{Address, EndpointSet, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_http2::{Connection, ErrorCode, Event, Fields, Half, Limits, Role, StreamFailure, StreamKey};
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::overload::{Accountant, Level};
use evenkeel_proxy::worker::route::{Route, RouteTable, Split};
use evenkeel_proxy::worker::snapshot::{Cluster, Listener, ReplayBounds, Snapshot};
use evenkeel_proxy::worker::{Action, ConnId, Observer, PeerName, TransportEnd, Worker, WorkerConfig};
use evenkeel_telemetry::{Event as Counted, Options, Shed, Telemetry};

/// Bytes of a large message: most of a stream's window.
pub(crate) const LARGE: usize = 60_000;

/// Time between two turns of the worker.
const TURN: Duration = Duration::from_millis(1);

/// How a call ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Status(Code),
    Reset(ErrorCode),
}

/// A peer of the worker on the project's own engine.
pub(crate) struct Peer {
    pub(crate) fields: Fields,
    pub(crate) http2: Connection,
    pub(crate) headers: FieldBlock,
    pub(crate) trailers: FieldBlock,
    /// Whether it takes what the worker writes.
    pub(crate) reads: bool,
    /// Whether it gives credit back for what it takes.
    pub(crate) consumes: bool,
    pub(crate) closed: bool,
    pub(crate) ends: Vec<End>,
    /// Of a backend: the status of its answers, if it fails them, and what else they say.
    pub(crate) fails_with: Option<(Code, Vec<(&'static str, &'static str)>)>,
    /// Of a backend: whether a status that fails a call comes in trailers behind headers.
    pub(crate) fails_late: bool,
    /// Of a backend: the status of HTTP with which it answers instead of gRPC.
    pub(crate) answers_http: Option<&'static str>,
    /// Of a backend: whether it answers with headers, as soon as it has those of the request, and then with nothing.
    pub(crate) answers_headers_only: bool,
    /// Of a backend: whether it answers nothing.
    pub(crate) is_silent: bool,
    /// Of a backend: calls that it was asked for in full.
    pub(crate) served: usize,
    /// Frames to send behind what the engine has.
    pub(crate) raw: Vec<u8>,
    /// Of a client without an engine: what it was told.
    pub(crate) heard: Option<Vec<u8>>,
    /// Of a backend: the newest request's fields.
    pub(crate) asked_with: Vec<(String, String)>,
    /// Of a client: fields with which the newest answer began, and with which one ended.
    pub(crate) answered_with: Vec<(String, String)>,
    pub(crate) ended_with: Vec<(String, String)>,
    /// Of a backend: all requests that it got.
    pub(crate) begun: Vec<StreamKey>,
    /// Of a backend: the first byte of each request's message.
    pub(crate) asked: HashMap<u32, u8>,
    /// Of a backend: streams whose answer may still be on its way.
    pub(crate) answered: Vec<StreamKey>,
}

impl Peer {
    pub(crate) fn new(role: Role) -> Self {
        Self::with_limits(role, Limits::mesh())
    }

    pub(crate) fn with_limits(role: Role, limits: Limits) -> Self {
        let mut fields = Fields::new(3);
        let mut list = |pairs: &[(&str, &str)]| {
            let mut block = FieldBlock::new();
            for (name, value) in pairs {
                let field = fields.store.intern(name.as_bytes(), value.as_bytes());
                block.push_id(&mut fields.store, field, true);
            }
            block
        };
        let headers = match role {
            Role::Client => list(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/pkg.Service/Method"),
                (":authority", "service"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
            ]),
            Role::Server => list(&[(":status", "200"), ("content-type", "application/grpc")]),
        };
        let trailers = list(&[("grpc-status", "0")]);
        let limits = Limits { idle_timeout: None, ..limits };
        Self {
            fields,
            http2: Connection::new(role, limits, Duration::ZERO),
            headers,
            trailers,
            reads: true,
            consumes: true,
            closed: false,
            ends: Vec::new(),
            fails_with: None,
            fails_late: false,
            answers_http: None,
            answers_headers_only: false,
            is_silent: false,
            served: 0,
            raw: Vec::new(),
            heard: None,
            asked_with: Vec::new(),
            answered_with: Vec::new(),
            ended_with: Vec::new(),
            begun: Vec::new(),
            asked: HashMap::new(),
            answered: Vec::new(),
        }
    }

    /// Takes bytes. A backend answers a request whose message begins with `L` with a large message, any other with a small one.
    pub(crate) fn take(&mut self, now: Duration, bytes: &[u8]) {
        let (mut at, mut begun, mut ended, mut done) = (0, Vec::new(), Vec::new(), Vec::new());
        self.http2.begin_wake(now);
        while let Ok(event) = self.http2.next_event(&mut self.fields, now, bytes, &mut at) {
            let Some(event) = event else {
                if !self.http2.has_had_its_share() {
                    break;
                }
                self.http2.begin_wake(now);
                continue;
            };
            match event {
                Event::Request { stream, end, .. } => {
                    self.asked_with = self.received();
                    begun.push(stream);
                    self.begun.push(stream);
                    ended.extend(end.then_some(stream));
                }
                Event::Response { end: false, .. } => self.answered_with = self.received(),
                Event::Data { stream, bytes, end, .. } => {
                    if let Some(first) = bytes.get(5) {
                        self.asked.entry(stream.id()).or_insert(*first);
                    }
                    if self.consumes {
                        self.http2.consume(stream, bytes.len() as u32);
                    }
                    if end {
                        ended.push(stream);
                    }
                }
                Event::Response { stream, end: true, .. } | Event::Trailers { stream, .. } => {
                    let at = self.fields.index.position(Name::GrpcStatus).unwrap();
                    let status = self.fields.block.get(&self.fields.store, at).value;
                    self.ends.push(End::Status(Code::from_wire(status)));
                    self.ended_with = self.received();
                    done.push(stream);
                }
                Event::Failed { stream, failure, .. } => {
                    // NO_ERROR behind an answer asks to stop sending (RFC 9113 section 8.1).
                    if let StreamFailure::PeerReset(code) = failure
                        && code != ErrorCode::NO_ERROR
                    {
                        self.ends.push(End::Reset(code));
                    }
                    done.push(stream);
                }
                _ => {}
            }
        }
        assert_eq!(at, bytes.len(), "the worker writes whole frames");
        for stream in begun.into_iter().filter(|_| self.answers_headers_only) {
            self.http2.send_headers(&mut self.fields.store, stream, &self.headers, &[], false).unwrap();
        }
        for stream in ended {
            self.answer(now, stream);
        }
        for stream in done {
            self.http2.release(&mut self.fields, stream);
        }
        self.http2.flush_queues(&mut self.fields, now);
        while self.http2.poll_progress().is_some() {}
        for stream in core::mem::take(&mut self.answered) {
            if self.http2.send_half(stream) == Half::Closed {
                self.http2.release(&mut self.fields, stream);
            } else {
                self.answered.push(stream);
            }
        }
    }

    /// What it sends next.
    fn said(&mut self, now: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.heard.is_none() {
            self.http2.flush_queues(&mut self.fields, now);
            while self.http2.poll_progress().is_some() {}
            bytes.extend(self.http2.output());
            self.http2.output_sent(bytes.len());
        }
        bytes.append(&mut self.raw);
        bytes
    }

    /// The header list that came last.
    fn received(&self) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let list = self.fields.block.iter(&self.fields.store);
        list.map(|field| (text(field.name), text(field.value))).collect()
    }

    pub(crate) fn answer(&mut self, now: Duration, stream: StreamKey) {
        self.served += 1;
        if self.is_silent || self.answers_headers_only {
            return;
        }
        if let Some(status) = self.answers_http {
            let mut headers = FieldBlock::new();
            for (name, value) in [(":status", status), ("content-type", "text/html"), ("content-length", "9")]
            {
                headers.push_literal(name.as_bytes(), value.as_bytes(), false);
            }
            let store = &mut self.fields.store;
            self.http2.send_headers(store, stream, &headers, &[], false).unwrap();
            headers.clear(&mut self.fields.store);
            self.answered.push(stream);
            return;
        }
        if let Some((code, more)) = &self.fails_with {
            let status = (*code as u8).to_string();
            let mut extra: Vec<(&[u8], &[u8])> = vec![(b"grpc-status", status.as_bytes())];
            extra.extend(more.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            let store = &mut self.fields.store;
            if self.fails_late {
                self.http2.send_headers(store, stream, &self.headers, &[], false).unwrap();
                let mut trailers = FieldBlock::new();
                extra.iter().for_each(|(name, value)| trailers.push_literal(name, value, false));
                self.http2.send_trailers(store, stream, &trailers).unwrap();
                trailers.clear(store);
            } else {
                self.http2.send_headers(store, stream, &self.headers, &extra, true).unwrap();
            }
            self.answered.push(stream);
            return;
        }
        let size = if self.asked.remove(&stream.id()) == Some(b'L') { LARGE } else { 2 };
        let store = &mut self.fields.store;
        self.http2.send_headers(store, stream, &self.headers, &[], false).unwrap();
        self.http2.send_data(now, stream, &message(b'r', size), false).unwrap();
        self.http2.send_trailers(&mut self.fields.store, stream, &self.trailers).unwrap();
        self.http2.credit_completed();
        self.answered.push(stream);
    }

    /// Begins to answer a request, with headers and a message.
    pub(crate) fn begin_answer(&mut self, now: Duration, stream: StreamKey) {
        self.http2.send_headers(&mut self.fields.store, stream, &self.headers, &[], false).unwrap();
        self.deliver(now, stream);
    }

    /// Sends one more message of an answer that was begun.
    pub(crate) fn deliver(&mut self, now: Duration, stream: StreamKey) {
        self.http2.send_data(now, stream, &message(b'r', 2), false).unwrap();
    }

    /// Ends an answer that was begun, with this status.
    pub(crate) fn end_answer(&mut self, stream: StreamKey, code: Code) {
        let mut trailers = FieldBlock::new();
        trailers.push_literal(b"grpc-status", (code as u8).to_string().as_bytes(), false);
        self.http2.send_trailers(&mut self.fields.store, stream, &trailers).unwrap();
        trailers.clear(&mut self.fields.store);
        self.http2.credit_completed();
        self.answered.push(stream);
    }

    /// Breaks an answer off that was begun.
    pub(crate) fn break_off(&mut self, stream: StreamKey) {
        self.http2.reset(&mut self.fields, stream, ErrorCode::INTERNAL_ERROR);
    }

    /// Makes a call with one message of this size.
    pub(crate) fn call(&mut self, now: Duration, first: u8, size: usize) {
        let stream = self.begin(now, &[]);
        self.http2.send_data(now, stream, &message(first, size), true).unwrap();
    }

    /// Begins a call that has these fields besides.
    pub(crate) fn begin(&mut self, now: Duration, more: &[(&str, &str)]) -> StreamKey {
        let stream = self.http2.open(now, 0).unwrap();
        let more: Vec<_> = more.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.http2.send_headers(&mut self.fields.store, stream, &self.headers, &more, false).unwrap();
        stream
    }

    /// Cancels a call.
    pub(crate) fn cancel(&mut self, stream: StreamKey) {
        self.http2.release(&mut self.fields, stream);
    }
}

/// A gRPC message of this many bytes.
fn message(first: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((size as u32).to_be_bytes());
    bytes.resize(5 + size, first);
    bytes
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.headers.clear(&mut self.fields.store);
        self.trailers.clear(&mut self.fields.store);
        self.http2.close(&mut self.fields);
    }
}

/// A worker with an account, one backend, and clients.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) worker: Worker,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) peers: HashMap<usize, (ConnId, Peer)>,
    /// The newest connection to the backend.
    pub(crate) backend: usize,
    /// The newest connection to each.
    pub(crate) backends: Vec<usize>,
    /// How many times the worker wanted to write.
    pub(crate) offered: usize,
    /// Whether the worker may connect again.
    pub(crate) worker_may_connect: bool,
    /// The limits of backends on connections that are begun from now on.
    pub(crate) backend_limits: Limits,
    /// Ports on which nobody listens any more.
    pub(crate) refused: Vec<u16>,
    /// The most that the worker held at the end of a turn.
    pub(crate) peak: u64,
    pub(crate) levels: Vec<Level>,
}

impl World {
    pub(crate) fn new(accountant: &Arc<Accountant>) -> Self {
        Self::with_limits(accountant, Limits::edge())
    }

    /// A world whose listener has these limits.
    pub(crate) fn with_limits(accountant: &Arc<Accountant>, limits: Limits) -> Self {
        Self::with_backends(accountant, limits, 1, |_, _| {})
    }

    /// A world with so many backends; `adjust` has the last word on the cluster and its route.
    pub(crate) fn with_backends(
        accountant: &Arc<Accountant>,
        limits: Limits,
        backends: u16,
        adjust: impl FnOnce(&mut Cluster, &mut Route),
    ) -> Self {
        let address = |number: u16| Address::Tcp(([127, 0, 0, 1], number + 1).into());
        let addresses: Vec<(Address, u32)> = (0..backends).map(|number| (address(number), 1)).collect();
        let endpoints = Arc::new(EndpointSet::new(&addresses));
        let mut cluster = Cluster {
            max_connections_per_endpoint: 1,
            ..Cluster::new("test", Policy::RoundRobin, endpoints)
        };
        let mut route = Route::new("test", Split::to(0));
        adjust(&mut cluster, &mut route);
        let listener = Listener::new("test", limits, RouteTable::new(vec![route]));
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(listener)],
            clusters: vec![Arc::new(cluster)],
            ..Snapshot::default()
        });
        let config = WorkerConfig { index: 0, count: 1, seed: 7 };
        let mut worker = Worker::new(config, &snapshot, Duration::ZERO);
        let telemetry = Arc::new(Telemetry::new(Options { version: "0", protocol_rules: &[] }));
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        worker.account(accountant);
        let mut world = Self {
            now: Duration::ZERO,
            snapshot,
            worker,
            telemetry,
            peers: HashMap::new(),
            backend: 0,
            backends: vec![0; usize::from(backends)],
            offered: 0,
            worker_may_connect: true,
            backend_limits: Limits::mesh(),
            refused: Vec::new(),
            peak: 0,
            levels: Vec::new(),
        };
        world.turns(3);
        world.worker_may_connect = false;
        world
    }

    /// Puts another listener in the place of the one that there is.
    pub(crate) fn reload(&mut self, listener: Listener) {
        self.snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            listeners: vec![Arc::new(listener)],
            ..(*self.snapshot).clone()
        });
        self.worker.apply(&self.snapshot, self.now);
    }

    /// Changes the cluster.
    pub(crate) fn change_cluster(&mut self, change: impl FnOnce(&mut Cluster)) {
        let mut cluster = Cluster::clone(&self.snapshot.clusters[0]);
        change(&mut cluster);
        self.snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            clusters: vec![Arc::new(cluster)],
            ..(*self.snapshot).clone()
        });
        self.worker.apply(&self.snapshot, self.now);
    }

    /// Changes how much of requests is kept.
    pub(crate) fn bound_replay(&mut self, replay: ReplayBounds) {
        let generation = self.snapshot.generation + 1;
        self.snapshot = Arc::new(Snapshot { generation, replay, ..(*self.snapshot).clone() });
        self.worker.apply(&self.snapshot, self.now);
    }

    /// Gives a cluster limits.
    pub(crate) fn limit_cluster(&mut self, position: usize, limits: ClusterLimits) {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        let limited =
            Cluster { limits: Some(Arc::new(limits)), ..Cluster::clone(&snapshot.clusters[position]) };
        snapshot.clusters[position] = Arc::new(limited);
        snapshot.generation += 1;
        self.snapshot = Arc::new(snapshot);
        self.worker.apply(&self.snapshot, self.now);
    }

    /// Adds a cluster with one backend, to which the worker connects, and puts another listener in the place of the one that
    /// there is. Returns the backend.
    pub(crate) fn add_cluster(&mut self, name: &str, listener: Listener) -> usize {
        self.backends.push(usize::MAX);
        let address = Address::Tcp(([127, 0, 0, 1], self.backends.len() as u16).into());
        let cluster = Cluster::new(name, Policy::RoundRobin, Arc::new(EndpointSet::new(&[(address, 1)])));
        let mut snapshot = Snapshot::clone(&self.snapshot);
        snapshot.clusters.push(Arc::new(Cluster { max_connections_per_endpoint: 1, ..cluster }));
        self.snapshot = Arc::new(snapshot);
        let before = core::mem::replace(&mut self.worker_may_connect, true);
        self.reload(listener);
        self.turns(3);
        self.worker_may_connect = before;
        self.backend
    }

    /// Calls that the first cluster's endpoints have under way.
    pub(crate) fn in_flight(&self) -> u32 {
        let endpoints = self.snapshot.clusters[0].endpoints.as_ref().unwrap();
        endpoints.endpoints().iter().map(|endpoint| endpoint.in_flight()).sum()
    }

    /// What the first endpoint took on average to answer.
    pub(crate) fn mean_latency(&self) -> Option<Duration> {
        self.snapshot.clusters[0].endpoints.as_ref().unwrap().endpoints()[0].mean_latency()
    }

    pub(crate) fn client(&mut self) -> usize {
        self.client_of(PeerName::Unix)
    }

    /// A client at this address.
    pub(crate) fn client_of(&mut self, name: PeerName) -> usize {
        let id = self.worker.accepted(self.now, 0, name).unwrap();
        let before = self.peers.insert(id.index(), (id, Peer::new(Role::Client)));
        assert!(before.is_none_or(|(_, peer)| peer.closed), "an identifier is given once");
        self.turns(3);
        id.index()
    }

    /// A client without an engine: it sends what `raw` has, and keeps what it is told.
    pub(crate) fn stranger(&mut self) -> usize {
        let id = self.worker.accepted(self.now, 0, PeerName::Unix).unwrap();
        let mut peer = Peer::new(Role::Client);
        peer.heard = Some(Vec::new());
        self.peers.insert(id.index(), (id, peer));
        self.turn();
        id.index()
    }

    /// Time passes, to this moment.
    pub(crate) fn turn_at(&mut self, now: Duration) {
        assert!(now >= self.now + TURN, "time goes forward");
        self.now = now - TURN;
        self.turn();
    }

    pub(crate) fn peer(&mut self, index: usize) -> &mut Peer {
        &mut self.peers.get_mut(&index).unwrap().1
    }

    /// A client that makes so many calls for large answers and reads none.
    pub(crate) fn slow_client(&mut self, calls: usize) -> usize {
        let slow = self.client();
        self.peer(slow).reads = false;
        for _ in 0..calls {
            self.call(slow, b'L', 10);
        }
        self.turns(3);
        slow
    }

    pub(crate) fn call(&mut self, client: usize, first: u8, size: usize) {
        let now = self.now;
        self.peer(client).call(now, first, size);
    }

    pub(crate) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// One turn of the worker: everyone's bytes, then its timers, then what it asks for.
    pub(crate) fn turn(&mut self) {
        self.now += TURN;
        let now = self.now;
        for (id, peer) in self.peers.values_mut() {
            if peer.closed || !self.worker.wants_input(*id) || self.worker.is_put_off(*id) {
                continue;
            }
            let mut bytes = peer.said(now);
            if !bytes.is_empty() {
                let mut input = vec![0; self.worker.leftover_len(*id)];
                self.worker.take_leftover(*id, &mut input);
                input.append(&mut bytes);
                self.worker.received(now, *id, &input);
            }
        }
        self.worker.timeout(now);
        self.worker.resume(now);
        while let Some(action) = self.worker.poll_action(now) {
            match action {
                Action::Write { conn } => {
                    self.offered += 1;
                    let output = self.worker.output(conn).to_vec();
                    let (_, peer) = self.peers.get_mut(&conn.index()).unwrap();
                    if peer.reads {
                        match &mut peer.heard {
                            Some(heard) => heard.extend(&output),
                            None => peer.take(now, &output),
                        }
                        self.worker.written(now, conn, output.len());
                    } else {
                        self.worker.written(now, conn, 0);
                    }
                }
                Action::Close { conn } => self.peer(conn.index()).closed = true,
                Action::ShutWrite { .. } => {}
                Action::Connect { conn, address } => {
                    let Address::Tcp(address) = address else { panic!("all backends have a port") };
                    if self.refused.contains(&address.port()) {
                        self.peers.insert(conn.index(), (conn, Peer::new(Role::Server)));
                        self.worker.connect_failed(now, conn, "connection refused");
                        continue;
                    }
                    assert!(self.worker_may_connect, "the backend stays connected");
                    self.worker.connected(now, conn);
                    let peer = Peer::with_limits(Role::Server, self.backend_limits);
                    self.peers.insert(conn.index(), (conn, peer));
                    self.backend = conn.index();
                    self.backends[usize::from(address.port()) - 1] = conn.index();
                }
            }
        }
        self.peak = self.peak.max(self.worker.held_memory());
        self.levels.extend(self.worker.poll_level());
    }

    /// Lets all backends go, and the worker connect to them again, to backends with these limits.
    pub(crate) fn reconnect(&mut self, limits: Limits) {
        self.backend_limits = limits;
        for backend in self.backends.clone() {
            let conn = self.peers[&backend].0;
            self.worker.ended(self.now, conn, TransportEnd::Reset);
        }
        self.worker_may_connect = true;
        // A second lies between the beginnings of two attempts to connect.
        self.now += Duration::from_secs(2);
        self.turns(4);
        self.worker_may_connect = false;
    }

    pub(crate) fn shed(&self, action: Shed) -> u64 {
        self.telemetry.snapshot().event(Counted::Shed(action))
    }

    /// Lets all clients go, and checks that nothing is left on the account.
    pub(crate) fn close_clients(&mut self) {
        for (id, _) in self.peers.values().filter(|(_, peer)| !peer.closed) {
            if id.index() != self.backend {
                self.worker.ended(self.now, *id, TransportEnd::Eof);
            }
        }
        self.turns(3);
        assert_eq!((self.worker.client_count(), self.worker.call_count()), (0, 0));
        let backend = self.peers[&self.backend].0;
        self.worker.ended(self.now, backend, TransportEnd::Reset);
        while let Some(action) = self.worker.poll_action(self.now) {
            if let Action::Connect { conn, .. } = action {
                self.worker.connect_failed(self.now, conn, "the test is over");
            }
        }
        assert_eq!(self.worker.conn_count(), 0);
        assert_eq!(self.worker.held_memory(), 0, "what was charged is given back");
        assert_eq!(self.worker.usage().kept_bytes, 0, "what was kept of requests is forgotten");
    }
}
