//! `cargo xtask fuzz`: runs the fuzz targets with cargo-fuzz, for a time.
//!
//! The tests replay the corpora without any of this (`evenkeel-oracle`), so that fuzzing is a search and never a gate.
//!
//! Why no sanitizer? They look for broken memory, which a workspace without `unsafe` code does not have, halve the speed,
//! and need a nightly compiler. Coverage, which guides the search, needs none, and debug assertions are on.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::console::{self, say};
use crate::process::{self, Ended, shell};
use crate::workspace::Workspace;

/// The version of cargo-fuzz that the flags below are written for.
const VERSION: &str = "0.13.2";

/// Where it is installed, from the root of the checkout.
const CARGO_FUZZ: &str = "target/tools/bin/cargo-fuzz";

/// How much longer than its time a target may take, to be built and to end.
const OVERTIME: Duration = Duration::from_secs(15 * 60);

/// Lines of a failed run that are shown: the panic, its place, and the bytes.
const SHOWN_LINES: usize = 60;

/// Input bytes at most: room for a schedule and what an oracle looks at.
const INPUT_BYTES_MAX: u32 = 4096;

/// An input that takes longer is a finding; all of them take milliseconds.
const INPUT_SECONDS_MAX: u32 = 10;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                                  every target for a minute
  cargo xtask fuzz server_connection --seconds 3600
  cargo xtask fuzz --list

New inputs are kept under target/fuzz-corpus for the next run. The corpora in fuzz/corpus are in git and written by
`cargo run -p evenkeel-oracle --example write_seeds`; add what is worth keeping by hand, under a name that says why.")]
pub(crate) struct FuzzArgs {
    /// Targets to run; all, if none is named.
    targets: Vec<String>,
    /// Time for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Only list the targets.
    #[arg(long)]
    list: bool,
}

/// How the run of one target ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    /// Inputs that were tried; unknown if libFuzzer did not say.
    executions: Option<u64>,
    executions_per_second: Option<u64>,
    /// The input that broke the property.
    finding: Option<PathBuf>,
}

/// Runs the fuzz targets; true if none of them found anything.
///
/// # Errors
/// A target is unknown, or cargo-fuzz cannot be installed, or does not run.
pub(crate) fn run(workspace: &Workspace, args: &FuzzArgs) -> Result<bool> {
    let known = targets(workspace)?;
    if args.list {
        known.iter().for_each(say);
        return Ok(true);
    }
    if let Some(unknown) = args.targets.iter().find(|name| !known.contains(name)) {
        bail!("{unknown}: no such fuzz target; the targets are {}", known.join(", "));
    }
    install(workspace)?;
    lint(workspace)?;
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    let mut clean = true;
    let mut summary = Vec::new();
    for target in chosen {
        let report = fuzz(workspace, target, args.seconds)?;
        clean &= report.finding.is_none();
        summary.extend(report.lines(target));
    }
    summary.iter().for_each(say);
    Ok(clean)
}

/// The fuzz targets: the files of their folder.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let files = workspace.files()?;
    let names = files.iter().filter_map(|path| path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs"));
    Ok(names.map(str::to_owned).collect())
}

/// Installs [`VERSION`] under `target/tools`, unless it is there.
fn install(workspace: &Workspace) -> Result<()> {
    let program = workspace.root().join(CARGO_FUZZ);
    let installed = process::output(Command::new(program).arg("--version"));
    if installed.is_ok_and(|text| text.split_whitespace().any(|word| word == VERSION)) {
        return Ok(());
    }
    let mut cargo = workspace.cargo(&["install", "--quiet", "--locked", "--debug", "--root"]);
    cargo.arg(workspace.tools()).arg(format!("cargo-fuzz@{VERSION}"));
    say(shell(&cargo));
    process::output(&mut cargo).context("installing cargo-fuzz").map(drop)
}

/// The fuzz crate is no member, so that `cargo xtask test` does not see it: it is linted here.
fn lint(workspace: &Workspace) -> Result<()> {
    let manifest = ["--manifest-path", "fuzz/Cargo.toml"];
    let mut clippy = workspace.cargo(&["clippy", "--quiet"]);
    clippy.args(manifest).args(["--bins", "--", "--deny", "warnings"]);
    let mut fmt = workspace.cargo(&["fmt", "--check"]);
    fmt.args(manifest);
    for mut command in [fmt, clippy] {
        say(shell(&command));
        if !process::succeeds(&mut command)? {
            bail!("the fuzz targets do not pass `{}`", shell(&command));
        }
    }
    Ok(())
}

/// Runs one target. What it finds that is new for coverage goes to a folder that is not in git.
fn fuzz(workspace: &Workspace, target: &str, seconds: u32) -> Result<Report> {
    let found = format!("target/fuzz-corpus/{target}");
    let folder = workspace.root().join(&found);
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut command = workspace.command(CARGO_FUZZ, &["run", "--sanitizer", "none", target]);
    // The first folder is the one that libFuzzer writes to.
    command.args([&found, &format!("fuzz/corpus/{target}"), "--", "-print_final_stats=1", "-verbosity=0"]);
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={INPUT_BYTES_MAX}")]);
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    let line = shell(&command);
    say(&line);
    // libFuzzer and cargo speak on standard error; a shell puts it where it can be read.
    let mut merged = workspace.command("sh", &["-c", &format!("exec {line} 2>&1")]);
    let mut report = Report::default();
    let limit = OVERTIME + Duration::from_secs(seconds.into());
    let mut last = Vec::new();
    let ended = process::watch(&mut merged, Some(limit), &mut |line| {
        if !report.read(line) {
            last.push(line.to_owned());
            last.drain(..last.len().saturating_sub(SHOWN_LINES));
        }
    })?;
    let succeeded = matches!(ended, Ended::Exited(status) if status.success());
    if !succeeded {
        last.iter().for_each(say);
    }
    if ended == Ended::TimedOut {
        bail!("{target} was stopped: it took {} more than its time", console::seconds(OVERTIME));
    }
    if !succeeded && report.finding.is_none() {
        bail!("{target} failed without a finding; the lines above say why");
    }
    Ok(report)
}

impl Report {
    /// Takes what a line says; whether it said something.
    fn read(&mut self, line: &str) -> bool {
        let number = |prefix: &str| line.strip_prefix(prefix)?.trim().parse().ok();
        if let Some(executions) = number("stat::number_of_executed_units:") {
            self.executions = Some(executions);
        } else if let Some(rate) = number("stat::average_exec_per_sec:") {
            self.executions_per_second = Some(rate);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.finding = Some(PathBuf::from(path.trim()));
        } else {
            return line.starts_with("stat::");
        }
        true
    }

    /// The result for people, and what to do about a finding.
    fn lines(&self, target: &str) -> Vec<String> {
        let shown = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let counts = format!(
            "{} executions, {} each second",
            shown(self.executions),
            shown(self.executions_per_second)
        );
        let Some(finding) = &self.finding else {
            return vec![format!("{target:18} clean   {counts}")];
        };
        let path = finding.display();
        vec![
            format!("{target:18} BROKEN  {counts}: {path}"),
            format!("  repeat: {CARGO_FUZZ} run --sanitizer none {target} {path}"),
            format!("  shrink: {CARGO_FUZZ} tmin --sanitizer none {target} {path}"),
            format!(
                "  keep:   cp {path} fuzz/corpus/{target}/regression-WHAT && cargo test -p evenkeel-oracle"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.read(line);
        }
        report
    }

    #[test]
    fn reads_what_libfuzzer_says_at_the_end() {
        let read = report(&[
            "INFO: Seed: 1",
            "stat::number_of_executed_units: 250017",
            "stat::average_exec_per_sec:     25001",
            "stat::new_units_added:          2",
        ]);
        let expected =
            Report { executions: Some(250_017), executions_per_second: Some(25_001), finding: None };
        assert_eq!(read, expected);
        assert_eq!(
            read.lines("grpc_values"),
            ["grpc_values        clean   250017 executions, 25001 each second"]
        );
    }

    #[test]
    fn a_finding_is_named_with_the_line_that_repeats_it() {
        let read =
            report(&["artifact_prefix='a/'; Test unit written to fuzz/artifacts/x/crash-0a", "Base64: AA=="]);
        assert_eq!(read.finding, Some(PathBuf::from("fuzz/artifacts/x/crash-0a")));
        let lines = read.lines("x");
        assert_eq!(
            lines[0],
            "x                  BROKEN  ? executions, ? each second: fuzz/artifacts/x/crash-0a"
        );
        assert!(lines[1].ends_with("run --sanitizer none x fuzz/artifacts/x/crash-0a"));
    }

    #[test]
    fn every_target_has_a_corpus() {
        let workspace = Workspace::find().unwrap();
        let targets = targets(&workspace).unwrap();
        assert!(targets.contains(&"server_connection".to_owned()));
        for target in targets {
            assert!(workspace.root().join("fuzz/corpus").join(&target).is_dir(), "{target}");
        }
    }
}
