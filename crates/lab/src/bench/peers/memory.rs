//! Memory of a fresh process: at rest, with idle connections, with live calls.

use super::contender::{Contender, Setting};
use super::process::Process;
use super::results::{Memory, PeerResults};
use crate::bench::generator::{self, GeneratorConfig, Workload};
use crate::clock::{Clock, pause};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Idle connections held at once; fewer if the limit of open files does not allow them.
const IDLE_CONNECTIONS: usize = 10_000;
/// Connections of the live calls.
const LIVE_CONNECTIONS: usize = 50;
/// Live calls on each of them.
const LIVE_STREAMS: usize = 100;
/// Longest time to connect all.
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// How long connections are held: the memory must have settled within it.
const HOLD: Duration = Duration::from_secs(6);
/// Longest time for the memory to settle, below [`HOLD`].
const SETTLE_MAX: Duration = Duration::from_secs(5);
const _: () = assert!(SETTLE_MAX.as_secs() < HOLD.as_secs(), "the connections must outlive the measurement");
/// Time between two looks at the memory; it has settled once two looks agree.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Measures a contender and adds the outcome to its results.
pub(super) fn measure(setting: &Setting<'_>, contender: Contender, results: &mut PeerResults) {
    match try_measure(setting, contender) {
        Ok(memory) => results.memory = Some(memory),
        Err(reason) => results.fault("memory", &reason),
    }
}

fn try_measure(setting: &Setting<'_>, contender: Contender) -> Result<Memory, String> {
    let start = || contender.start(setting).map_err(|error| error.to_string());
    // Both ends of each connection may be in one process: this program has a generator and, behind a relay, a backend.
    let idle_connections = IDLE_CONNECTIONS.min((setting.descriptors as usize).saturating_sub(500) / 2);
    let process = start()?;
    let rest = settled(&process);
    let idle = held(&process, idle_connections, 0)?;
    drop(process);

    let process = start()?;
    let connected = held(&process, LIVE_CONNECTIONS, 0)?;
    let live = held(&process, LIVE_CONNECTIONS, LIVE_STREAMS)?;
    let per = |more: u64, less: u64, count: usize| more.saturating_sub(less) as f64 / count as f64;
    Ok(Memory {
        rest_mib: rest as f64 / f64::from(1 << 20),
        idle_connections: idle_connections as u64,
        per_idle_connection_bytes: per(idle, rest, idle_connections),
        live_calls: (LIVE_CONNECTIONS * LIVE_STREAMS) as u64,
        per_live_call_bytes: per(live, connected, LIVE_CONNECTIONS * LIVE_STREAMS),
    })
}

/// Resident memory once it no longer changes by much.
fn settled(process: &Process) -> u64 {
    let clock = Clock::start();
    let mut last = process.resident_bytes();
    loop {
        pause(LOOK_INTERVAL);
        let now = process.resident_bytes();
        if now.abs_diff(last) <= last / 200 || clock.now() + LOOK_INTERVAL > SETTLE_MAX {
            return now;
        }
        last = now;
    }
}

/// Resident memory while connections, with open calls on them, are held.
fn held(process: &Process, connections: usize, streams: usize) -> Result<u64, String> {
    let config = GeneratorConfig {
        connections,
        streams,
        duration: HOLD,
        workload: Workload::Idle,
        ..GeneratorConfig::new(process.address)
    };
    thread::scope(|scope| {
        let (stand, stood) = mpsc::channel();
        let holding = scope.spawn(move || {
            generator::run(&config, || {
                // The receiver may have given up: then nobody needs to know.
                let _ = stand.send(());
            })
        });
        let bytes = stood.recv_timeout(CONNECT_MAX).map(|()| settled(process));
        let report =
            holding.join().expect("the generator does not panic").map_err(|error| error.to_string())?;
        if report.failed() > 0 {
            return Err(format!("{connections} connections with {streams} calls each: {:?}", report.errors));
        }
        bytes.map_err(|_| format!("{connections} connections did not stand within 60 s"))
    })
}
