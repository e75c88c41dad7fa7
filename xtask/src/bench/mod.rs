//! `cargo xtask bench`: measurements, never part of the tests (a shared machine would make them fail for nothing).

mod brain;
mod engine;
mod figures;
mod live;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::console::say;
use crate::peers::{self, PeersArgs};
use crate::process::{self, shell};
use crate::workspace::Workspace;

/// The foreign proxies that are compared, and the clients that load them: h2load comes with nghttp2, grpcio with Python.
const PEERS: [&str; 5] = ["haproxy", "nginx", "nghttp2", "envoy", "python"];

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench peers --out docs/benchmarks/peers.json
  cargo xtask bench peers --quick --only evenkeel,haproxy
  cargo xtask bench pick              cost of a pick for each policy
  cargo xtask bench brain --out docs/benchmarks/brain.json
  cargo xtask bench live --out docs/benchmarks/live.json
  cargo xtask bench engine            instructions for each call beside the h2 crate

But for `engine` and `live`, which count, the machine should be quiet: both cores are used, and what else runs shows in the spread.")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// CPU, latency, throughput and memory beside HAProxy, nginx, nghttpx, Envoy and an L4 relay; twenty minutes.
    Peers {
        /// Arguments of `evenkeel-lab peers`; its --help lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Instructions of the engine beside the h2 crate, and of the whole worker; two minutes. Needs Valgrind.
    Engine {
        /// Where to write the figures: JSON here, Markdown beside it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Every figure of the balancing brain beside its bound, as the tests print them; some minutes.
    Brain {
        /// Also times the picks, which wants a quiet machine.
        #[arg(long)]
        picks: bool,
        /// Where to write the figures: JSON here, Markdown beside it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// What killed, frozen and slow backends cost real calls, and splits, mirrors, retries and hedges do, in counts; two minutes.
    Live {
        /// Where to write the figures: JSON here, Markdown beside it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Nanoseconds for each pick, by policy, with 3 and with 10,000 endpoints.
    Pick,
}

/// Runs a benchmark; true if it ended well.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<bool> {
    match &args.bench {
        Bench::Peers { args } => compare(workspace, args),
        Bench::Engine { out } => engine::run(workspace, out.as_deref()),
        Bench::Brain { picks, out } => brain::run(workspace, *picks, out.as_deref()),
        Bench::Live { out } => live::run(workspace, out.as_deref()),
        Bench::Pick => cargo(
            workspace,
            &["run", "--release", "--quiet", "-p", "evenkeel-balance", "--example", "pick_cost"],
        ),
    }
}

fn compare(workspace: &Workspace, args: &[String]) -> Result<bool> {
    // What cannot be had is named by the comparison itself, as skipped.
    let names = PEERS.map(str::to_owned).to_vec();
    peers::run(workspace, &PeersArgs::named(names))?;
    if !cargo(workspace, &["build", "--release", "-p", "evenkeel-cli", "-p", "evenkeel-lab"])? {
        bail!("the programs to measure do not build");
    }
    let mut command = workspace.command("target/release/evenkeel-lab", &["peers"]);
    command.args(args);
    say(format_args!("{}", shell(&command)));
    process::succeeds(&mut command)
}

fn cargo(workspace: &Workspace, args: &[&str]) -> Result<bool> {
    process::succeeds(&mut workspace.command("cargo", args))
}
