//! The demo in plain text: a line each second, and the final table.

use crate::demo::tally::code_name;
use crate::demo::{Latencies, Snapshot, Summary};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;
use tonic::Code;

/// The line of one second: what happened in it, and the share of each backend.
#[must_use]
pub fn plain_line(snapshot: &Snapshot) -> String {
    let latency = snapshot.latency_last_second;
    let answered: u64 = snapshot.backends.iter().map(|backend| backend.calls_last_second).sum();
    let shares = snapshot
        .backends
        .iter()
        .map(|backend| format!("{} {:.0}%", backend.name, percent(backend.calls_last_second, answered)));
    format!(
        "{:>3}s  {:>6} calls/s  p50 {} ms  p90 {} ms  p99 {} ms  failed {}  {}",
        snapshot.at.as_secs(),
        snapshot.history.last().copied().unwrap_or(0),
        millis(latency.p50),
        millis(latency.p90),
        millis(latency.p99),
        snapshot.failed,
        shares.collect::<Vec<_>>().join("  "),
    )
}

/// Writes the events that were not shown yet and the line of the second; returns the number of these events.
pub(super) fn write_second(out: &mut dyn Write, snapshot: &Snapshot, shown: usize) -> io::Result<usize> {
    let new = snapshot.events.get(shown..).unwrap_or_default();
    for event in new {
        writeln!(out, "{:>3}s  >> {}", event.at.as_secs(), event.text)?;
    }
    writeln!(out, "{}", plain_line(snapshot))?;
    out.flush()?;
    Ok(new.len())
}

/// The result of a run as a table.
#[must_use]
pub fn summary_table(summary: &Summary) -> String {
    let mut text = String::new();
    let Latencies { p50, p90, p99, max } = summary.latency;
    let mut line = |label: &str, value: String| {
        writeln!(text, "{label:<12} {value}").expect("writing to a string cannot fail");
    };
    line(
        "calls",
        format!(
            "{} in {:.1} s, {:.0} per second",
            summary.calls,
            summary.elapsed.as_secs_f64(),
            summary.calls_per_second
        ),
    );
    line(
        "latency",
        format!(
            "p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
            millis(p50),
            millis(p90),
            millis(p99),
            millis(max)
        ),
    );
    for backend in &summary.backends {
        let (calls, address) = (backend.calls, backend.address);
        line(&backend.name, format!("{:>5.1} %  {calls:>8} calls  at {address}", backend.share * 100.0));
    }
    let failed = percent(summary.failed, summary.calls);
    line(
        "failed",
        match summary.failed {
            0 => "none".to_owned(),
            calls => format!("{calls} calls ({failed:.2} %)"),
        },
    );
    for error in &summary.errors {
        line("", format!("{:>8} x {}", error.calls, error.code));
    }
    for event in &summary.events {
        line("event", format!("{:.1} s: {}", event.at.as_secs_f64(), event.text));
    }
    text
}

/// The statuses other than OK, with their counts.
pub(super) fn errors_text(errors: &[(Code, u64)]) -> String {
    if errors.is_empty() {
        return "none".to_owned();
    }
    let parts = errors.iter().map(|(code, calls)| format!("{calls} x {}", code_name(*code)));
    parts.collect::<Vec<_>>().join(", ")
}

pub(super) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

pub(super) fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}
