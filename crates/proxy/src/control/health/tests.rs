//! The checks of a cluster against real servers: tonic's, and some that misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_balance::health_check::{Probe, UnhealthyReason};
use evenkeel_balance::{Factor, Withheld};
use evenkeel_telemetry::{Options, Telemetry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, health_reporter};

use super::*;

const SERVICE: &str = "orders.Orders";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tonic server with a health service, until it is dropped.
struct Server {
    address: SocketAddr,
    health: HealthReporter,
    _stop: oneshot::Sender<()>,
}

impl Server {
    async fn start(status: ServingStatus) -> Self {
        let (health, service) = health_reporter();
        health.set_service_status(SERVICE, status).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = stopped.await;
        }));
        Self { address, health, _stop: stop }
    }
}

/// A server that answers each connection with these bytes and then reads on, or closes.
async fn raw(answer: &'static [u8], closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = vec![0; 4096];
                let _ = stream.write_all(answer).await;
                while !closes && matches!(stream.read(&mut read).await, Ok(1..)) {}
            });
        }
    });
    address
}

struct World {
    checks: HealthChecks,
    set: Arc<EndpointSet>,
    telemetry: Telemetry,
    _cluster: Arc<ClusterTelemetry>,
}

impl World {
    fn start(config: &HealthCheckConfig, addresses: &[SocketAddr]) -> Self {
        Self::start_with(config, addresses, CHECKS_IN_FLIGHT_MAX)
    }

    fn start_with(config: &HealthCheckConfig, addresses: &[SocketAddr], in_flight_max: usize) -> Self {
        let telemetry = Telemetry::new(Options { version: "1", protocol_rules: &[] });
        let cluster = telemetry.cluster("orders");
        let target = Target::parse("dns:///orders:50051").unwrap();
        let checks = HealthChecks::start(&Setup {
            config,
            cluster: "orders",
            target: Some(&target),
            telemetry: Arc::clone(&cluster),
            in_flight_max,
            now: Duration::from_secs(7),
            seed: 1,
        });
        let listed: Vec<_> = addresses.iter().map(|address| (Address::from(*address), 1)).collect();
        let set = Arc::new(EndpointSet::new(&listed));
        for endpoint in set.endpoints() {
            endpoint.note_health(HealthStatus::Unknown, Duration::ZERO);
        }
        checks.follow(&set);
        Self { checks, set, telemetry, _cluster: cluster }
    }

    fn report(&self, place: usize) -> Option<HealthReport> {
        self.checks.report(self.set.endpoints()[place].address())
    }

    fn withheld(&self, place: usize) -> Vec<Withheld> {
        let endpoint = &self.set.endpoints()[place];
        Withheld::ALL.into_iter().filter(|reason| endpoint.is_withheld_as(*reason)).collect()
    }

    fn count(&self, result: HealthCheckResult) -> u64 {
        self.telemetry.snapshot().clusters[0].health_checks[result as usize]
    }

    /// Waits until this holds, which can change with each result.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut results = self.checks.ledger.0.subscribe();
        let waiting = async {
            while !holds(self) {
                results.changed().await.unwrap();
            }
        };
        let reports: Vec<_> = (0..self.set.endpoints().len()).map(|place| self.report(place)).collect();
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: at first {reports:?}");
    }

    async fn until_last(&self, expected: HealthCheckResult) -> LastResult {
        let is_it = |world: &Self| {
            let last = world.report(0).and_then(|report| report.last);
            last.is_some_and(|last| last.result == expected)
        };
        self.until(expected.as_str(), is_it).await;
        self.report(0).and_then(|report| report.last).unwrap()
    }
}

fn config(probe: Probe) -> HealthCheckConfig {
    HealthCheckConfig {
        probe,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        jitter: Factor::ZERO,
        ..HealthCheckConfig::default()
    }
}

fn check() -> Probe {
    Probe::Check { service: SERVICE.to_owned() }
}

fn watched() -> Probe {
    Probe::Watch { service: SERVICE.to_owned() }
}

#[tokio::test]
async fn checks_take_an_endpoint_out_and_back_as_it_says() {
    for probe in [check(), watched()] {
        let server = Server::start(ServingStatus::Serving).await;
        let world = World::start(&config(probe.clone()), &[server.address]);
        assert_eq!(world.withheld(0), [Withheld::Unchecked], "before the first result");
        world.until("in service", |world| world.withheld(0).is_empty()).await;
        assert_eq!(world.report(0).unwrap().status, HealthStatus::Healthy);
        server.health.set_service_status(SERVICE, ServingStatus::NotServing).await;
        world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
        world.until_last(HealthCheckResult::NotServing).await;
        server.health.set_service_status(SERVICE, ServingStatus::Serving).await;
        world.until("back", |world| world.withheld(0).is_empty()).await;
        assert!(world.set.endpoints()[0].healthy_since() > Duration::from_secs(7), "on the proxy's clock");
        let counted = [HealthCheckResult::Serving, HealthCheckResult::NotServing].map(|one| world.count(one));
        if probe == watched() {
            assert_eq!(counted, [2, 1], "a message each");
        } else {
            assert!(counted[0] >= 2 && counted[1] >= 1, "{counted:?}");
        }
    }
}

#[tokio::test]
async fn a_service_that_the_server_does_not_have_is_unhealthy() {
    for probe in [Probe::Check { service: "other".to_owned() }, Probe::Watch { service: "other".to_owned() }]
    {
        let server = Server::start(ServingStatus::Serving).await;
        let world = World::start(&config(probe.clone()), &[server.address]);
        world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
        // tonic answers NOT_FOUND to a Watch, too, which ends it.
        let expected = HealthStatus::Unhealthy(match probe {
            Probe::Watch { .. } => UnhealthyReason::Failed,
            _ => UnhealthyReason::ServiceUnknown,
        });
        assert_eq!(world.report(0).unwrap().status, expected);
    }
}

#[tokio::test]
async fn a_server_without_health_service_is_healthy() {
    for probe in [check(), watched()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, other) = health_reporter();
        let service = tonic::service::interceptor::InterceptedService::new(other, |_| {
            Err(tonic::Status::unimplemented("no such service"))
        });
        let router = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let world = World::start(&config(probe), &[address]);
        world.until("in service", |world| world.withheld(0).is_empty()).await;
        let last = world.until_last(HealthCheckResult::Unimplemented).await;
        assert_eq!(last.detail.as_deref(), Some("UNIMPLEMENTED: no such service"));
    }
}

#[tokio::test]
async fn what_is_no_grpc_server_is_unhealthy_and_says_why() {
    let settings_then_goaway: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
    for (answer, closes) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false), (b"", true), (settings_then_goaway, true)]
    {
        for probe in [check(), watched()] {
            let world = World::start(&config(probe), &[raw(answer, closes).await]);
            world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
            let last = world.until_last(HealthCheckResult::Failed).await;
            assert!(last.detail.is_some_and(|detail| !detail.is_empty()));
        }
    }
}

/// A health service that says a status which there is not.
struct Absurd;

#[tonic::async_trait]
impl Health for Absurd {
    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(HealthCheckResponse { status: -7 }))
    }

    type WatchStream = tokio_stream::Pending<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("it has Check only"))
    }
}

#[tokio::test]
async fn a_serving_status_that_there_is_not_counts_as_absurd_and_takes_the_endpoint_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener);
    let service = HealthServer::new(Absurd);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let world = World::start(&config(check()), &[address]);
    world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
    let last = world.until_last(HealthCheckResult::Absurd).await;
    assert_eq!(last.detail.as_deref(), Some("its serving status is -7, which the protocol does not have"));
    assert!(world.count(HealthCheckResult::Absurd) >= 1);
}

#[tokio::test]
async fn a_check_without_an_answer_ends_with_its_timeout() {
    for probe in [check(), watched()] {
        let timeout = Duration::from_millis(20);
        let address = raw(b"", false).await;
        let world = World::start(&HealthCheckConfig { timeout, ..config(probe) }, &[address]);
        world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
        let last = world.until_last(HealthCheckResult::TimedOut).await;
        assert_eq!(last.detail.as_deref(), Some("no answer within 20ms"));
        world.until("again", |world| world.count(HealthCheckResult::TimedOut) >= 2).await;
    }
}

#[tokio::test]
async fn a_watched_server_that_falls_silent_is_noticed() {
    // The stream is open and serving; then everything that comes is read and nothing answered.
    let server = Server::start(ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (freeze, frozen) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut frozen = frozen.clone();
            let mut backend = tokio::net::TcpStream::connect(server.address).await.unwrap();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut backend) => {}
                    _ = frozen.wait_for(|frozen| *frozen) => {}
                }
                std::future::pending::<()>().await;
            });
        }
    });
    let timeout = Duration::from_millis(100);
    let config = HealthCheckConfig { timeout, unhealthy_threshold: 1, ..config(watched()) };
    let world = World::start(&config, &[address]);
    world.until("in service", |world| world.withheld(0).is_empty()).await;
    freeze.send_replace(true);
    world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
    let report = world.report(0).unwrap().last.unwrap();
    assert!(report.detail.is_some(), "{report:?}");
}

#[tokio::test]
async fn tcp_checks_find_out_whether_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = World::start(&config(Probe::Tcp), &[address]);
    world.until("in service", |world| world.withheld(0).is_empty()).await;
    drop(listener);
    world.until("out", |world| world.withheld(0) == [Withheld::Unhealthy]).await;
    let last = world.until_last(HealthCheckResult::Failed).await;
    assert!(last.detail.unwrap().contains("refused"));
}

#[tokio::test]
async fn unix_sockets_are_checked_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("health.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (health, service) = health_reporter();
    health.set_service_status(SERVICE, ServingStatus::Serving).await;
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut world = World::start(&config(check()), &[]);
    world.set = Arc::new(EndpointSet::new(&[(Address::Unix(path), 1)]));
    world.set.endpoints()[0].note_health(HealthStatus::Unknown, Duration::ZERO);
    world.checks.follow(&world.set);
    world.until("in service", |world| world.withheld(0).is_empty()).await;
}

#[tokio::test]
async fn endpoints_that_leave_are_not_asked_any_more_and_those_that_come_are() {
    let servers = [Server::start(ServingStatus::Serving).await, Server::start(ServingStatus::Serving).await];
    let mut world = World::start(&config(check()), &[servers[0].address]);
    world.until("in service", |world| world.withheld(0).is_empty()).await;
    let first = Arc::clone(&world.set.endpoints()[0]);
    world.set = Arc::new(world.set.updated(&[(Address::from(servers[1].address), 1)]));
    world.set.endpoints()[0].note_health(HealthStatus::Unknown, Duration::ZERO);
    world.checks.follow(&world.set);
    world.until("the new one is in service", |world| world.withheld(0).is_empty()).await;
    assert_eq!(world.checks.report(first.address()), None);
    servers[0].health.set_service_status(SERVICE, ServingStatus::NotServing).await;
    let asked = world.count(HealthCheckResult::Serving);
    world.until("more checks", |world| world.count(HealthCheckResult::Serving) > asked + 5).await;
    assert_eq!(world.count(HealthCheckResult::NotServing), 0);
    assert!(!first.is_withheld(), "what left is left alone");
}

#[tokio::test]
async fn after_the_checks_were_stopped_no_endpoint_changes() {
    let server = Server::start(ServingStatus::Serving).await;
    let world = World::start(&config(check()), &[server.address]);
    world.until("in service", |world| world.withheld(0).is_empty()).await;
    world.checks.stop();
    let (endpoint, ledger) = (&world.set.endpoints()[0], &world.checks.ledger);
    let unhealthy = HealthStatus::Unhealthy(UnhealthyReason::Failed);
    let last = LastResult { result: HealthCheckResult::Failed, at: Duration::from_secs(9), detail: None };
    ledger.note(endpoint, unhealthy, true, last);
    assert!(!endpoint.is_withheld(), "a result that was under way");
}

#[tokio::test]
async fn five_thousand_endpoints_without_a_server_are_all_judged() {
    // A port that somebody listens on, and so nobody else gets, at an address that none of them has.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = |number| SocketAddr::from((Ipv4Addr::from(0x7f00_0002 + number), port));
    let addresses: Vec<_> = (0..5_000_u32).map(address).collect();
    let world = World::start(&config(Probe::Tcp), &addresses);
    let are_judged = |world: &World| (0..5_000).all(|place| world.withheld(place) == [Withheld::Unhealthy]);
    world.until("all are out", are_judged).await;
}

// This clock stands while any task can go on, so that connections which were cut off are seen to end before the next time-outs,
// however busy the machine is.
#[tokio::test(start_paused = true)]
async fn no_more_checks_than_the_limit_wait_for_an_answer_and_all_have_their_turn() {
    const ENDPOINTS: usize = 40;
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut addresses = Vec::new();
    for _ in 0..ENDPOINTS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                most.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                let mut read = vec![0; 4096];
                while matches!(stream.read(&mut read).await, Ok(1..)) {}
                open.fetch_sub(1, Relaxed);
            }
        });
    }
    // With an interval as short as the timeout, all of them would be asked at once.
    let timeout = Duration::from_millis(20);
    let world = World::start_with(&HealthCheckConfig { timeout, ..config(check()) }, &addresses, 4);
    let are_judged =
        |world: &World| (0..ENDPOINTS).all(|place| world.withheld(place) == [Withheld::Unhealthy]);
    world.until("all are out", are_judged).await;
    // A connection that was cut off may not have been seen to end when the next one is.
    let most = most.load(Relaxed);
    assert!((4..=8).contains(&most), "{most} at once");
}
