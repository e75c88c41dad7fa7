//! Blocks: one load on one contender, with the CPU time that it cost.

use super::results::PeerResults;
use super::{PeersConfig, Running, STREAM_MESSAGE_BYTES, UNARY_BYTES};
use crate::bench::generator::{self, GeneratorConfig, GeneratorError, Report, Shape, Workload};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Part of a block that comes before it, unmeasured: connections to the backends, tables, caches.
const WARM_UP_DIVISOR: u32 = 8;

/// What a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// So many connections, with so many calls in flight on each.
    Closed { connections: usize, streams: usize },
    /// 40 calls in flight on one connection, each with a fresh deadline and trace id.
    Churn,
    /// Calls at a fixed rate over ten connections.
    Latency,
    /// One endless response.
    Download,
    /// One endless request.
    Upload,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { connections, streams } => write!(f, "{connections} x {streams}"),
            Self::Churn => f.write_str("churn"),
            Self::Latency => f.write_str("latency"),
            Self::Download => f.write_str("download"),
            Self::Upload => f.write_str("upload"),
        }
    }
}

impl Load {
    /// The shapes at which the CPU time per call is measured.
    pub(super) const CPU: [Self; 5] = [
        Self::Closed { connections: 1, streams: 100 },
        Self::Closed { connections: 10, streams: 10 },
        Self::Closed { connections: 100, streams: 1 },
        Self::Closed { connections: 1, streams: 1 },
        Self::Churn,
    ];

    fn generator(self, config: &PeersConfig, connect: &[SocketAddr]) -> GeneratorConfig {
        let unary = GeneratorConfig {
            connect: connect.to_vec(),
            duration: config.block,
            message_bytes: UNARY_BYTES,
            response_bytes: Some(UNARY_BYTES),
            ..GeneratorConfig::new(connect[0])
        };
        let stream = |workload| GeneratorConfig {
            workload,
            message_bytes: STREAM_MESSAGE_BYTES,
            // The answer that ends an upload is an ordinary one.
            response_bytes: None,
            ..unary.clone()
        };
        match self {
            Self::Closed { connections, streams } => GeneratorConfig { connections, streams, ..unary },
            Self::Churn => GeneratorConfig { connections: 1, streams: 40, shape: Shape::Churn, ..unary },
            Self::Latency => {
                let workload = Workload::Open { rate: config.rate };
                GeneratorConfig { connections: 10, streams: 100, workload, ..unary }
            }
            Self::Download => stream(Workload::Download),
            Self::Upload => stream(Workload::Upload),
        }
    }
}

/// Makes one run of a load against `connect`.
pub(super) fn generate(
    config: &PeersConfig,
    connect: &[SocketAddr],
    load: Load,
) -> Result<Report, GeneratorError> {
    generator::run(&load.generator(config, connect), || ())
}

/// Makes a block and adds it to the contender's results.
pub(super) fn block(config: &PeersConfig, peer: &mut Running, load: Load) {
    let connect = [peer.process.address];
    let warm_up = PeersConfig { block: config.block / WARM_UP_DIVISOR, ..config.clone() };
    let warmed = generate(&warm_up, &connect, load);
    let before = peer.process.cpu_time();
    let report = warmed.and_then(|_| generate(config, &connect, load));
    let cpu = peer.process.cpu_time().saturating_sub(before);
    match report {
        Ok(report) if report.failed() == 0 => record(&mut peer.results, load, &report, cpu),
        Ok(report) => peer.results.fault(&load.to_string(), &format!("{:?}", report.errors)),
        Err(error) => peer.results.fault(&load.to_string(), &error.to_string()),
    }
}

fn record(results: &mut PeerResults, load: Load, report: &Report, cpu: Duration) {
    let seconds = cpu.as_secs_f64();
    match load {
        Load::Closed { .. } | Load::Churn if report.calls > 0 => {
            let sample = seconds * 1e6 / report.calls as f64;
            results.cpu_us_per_call.entry(load.to_string()).or_default().add(sample);
            results.calls_per_second.entry(load.to_string()).or_default().add(report.calls_per_second);
        }
        Load::Latency if report.calls > 0 => {
            results.latency_p50_us.add(report.latency.p50_us);
            results.latency_p99_us.add(report.latency.p99_us);
        }
        Load::Download | Load::Upload if report.stream_bytes > 0 && seconds > 0.0 => {
            let sample = report.stream_bytes as f64 / seconds / 1e6;
            results.stream_mb_per_cpu_second.entry(load.to_string()).or_default().add(sample);
        }
        _ => results.fault(&load.to_string(), "no call ended"),
    }
}
