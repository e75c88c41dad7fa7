//! System calls per call, counted in the kernel by `perf stat`.
//!
//! Why perf and not strace: strace stops the program at each system call, which changes how many calls share one.
//!
//! How many calls share one also depends on what else the machine does: whoever interrupts generator or backends breaks a
//! batch of calls in two. So the count is of short blocks, each after a warm-up that is not counted, and their median is of
//! the undisturbed ones as long as these are the most.

use super::blocks::{self, Load, SHORT_DIVISOR, generate};
use super::{PeersConfig, Running};
use crate::clock::{Clock, pause};
use rustix::process::{Pid, Signal};
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The load whose calls are counted.
const LOAD: Load = Load::Closed { connections: 1, streams: 100 };
/// How long perf may take to attach or to end.
const PERF_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Counts over one short block, and adds the sample to the contender's results.
pub(super) fn block(config: &PeersConfig, peer: &mut Running) {
    match count(config, peer) {
        Ok(sample) => peer.results.syscalls_per_call.add(sample),
        Err(reason) => peer.results.fault("system calls", &reason),
    }
}

fn count(config: &PeersConfig, peer: &Running) -> Result<f64, String> {
    let connect = [peer.process.address];
    blocks::warm_up(config, &connect, LOAD).map_err(|error| error.to_string())?;
    let short = PeersConfig { block: config.block / SHORT_DIVISOR, ..config.clone() };
    let pids = peer.process.tree().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    // A file descriptor of perf's own tells when counting has begun: it enables its events through it.
    let mut perf = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pids])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("perf cannot be started: {error}"))?;
    let attached = await_attached(&mut perf);
    let report = generate(&short, &connect, LOAD);
    let text = stop(perf).map_err(|error| format!("perf did not end: {error}"))?;
    attached.map_err(|()| format!("perf could not attach: {}", text.trim()))?;
    let report = report.map_err(|error| error.to_string())?;
    if report.failed() > 0 || report.calls == 0 {
        return Err(format!("{:?}", report.errors));
    }
    let counted = parse(&text).ok_or_else(|| format!("perf said: {}", text.trim()))?;
    Ok(counted as f64 / report.calls as f64)
}

/// The count in perf's comma-separated output.
fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    line.split(',').next()?.parse().ok()
}

/// Waits until perf has opened its events; an early end is an error.
fn await_attached(perf: &mut Child) -> Result<(), ()> {
    let clock = Clock::start();
    let descriptors = format!("/proc/{}/fd", perf.id());
    while clock.now() < PERF_MAX {
        if !matches!(perf.try_wait(), Ok(None)) {
            return Err(());
        }
        let opened = std::fs::read_dir(&descriptors).into_iter().flatten().flatten().any(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().contains("perf_event"))
        });
        if opened {
            return Ok(());
        }
        pause(LOOK_INTERVAL);
    }
    Err(())
}

/// Ends perf as Ctrl-C does, upon which it prints its counts.
fn stop(mut perf: Child) -> io::Result<String> {
    if let Some(pid) = i32::try_from(perf.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, Signal::INT);
    }
    let clock = Clock::start();
    while perf.try_wait()?.is_none() {
        if clock.now() > PERF_MAX {
            perf.kill()?;
        }
        pause(LOOK_INTERVAL);
    }
    let output = perf.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_count_is_read() {
        let text = "\n12345,,raw_syscalls:sys_enter,2000123456,100.00,,\n";
        assert_eq!(parse(text), Some(12345));
        assert_eq!(parse("<not counted>,,raw_syscalls:sys_enter,0,0.00,,"), None);
        assert_eq!(parse("no such event"), None);
    }
}
