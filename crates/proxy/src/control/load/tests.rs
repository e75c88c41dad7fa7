//! Streams of load reports from real servers: tonic's, with a service that does as a test says.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BufMut};
use evenkeel_balance::Outcome;
use evenkeel_telemetry::{LoadReported, LoadStreamEnded, Options, Telemetry};
use http::{Request as HttpRequest, Response as HttpResponse};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest backoff.
const BASE: Duration = Duration::from_millis(20);

/// A report with these numbers as `application_utilization`, `rps_fractional` and `mem_utilization`.
fn report(application: f64, requests_per_second: f64, memory: f64) -> Vec<u8> {
    let number = |tag: u8, number: f64| [&[tag][..], &number.to_le_bytes()].concat();
    [number(0x49, application), number(0x31, requests_per_second), number(0x11, memory)].concat()
}

/// What a server does with each stream.
#[derive(Clone, Default)]
struct Script {
    reports: Vec<Vec<u8>>,
    /// Whether it ends the stream after them.
    ends: bool,
    opened: Arc<Mutex<Vec<Opened>>>,
}

/// A stream: when it was opened, and its request.
#[derive(Clone)]
struct Opened(Instant, Vec<u8>);

impl Script {
    fn of(reports: impl Into<Vec<Vec<u8>>>) -> Self {
        Self { reports: reports.into(), ..Self::default() }
    }
}

impl NamedService for Script {
    const NAME: &'static str = "xds.service.orca.v3.OpenRcaService";
}

impl ServerStreamingService<Vec<u8>> for Script {
    type Response = Vec<u8>;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        lock(&self.opened).push(Opened(Instant::now(), request.into_inner()));
        let reports = tokio_stream::iter(self.reports.clone().into_iter().map(Ok));
        let stream: Self::ResponseStream =
            if self.ends { Box::pin(reports) } else { Box::pin(reports.chain(tokio_stream::pending())) };
        std::future::ready(Ok(Response::new(stream)))
    }
}

impl tower::Service<HttpRequest<Body>> for Script {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let script = self.clone();
        Box::pin(async move {
            assert_eq!(request.uri().path(), "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics");
            Ok(Grpc::new(Plain).server_streaming(script, request).await)
        })
    }
}

/// Messages as their bytes.
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// A server, until it is dropped.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Stops it; then nobody listens there any more.
    async fn end(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

async fn listen(address: SocketAddr) -> (SocketAddr, TcpListenerStream) {
    let listener = TcpListener::bind(address).await.unwrap();
    (listener.local_addr().unwrap(), TcpListenerStream::new(listener))
}

/// A server with the service, or with another one only.
async fn serve(script: Option<Script>, address: SocketAddr) -> Server {
    let (address, incoming) = listen(address).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (_, health) = tonic_health::server::health_reporter();
    let mut builder = tonic::transport::Server::builder();
    let router = match script {
        Some(script) => builder.add_service(script),
        None => builder.add_service(health),
    };
    let task = tokio::spawn(async move {
        let is_stopped = async { _ = stopped.await };
        router.serve_with_incoming_shutdown(incoming, is_stopped).await.unwrap();
    });
    Server { address, stop, task }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

struct World {
    streams: LoadStreams,
    set: Arc<EndpointSet>,
    telemetry: Telemetry,
    _cluster: Arc<ClusterTelemetry>,
}

impl World {
    fn start(metrics: &[&str], addresses: &[SocketAddr]) -> Self {
        Self::start_for(Purpose::Weight(LoadWeightConfig::default()), metrics, addresses)
    }

    fn start_for(purpose: Purpose, metrics: &[&str], addresses: &[SocketAddr]) -> Self {
        let telemetry = Telemetry::new(Options { version: "1", protocol_rules: &[] });
        let cluster = telemetry.cluster("orders");
        let period = Duration::from_millis(100);
        let streams = LoadStreams::start(Setup {
            purpose,
            period,
            metrics: metrics.iter().map(|name| name.parse().unwrap()).collect(),
            cluster: "orders",
            target: Some(&Target::parse("dns:///orders:50051").unwrap()),
            connect_timeout: PATIENCE,
            backoff: BackoffConfig { base: BASE, ..BackoffConfig::default() },
            telemetry: Arc::clone(&cluster),
            now: Duration::from_secs(7),
            seed: 1,
        });
        let listed: Vec<_> = addresses.iter().map(|address| (Address::from(*address), 1)).collect();
        let set = Arc::new(EndpointSet::new(&listed));
        streams.follow(&set);
        Self { streams, set, telemetry, _cluster: cluster }
    }

    fn status(&self) -> LoadStatus {
        self.streams.status(self.set.endpoints()[0].address()).unwrap()
    }

    fn weight(&self) -> Option<f64> {
        match self.status().last?.meaning {
            Meaning::Weight(weight) => weight.map(ReportedWeight::get),
            Meaning::Answer(answer) => panic!("an answer: {answer:?}"),
        }
    }

    fn reports(&self, outcome: LoadReported) -> u64 {
        self.telemetry.snapshot().clusters[0].load_reports[outcome as usize]
    }

    fn ends(&self, reason: LoadStreamEnded) -> u64 {
        self.telemetry.snapshot().clusters[0].load_streams[reason as usize]
    }

    /// Waits until this holds, which can change with each report and each end of the first endpoint's streams.
    async fn until(&self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_of(0, what, holds).await;
    }

    /// The same of another endpoint.
    async fn until_of(&self, place: usize, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let address = self.set.endpoints()[place].address();
        let mut changes = lock(&self.streams.followed).streams[address].status.subscribe();
        let waiting = async {
            while !holds(self) {
                changes.changed().await.unwrap();
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}: {:?}", self.status());
    }
}

#[tokio::test]
async fn a_report_becomes_the_endpoints_weight() {
    let script = Script::of([report(0.5, 100.0, 0.0)]);
    let server = serve(Some(script.clone()), any_port()).await;
    let world = World::start(&[], &[server.address]);
    assert_eq!(world.status().state, StreamState::Opening);
    world.until("a report", |world| world.weight() == Some(200.0)).await;
    let status = world.status();
    assert_eq!((status.state, status.detail), (StreamState::Open, None));
    assert!(status.last.unwrap().at >= Duration::from_secs(7));
    assert_eq!(world.reports(LoadReported::Taken), 1);
    let opened = lock(&script.opened).clone();
    assert_eq!(opened.len(), 1);
    // An `OrcaLoadReportRequest` with a report interval of 100 ms.
    assert_eq!(opened[0].1, b"\x0a\x05\x10\x80\xc2\xd7\x2f");
    assert_eq!(world.set.endpoints()[0].finished(Outcome::Success), 0, "a stream is no call");
}

#[tokio::test]
async fn reports_that_name_requests_in_flight_answer_probes_and_others_do_not() {
    // Entries of `named_metrics`.
    let named = |name: &str, number: f64| {
        let key = [&[0x0a, name.len() as u8][..], name.as_bytes()].concat();
        let entry = [&key[..], &[0x11], &number.to_le_bytes()].concat();
        [&[0x42, entry.len() as u8][..], &entry].concat()
    };
    let told = [named("requests_in_flight", 7.0), named("latency_ms", 12.5)].concat();
    let server = serve(Some(Script::of([told, report(0.5, 100.0, 0.0)])), any_port()).await;
    let world = World::start_for(Purpose::Answer, &[], &[server.address]);
    world.until("both reports", |world| world.reports(LoadReported::Ignored) == 1).await;
    assert_eq!(world.reports(LoadReported::Taken), 1);
    assert_eq!(world.status().last.unwrap().meaning, Meaning::Answer(None));
    let endpoint = &world.set.endpoints()[0];
    let answer = ProbeAnswer { requests_in_flight: 7, latency: Some(Duration::from_micros(12_500)) };
    // The streams' clock began at 7 s.
    assert_eq!(endpoint.answer(Duration::from_secs(7), PATIENCE), Some(answer));
}

#[tokio::test]
async fn metrics_that_are_asked_for_stand_in_for_utilization() {
    let script = Script::of([report(0.0, 100.0, 0.25)]);
    let server = serve(Some(script), any_port()).await;
    let world = World::start(&["mem_utilization"], &[server.address]);
    world.until("a report", |world| world.weight() == Some(400.0)).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_counted_and_ends_no_stream() {
    let absurd = [report(f64::NAN, 100.0, 0.0), report(-1.0, 100.0, 0.0), report(0.5, f64::INFINITY, 0.0)];
    let malformed = [b"\x0b".to_vec(), vec![0; 4_000]];
    let good = [report(0.5, 100.0, 0.0)];
    let script = Script::of([&absurd[..], &malformed[..], &good[..], &absurd[..1]].concat());
    let server = serve(Some(script.clone()), any_port()).await;
    let world = World::start(&[], &[server.address]);
    world.until("all reports", |world| world.reports(LoadReported::Ignored) == 4).await;
    assert_eq!(world.reports(LoadReported::Malformed), 2);
    assert_eq!(world.reports(LoadReported::Taken), 1);
    // The last one is shown with what became of it.
    assert_eq!(world.weight(), None);
    assert!(world.status().last.unwrap().load.utilization == 0.0);
    assert_eq!(lock(&script.opened).len(), 1);
}

#[tokio::test]
async fn an_endpoint_without_the_service_is_asked_again_on_its_next_connection_only() {
    let server = serve(None, any_port()).await;
    let address = server.address;
    let (nobody, _) = listen(any_port()).await;
    let world = World::start(&[], &[address, nobody]);
    world.until("the answer", |world| world.status().state == StreamState::Unimplemented).await;
    // In the time that this takes, the other one would have been asked as often.
    world.until_of(1, "six attempts elsewhere", |world| world.ends(LoadStreamEnded::Failed) >= 6).await;
    assert_eq!(world.ends(LoadStreamEnded::Unimplemented), 1);
    server.end().await;
    let upgraded = serve(Some(Script::of([report(0.5, 100.0, 0.0)])), address).await;
    world.until("a report", |world| world.weight() == Some(200.0)).await;
    assert_eq!(world.ends(LoadStreamEnded::Unimplemented), 1);
    drop(upgraded);
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_with_the_shortest_backoff_between_starts() {
    let script = Script { ends: true, ..Script::of([report(0.5, 100.0, 0.0)]) };
    let server = serve(Some(script.clone()), any_port()).await;
    let world = World::start(&[], &[server.address]);
    world.until("four streams", |world| world.ends(LoadStreamEnded::Failed) >= 4).await;
    assert_eq!(world.weight(), Some(200.0), "what was reported stays");
    let opened: Vec<Instant> = lock(&script.opened).iter().map(|opened| opened.0).collect();
    for pair in opened.windows(2) {
        // From start to start, where a start comes up to a connection's time before its stream.
        let between = pair[1] - pair[0];
        assert!(between >= BASE.mul_f64(0.8) / 2, "{between:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_tried_again_and_why_is_shown() {
    let (address, listener) = listen(any_port()).await;
    drop(listener);
    let world = World::start(&[], &[address]);
    world.until("two attempts", |world| world.ends(LoadStreamEnded::Failed) >= 2).await;
    let status = world.status();
    assert_eq!((status.state, status.last), (StreamState::Failed, None));
    assert!(status.detail.unwrap().starts_with("cannot connect: "));
}

#[tokio::test]
async fn a_stream_without_reports_for_too_long_is_given_up() {
    let script = Script::of([report(0.5, 100.0, 0.0)]);
    let server = serve(Some(script.clone()), any_port()).await;
    let world = World::start(&[], &[server.address]);
    world.until("a report", |world| world.weight().is_some()).await;
    assert_eq!(world.ends(LoadStreamEnded::Silent), 0);
    tokio::time::pause();
    let mut waited = 0;
    while world.ends(LoadStreamEnded::Silent) == 0 {
        tokio::time::advance(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < 400, "{:?}", world.status());
    }
    // The weight expires after three minutes.
    assert!(waited >= 180, "after {waited} s");
    tokio::time::resume();
    world.until("another stream", |_| lock(&script.opened).len() == 2).await;
}

#[test]
fn silence_is_the_time_in_which_a_weight_expires_and_at_least_two_minutes_or_three_reports() {
    let of = |expiration, period| {
        let weight_expiration_period = Duration::from_secs(expiration);
        let weights = LoadWeightConfig { weight_expiration_period, ..LoadWeightConfig::default() };
        silence(Purpose::Weight(weights), Duration::from_secs(period)).as_secs()
    };
    assert_eq!(silence(Purpose::Answer, Duration::from_secs(1)).as_secs(), 120);
    assert_eq!(
        [of(180, 10), of(119, 10), of(1, 41), of(1, 40), of(180, 3_600)],
        [180, 120, 123, 120, 10_800]
    );
}

#[tokio::test]
async fn after_the_stop_no_weight_changes_and_an_endpoint_that_left_is_let_go() {
    let script = Script::of([report(0.5, 100.0, 0.0)]);
    let server = serve(Some(script.clone()), any_port()).await;
    let world = World::start(&[], &[server.address]);
    world.until("a report", |world| world.weight().is_some()).await;
    let address = world.set.endpoints()[0].address().clone();
    let empty = Arc::new(EndpointSet::new(&[]));
    world.streams.follow(&empty);
    assert_eq!(world.streams.status(&address), None);
    world.streams.follow(&world.set);
    world.until("another stream", |world| world.weight().is_some()).await;
    assert_eq!(lock(&script.opened).len(), 2);
    world.streams.stop();
    world.streams.follow(&world.set);
    assert_eq!(world.streams.status(&address), None);
}
