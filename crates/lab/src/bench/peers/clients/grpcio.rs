//! grpcio, the Python client over C-core: one channel, every call with a deadline and a trace id of its own.
//!
//! The project's own generator has such a load as well (*churn*). What differs is that nothing here was chosen by this
//! project: C-core decides what it puts into the header table, how it rounds deadlines, and when it writes.

use super::process::{ClientError, ClientProcess};
use super::{Sample, WAIT_MAX, version_of, warm_up};
use crate::bench::peers::contender::Setting;
use crate::bench::peers::process::Process;
use crate::bench::peers::{PeersConfig, UNARY_BYTES};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Calls in flight.
const IN_FLIGHT: usize = 40;
/// The client; it is written beside the contenders' configurations.
const CLIENT: &str = include_str!("grpcio.py");

/// What the client prints in the end.
#[derive(Debug, Deserialize)]
struct Report {
    calls: u64,
    /// Failed calls by kind.
    errors: BTreeMap<String, u64>,
    elapsed_seconds: f64,
}

/// The version of grpcio, if Python has it.
pub(super) fn version(config: &PeersConfig) -> Result<String, ClientError> {
    let mut command = Command::new(config.programs.join("python"));
    command.args(["-I", "-c", "import grpc.aio; print(grpc.__version__)"]);
    version_of(command).ok_or(ClientError::Absent("grpcio"))
}

/// One block.
pub(super) fn block(setting: &Setting<'_>, process: &Process) -> Result<Sample, ClientError> {
    let script = setting.directory.join("grpcio.py");
    fs::write(&script, CLIENT)?;
    let mut command = Command::new(setting.config.programs.join("python"));
    command.arg("-I").arg(script);
    for (name, value) in [
        ("--connect", process.address.to_string()),
        ("--in-flight", IN_FLIGHT.to_string()),
        ("--warm-up", warm_up(setting.config).as_secs_f64().to_string()),
        ("--duration", setting.config.block.as_secs_f64().to_string()),
        ("--message-bytes", UNARY_BYTES.to_string()),
    ] {
        command.args([name, value.as_str()]);
    }
    let mut client = ClientProcess::start(command, &setting.directory.join("grpcio.log"))?;
    let ready = client.line(WAIT_MAX)?;
    if ready != "ready" {
        return Err(ClientError::Unreadable(ready));
    }
    // No call is in flight, and the client waits.
    let before = process.cpu_time();
    client.prompt()?;
    let line = client.line(setting.config.block + WAIT_MAX)?;
    sample(&line, process.cpu_time().saturating_sub(before))
}

/// Reads the client's report.
fn sample(line: &str, cpu: Duration) -> Result<Sample, ClientError> {
    let unreadable = || ClientError::Unreadable(line.to_owned());
    let report: Report = serde_json::from_str(line).map_err(|_not_a_report| unreadable())?;
    if !report.errors.is_empty() {
        return Err(ClientError::Calls(format!("{:?}", report.errors)));
    }
    let elapsed = Duration::try_from_secs_f64(report.elapsed_seconds).map_err(|_negative| unreadable())?;
    Ok(Sample { calls: report.calls, elapsed, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_sample() {
        let cpu = Duration::from_millis(30);
        let line = r#"{"calls": 1500, "errors": {}, "elapsed_seconds": 0.5}"#;
        assert_eq!(
            sample(line, cpu).unwrap(),
            Sample { calls: 1500, elapsed: Duration::from_millis(500), cpu }
        );
    }

    #[test]
    fn failed_calls_and_other_words_are_no_sample() {
        let failed = r#"{"calls": 1500, "errors": {"UNAVAILABLE": 2}, "elapsed_seconds": 0.5}"#;
        let error = sample(failed, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), r#"calls failed: {"UNAVAILABLE": 2}"#);
        for line in ["", "Traceback", r#"{"calls": 1, "errors": {}, "elapsed_seconds": -1}"#] {
            assert!(matches!(sample(line, Duration::ZERO), Err(ClientError::Unreadable(_))), "{line}");
        }
    }
}
