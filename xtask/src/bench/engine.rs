//! `cargo xtask bench engine`: instructions of the engine beside the h2 crate's, and of the whole worker.
//!
//! Counted by Callgrind through gungraun, so the figures are the same on a busy machine, and a change of one percent
//! is seen. What is counted is described at the top of `crates/http2/benches/engine/main.rs` and
//! `crates/proxy/benches/worker/main.rs`. Valgrind must be there, and is never installed: without it the command fails and
//! says how to get it. gungraun's runner is built into `target/tools`, in the version of the library that `Cargo.lock`
//! names, since the two must be equal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::console::say;
use crate::process::{self, shell};
use crate::workspace::Workspace;

/// Units that each benchmark counts: `UNITS` and `CALLS` in the benchmarks.
const UNITS: f64 = 1000.0;

/// Messages of 64 KiB in a MiB.
const MESSAGES_PER_MIB: f64 = 16.0;

/// The share of h2's instructions that a call may take: the project's bound for the engine.
const SHARE_MAX: f64 = 1.0 / 3.0;

/// The benchmarks: package and target.
const TARGETS: [(&str, &str); 2] = [("evenkeel-http2", "engine"), ("evenkeel-proxy", "worker")];

/// What a row's figures are per.
#[derive(Clone, Copy, PartialEq)]
enum Per {
    Call,
    Block,
    Mib,
}

/// One row of the table: a title, what it is per, the benchmark of ours and that of h2, both with their case.
struct Row(&'static str, Per, &'static str, Option<&'static str>);

#[rustfmt::skip]
const ROWS: [Row; 16] = [
    Row("server, repeated fields", Per::Call, "server_ours.repeated", Some("server_theirs.repeated")),
    Row("server, fresh deadline and trace id", Per::Call, "server_ours.fresh", Some("server_theirs.fresh")),
    Row("client, repeated fields", Per::Call, "client_ours.repeated", Some("client_theirs.repeated")),
    Row("client, fresh deadline and trace id", Per::Call, "client_ours.fresh", Some("client_theirs.fresh")),
    Row("server, 100 calls at once, repeated fields", Per::Call, "interleaved_ours.repeated", Some("interleaved_theirs.repeated")),
    Row("server, 100 calls at once, fresh ones", Per::Call, "interleaved_ours.fresh", Some("interleaved_theirs.fresh")),
    Row("upload in messages of 64 KiB", Per::Mib, "stream_ours.upload", Some("stream_theirs.upload")),
    Row("download in messages of 64 KiB", Per::Mib, "stream_ours.download", Some("stream_theirs.download")),
    Row("HPACK: decode a request, repeated fields", Per::Block, "decode.repeated", None),
    Row("HPACK: decode a request, fresh ones", Per::Block, "decode.fresh", None),
    Row("HPACK: encode a request, repeated fields", Per::Block, "encode.repeated", None),
    Row("HPACK: encode a request, fresh ones", Per::Block, "encode.fresh", None),
    Row("worker, both connections, 1 x 1, repeated fields", Per::Call, "worker.one_repeated", None),
    Row("worker, both connections, 1 x 1, fresh ones", Per::Call, "worker.one_fresh", None),
    Row("worker, both connections, 1 x 100, repeated fields", Per::Call, "worker.hundred_repeated", None),
    Row("worker, both connections, 1 x 100, fresh ones", Per::Call, "worker.hundred_fresh", None),
];

/// What a call may cost with everything on that watches it or tries it again, by what it costs with the defaults: the
/// project's bound for the proxy.
const FEATURES_MAX: f64 = 1.15;

/// Cases of the worker's benchmark; each is there with the defaults, and with `all_` before it with everything on.
const WORKER_CASES: [&str; 4] = ["one_repeated", "one_fresh", "hundred_repeated", "hundred_fresh"];

/// Instructions by benchmark and case.
type Counts = BTreeMap<String, u64>;

/// A row with its figures.
#[derive(Debug, PartialEq)]
struct Figures {
    title: &'static str,
    per: &'static str,
    ours: f64,
    theirs: Option<f64>,
    /// Whether the project's bound is kept, where there is one.
    kept: Option<bool>,
}

/// Runs the benchmarks, prints the table and writes it to `out` (JSON) and beside it (Markdown). Whether all bounds are
/// kept.
pub(super) fn run(workspace: &Workspace, out: Option<&Path>) -> Result<bool> {
    let versions = Versions::find(workspace)?;
    let runner = install_runner(workspace, &versions.gungraun)?;
    let mut counts = Counts::new();
    for (package, target) in TARGETS {
        counts.append(&mut count(workspace, &runner, package, target)?);
    }
    let rows = figures(&counts)?;
    let shares = feature_shares(&counts)?;
    let table = table(&rows) + &feature_table(&shares);
    say(&table);
    if let Some(out) = out {
        write(&workspace.root().join(out), &versions, &rows, &table)?;
    }
    let features_kept = shares.iter().all(|(_, [defaults, all])| *all <= defaults * FEATURES_MAX);
    Ok(features_kept && rows.iter().all(|row| row.kept != Some(false)))
}

/// What the figures depend on.
struct Versions {
    valgrind: String,
    rustc: String,
    gungraun: String,
    h2: String,
}

impl Versions {
    fn find(workspace: &Workspace) -> Result<Self> {
        let text = process::output(&mut workspace.command("valgrind", &["--version"])).context(
            "the instructions are counted by Valgrind, which is missing or broken; install it (Debian, Ubuntu: `sudo \
             apt-get install valgrind`; Fedora: `sudo dnf install valgrind`; others: https://valgrind.org) and call this \
             command again",
        )?;
        let lock =
            std::fs::read_to_string(workspace.root().join("Cargo.lock")).context("reading Cargo.lock")?;
        Ok(Self {
            valgrind: text.trim().trim_start_matches("valgrind-").to_owned(),
            rustc: process::output(&mut workspace.command("rustc", &["--version"]))?.trim().to_owned(),
            gungraun: locked(&lock, "gungraun")?,
            h2: locked(&lock, "h2")?,
        })
    }
}

/// The version of a package in the text of `Cargo.lock`.
fn locked(lock: &str, name: &str) -> Result<String> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock names no packages")?;
    let found =
        packages.iter().find(|package| package.get("name").and_then(toml::Value::as_str) == Some(name));
    let version = found.and_then(|package| package.get("version")).and_then(toml::Value::as_str);
    version.map(str::to_owned).with_context(|| format!("Cargo.lock names no package {name}"))
}

/// Installs gungraun's runner under `target/tools`, unless it is there.
fn install_runner(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let runner = workspace.tools().join("bin/gungraun-runner");
    let installed = process::output(std::process::Command::new(&runner).arg("--version"));
    if installed.is_ok_and(|text| text.split_whitespace().any(|word| word == version)) {
        return Ok(runner);
    }
    let mut cargo = workspace.cargo(&["install", "--quiet", "--locked", "--debug", "--root"]);
    cargo.arg(workspace.tools()).arg(format!("gungraun-runner@{version}"));
    // It only starts Valgrind and reads its files: not worth an optimised build.
    cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    say(shell(&cargo));
    process::output(&mut cargo).with_context(|| {
        format!("gungraun-runner {version} cannot be installed; Cargo needs its registry for it once")
    })?;
    Ok(runner)
}

/// Runs one benchmark target.
fn count(workspace: &Workspace, runner: &Path, package: &str, target: &str) -> Result<Counts> {
    let mut cargo = workspace.cargo(&["bench", "--quiet", "-p", package, "--bench", target, "--"]);
    cargo.arg("--output-format=json").env("GUNGRAUN_RUNNER", runner);
    say(shell(&cargo));
    parse(&process::output(&mut cargo).with_context(|| format!("the benchmark {target} of {package}"))?)
}

/// Reads the runner's summaries, one object in a line.
fn parse(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let summary: Value = serde_json::from_str(line).context("a summary of gungraun")?;
        let word = |key| summary.get(key).and_then(Value::as_str);
        let name = word("function_name").zip(word("id")).map(|(name, case)| format!("{name}.{case}"));
        let instructions =
            summary.pointer("/profiles/0/data/total/metrics/Ir/values/new").and_then(Value::as_u64);
        let (name, instructions) =
            name.zip(instructions).context("a summary of gungraun has no name or no instructions")?;
        counts.insert(name, instructions);
    }
    Ok(counts)
}

fn figures(counts: &Counts) -> Result<Vec<Figures>> {
    let mut rows = Vec::new();
    for &Row(title, per, ours, theirs) in &ROWS {
        let figure = |name: &str| {
            let Some(count) = counts.get(name) else { bail!("the benchmark {name} was not run") };
            Ok(*count as f64 / UNITS * if per == Per::Mib { MESSAGES_PER_MIB } else { 1.0 })
        };
        let (ours, theirs) = (figure(ours)?, theirs.map(figure).transpose()?);
        let kept = theirs.filter(|_| per == Per::Call).map(|theirs| ours <= theirs * SHARE_MAX);
        let per = match per {
            Per::Call => "call",
            Per::Block => "block",
            Per::Mib => "MiB",
        };
        rows.push(Figures { title, per, ours, theirs, kept });
    }
    Ok(rows)
}

/// Instructions of a call through the worker by case: with the defaults, and with everything on.
fn feature_shares(counts: &Counts) -> Result<Vec<(&'static str, [f64; 2])>> {
    let figure = |name: String| {
        let Some(count) = counts.get(&name) else { bail!("the benchmark {name} was not run") };
        Ok(*count as f64 / UNITS)
    };
    WORKER_CASES
        .into_iter()
        .map(|case| Ok((case, [figure(format!("worker.{case}"))?, figure(format!("worker.all_{case}"))?])))
        .collect()
}

fn feature_table(shares: &[(&str, [f64; 2])]) -> String {
    let mut text =
        "\n| instructions of a call through the worker | defaults | everything on | ratio | at most 1.15 |\n\
                    |---|---|---|---|---|\n"
            .to_owned();
    for (case, [defaults, all]) in shares {
        let ratio = all / defaults;
        let verdict = if ratio <= FEATURES_MAX { "kept" } else { "**missed**" };
        let case = case.replace('_', ", ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {case} | {defaults:.0} | {all:.0} | {ratio:.3} | {verdict} |");
    }
    text
}

fn table(rows: &[Figures]) -> String {
    let mut text =
        "| instructions | per | Evenkeel | h2 | share | at most 1/3 |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Figures { title, per, ours, theirs, kept } in rows {
        let h2 = theirs.map_or("-".to_owned(), |theirs| format!("{theirs:.0}"));
        let share = theirs.map_or("-".to_owned(), |theirs| format!("{:.2}", ours / theirs));
        let verdict = match kept {
            None => "-",
            Some(true) => "kept",
            Some(false) => "**missed**",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {title} | {per} | {ours:.0} | {h2} | {share} | {verdict} |");
    }
    text
}

fn write(out: &Path, versions: &Versions, rows: &[Figures], table: &str) -> Result<()> {
    let Versions { valgrind, rustc, gungraun, h2 } = versions;
    let machine = std::env::consts::ARCH;
    let list: Vec<Value> = rows
        .iter()
        .map(|Figures { title, per, ours, theirs, kept }| {
            json!({ "title": title, "per": per, "evenkeel": ours, "h2": theirs, "kept": kept })
        })
        .collect();
    let settings = json!({ "architecture": machine, "rustc": rustc, "valgrind": valgrind, "gungraun": gungraun, "h2": h2 });
    let json = serde_json::to_string_pretty(&json!({ "settings": settings, "instructions": list }))?;
    let name = out.file_name().unwrap_or_default().display();
    let markdown = format!(
        "# Instructions of the engine, beside the h2 crate\n\nWritten by `cargo xtask bench engine --out \
         docs/benchmarks/{name}`; figures for programs: [{name}]({name}).\n\n{machine}, {rustc}, Valgrind {valgrind}, \
         gungraun {gungraun}, h2 {h2}.\n\n{table}\n{METHOD}"
    );
    std::fs::write(out, json + "\n").with_context(|| out.display().to_string())?;
    let beside = out.with_extension("md");
    std::fs::write(&beside, markdown).with_context(|| beside.display().to_string())?;
    say(format_args!("written: {} and {}", out.display(), beside.display()));
    Ok(())
}

/// What a reader must know about the figures.
const METHOD: &str = "\
A call is a request of seven fields with a message of 100 bytes, and its answer: two fields, 100 bytes, one trailer. Both
engines get the same bytes in the same portions, one call at a wake-up unless the row says otherwise, and what they read
and write is copied once, as a socket does. *Fresh* means that `grpc-timeout` and `traceparent` differ in each call and
enter the HPACK table, as with grpc-go. h2 is polled by hand, without the tasks and wakers of a runtime, which flatters it. The
worker's rows are both connections of the proxy, routing, balancing and statistics, without sockets and without an
access log; connections x calls at once. *Everything on* is a route that retries on statuses, with the buffer, the budget and
the throttle for it, outlier detection, circuit breakers of the cluster and of its endpoint with a bound of each kind, and
an endpoint that active checks found healthy: the checks themselves run beside the workers. Metrics are always on. h2 keeps
its HPACK to itself.

Instructions are not time: they leave out cache misses, and copying a megabyte takes few. A download costs the engine a copy
of each byte into its output, which h2 saves by writing a list of buffers.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(name: &str, case: &str, instructions: u64) -> String {
        json!({
            "function_name": name,
            "id": case,
            "profiles": [{ "data": { "total": { "metrics": { "Ir": { "values": { "new": instructions } } } } } }],
        })
        .to_string()
    }

    #[test]
    fn reads_the_summaries_between_other_lines() {
        let text = format!("one\n{}\n{}\n", summary("a", "b", 7), summary("a", "c", 8));
        let counts = parse(&text).unwrap();
        assert_eq!(counts, Counts::from([("a.b".to_owned(), 7), ("a.c".to_owned(), 8)]));
    }

    #[test]
    fn refuses_a_summary_without_instructions() {
        let error = parse(r#"{"function_name": "a", "id": "b"}"#).unwrap_err();
        assert_eq!(error.to_string(), "a summary of gungraun has no name or no instructions");
    }

    fn all(instructions: impl Fn(&str) -> u64) -> Counts {
        let names = ROWS.iter().flat_map(|Row(_, _, ours, theirs)| [Some(*ours), *theirs]).flatten();
        names.map(|name| (name.to_owned(), instructions(name))).collect()
    }

    #[test]
    fn a_third_is_kept_and_one_more_is_missed() {
        let rows = |ours| {
            let counts = all(|name| if name.contains("theirs") { 30_000_000 } else { ours });
            figures(&counts).unwrap()
        };
        let kept = |ours| rows(ours).iter().map(|row| row.kept).collect::<Vec<_>>();
        assert_eq!(kept(10_000_000)[..6], [Some(true); 6]);
        assert_eq!(kept(10_000_001)[..6], [Some(false); 6]);
        assert_eq!(kept(10_000_001)[6..], [None; 10]);
        let table = table(&rows(10_000_001));
        assert!(
            table.contains("| server, repeated fields | call | 10000 | 30000 | 0.33 | **missed** |"),
            "{table}"
        );
        assert!(
            table.contains("| upload in messages of 64 KiB | MiB | 160000 | 480000 | 0.33 | - |"),
            "{table}"
        );
    }

    #[test]
    fn everything_on_may_cost_fifteen_percent() {
        let shares = |all: u64| {
            let mut counts = Counts::new();
            for case in WORKER_CASES {
                counts.insert(format!("worker.{case}"), 1_000_000);
                counts.insert(format!("worker.all_{case}"), all);
            }
            feature_table(&feature_shares(&counts).unwrap())
        };
        assert!(
            shares(1_150_000).contains("| one, repeated | 1000 | 1150 | 1.150 | kept |"),
            "{}",
            shares(1_150_000)
        );
        assert!(shares(1_160_000).contains("| 1.160 | **missed** |"));
        assert!(feature_shares(&Counts::new()).is_err());
    }

    #[test]
    fn a_benchmark_that_did_not_run_is_named() {
        let mut counts = all(|_| 1);
        counts.remove("encode.fresh");
        assert_eq!(figures(&counts).unwrap_err().to_string(), "the benchmark encode.fresh was not run");
    }

    #[test]
    fn finds_locked_versions() {
        let lock = "[[package]]\nname = \"h2\"\nversion = \"0.4.20\"\n";
        assert_eq!(locked(lock, "h2").unwrap(), "0.4.20");
        assert_eq!(locked(lock, "h3").unwrap_err().to_string(), "Cargo.lock names no package h3");
    }
}
