//! A worker whose peers make it hold too much: what it gives up, what it keeps, and how much it holds at most.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_balance::{Address, EndpointSet, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_http2::{Connection, ErrorCode, Event, Fields, Half, Limits, Role, StreamFailure, StreamKey};
use evenkeel_proxy::worker::overload::{Accountant, Level};
use evenkeel_proxy::worker::route::RouteTable;
use evenkeel_proxy::worker::snapshot::{Cluster, Listener, Snapshot};
use evenkeel_proxy::worker::{Action, ConnId, Observer, PeerName, TransportEnd, Worker, WorkerConfig};
use evenkeel_telemetry::{Event as Counted, Options, Shed, Telemetry};

const LIMIT: u64 = 8 * 1024 * 1024;

/// Bytes of a large message: most of a stream's window.
const LARGE: usize = 60_000;

/// Time between two turns of the worker.
const TURN: Duration = Duration::from_millis(1);

/// How a call ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Status(Code),
    Reset(ErrorCode),
}

/// A peer of the worker on the project's own engine.
struct Peer {
    fields: Fields,
    http2: Connection,
    headers: FieldBlock,
    trailers: FieldBlock,
    /// Whether it takes what the worker writes.
    reads: bool,
    /// Whether it gives credit back for what it takes.
    consumes: bool,
    closed: bool,
    ends: Vec<End>,
    /// Of a backend: the first byte of each request's message.
    asked: HashMap<u32, u8>,
    /// Of a backend: streams whose answer may still be on its way.
    answered: Vec<StreamKey>,
}

impl Peer {
    fn new(role: Role) -> Self {
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
        let limits = Limits { idle_timeout: None, ..Limits::mesh() };
        Self {
            fields,
            http2: Connection::new(role, limits, Duration::ZERO),
            headers,
            trailers,
            reads: true,
            consumes: true,
            closed: false,
            ends: Vec::new(),
            asked: HashMap::new(),
            answered: Vec::new(),
        }
    }

    /// Takes bytes. A backend answers a request whose message begins with `L` with a large message, any other with a small one.
    fn take(&mut self, now: Duration, bytes: &[u8]) {
        let (mut at, mut ended, mut done) = (0, Vec::new(), Vec::new());
        self.http2.begin_wake(now);
        while let Ok(Some(event)) = self.http2.next_event(&mut self.fields, now, bytes, &mut at) {
            match event {
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

    fn answer(&mut self, now: Duration, stream: StreamKey) {
        let size = if self.asked.remove(&stream.id()) == Some(b'L') { LARGE } else { 2 };
        let store = &mut self.fields.store;
        self.http2.send_headers(store, stream, &self.headers, &[], false).unwrap();
        self.http2.send_data(now, stream, &message(b'r', size), false).unwrap();
        self.http2.send_trailers(&mut self.fields.store, stream, &self.trailers).unwrap();
        self.answered.push(stream);
    }

    /// Makes a call with one message of this size.
    fn call(&mut self, now: Duration, first: u8, size: usize) {
        let stream = self.http2.open(now, 0).unwrap();
        self.http2.send_headers(&mut self.fields.store, stream, &self.headers, &[], false).unwrap();
        self.http2.send_data(now, stream, &message(first, size), true).unwrap();
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
struct World {
    now: Duration,
    worker: Worker,
    telemetry: Arc<Telemetry>,
    peers: HashMap<usize, (ConnId, Peer)>,
    backend: usize,
    /// The most that the worker held at the end of a turn.
    peak: u64,
    levels: Vec<Level>,
}

impl World {
    fn new(accountant: &Arc<Accountant>) -> Self {
        let address: Address = Address::Tcp("127.0.0.1:1".parse().unwrap());
        let endpoints = Arc::new(EndpointSet::new(&[(address, 1)]));
        let listener = Listener {
            name: "test".into(),
            limits: Limits::edge(),
            max_connections: 1000,
            stall_timeout: Duration::from_secs(60),
            routes: RouteTable::to_cluster(0),
        };
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(listener)],
            clusters: vec![Arc::new(Cluster::new("test", Policy::RoundRobin, endpoints))],
        });
        let config = WorkerConfig { index: 0, count: 1, seed: 7 };
        let mut worker = Worker::new(config, &snapshot, Duration::ZERO);
        let telemetry = Arc::new(Telemetry::new(Options { version: "0", protocol_rules: &[] }));
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        worker.account(accountant);
        let Some(Action::Connect { conn, .. }) = worker.poll_action(Duration::ZERO) else {
            panic!("the worker connects to its endpoint at once")
        };
        worker.connected(Duration::ZERO, conn);
        let mut world = Self {
            now: Duration::ZERO,
            worker,
            telemetry,
            peers: HashMap::from([(conn.index(), (conn, Peer::new(Role::Server)))]),
            backend: conn.index(),
            peak: 0,
            levels: Vec::new(),
        };
        world.turns(3);
        world
    }

    fn client(&mut self) -> usize {
        let id = self.worker.accepted(self.now, 0, PeerName::Unix).unwrap();
        let before = self.peers.insert(id.index(), (id, Peer::new(Role::Client)));
        assert!(before.is_none_or(|(_, peer)| peer.closed), "an identifier is given once");
        self.turns(3);
        id.index()
    }

    fn peer(&mut self, index: usize) -> &mut Peer {
        &mut self.peers.get_mut(&index).unwrap().1
    }

    /// A client that makes so many calls for large answers and reads none.
    fn slow_client(&mut self, calls: usize) -> usize {
        let slow = self.client();
        self.peer(slow).reads = false;
        for _ in 0..calls {
            self.call(slow, b'L', 10);
        }
        self.turns(3);
        slow
    }

    fn call(&mut self, client: usize, first: u8, size: usize) {
        let now = self.now;
        self.peer(client).call(now, first, size);
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// One turn of the worker: everyone's bytes, then its timers, then what it asks for.
    fn turn(&mut self) {
        self.now += TURN;
        let now = self.now;
        for (id, peer) in self.peers.values_mut() {
            if peer.closed || !self.worker.wants_input(*id) {
                continue;
            }
            let bytes = peer.http2.output().to_vec();
            if !bytes.is_empty() {
                peer.http2.output_sent(bytes.len());
                self.worker.received(now, *id, &bytes);
            }
        }
        self.worker.timeout(now);
        while self.worker.has_unfinished_input() {
            self.worker.resume(now);
        }
        while let Some(action) = self.worker.poll_action(now) {
            match action {
                Action::Write { conn } => {
                    let output = self.worker.output(conn).to_vec();
                    let (_, peer) = self.peers.get_mut(&conn.index()).unwrap();
                    if peer.reads {
                        peer.take(now, &output);
                        self.worker.written(now, conn, output.len());
                    } else {
                        self.worker.written(now, conn, 0);
                    }
                }
                Action::Close { conn } => self.peer(conn.index()).closed = true,
                Action::ShutWrite { .. } => {}
                Action::Connect { .. } => panic!("the backend stays connected"),
            }
        }
        self.peak = self.peak.max(self.worker.held_memory());
        self.levels.extend(self.worker.poll_level());
    }

    fn shed(&self, action: Shed) -> u64 {
        self.telemetry.snapshot().event(Counted::Shed(action))
    }

    /// Lets all clients go, and checks that nothing is left on the account.
    fn close_clients(&mut self) {
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
    }
}

/// Sixty clients with ten large answers each that none of them reads, and one that makes a small call every turn.
fn slow_readers(limit: u64) -> (World, usize) {
    let mut world = World::new(&Accountant::new(limit));
    let honest = world.client();
    for _ in 0..60 {
        world.slow_client(10);
        for _ in 0..3 {
            world.call(honest, b'S', 10);
            world.turn();
        }
    }
    world.turns(5);
    (world, honest)
}

#[test]
fn slow_readers_are_shed_within_the_limit_and_honest_calls_go_on() {
    let (mut world, honest) = slow_readers(LIMIT);
    // One turn brings ten answers at most before the account is looked at again.
    let turn = 10 * LARGE as u64;
    assert!(world.peak <= LIMIT + turn, "{} bytes held of {LIMIT}", world.peak);
    assert!(world.peak >= LIMIT / 100 * 90, "the attack is a real one: {} bytes", world.peak);
    assert!(world.shed(Shed::CloseConnection) + world.shed(Shed::ResetStream) > 0);
    assert!(world.levels.contains(&Level::Shed), "{:?}", world.levels);
    assert_eq!(world.peer(honest).ends, vec![End::Status(Code::Ok); 180]);
    assert!(!world.peer(honest).closed);
    world.close_clients();
}

#[test]
fn without_a_limit_the_same_slow_readers_hold_several_times_as_much() {
    let (mut world, honest) = slow_readers(u64::MAX);
    assert!(world.peak > 2 * LIMIT, "{} bytes", world.peak);
    assert_eq!(world.levels, []);
    assert_eq!(world.peer(honest).ends.len(), 180);
    world.close_clients();
}

#[test]
fn calls_whose_backend_does_not_read_are_ended_with_a_status() {
    let mut world = World::new(&Accountant::new(LIMIT));
    let backend = world.backend;
    world.peer(backend).reads = false;
    let clients: Vec<usize> = (0..30).map(|_| world.client()).collect();
    for client in &clients {
        for _ in 0..10 {
            world.call(*client, b'L', LARGE);
        }
        world.turn();
    }
    world.turns(5);
    // A call takes its bytes twice: kept for another attempt, and waiting for the backend.
    assert!(world.peak <= LIMIT + 20 * LARGE as u64, "{} bytes held of {LIMIT}", world.peak);
    let ends: Vec<End> = clients.iter().flat_map(|client| world.peers[client].1.ends.clone()).collect();
    assert!(ends.len() > 100, "{}", ends.len());
    assert!(ends.iter().all(|end| *end == End::Status(Code::ResourceExhausted)), "{ends:?}");
    assert_eq!(world.shed(Shed::ResetStream), ends.len() as u64);
    assert_eq!(world.shed(Shed::CloseConnection), 0, "clients that read keep their connections");
    world.close_clients();
}

#[test]
fn refusing_spares_who_holds_little_and_does_not_last() {
    let accountant = Accountant::new(LIMIT);
    let mut world = World::new(&accountant);
    let mut ballast = World::new(&accountant);
    let honest = world.client();
    let heavy = world.slow_client(8);
    while Level::of(accountant.total(), LIMIT) < Level::Refuse {
        ballast.slow_client(1);
    }
    world.turns(2);
    assert_eq!(Level::of(accountant.total(), LIMIT), Level::Refuse);
    assert!(world.worker.refuses_connections());

    world.call(honest, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(honest).ends, [End::Status(Code::Ok)]);
    assert_eq!(world.shed(Shed::RefuseStream), 0);
    world.call(heavy, b'S', 10);
    world.turns(3);
    assert_eq!(world.shed(Shed::RefuseStream), 1);
    assert_eq!((world.shed(Shed::ResetStream), world.shed(Shed::CloseConnection)), (0, 0));

    for both in [&mut world, &mut ballast] {
        both.now += Duration::from_secs(5);
        both.turns(2);
    }
    world.turns(2);
    assert!(Level::of(accountant.total(), LIMIT) < Level::Refuse);
    assert!(!world.worker.refuses_connections());
    assert!(world.peer(heavy).closed, "it held more than any other");
    assert!(!world.peer(honest).closed);
    world.close_clients();
    ballast.close_clients();
    drop((world, ballast));
    assert_eq!(accountant.total(), 0);
}

#[test]
fn the_largest_client_is_asked_to_go_before_anything_is_ended() {
    let mut world = World::new(&Accountant::new(LIMIT));
    let large = world.slow_client(12);
    let mut clients = Vec::new();
    while !world.levels.contains(&Level::Drain) {
        clients.push(world.slow_client(1));
    }
    world.turn();
    assert_eq!(world.shed(Shed::DrainConnection), 1);
    assert_eq!((world.shed(Shed::ResetStream), world.shed(Shed::CloseConnection)), (0, 0));
    assert!(!world.peer(large).closed);
    // A connection accepted now gets less than the usual hundred streams.
    let newcomer = world.client();
    assert_eq!(world.peer(newcomer).http2.peer_settings().max_concurrent_streams, 25);
    world.close_clients();
}
