//! What a comparison found.

use super::blocks::{SHORT_BLOCKS, SHORT_DIVISOR};
use super::{Contender, PeersConfig};
use crate::bench::generator::LatencyReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::SystemTime;

/// The name of the program under test.
pub(super) const OURS: &str = "evenkeel";
/// Faults kept per contender; more of them say nothing new.
const FAULTS_MAX: usize = 20;

/// Samples of one quantity: one for each block, of which a round has one, or some short ones.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// In the order of the blocks.
    pub samples: Vec<f64>,
}

impl Spread {
    pub(super) fn add(&mut self, sample: f64) {
        self.samples.push(sample);
    }

    /// The median; `None` without samples.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            count if count % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The sample that three quarters of the others are not below; `None` without samples.
    #[must_use]
    pub fn lower_quartile(&self) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 4).copied()
    }

    /// The smallest and the largest sample.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let min = self.samples.iter().copied().min_by(f64::total_cmp)?;
        let max = self.samples.iter().copied().max_by(f64::total_cmp)?;
        Some((min, max))
    }
}

/// Memory of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident memory of a fresh process, in MiB.
    pub rest_mib: f64,
    /// Idle connections that were held.
    pub idle_connections: u64,
    /// What each of them added, in bytes.
    pub per_idle_connection_bytes: f64,
    /// Open calls that were held, 100 per connection.
    pub live_calls: u64,
    /// What each of them added, in bytes.
    pub per_live_call_bytes: f64,
}

/// Cost of a call with few and with many endpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EndpointCost {
    /// Number of endpoints in the base case.
    pub few: u64,
    /// CPU time per call with these, one call at a time, in microseconds.
    pub few_us_per_call: Spread,
    /// Number of endpoints in the large case.
    pub many: u64,
    /// CPU time per call with these likewise.
    pub many_us_per_call: Spread,
}

impl EndpointCost {
    /// Median with many endpoints over median with few.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let few = self.few_us_per_call.median().filter(|few| *few > 0.0)?;
        Some(self.many_us_per_call.median()? / few)
    }
}

/// One contender's results. What was not measured is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerResults {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// CPU time per call in microseconds, by load.
    pub cpu_us_per_call: BTreeMap<String, Spread>,
    /// Calls per second in the same blocks. For interest only: generator and backends share a core.
    pub calls_per_second: BTreeMap<String, Spread>,
    /// Median latency at the fixed rate, in microseconds, proxy and backend together.
    pub latency_p50_us: Spread,
    /// 99th percentile likewise.
    pub latency_p99_us: Spread,
    /// Megabytes (10^6 bytes) of one large stream per second of CPU time, by direction.
    pub stream_mb_per_cpu_second: BTreeMap<String, Spread>,
    /// System calls per call at 1 x 100.
    pub syscalls_per_call: Spread,
    /// Memory.
    pub memory: Option<Memory>,
    /// Cost with few and many endpoints; measured for our own program only.
    pub endpoints: Option<EndpointCost>,
    /// Blocks that are no samples, and why.
    pub faults: Vec<String>,
}

impl PeerResults {
    pub(super) fn new(contender: Contender, version: String) -> Self {
        Self {
            name: contender.to_string(),
            version,
            cpu_us_per_call: BTreeMap::new(),
            calls_per_second: BTreeMap::new(),
            latency_p50_us: Spread::default(),
            latency_p99_us: Spread::default(),
            stream_mb_per_cpu_second: BTreeMap::new(),
            syscalls_per_call: Spread::default(),
            memory: None,
            endpoints: None,
            faults: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, what: &str, reason: &str) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(format!("{what}: {reason}"));
        }
    }
}

/// A contender that took no part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// A foreign client that makes one of the loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignClient {
    /// The load that it makes.
    pub load: String,
    /// Whether it could be had.
    #[serde(flatten)]
    pub presence: Presence,
}

/// Whether a foreign client could be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It could, in this version.
    Version(String),
    /// It could not, for this reason; its load was not made.
    Missing(String),
}

/// How the comparison was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seconds since 1970 at its start.
    pub unix_time: u64,
    /// The processor's name.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// Cores of the machine.
    pub cores: usize,
    /// Load average of the last minute before it: others' work disturbs the figures.
    pub load_average: String,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of each block.
    pub block_seconds: f64,
    /// Blocks in each round for latency and system calls.
    pub short_blocks: usize,
    /// Seconds of each of these.
    pub short_block_seconds: f64,
    /// Calls per second for the latency.
    pub rate: f64,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// How it was made.
    pub settings: Settings,
    /// Median latency without a proxy, in microseconds.
    pub direct_p50_us: Spread,
    /// 99th percentile likewise.
    pub direct_p99_us: Spread,
    /// Those that took part.
    pub peers: Vec<PeerResults>,
    /// Those that did not.
    pub skipped: Vec<Skipped>,
    /// The foreign clients of loads that were asked for.
    pub clients: Vec<ForeignClient>,
}

impl Results {
    pub(super) fn new(
        settings: Settings,
        direct: &[LatencyReport],
        peers: Vec<PeerResults>,
        skipped: Vec<Skipped>,
        clients: Vec<ForeignClient>,
    ) -> Self {
        let spread = |of: fn(&LatencyReport) -> f64| Spread { samples: direct.iter().map(of).collect() };
        Self {
            settings,
            direct_p50_us: spread(|latency| latency.p50_us),
            direct_p99_us: spread(|latency| latency.p99_us),
            peers,
            skipped,
            clients,
        }
    }

    /// The results of the contender with this name.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<&PeerResults> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// Our median CPU time per call of a load over the lowest of the rivals that were measured.
    pub(super) fn cpu_ratio(&self, load: &str, rivals: &[&str]) -> Option<f64> {
        self.ratio(rivals, |peer| peer.cpu_us_per_call.get(load).and_then(Spread::median))
    }

    /// Our value over the lowest of the rivals that were measured.
    pub(super) fn ratio(&self, rivals: &[&str], value: impl Fn(&PeerResults) -> Option<f64>) -> Option<f64> {
        let ours = value(self.peer(OURS)?)?;
        let lowest = rivals.iter().filter_map(|name| value(self.peer(name)?)).min_by(f64::total_cmp)?;
        (lowest > 0.0).then(|| ours / lowest)
    }

    /// Why nothing was measured at this load, if it is for want of its client.
    pub(super) fn missing_client(&self, load: &str) -> Option<&str> {
        let client = self.clients.iter().find(|client| client.load == load)?;
        match &client.presence {
            Presence::Version(_) => None,
            Presence::Missing(reason) => Some(reason),
        }
    }
}

impl Settings {
    pub(super) fn of_this_machine(config: &PeersConfig, cores: usize) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let processor =
            processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        #[expect(clippy::disallowed_methods, reason = "a report is dated")]
        let unix_time =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            unix_time,
            processor: processor.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cores,
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            rounds: config.rounds,
            block_seconds: config.block.as_secs_f64(),
            short_blocks: SHORT_BLOCKS,
            short_block_seconds: (config.block / SHORT_DIVISOR).as_secs_f64(),
            rate: config.rate,
        }
    }
}
