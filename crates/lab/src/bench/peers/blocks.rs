//! Blocks: one load on one contender, with the CPU time that it cost.

use super::clients::Client;
use super::contender::Setting;
use super::results::PeerResults;
use super::{PeersConfig, Running, STREAM_MESSAGE_BYTES, UNARY_BYTES};
use crate::bench::generator::{self, GeneratorConfig, GeneratorError, Report, Shape, Workload};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Part of a block that comes before it, unmeasured: connections to the backends, tables, caches.
pub(super) const WARM_UP_DIVISOR: u32 = 8;
/// Short blocks in each round for what a single disturbance spoils: the 99th percentile, and how many calls share a system
/// call. Their median over all rounds bears a disturbed block; that of one long block for each round would not.
pub(super) const SHORT_BLOCKS: usize = 3;
/// A short block's part of a block.
pub(super) const SHORT_DIVISOR: u32 = 2;

/// What a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// So many connections, with so many calls in flight on each.
    Closed { connections: usize, streams: usize },
    /// 40 calls in flight on one connection, each with a fresh deadline and trace id.
    Churn,
    /// Calls at a fixed rate over ten connections, for a short block. The seed decides at which times.
    Latency { seed: u64 },
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
            Self::Latency { .. } => f.write_str("latency"),
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
            Self::Latency { seed } => {
                // Fresh connections are slow at first, and the slowest calls are what is measured.
                let warm_up = config.block / WARM_UP_DIVISOR;
                GeneratorConfig {
                    connections: 10,
                    streams: 100,
                    duration: warm_up + config.block / SHORT_DIVISOR,
                    warm_up,
                    workload: Workload::Open { rate: config.rate },
                    seed,
                    ..unary
                }
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

/// Makes calls that are not measured.
pub(super) fn warm_up(
    config: &PeersConfig,
    connect: &[SocketAddr],
    load: Load,
) -> Result<(), GeneratorError> {
    let brief = PeersConfig { block: config.block / WARM_UP_DIVISOR, ..config.clone() };
    generate(&brief, connect, load).map(drop)
}

/// Makes a block by a foreign client, and adds it to the contender's results.
pub(super) fn client_block(setting: &Setting<'_>, peer: &mut Running, client: Client) {
    match client.block(setting, &peer.process) {
        Ok(sample) if sample.calls > 0 => {
            record_cpu(&mut peer.results, client.to_string(), sample.calls, sample.elapsed, sample.cpu);
        }
        Ok(_) => peer.results.fault(&client.to_string(), "no call ended"),
        Err(error) => peer.results.fault(&client.to_string(), &error.to_string()),
    }
}

fn record_cpu(results: &mut PeerResults, load: String, calls: u64, elapsed: Duration, cpu: Duration) {
    let calls = calls as f64;
    results.cpu_us_per_call.entry(load.clone()).or_default().add(cpu.as_secs_f64() * 1e6 / calls);
    results.calls_per_second.entry(load).or_default().add(calls / elapsed.as_secs_f64().max(f64::EPSILON));
}

/// Makes a block and adds it to the contender's results.
pub(super) fn block(config: &PeersConfig, peer: &mut Running, load: Load) {
    let connect = [peer.process.address];
    let warmed = match load {
        // It begins with its own.
        Load::Latency { .. } => Ok(()),
        _ => warm_up(config, &connect, load),
    };
    let before = peer.process.cpu_time();
    let report = warmed.and_then(|()| generate(config, &connect, load));
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
            let elapsed = Duration::from_secs_f64(report.elapsed_seconds);
            record_cpu(results, load.to_string(), report.calls, elapsed, cpu);
        }
        Load::Latency { .. } if report.calls > 0 => {
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
