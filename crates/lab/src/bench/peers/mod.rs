//! Compares proxies: what a call costs each of them, on one core, in turns.
//!
//! Setting: each proxy has one worker and is pinned to one core; the generator and three backends are threads of this
//! program, pinned to another. All proxies stay up, and a *block* (one proxy, one load) takes a few seconds; a round is one
//! block for each of them, so that slow changes of the machine hit all alike. Reported are medians over the rounds, with
//! minimum and maximum. Each round begins with another contender, so that none always follows the same one.
//!
//! What is measured:
//! - CPU time per completed call, closed loop: the scheduler's own account of all the proxy's threads, divided by the calls
//!   that ended well. It can be compared at any load; calls per second cannot, since generator and backends share a core.
//! - The same with calls made by foreign clients: grpcio, whose every call has a fresh deadline and trace id, and h2load.
//! - Added latency at a fixed rate, open loop: percentiles through the proxy less those without one, counted from each
//!   call's planned time, in several short blocks a round, each with a warm-up of its own on the same connections. A turn
//!   is a block without a proxy and one with each; all blocks of a turn have the same planned times, each turn has others.
//! - Bytes per second of the proxy's CPU time, one large stream each way.
//! - System calls per call, counted by `perf stat` in short blocks of their own.
//! - Memory: at rest, per idle connection, per live call.
//! - For our own program: CPU time per call with few and with many endpoints.
//!
//! A block in which any call failed is no sample: it is reported as a fault.

mod blocks;
mod clients;
mod contender;
mod endpoints;
mod memory;
mod process;
mod results;
mod syscalls;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

pub use contender::Contender;
pub use results::{
    EndpointCost, ForeignClient, Memory, PeerResults, Presence, Results, Settings, Skipped, Spread,
};
pub use table::markdown;
pub use verdict::{Verdict, verdicts};

use super::backend::{Answer, BenchBackend};
use super::generator::LatencyReport;
use crate::clock::Clock;
use blocks::{Load, SHORT_BLOCKS};
use clients::Client;
use contender::Setting;
use process::{Process, pin, raise_descriptor_limit};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The core of the proxies.
const PROXY_CORE: usize = 0;
/// The core of generator and backends.
const LOAD_CORE: usize = 1;
/// Backends behind each proxy.
const BACKENDS: u8 = 3;
/// Longest run of the backends: a bound, never the plan.
const BACKENDS_DURATION_MAX: Duration = Duration::from_secs(4 * 3600);
/// Bytes of the messages of unary calls: a small request and its answer.
const UNARY_BYTES: u32 = 34;
/// Bytes of the messages of large streams.
const STREAM_MESSAGE_BYTES: u32 = 64 << 10;

/// What to compare, and how thoroughly.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// The program under test; `None`: only the others.
    pub evenkeel: Option<PathBuf>,
    /// Folder with the foreign programs.
    pub programs: PathBuf,
    /// This program, for the relay.
    pub own_program: PathBuf,
    /// The contenders; empty: all.
    pub only: Vec<Contender>,
    /// What to measure; empty: all.
    pub measures: Vec<Measure>,
    /// Rounds. Default 5.
    pub rounds: usize,
    /// Length of a block. Default 2 s.
    pub block: Duration,
    /// Planned calls per second for the latency. Default 2,000: a small part of what the slowest contender can do.
    pub rate: f64,
}

/// One kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// CPU time per call.
    Cpu,
    /// CPU time per call of foreign clients: grpcio and h2load.
    Clients,
    /// Added latency at a fixed rate.
    Latency,
    /// Bytes per CPU second of one large stream.
    Stream,
    /// System calls per call.
    Syscalls,
    /// Memory at rest, per idle connection, per live call.
    Memory,
    /// CPU time per call of our own program with 3 and with 10,000 endpoints.
    Endpoints,
}

/// Why the comparison could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// Generator and proxy need a core each.
    #[error("this machine has {0} core; the comparison needs two, one for the proxy and one for the load")]
    Cores(usize),
    /// No contender could be started.
    #[error("no contender could be started ({0}); install the peers, or name the program with --evenkeel")]
    Nobody(String),
    /// The system refused something that the setting needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> PeersError {
    move |source| PeersError::System { what, source }
}

/// Makes the comparison; `progress` gets a line for each step.
///
/// # Errors
/// [`PeersError`] if the setting cannot be had. A contender that is absent, does not start or fails calls is part of the
/// results.
///
/// # Panics
/// If one of its own threads does, which is a mistake in this program.
pub fn compare(config: &PeersConfig, progress: &mut dyn Write) -> Result<Results, PeersError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return Err(PeersError::Cores(cores));
    }
    let descriptors = raise_descriptor_limit().map_err(system("raise the limit of open files"))?;
    // All threads of this program inherit the core; the contenders get theirs when started.
    pin(LOAD_CORE).map_err(system("pin the load to its core"))?;
    let directory = tempfile::tempdir().map_err(system("make a folder for configurations"))?;
    let addresses: Vec<SocketAddr> =
        (2..2 + BACKENDS).map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).collect();
    let answer = Answer { bytes: UNARY_BYTES, endless_bytes: Some(STREAM_MESSAGE_BYTES) };
    let backend = BenchBackend::bind(&addresses, answer).map_err(system("listen for the backends"))?;
    let backends = backend.local_addrs().map_err(system("listen for the backends"))?;
    let setting = Setting { config, backends: &backends, directory: directory.path(), descriptors };
    let settings = Settings::of_this_machine(config, cores);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| backend.run(BACKENDS_DURATION_MAX, &stop));
        let results = Comparison { setting, progress }.run(settings);
        stop.store(true, Ordering::Relaxed);
        let served = serving.join().expect("the backends' loop does not panic");
        served.map_err(system("serve the backends' connections"))?;
        results
    })
}

struct Comparison<'a> {
    setting: Setting<'a>,
    progress: &'a mut dyn Write,
}

/// A contender that is up.
struct Running {
    contender: Contender,
    process: Process,
    results: PeerResults,
}

impl Comparison<'_> {
    fn run(mut self, settings: Settings) -> Result<Results, PeersError> {
        let config = self.setting.config;
        let (mut running, skipped) = self.start_all();
        if running.is_empty() {
            let reasons: Vec<String> = skipped.iter().map(ToString::to_string).collect();
            return Err(PeersError::Nobody(reasons.join("; ")));
        }
        let wants = |measure| config.measures.is_empty() || config.measures.contains(&measure);
        let clients = if wants(Measure::Clients) { self.find_clients() } else { Vec::new() };
        let mut direct = Vec::new();
        for round in 0..config.rounds {
            if wants(Measure::Cpu) {
                for load in Load::CPU {
                    self.round(round, &mut running, &load, |peer| blocks::block(config, peer, load));
                }
            }
            for (client, found) in Client::ALL.iter().zip(&clients) {
                if let Presence::Version(_) = found.presence {
                    let setting = self.setting;
                    self.round(round, &mut running, client, |peer| {
                        blocks::client_block(&setting, peer, *client);
                    });
                }
            }
            if wants(Measure::Latency) {
                self.latency(round, &mut running, &mut direct);
            }
            if wants(Measure::Stream) {
                for load in [Load::Download, Load::Upload] {
                    self.round(round, &mut running, &load, |peer| blocks::block(config, peer, load));
                }
            }
            if wants(Measure::Syscalls) {
                for _ in 0..SHORT_BLOCKS {
                    self.round(round, &mut running, &"system calls", |peer| syscalls::block(config, peer));
                }
            }
        }
        let contenders: Vec<Contender> = running.iter().map(|peer| peer.contender).collect();
        let mut peers: Vec<PeerResults> = running.into_iter().map(|peer| peer.results).collect();
        if wants(Measure::Memory) {
            for (contender, results) in contenders.into_iter().zip(&mut peers) {
                self.say(format_args!("memory: {contender}"));
                memory::measure(&self.setting, contender, results);
            }
        }
        if wants(Measure::Endpoints)
            && let Some(ours) = peers.iter_mut().find(|peer| peer.name == Contender::Evenkeel.to_string())
        {
            self.say(format_args!("endpoints: evenkeel"));
            endpoints::measure(&self.setting, ours);
        }
        Ok(Results::new(settings, &direct, peers, skipped, clients))
    }

    /// Looks for the foreign clients, in the order of [`Client::ALL`].
    fn find_clients(&mut self) -> Vec<ForeignClient> {
        let mut found = Vec::new();
        for client in Client::ALL {
            let presence = match client.version(self.setting.config) {
                Ok(version) => Presence::Version(version),
                Err(reason) => Presence::Missing(reason.to_string()),
            };
            match &presence {
                Presence::Version(version) => self.say(format_args!("{client}: {version}")),
                Presence::Missing(reason) => self.say(format_args!("{client}: not measured: {reason}")),
            }
            found.push(ForeignClient { load: client.to_string(), presence });
        }
        found
    }

    fn start_all(&mut self) -> (Vec<Running>, Vec<Skipped>) {
        let (mut running, mut skipped) = (Vec::new(), Vec::new());
        for contender in Contender::ALL {
            let only = &self.setting.config.only;
            if !only.is_empty() && !only.contains(&contender) {
                continue;
            }
            match contender.start(&self.setting) {
                Ok(process) => {
                    let version = contender.version(&self.setting);
                    self.say(format_args!("{contender}: {version}"));
                    running.push(Running {
                        contender,
                        process,
                        results: PeerResults::new(contender, version),
                    });
                }
                Err(reason) => {
                    self.say(format_args!("{contender}: skipped: {reason}"));
                    skipped.push(Skipped { name: contender.to_string(), reason: reason.to_string() });
                }
            }
        }
        (running, skipped)
    }

    /// One block for each contender, another one first in each round.
    fn round(
        &mut self,
        round: usize,
        running: &mut [Running],
        what: &dyn Display,
        mut block: impl FnMut(&mut Running),
    ) {
        let clock = Clock::start();
        let (late, early) = running.split_at_mut(round % running.len());
        for peer in early.iter_mut().chain(late) {
            block(peer);
        }
        self.say(format_args!("round {}: {what} took {:.0} s", round + 1, clock.now().as_secs_f64()));
    }

    /// A round's turns of latency; the latency without a proxy goes to `direct`.
    fn latency(&mut self, round: usize, running: &mut [Running], direct: &mut Vec<LatencyReport>) {
        for number in 0..SHORT_BLOCKS {
            let turn = round * SHORT_BLOCKS + number;
            let load = Load::Latency { seed: turn as u64 + 1 };
            direct.extend(self.direct_latency(round, load));
            let config = self.setting.config;
            self.round(round, running, &load, |peer| blocks::block(config, peer, load));
        }
    }

    /// The latency without any proxy.
    fn direct_latency(&mut self, round: usize, load: Load) -> Option<LatencyReport> {
        let report = blocks::generate(self.setting.config, self.setting.backends, load);
        match report {
            Ok(report) if report.failed() == 0 => Some(report.latency),
            Ok(report) => {
                self.say(format_args!("round {}: direct calls failed: {:?}", round + 1, report.errors));
                None
            }
            Err(error) => {
                self.say(format_args!("round {}: direct calls failed: {error}", round + 1));
                None
            }
        }
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        // Progress that cannot be shown is no reason to stop measuring.
        let _ = writeln!(self.progress, "{line}");
    }
}

/// Writes results as JSON, and as Markdown beside them.
///
/// # Errors
/// The system's answer if a file cannot be written.
pub fn write_files(results: &Results, json: &Path) -> io::Result<()> {
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut text = serde_json::to_string_pretty(results)?;
    text.push('\n');
    std::fs::write(json, text)?;
    std::fs::write(json.with_extension("md"), markdown(results))
}
