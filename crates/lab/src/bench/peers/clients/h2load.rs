//! h2load, nghttp2's load generator, at 10 x 10.
//!
//! Why a second load of this shape? The project's generator costs so little that what it loads hardly ever sleeps. h2load
//! needs twice the time for a call: contenders wait and wake more often (the relay 0.06 times for each call instead of 0.01),
//! which costs all of them alike. What the two loads have in common: the ten calls of a connection move in step, one write
//! for all of them. A relay forwards such a batch whole (0.4 reads and writes for each call under either load); a proxy that
//! balances calls spreads it over three backends.

use super::process::{ClientError, ClientProcess};
use super::{Sample, WAIT_MAX, version_of, warm_up};
use crate::bench::peers::contender::Setting;
use crate::bench::peers::process::Process;
use crate::bench::peers::{PeersConfig, UNARY_BYTES};
use crate::bench::wire::put_message_prefix;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Connections, and calls in flight on each.
const CONNECTIONS: usize = 10;
const STREAMS: usize = 10;
/// Lines that h2load prints about a run; a bound, it has about thirty.
const LINES_MAX: usize = 1000;

/// The version of h2load.
pub(super) fn version(config: &PeersConfig) -> Result<String, ClientError> {
    let mut command = Command::new(config.programs.join("h2load"));
    command.arg("--version");
    version_of(command).ok_or(ClientError::Absent("h2load"))
}

/// One block.
pub(super) fn block(setting: &Setting<'_>, process: &Process) -> Result<Sample, ClientError> {
    run(setting, process, warm_up(setting.config))?;
    let before = process.cpu_time();
    let calls = run(setting, process, setting.config.block)?;
    // The calls in flight when h2load stops, a hundred of some ten thousand, cost but do not count.
    let cpu = process.cpu_time().saturating_sub(before);
    Ok(Sample { calls, elapsed: setting.config.block, cpu })
}

/// Lets h2load make calls; returns their number.
fn run(setting: &Setting<'_>, process: &Process, duration: Duration) -> Result<u64, ClientError> {
    let body = setting.directory.join("h2load-body");
    let mut message = Vec::new();
    put_message_prefix(&mut message, UNARY_BYTES);
    message.extend(std::iter::repeat_n(b'e', UNARY_BYTES as usize));
    fs::write(&body, message)?;
    let mut command = Command::new(setting.config.programs.join("h2load"));
    command
        .args(["--clients", &CONNECTIONS.to_string(), "--max-concurrent-streams", &STREAMS.to_string()])
        .args(["--duration", &format!("{}ms", duration.as_millis())])
        .arg("--data")
        .arg(&body)
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .arg(format!("http://{}/evenkeel.bench.Bench/Unary", process.address));
    let client = ClientProcess::start(command, &setting.directory.join("h2load.log"))?;
    for _ in 0..LINES_MAX {
        let line = client.line(duration + WAIT_MAX)?;
        if let Some(counts) = line.strip_prefix("requests: ") {
            return succeeded(counts);
        }
    }
    Err(ClientError::Unreadable("requests: nothing".to_owned()))
}

/// Reads `N total, N started, N done, N succeeded, N failed, N errored, N timeout`.
fn succeeded(counts: &str) -> Result<u64, ClientError> {
    let count = |name: &str| {
        let count = counts.split(", ").find_map(|part| part.strip_suffix(name)?.trim().parse::<u64>().ok());
        count.ok_or_else(|| ClientError::Unreadable(counts.to_owned()))
    };
    if count("failed")? + count("errored")? + count("timeout")? > 0 {
        return Err(ClientError::Calls(counts.to_owned()));
    }
    count("succeeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2loads_counts_are_read() {
        let counts =
            "176300 total, 176400 started, 176300 done, 176290 succeeded, 0 failed, 0 errored, 0 timeout";
        assert_eq!(succeeded(counts).unwrap(), 176_290);
        let failed = counts.replace("0 errored", "1 errored");
        assert!(matches!(succeeded(&failed), Err(ClientError::Calls(_))));
        assert!(matches!(succeeded("3 total"), Err(ClientError::Unreadable(_))));
    }
}
