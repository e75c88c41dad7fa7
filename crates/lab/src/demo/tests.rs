//! The demo against a byte relay in place of a proxy: whole runs over loopback.

use super::*;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Relays each connection to the next backend in turn, on a runtime of its own: what an L4 balancer does.
fn start_relay(backends: &[SocketAddr]) -> Result<DemoProxy, Infallible> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let backends = backends.to_vec();
    let mut turns = (0..backends.len()).cycle();
    runtime.spawn(async move {
        while let Ok((mut downstream, _)) = listener.accept().await {
            let backend = backends[turns.next().unwrap()];
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(backend).await?;
                tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await
            });
        }
    });
    Ok(DemoProxy::new(address, move || runtime.shutdown_background()))
}

fn brief() -> DemoConfig {
    DemoConfig { duration: Duration::from_secs(1), rate: 200, output: Output::Plain, ..DemoConfig::default() }
}

#[test]
fn a_run_counts_calls_shares_and_latency() {
    let mut out = Vec::new();
    let summary = run(&brief(), start_relay, &mut out).unwrap();
    assert_eq!(summary.failed, 0, "{summary:?}");
    assert_eq!(summary.backends.iter().map(|backend| backend.calls).sum::<u64>(), summary.calls);
    // Two connections over an L4 relay reach two of the three backends: the problem that the proxy solves.
    let reached: Vec<bool> = summary.backends.iter().map(|backend| backend.calls > 0).collect();
    assert_eq!(reached, [true, true, false]);
    assert!(summary.latency.p50 <= summary.latency.p99 && !summary.latency.p99.is_zero());
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("calls/s") && text.contains("failed       none"), "{text}");
}

#[test]
fn a_killed_backend_is_seen_in_the_errors_and_comes_back() {
    // One backend, so that the relay has no way around the dead one.
    let config = DemoConfig { backends: 1, kill: true, output: Output::Json, ..brief() };
    let mut out = Vec::new();
    let summary = run(&config, start_relay, &mut out).unwrap();
    assert!(summary.errors.iter().any(|error| error.code != "OK" && error.calls > 0), "{summary:?}");
    let texts: Vec<&str> = summary.events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["backend-1 killed in the middle of its calls", "backend-1 is back"]);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["calls"], summary.calls);
}

#[test]
fn a_proxy_that_does_not_start_is_an_error() {
    let refuse = |_: &[SocketAddr]| Err::<DemoProxy, _>("port 50051 is taken");
    let error = run(&brief(), refuse, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the proxy did not start: port 50051 is taken");
}

#[test]
fn a_value_out_of_bounds_is_an_error_before_anything_starts() {
    let config = DemoConfig { rate: 0, ..brief() };
    let error =
        run(&config, |_: &[SocketAddr]| Err::<DemoProxy, _>("not reached"), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "--rate is 0; give a value from 1 to 20000");
}
