//! Developer commands, called as `cargo xtask <command>`: the tests that CI runs, house rules, foreign peers.
//!
//! Why a program and not shell scripts? It is typed, tested and linted like everything else here, and needs nothing but
//! Cargo. It is compiled on each fresh checkout, so it depends on little: no async runtime, no HTTP client.
//!
//! `cargo xtask test` is all of CI; what it runs is in [`stages`].

mod bench;
mod console;
mod fuzz;
mod peers;
mod process;
mod stages;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use console::say;
use workspace::Workspace;

/// Developer commands of Evenkeel.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:
  cargo xtask test                    all that CI runs
  cargo xtask test --only clippy,test the two that fail most
  cargo xtask tidy                    the house rules alone
  cargo xtask peers --list            foreign programs for tests and benchmarks"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all that CI runs, stage by stage, up to the first stage that fails.
    Test(stages::TestArgs),
    /// Check the house rules that clippy does not know.
    #[command(after_help = "Example:\n  cargo xtask tidy\n\n\
        Each finding is a line `path:line: rule: what is wrong; what to do`. Notes are not failures.")]
    Tidy,
    /// Measure: beside other proxies, or parts alone.
    Bench(bench::BenchArgs),
    /// Search for inputs that break a property, with cargo-fuzz.
    Fuzz(fuzz::FuzzArgs),
    /// Install foreign programs for tests and benchmarks under target/peers.
    Peers(peers::PeersArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<bool> {
    let workspace = Workspace::find()?;
    match command {
        Command::Test(args) => stages::run(&workspace, args),
        Command::Tidy => tidy::run(&workspace),
        Command::Bench(args) => bench::run(&workspace, args),
        Command::Fuzz(args) => fuzz::run(&workspace, args),
        Command::Peers(args) => peers::run(&workspace, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("cargo xtask {}", command.get_name())), "{}", command.get_name());
        }
    }
}
