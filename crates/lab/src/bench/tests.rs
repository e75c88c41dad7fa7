//! The tools against each other, and each against tonic, so that they do not share a mistake.

use super::backend::{Answer, BenchBackend};
use super::generator::{self, GeneratorConfig, GeneratorError, Report, Shape, Workload};
use super::relay::Relay;
use crate::backend::{Backend, BackendConfig};
use crate::pb::echo::EchoRequest;
use crate::pb::echo::echo_service_client::EchoServiceClient;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const LONG: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_millis(50);

/// Runs `test` against a backend on a thread of its own; returns the test's result and the calls answered.
fn with_backend<T>(answer: Answer, test: impl FnOnce(SocketAddr) -> T) -> (T, u64) {
    let backend = BenchBackend::bind(&[ANY], answer).unwrap();
    let address = backend.local_addrs().unwrap()[0];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| backend.run(LONG, &stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(address)));
        stop.store(true, Ordering::Relaxed);
        let answered = serving.join().unwrap().unwrap();
        (result.unwrap(), answered)
    })
}

fn brief(connect: SocketAddr, connections: usize, streams: usize) -> GeneratorConfig {
    GeneratorConfig { connections, streams, duration: BRIEF, ..GeneratorConfig::new(connect) }
}

fn run(config: &GeneratorConfig) -> Report {
    generator::run(config, || ()).unwrap()
}

#[test]
fn a_closed_loop_completes_every_call_it_starts() {
    for shape in [Shape::Steady, Shape::Churn] {
        for (connections, streams) in [(1, 100), (10, 10), (100, 1), (1, 1)] {
            let (report, answered) = with_backend(Answer::unary(34), |address| {
                run(&GeneratorConfig {
                    shape,
                    response_bytes: Some(34),
                    ..brief(address, connections, streams)
                })
            });
            assert_eq!(report.failed(), 0, "{shape:?} {connections}x{streams}: {report:?}");
            assert_eq!(report.calls, answered, "{shape:?} {connections}x{streams}");
            assert!(report.calls >= (connections * streams) as u64);
            assert!(report.latency.p50_us <= report.latency.p999_us && report.latency.p50_us > 0.0);
        }
    }
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let ((), answered) = with_backend(Answer::unary(1), |address| {
        // Places for all calls: none is left out because the machine stood still.
        let config = brief(address, 2, 1_000);
        let report = run(&GeneratorConfig {
            workload: Workload::Open { rate: 2000.0 },
            duration: 10 * BRIEF,
            ..config
        });
        assert_eq!(report.failed(), 0, "{report:?}");
        assert!((800..1200).contains(&report.calls), "seed 1: {report:?}");
    });
    assert!(answered >= 800);
}

#[test]
fn a_response_of_another_size_is_an_error() {
    let (report, _) = with_backend(Answer::unary(33), |address| {
        run(&GeneratorConfig { response_bytes: Some(34), ..brief(address, 1, 1) })
    });
    assert_eq!((report.calls, report.failed()), (0, report.errors["response of another size"]));
}

#[test]
fn messages_larger_than_a_frame_and_a_window_pass() {
    let (report, _) = with_backend(Answer::unary(200_000), |address| {
        run(&GeneratorConfig { message_bytes: 60_000, response_bytes: Some(200_000), ..brief(address, 2, 3) })
    });
    assert_eq!(report.failed(), 0, "{report:?}");
    assert!(report.calls > 0);
}

#[test]
fn endless_responses_are_counted_in_whole_messages() {
    let (report, answered) = with_backend(Answer { bytes: 34, endless_bytes: Some(65_536) }, |address| {
        run(&GeneratorConfig { workload: Workload::Download, duration: 10 * BRIEF, ..brief(address, 2, 2) })
    });
    assert_eq!((report.failed(), report.calls, answered), (0, 0, 0), "{report:?}");
    // More than all windows together: they were refilled.
    assert!(report.stream_bytes > 4 * (8 << 20), "{report:?}");
    assert!(report.stream_messages.abs_diff(report.stream_bytes / 65_541) <= 4, "{report:?}");
}

#[test]
fn endless_requests_end_with_a_whole_message() {
    let (report, answered) = with_backend(Answer::unary(0), |address| {
        run(&GeneratorConfig {
            workload: Workload::Upload,
            message_bytes: 65_536,
            duration: 10 * BRIEF,
            ..brief(address, 2, 2)
        })
    });
    assert_eq!((report.failed(), report.calls, answered), (0, 4, 4), "{report:?}");
    assert!(report.stream_bytes > 4 * (8 << 20), "{report:?}");
    assert_eq!(report.stream_bytes, report.stream_messages * 65_541);
}

#[test]
fn idle_connections_and_calls_stand_when_ready() {
    let ((), answered) = with_backend(Answer::unary(0), |address| {
        let config = GeneratorConfig { workload: Workload::Idle, ..brief(address, 200, 3) };
        let mut stood = false;
        let report = generator::run(&config, || stood = true).unwrap();
        assert!(stood);
        assert_eq!((report.calls, report.failed()), (0, 0), "{report:?}");
    });
    assert_eq!(answered, 0);
}

#[test]
fn a_relay_passes_bytes_both_ways_and_ends_both() {
    let ((), answered) = with_backend(Answer::unary(34), |backend| {
        let relay = Relay::bind(ANY, vec![backend]).unwrap();
        let address = relay.local_addr().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let relaying = scope.spawn(|| relay.run(LONG, &stop));
            for (connections, streams) in [(1, 100), (20, 1)] {
                let report = run(&brief(address, connections, streams));
                assert_eq!(report.failed(), 0, "{report:?}");
                assert!(report.calls > 100);
            }
            stop.store(true, Ordering::Relaxed);
            relaying.join().unwrap().unwrap();
        });
    });
    assert!(answered > 200);
}

#[test]
fn a_peer_that_is_not_there_is_named() {
    let address = {
        let listener = std::net::TcpListener::bind(ANY).unwrap();
        listener.local_addr().unwrap()
    };
    let error = generator::run(&brief(address, 1, 1), || ()).unwrap_err();
    assert!(matches!(error, GeneratorError::Connect { number: 0, .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
}

#[test]
fn a_backend_that_dies_is_counted() {
    let listener = std::net::TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::{Read as _, Write as _};
            let (mut socket, _) = listener.accept().unwrap();
            // An empty SETTINGS, then the end once a request is there.
            socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
            let mut seen = 0;
            while seen < 200 {
                seen += socket.read(&mut [0; 64]).unwrap();
            }
        });
        let report = run(&GeneratorConfig { duration: LONG, ..brief(address, 1, 3) });
        assert_eq!((report.calls, report.errors["lost with its connection"]), (0, 3), "{report:?}");
    });
}

#[test]
fn a_value_out_of_bounds_is_named() {
    let error = generator::run(&brief(ANY, 0, 1), || ()).unwrap_err();
    assert_eq!(error.to_string(), "connections is 0; give a value from 1 to 20000");
}

#[test]
fn the_generator_understands_a_tonic_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let backend = runtime.block_on(Backend::start(BackendConfig::local("b"))).unwrap();
    let path = "/evenkeel.echo.v1.EchoService/Unary".to_owned();
    for shape in [Shape::Steady, Shape::Churn] {
        let config = GeneratorConfig { path: path.clone(), shape, ..brief(backend.local_addr(), 2, 10) };
        // A message of zero bytes is an empty request; tonic answers with the backend's name and the message count.
        let report = run(&GeneratorConfig { message_bytes: 0, response_bytes: Some(5), ..config });
        assert_eq!(report.failed(), 0, "{report:?}");
        assert!(report.calls >= 20);
    }
    let unknown = GeneratorConfig { path: "/no.Such/Method".to_owned(), ..brief(backend.local_addr(), 1, 1) };
    let report = run(&unknown);
    assert_eq!((report.calls, report.failed()), (0, report.errors["grpc-status 12"]), "{report:?}");
}

#[test]
fn the_backend_understands_a_tonic_client() {
    let ((), answered) = with_backend(Answer::unary(0), |address| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = format!("http://{address}");
            let mut client = EchoServiceClient::connect(target).await.unwrap();
            for bytes in [0, 10, 1_000_000] {
                let request = EchoRequest { payload: vec![0; bytes], ..EchoRequest::default() };
                let response = client.unary(request).await.unwrap();
                assert_eq!(response.into_inner(), crate::pb::echo::EchoResponse::default());
            }
        });
    });
    assert_eq!(answered, 3);
}
