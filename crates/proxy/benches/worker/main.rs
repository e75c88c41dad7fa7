//! Instructions that the worker takes for a call, both of its connections included and no socket: counted by Callgrind,
//! so that a busy machine changes nothing.
//!
//! What its client and its backend send is recorded before ([`peers`]) and replayed, so that only the worker is
//! counted, on connections that are warm. It keeps statistics and writes no access log, as by default; besides, once with
//! everything on that watches calls or tries them again ([`Features::All`]).
//!
//! `cargo xtask bench engine` runs this after the engine's own benchmarks: see `docs/benchmarks/engine.md`.

#![expect(missing_docs, unused_qualifications, reason = "the macros make items and paths that nobody reads")]

mod peers;

use core::hint::black_box;
use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::health_check::HealthStatus;
use evenkeel_balance::limit::{BreakerLimits, CircuitBreaker, Scope};
use evenkeel_balance::outlier::{OutlierConfig, OutlierDetector};
use evenkeel_balance::retry::{
    CodeSet, RetryBudget, RetryBudgetConfig, RetryOn, RetryPolicy, RetryThrottle, RetryThrottleConfig,
};
use evenkeel_balance::{Address, EndpointSet, Factor, Policy};
use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::metadata::MetadataRules;
use evenkeel_proxy::worker::route::{Route, RouteTable};
use evenkeel_proxy::worker::snapshot::{Cluster, Listener, RetryGates, RetrySettings, Snapshot};
use evenkeel_proxy::worker::{Action, ConnId, Observer, PeerName, Worker, WorkerConfig};
use evenkeel_telemetry::{Options, Telemetry};
use gungraun::Callgrind;
use gungraun::prelude::*;

use peers::{Fields, Peers};

/// Calls that are counted. `cargo xtask bench engine` divides by it.
const CALLS: usize = 1000;

/// Calls before those.
const WARM_UP: usize = 500;

/// Time between two wake-ups.
const STEP: Duration = Duration::from_micros(100);

/// What the worker is configured to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Features {
    /// What it does without a word about it.
    Defaults,
    /// Retries on statuses, with the replay buffer, the budget and the throttle for them; outlier detection; circuit
    /// breakers of the cluster and of its endpoint with a bound of each kind; an endpoint that active checks found healthy.
    All,
}

/// A worker, its two connections, and what they wrote last.
struct Proxy {
    worker: Worker,
    client: ConnId,
    backend: ConnId,
    now: Duration,
    written: Vec<u8>,
}

impl Proxy {
    fn new(features: Features) -> Self {
        let now = Duration::from_secs(1);
        let address = Address::Tcp("127.0.0.1:1".parse().expect("an address"));
        let endpoints = Arc::new(EndpointSet::new(&[(address, 1)]));
        let mut cluster = Cluster::new("bench", Policy::default(), endpoints);
        let mut table = RouteTable::to_cluster(0);
        if features == Features::All {
            turn_on(&mut cluster, &mut table, now);
        }
        let listener =
            Listener { metadata: MetadataRules::edge(), ..Listener::new("bench", Limits::edge(), table) };
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(listener)],
            clusters: vec![Arc::new(cluster)],
            ..Snapshot::default()
        });
        let mut worker = Worker::new(WorkerConfig { index: 0, count: 1, seed: 7 }, &snapshot, now);
        let telemetry = Arc::new(Telemetry::new(Options { version: "0", protocol_rules: &[] }));
        worker.observe(Observer::new(&telemetry, None, Duration::ZERO));
        let Some(Action::Connect { conn: backend, .. }) = worker.poll_action(now) else {
            panic!("the worker connects to its endpoint at once")
        };
        worker.connected(now, backend);
        let client = worker.accepted(now, 0, PeerName::Unix).expect("a listener takes one client");
        Self { worker, client, backend, now, written: Vec::new() }
    }

    /// One wake-up: takes what a peer sent and writes what there is to write, handing it to `on_write`.
    fn wake(&mut self, from: ConnId, input: &[u8], mut on_write: impl FnMut(ConnId, &[u8])) {
        self.now += STEP;
        let now = self.now;
        self.worker.resume(now);
        self.worker.received(now, from, input);
        loop {
            while let Some(action) = self.worker.poll_action(now) {
                let Action::Write { conn } = action else { panic!("unexpected: {action:?}") };
                // What the kernel does.
                self.written.clear();
                self.written.extend_from_slice(self.worker.output(conn));
                self.worker.written(now, conn, self.written.len());
                on_write(conn, &self.written);
            }
            if !self.worker.has_unfinished_input() {
                return;
            }
            self.worker.resume(now);
        }
    }
}

/// Turns everything on that watches calls or tries them again.
fn turn_on(cluster: &mut Cluster, table: &mut RouteTable, now: Duration) {
    cluster.outliers = Some(Arc::new(OutlierDetector::new(OutlierConfig::default(), 1, now)));
    let retry_on = RetryOn::statuses(CodeSet::of(&[Code::Unavailable, Code::ResourceExhausted]));
    let policy = RetryPolicy { max_attempts: 3, retry_on, ..RetryPolicy::default() };
    let retry = Some(Arc::new(RetrySettings { policy, is_idempotent: true }));
    *table =
        RouteTable::new(table.iter().map(|route| Route { retry: retry.clone(), ..route.clone() }).collect());
    // The example of gRFC A6.
    let throttle = RetryThrottleConfig::new(10, Factor::from_thousandths(100)).expect("within the bounds");
    cluster.gates = Arc::new(RetryGates {
        budget: RetryBudget::new(RetryBudgetConfig::default()),
        throttle: Some(RetryThrottle::new(throttle)),
    });
    let bound = Some(1_024);
    let bounds =
        BreakerLimits { max_connections: bound, max_pending: bound, max_requests: bound, max_retries: bound };
    cluster.limits = Some(Arc::new(ClusterLimits {
        breaker: Some(Arc::new(CircuitBreaker::new(Scope::Cluster, &bounds))),
        counts_endpoints: true,
        ..ClusterLimits::default()
    }));
    for endpoint in cluster.endpoints.iter().flat_map(|set| set.endpoints()) {
        endpoint.breaker().set_limits(&bounds);
        endpoint.note_health(HealthStatus::Unknown, now);
        endpoint.note_health(HealthStatus::Healthy, now);
    }
}

/// A worker that is warm, and what its peers send next.
struct Warm {
    proxy: Proxy,
    inputs: Vec<(ConnId, Vec<u8>)>,
}

/// Records what the peers of a worker send for all calls, and replays the warm-up for another worker.
fn proxy(features: Features, fields: Fields, at_once: usize) -> Warm {
    let mut recorded = Peers::new(Proxy::new(features), fields);
    let warm_up = recorded.record(WARM_UP, at_once);
    let inputs = recorded.record(CALLS, at_once);
    let mut proxy = Proxy::new(features);
    for (conn, input) in &warm_up {
        proxy.wake(*conn, input, |_, _| {});
    }
    Warm { proxy, inputs }
}

/// All recorded calls are over.
#[expect(clippy::needless_pass_by_value, reason = "what a benchmark returns is given to its teardown")]
fn finish(warm: Warm) {
    assert_eq!(warm.proxy.worker.call_count(), 0, "every call has ended");
}

#[library_benchmark(teardown = finish)]
#[bench::one_repeated(args = (Features::Defaults, Fields::Repeated, 1), setup = proxy)]
#[bench::one_fresh(args = (Features::Defaults, Fields::Fresh, 1), setup = proxy)]
#[bench::hundred_repeated(args = (Features::Defaults, Fields::Repeated, 100), setup = proxy)]
#[bench::hundred_fresh(args = (Features::Defaults, Fields::Fresh, 100), setup = proxy)]
#[bench::all_one_repeated(args = (Features::All, Fields::Repeated, 1), setup = proxy)]
#[bench::all_one_fresh(args = (Features::All, Fields::Fresh, 1), setup = proxy)]
#[bench::all_hundred_repeated(args = (Features::All, Fields::Repeated, 100), setup = proxy)]
#[bench::all_hundred_fresh(args = (Features::All, Fields::Fresh, 100), setup = proxy)]
fn worker(mut warm: Warm) -> Warm {
    for (conn, input) in &warm.inputs {
        warm.proxy.wake(*conn, black_box(input), |_, bytes| {
            black_box(bytes);
        });
    }
    warm
}

library_benchmark_group!(name = calls, benchmarks = worker);

main!(
    config = LibraryBenchmarkConfig::default()
        // As in the engine's benchmarks: bytes are copied with vectors.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1073741824")
        .tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = calls
);
