//! A call allocates nothing in steady state: neither the worker nor the engines on both sides of it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

use core::time::Duration;
use std::sync::Arc;

use allocation_counter::measure;
use evenkeel_balance::{Address, Affinity, EndpointSet, LoadWeightConfig, Policy, RingSize, TableSize};
use evenkeel_grpc::encode_binary_value;
use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};
use evenkeel_proxy::worker::affinity::{CookieSource, HashPlan, KeySource};
use evenkeel_proxy::worker::metadata::MetadataRules;
use evenkeel_proxy::worker::rewrite::{MetadataChange, Rewrite};
use evenkeel_proxy::worker::route::{Route, RouteActions, RouteTable, Split};
use evenkeel_proxy::worker::snapshot::{Cluster, Listener, Snapshot};
use evenkeel_proxy::worker::{Action, ConnId, Observer, PeerName, Worker, WorkerConfig};
use evenkeel_telemetry::{Options, Telemetry};

const NOW: Duration = Duration::from_secs(1);

/// A peer of the worker: an engine, what it has sent, and the end of its input that it has not used.
struct Peer {
    fields: Fields,
    http2: Connection,
    id: ConnId,
    answers: FieldBlock,
    trailers: FieldBlock,
    ended: Vec<StreamKey>,
}

impl Peer {
    fn new(role: Role, id: ConnId) -> Self {
        let mut fields = Fields::new(3);
        let mut list = |pairs: &[(&str, &str)]| {
            let mut block = FieldBlock::new();
            for (name, value) in pairs {
                let field = fields.store.intern(name.as_bytes(), value.as_bytes());
                block.push_id(&mut fields.store, field, true);
            }
            block
        };
        let answers = match role {
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
        let http2 = Connection::new(role, Limits::mesh(), NOW);
        Self { fields, http2, id, answers, trailers, ended: Vec::with_capacity(64) }
    }

    /// Takes bytes; a backend answers every request that has ended, a client releases what is answered.
    fn take(&mut self, bytes: &[u8]) {
        let mut at = 0;
        self.http2.begin_wake(NOW);
        while let Ok(Some(event)) = self.http2.next_event(&mut self.fields, NOW, bytes, &mut at) {
            match event {
                Event::Data { stream, bytes, end, .. } => {
                    self.http2.consume(stream, bytes.len() as u32);
                    if end {
                        self.ended.push(stream);
                    }
                }
                Event::Trailers { stream, .. } => self.http2.release(&mut self.fields, stream),
                Event::Failed { failure, .. } => panic!("a stream failed: {failure:?}"),
                _ => {}
            }
        }
        assert_eq!(at, bytes.len(), "the worker writes whole frames");
        for stream in self.ended.drain(..) {
            let store = &mut self.fields.store;
            self.http2.send_headers(store, stream, &self.answers, &[], false).unwrap();
            self.http2.send_data(NOW, stream, b"\0\0\0\0\x02ok", false).unwrap();
            self.http2.send_trailers(store, stream, &self.trailers).unwrap();
            self.http2.release(&mut self.fields, stream);
        }
    }

    fn call(&mut self, timeout: &[u8]) {
        let stream = self.http2.open(NOW, 0).unwrap();
        // All but the first are looked at, and the last one is left out.
        let extra: &[(&[u8], &[u8])] = &[
            (b"grpc-timeout", timeout),
            (b"tenant", b"blue"),
            (b"token-bin", b"QUJD"),
            (b"x-forwarded-for", b"192.0.2.1"),
        ];
        self.http2.send_headers(&mut self.fields.store, stream, &self.answers, extra, false).unwrap();
        self.http2.send_data(NOW, stream, b"\0\0\0\0\x02hi", true).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.answers.clear(&mut self.fields.store);
        self.trailers.clear(&mut self.fields.store);
        self.http2.close(&mut self.fields);
    }
}

struct World {
    worker: Worker,
    client: Peer,
    backend: Peer,
    buffer: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self::with_routes(RouteTable::to_cluster(0))
    }

    fn with_routes(routes: RouteTable) -> Self {
        Self::with(routes, |_| {})
    }

    fn with(routes: RouteTable, adjust: impl FnOnce(&mut Cluster)) -> Self {
        let address: Address = Address::Tcp("127.0.0.1:1".parse().unwrap());
        let endpoints = Arc::new(EndpointSet::new(&[(address, 1)]));
        let listener =
            Listener { metadata: MetadataRules::edge(), ..Listener::new("test", Limits::edge(), routes) };
        let mut cluster = Cluster::new("test", Policy::RoundRobin, endpoints);
        adjust(&mut cluster);
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(listener)],
            clusters: vec![Arc::new(cluster)],
            ..Snapshot::default()
        });
        let config = WorkerConfig { index: 0, count: 1, seed: 7 };
        let mut worker = Worker::new(config, &snapshot, NOW);
        let telemetry = Arc::new(Telemetry::new(Options { version: "0", protocol_rules: &[] }));
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        let Some(Action::Connect { conn, .. }) = worker.poll_action(NOW) else {
            panic!("the worker connects to its endpoint at once")
        };
        worker.connected(NOW, conn);
        let client = worker.accepted(NOW, 0, PeerName::Unix).unwrap();
        Self {
            worker,
            client: Peer::new(Role::Client, client),
            backend: Peer::new(Role::Server, conn),
            buffer: Vec::with_capacity(1 << 20),
        }
    }

    /// Moves bytes until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for peer in [&mut self.client, &mut self.backend] {
                let bytes = peer.http2.output();
                if !bytes.is_empty() {
                    moved = true;
                    self.worker.received(NOW, peer.id, bytes);
                    let count = bytes.len();
                    peer.http2.output_sent(count);
                }
            }
            while let Some(action) = self.worker.poll_action(NOW) {
                let Action::Write { conn } = action else { continue };
                moved = true;
                self.buffer.clear();
                self.buffer.extend_from_slice(self.worker.output(conn));
                self.worker.written(NOW, conn, self.buffer.len());
                let peer = if conn == self.client.id { &mut self.client } else { &mut self.backend };
                peer.take(&self.buffer);
            }
            if !moved {
                return;
            }
        }
    }

    fn calls(&mut self, count: u32) {
        for number in 0..count {
            let text = [b'0' + (number / 100 % 10) as u8, b'0' + (number / 10 % 10) as u8, b'1', b'S'];
            self.client.call(&text);
            if number % 10 == 9 {
                self.settle();
            }
        }
        self.settle();
    }
}

fn allocates_nothing_in_steady_state(mut world: World) {
    world.settle();
    world.calls(2000);
    let allocations = measure(|| world.calls(1000));
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
    assert_eq!(world.worker.call_count(), 0);
    assert_eq!(world.client.http2.stream_count(), 0);
}

#[test]
fn a_unary_call_with_a_fresh_timeout_allocates_nothing_in_steady_state() {
    allocates_nothing_in_steady_state(World::new());
}

#[test]
fn a_call_whose_metadata_is_changed_allocates_nothing_either() {
    let change =
        || MetadataChange::default().set("x-served-by", "edge").add("x-tag", "blue").remove("x-debug");
    let rewrite = Rewrite { request: change(), response: change(), trailers: change() };
    let actions = Some(Arc::new(RouteActions { rewrite, ..RouteActions::default() }));
    let route = Route { actions, ..Route::new("test", Split::to(0)) };
    allocates_nothing_in_steady_state(World::with_routes(RouteTable::new(vec![route])));
}

#[test]
fn a_call_with_a_key_allocates_nothing_either_nor_does_a_cookie_that_is_given() {
    let lists = [
        vec![KeySource::Metadata(b"grpc-accept-encoding"[..].into()), KeySource::Metadata(b"te"[..].into())],
        vec![KeySource::SourceIp, KeySource::Cookie(CookieSource::of_client("sid"))],
        vec![KeySource::Cookie(CookieSource::given("sid", Duration::from_secs(60), Some("/")))],
    ];
    for sources in lists {
        for policy in [
            Policy::RingHash { size: RingSize::default(), affinity: Affinity::default() },
            Policy::Maglev { size: TableSize::default(), affinity: Affinity::default() },
        ] {
            let sources = sources.clone();
            let world = World::with(RouteTable::to_cluster(0), |cluster| {
                (cluster.policy, cluster.hash_plan) = (policy, HashPlan::new(sources));
            });
            allocates_nothing_in_steady_state(world);
        }
    }
}

#[test]
fn an_answer_with_a_load_report_allocates_nothing_either() {
    let mut world = World::with(RouteTable::to_cluster(0), |cluster| {
        cluster.policy = Policy::LoadWeightedRoundRobin(LoadWeightConfig::default());
    });
    // An OrcaLoadReport with rps_fractional 100 and application_utilization 0.5.
    let report = encode_binary_value(b"\x31\0\0\0\0\0\0\x59\x40\x49\0\0\0\0\0\0\xe0\x3f");
    let Peer { fields, trailers, .. } = &mut world.backend;
    let field = fields.store.intern(b"endpoint-load-metrics-bin", report.as_bytes());
    trailers.push_id(&mut fields.store, field, true);
    allocates_nothing_in_steady_state(world);
}
