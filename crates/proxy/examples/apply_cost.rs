//! Prints what it costs a worker to take a snapshot whose one cluster has one endpoint more, or less, than 10,000.
//!
//! `cargo run --release -p evenkeel-proxy --example apply_cost`
//!
//! That is the balancer's part, which `examples/pick_cost` of `evenkeel-balance` measures for every policy, and the worker's own:
//! statistics of the new endpoint, its first connection, the end of the connection to the one that is gone. The set of
//! endpoints, with the table of a policy that hashes, is made before, as the control plane makes it off the workers' threads.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_balance::{Address, Affinity, EndpointSet, Policy, RingSize};
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::route::RouteTable;
use evenkeel_proxy::worker::snapshot::{Cluster, Listener, Snapshot};
use evenkeel_proxy::worker::{Action, Observer, Worker, WorkerConfig};
use evenkeel_telemetry::{Options, Telemetry};

const ENDPOINTS: u32 = 10_000;
/// Snapshots that are taken, with one endpoint more and one less in turn.
const CHANGES: usize = 40;
/// The project's bound.
const MOST_US: f64 = 1_000.0;
/// An empty SETTINGS frame: all that a backend has to say for its connection to be ready.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A worker, and the snapshots it is given.
struct Proxy {
    worker: Worker,
    snapshot: Arc<Snapshot>,
    now: Duration,
}

impl Proxy {
    /// A worker that is connected to all endpoints it wants.
    fn new(policy: Policy, max_endpoints_per_worker: usize, set: EndpointSet) -> Self {
        let now = Duration::from_secs(1);
        let cluster = Cluster { max_endpoints_per_worker, ..Cluster::new("many", policy, Arc::new(set)) };
        let listener = Listener::new("all", Limits::edge(), RouteTable::to_cluster(0));
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(listener)],
            clusters: vec![Arc::new(cluster)],
            ..Snapshot::default()
        });
        let mut worker = Worker::new(WorkerConfig { index: 0, count: 2, seed: 7 }, &snapshot, now);
        let telemetry = Arc::new(Telemetry::new(Options { version: "0", protocol_rules: &[] }));
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        let mut proxy = Self { worker, snapshot, now };
        proxy.act();
        proxy
    }

    /// Does what the worker asks for: each connection is made, and ready, at once.
    fn act(&mut self) {
        let Self { worker, now, .. } = self;
        loop {
            let mut made = Vec::new();
            while let Some(action) = worker.poll_action(*now) {
                match action {
                    Action::Connect { conn, .. } => made.push(conn),
                    Action::Write { conn } => {
                        let count = worker.output(conn).len();
                        worker.written(*now, conn, count);
                    }
                    Action::ShutWrite { .. } | Action::Close { .. } => {}
                }
            }
            if made.is_empty() {
                return;
            }
            for conn in made {
                worker.connected(*now, conn);
                worker.received(*now, conn, SETTINGS);
            }
        }
    }

    /// Takes a snapshot with these endpoints; the microseconds until there is nothing more to do.
    #[expect(clippy::disallowed_methods, reason = "measuring time is what this example is for")]
    fn apply(&mut self, set: EndpointSet) -> f64 {
        self.now += Duration::from_secs(1);
        let cluster = Cluster { endpoints: Some(Arc::new(set)), ..(*self.snapshot.clusters[0]).clone() };
        let next = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            listeners: self.snapshot.listeners.clone(),
            clusters: vec![Arc::new(cluster)],
            ..Snapshot::default()
        });
        let start = Instant::now();
        self.worker.apply(&next, self.now);
        let micros = start.elapsed().as_secs_f64() * 1e6;
        self.act();
        self.snapshot = next;
        micros
    }

    fn set(&self) -> &EndpointSet {
        self.snapshot.clusters[0].endpoints.as_deref().expect("the cluster has endpoints")
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn main() {
    let address = |number: u32| Address::Tcp(SocketAddr::from(((0x7f00_0000 + number).to_be_bytes(), 50051)));
    let many: Vec<(Address, u32)> = (1..=ENDPOINTS + 1).map(|number| (address(number), 1)).collect();
    let ring = Policy::RingHash { size: RingSize::default(), affinity: Affinity::default() };
    let cases = [
        ("least_request", Policy::default(), 1_024),
        ("least_request, connected to all", Policy::default(), ENDPOINTS as usize + 1),
        ("ring_hash, connected to all", ring, 1_024),
    ];
    for (name, policy, share) in cases {
        let first = EndpointSet::new(&many[1..]).prepared_for(policy);
        let mut proxy = Proxy::new(policy, share, first);
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            let mut list = many.clone();
            let is_more = change % 2 == 0;
            if !is_more {
                list.remove(change * 997 % many.len());
            }
            let next = proxy.set().updated(&list);
            let micros = proxy.apply(next);
            if is_more { &mut more } else { &mut less }.push(micros);
        }
        for (kind, figures) in [("more than", more), ("less than", less)] {
            let micros = median(figures);
            let verdict = if micros <= MOST_US { "" } else { " | missed" };
            println!(
                "figure: a snapshot with one endpoint {kind} 10,000, by a worker, {name} | at most {MOST_US:.0} us | \
                 {micros:.0} us{verdict}"
            );
        }
    }
}
