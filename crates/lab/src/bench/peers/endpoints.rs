//! Whether the cost of a call depends on the number of endpoints: the same load with a few and with many of them.
//!
//! The endpoints are addresses of 127.0.0.0/8 that all reach one backend, which listens on the loopback device as a whole.
//! The shape is one call at a time: with more in flight, calls to few endpoints share system calls and those to many
//! cannot, which would measure batching and not the choice of an endpoint.

use super::blocks::{Load, generate};
use super::contender::{Contender, Setting};
use super::process::Process;
use super::results::{EndpointCost, PeerResults};
use super::{PeersConfig, UNARY_BYTES};
use crate::bench::backend::{Answer, BenchBackend};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Endpoints of the base case, and of the large one.
const FEW: u16 = 3;
const MANY: u16 = 10_000;
/// The first endpoint's address; the others follow it.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// Connections that the backend's queue holds before they are accepted: all endpoints are connected to at once.
const ACCEPT_QUEUE: i32 = 4096;
/// The load that is measured.
const LOAD: Load = Load::Closed { connections: 1, streams: 1 };
/// The load before it, which reaches each of the endpoints several times.
const WARM_UP: Load = Load::Closed { connections: 10, streams: 100 };
/// Longest run of the backend: a bound, never the plan.
const BACKEND_DURATION_MAX: Duration = Duration::from_secs(3600);

/// Measures our program and adds the outcome to its results. The others are not bounded by it.
pub(super) fn measure(setting: &Setting<'_>, results: &mut PeerResults) {
    match try_measure(setting) {
        Ok(cost) => results.endpoints = Some(cost),
        Err(reason) => results.fault("endpoints", &reason),
    }
}

fn try_measure(setting: &Setting<'_>) -> Result<EndpointCost, String> {
    let listener =
        listen_on_loopback().map_err(|error| format!("cannot listen on all of 127.0.0.0/8: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let backend =
        BenchBackend::new(vec![listener], Answer::unary(UNARY_BYTES)).map_err(|error| error.to_string())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| backend.run(BACKEND_DURATION_MAX, &stop));
        let outcome = compare(setting, port);
        stop.store(true, Ordering::Relaxed);
        let served = serving.join().expect("the backend's loop does not panic");
        served.map_err(|error| format!("the backend's loop broke: {error}"))?;
        outcome
    })
}

fn compare(setting: &Setting<'_>, port: u16) -> Result<EndpointCost, String> {
    let few = start(setting, FEW, port)?;
    let many = start(setting, MANY, port)?;
    let mut cost = EndpointCost { few: FEW.into(), many: MANY.into(), ..EndpointCost::default() };
    for process in [&few, &many] {
        generate(setting.config, &[process.address], WARM_UP).map_err(|error| error.to_string())?;
    }
    for _ in 0..setting.config.rounds {
        cost.few_us_per_call.add(cpu_us_per_call(setting.config, &few)?);
        cost.many_us_per_call.add(cpu_us_per_call(setting.config, &many)?);
    }
    Ok(cost)
}

fn start(setting: &Setting<'_>, count: u16, port: u16) -> Result<Process, String> {
    let path = setting.directory.join(format!("endpoints-{count}.yaml"));
    fs::write(&path, list(count, port)).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = format!("evenkeel-{count}");
    Contender::start_evenkeel(setting, &format!("file:{}", path.display()), &name)
        .map_err(|error| error.to_string())
}

/// An endpoint file: a YAML list of addresses.
fn list(count: u16, port: u16) -> String {
    let mut text = String::new();
    for number in 0..u32::from(count) {
        let address = SocketAddr::from((Ipv4Addr::from_bits(FIRST.to_bits() + number), port));
        writeln!(text, "- \"{address}\"").expect("writing to a string cannot fail");
    }
    text
}

fn cpu_us_per_call(config: &PeersConfig, process: &Process) -> Result<f64, String> {
    let before = process.cpu_time();
    let report = generate(config, &[process.address], LOAD).map_err(|error| error.to_string())?;
    let cpu = process.cpu_time().saturating_sub(before);
    if report.failed() > 0 || report.calls == 0 {
        return Err(format!("{:?}", report.errors));
    }
    Ok(cpu.as_secs_f64() * 1e6 / report.calls as f64)
}

/// Listens on every address of the loopback device, and on no other device.
fn listen_on_loopback() -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn endpoints_are_distinct_addresses_of_the_loopback_network() {
        let text = list(MANY, 4000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), usize::from(MANY));
        assert_eq!((lines[0], lines[255]), ("- \"127.1.0.1:4000\"", "- \"127.1.1.0:4000\""));
        assert_eq!(lines[9_999], "- \"127.1.39.16:4000\"");
    }

    #[test]
    fn one_listener_takes_all_of_them() {
        let listener = listen_on_loopback().unwrap();
        let port = listener.local_addr().unwrap().port();
        for number in [0, 1, 255, 9_999] {
            let address = Ipv4Addr::from_bits(FIRST.to_bits() + number);
            TcpStream::connect((address, port)).unwrap();
        }
    }
}
