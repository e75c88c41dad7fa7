//! The stage `peers`: end-to-end suites in which the proxy meets programs that nobody here wrote.
//!
//! A suite is a folder of `tests/` with a Python program `run.py`. The contract between it and this stage:
//!
//! - it is run at the root of the checkout by `target/peers/bin/python`, which has grpcio, h2 and hpack;
//! - `EVENKEEL_BIN` is the path of the binary `evenkeel`; all other binaries of the workspace lie beside it and
//!   the examples in `examples/` beside it; `EVENKEEL_PEERS` is `target/peers`, whose `bin/` holds the peers' programs.
//!   A program that is not there could not be installed here;
//! - a line `skipped: NAME (REASON)` names what it had to leave out and is repeated at the end of the whole run;
//! - its last line of the form `N passed, N failed, N skipped` is added to the total, and must tell of at least one
//!   test, be it skipped; the exit code is 0 if none failed;
//! - after [`LIMIT`] it is told to end by SIGTERM and has failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Outcome;
use super::summary::Counts;
use crate::console::{say, seconds};
use crate::peers;
use crate::process::{self, Ended, shell};
use crate::workspace::Workspace;

/// How long one suite may take. All of CI has to end within 40 minutes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Installs the peers, builds the binary, and runs the suites: all of them, or those that were asked for.
pub(super) fn run(workspace: &Workspace, only: &[String], release: bool) -> Result<Outcome> {
    let suites = choose(find(&workspace.root().join("tests"))?, only)?;
    let mut outcome = Outcome::default();
    if suites.is_empty() {
        outcome.skip("peers (there is no tests/*/run.py)".to_owned());
        return Ok(outcome);
    }
    for missing in peers::install_all(workspace)? {
        outcome.skip(format!("{} ({})", missing.peer, missing.reason));
    }
    if !workspace.peers().join("bin/python").is_file() {
        for name in suites.keys() {
            outcome.skip(format!("tests/{name} (the peer python is missing)"));
        }
        return Ok(outcome);
    }
    let Some(binary) = build(workspace, release)? else {
        outcome.counts.failed += 1;
        outcome.repeat = shell(&build_command(workspace, release));
        return Ok(outcome);
    };
    let mut failed = Vec::new();
    for (name, path) in &suites {
        let mut command = command(workspace, &binary, path);
        let suite = run_one(name, &mut command, LIMIT, &mut |line| say(line))?;
        if suite.counts.failed > 0 {
            failed.push(name.as_str());
        }
        outcome.counts += suite.counts;
        outcome.skipped.extend(suite.skipped);
    }
    if !failed.is_empty() {
        let release = if release { " --release" } else { "" };
        outcome.repeat = format!("cargo xtask test --only peers --suite {}{release}", failed.join(","));
    }
    Ok(outcome)
}

/// The suites by name, each with its program.
fn find(tests: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut suites = BTreeMap::new();
    if !tests.is_dir() {
        return Ok(suites);
    }
    let reading = || format!("reading {}", tests.display());
    for entry in fs::read_dir(tests).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let program = entry.path().join("run.py");
        if program.is_file() {
            suites.insert(entry.file_name().to_string_lossy().into_owned(), program);
        }
    }
    Ok(suites)
}

fn choose(mut suites: BTreeMap<String, PathBuf>, only: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    if let Some(unknown) = only.iter().find(|name| !suites.contains_key(*name)) {
        let known: Vec<&str> = suites.keys().map(String::as_str).collect();
        bail!("there is no tests/{unknown}/run.py; suites are: {}", known.join(", "));
    }
    if !only.is_empty() {
        suites.retain(|name, _| only.contains(name));
    }
    Ok(suites)
}

fn build_command(workspace: &Workspace, release: bool) -> Command {
    let mut cargo = workspace.cargo(&["build", "--workspace", "--bins", "--examples"]);
    if release {
        cargo.arg("--release");
    }
    cargo
}

/// The command that runs a suite's program against the binary.
pub(crate) fn command(workspace: &Workspace, binary: &Path, program: &Path) -> Command {
    let mut command = Command::new(workspace.peers().join("bin/python"));
    command.arg("-u").arg(program).current_dir(workspace.root());
    command.env("EVENKEEL_BIN", binary).env("EVENKEEL_PEERS", workspace.peers());
    command
}

/// Builds every binary and example; gives back the path of `evenkeel`, or nothing if the build fails.
///
/// # Errors
/// Cargo cannot be started, or builds no such binary.
pub(crate) fn build(workspace: &Workspace, release: bool) -> Result<Option<PathBuf>> {
    let mut cargo = build_command(workspace, release);
    say(shell(&cargo));
    let mut binary = None;
    let ended = process::watch(cargo.arg("--message-format=json-render-diagnostics"), None, &mut |line| {
        binary = binary.take().or_else(|| executable(line, "evenkeel"));
    })?;
    if !matches!(ended, Ended::Exited(status) if status.success()) {
        return Ok(None);
    }
    binary
        .context("the workspace builds no binary called `evenkeel`; correct crates/cli/Cargo.toml")
        .map(Some)
}

/// The executable that one of Cargo's messages tells of, if it is the binary of that name.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let is_it = target["name"] == name && target["kind"][0] == "bin";
    if is_it { message["executable"].as_str().map(PathBuf::from) } else { None }
}

/// Runs one suite and judges it by its closing line and its exit code.
fn run_one(
    name: &str,
    command: &mut Command,
    limit: Duration,
    print: &mut dyn FnMut(&str),
) -> Result<Outcome> {
    print(&format!("-- tests/{name}: {}", shell(command)));
    let started = process::now();
    let mut closing = None;
    let mut skipped = Vec::new();
    let ended = process::watch(command, Some(limit), &mut |line| {
        print(line);
        closing = Counts::parse(line).or(closing);
        skipped.extend(line.strip_prefix("skipped: ").map(str::to_owned));
    })?;
    let (counts, trouble) = judge(&ended, closing, limit);
    if let Some(trouble) = trouble {
        print(&format!("-- tests/{name}: {trouble}"));
    }
    print(&format!("-- tests/{name}: {counts} in {}", seconds(started.elapsed())));
    Ok(Outcome { counts, skipped, repeat: String::new() })
}

/// A suite's counts, with at least one failure if anything about it is wrong, and then what that is.
fn judge(ended: &Ended, closing: Option<Counts>, limit: Duration) -> (Counts, Option<String>) {
    let mut counts = closing.unwrap_or_default();
    let trouble = match (ended, closing) {
        (Ended::TimedOut, _) => Some(format!("it did not end within {}", seconds(limit))),
        (Ended::Exited(status), _) if !status.success() => Some(format!("it failed ({status})")),
        (_, None) => Some("it wrote no closing line `N passed, N failed, N skipped`".to_owned()),
        (_, Some(counts)) if counts == Counts::default() => Some("it ran no test".to_owned()),
        (_, Some(Counts { failed: 1.., .. })) => {
            Some("it counts failures, but its exit code is 0".to_owned())
        }
        _fine => None,
    };
    if trouble.is_some() {
        counts.failed = counts.failed.max(1);
    }
    (counts, trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(script: &str) -> Outcome {
        let mut command = Command::new("sh");
        run_one("fixture", command.args(["-c", script]), LIMIT, &mut |_line| {}).unwrap()
    }

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn a_suites_own_count_and_its_skips_are_taken_over() {
        let outcome = suite(
            "echo '1 passed, 0 failed'; echo 'skipped: x (no y)'; echo '5 passed, 0 failed, 1 skipped'",
        );
        assert_eq!(outcome.counts, counts(5, 0, 1));
        assert_eq!(outcome.skipped, ["x (no y)"]);
    }

    #[test]
    fn a_suite_that_fails_in_any_way_has_a_failure() {
        for (script, expected) in [
            ("echo '5 passed, 2 failed'; exit 1", counts(5, 2, 0)),
            ("echo '5 passed, 0 failed'; exit 1", counts(5, 1, 0)),
            ("echo '5 passed, 2 failed'; exit 0", counts(5, 2, 0)),
            ("echo '0 passed, 0 failed'; exit 0", counts(0, 1, 0)),
            ("echo 'all is well'; exit 0", counts(0, 1, 0)),
            ("kill -9 $$", counts(0, 1, 0)),
        ] {
            assert_eq!(suite(script).counts, expected, "{script}");
        }
    }

    #[test]
    fn a_suite_that_could_only_skip_has_not_failed() {
        assert_eq!(suite("echo '0 passed, 0 failed, 3 skipped'").counts, counts(0, 0, 3));
    }

    #[test]
    fn a_suite_past_its_limit_has_failed_whatever_it_counted() {
        let (judged, trouble) = judge(&Ended::TimedOut, Some(counts(5, 0, 0)), LIMIT);
        assert_eq!(judged, counts(5, 1, 0));
        assert_eq!(trouble.unwrap(), "it did not end within 15 min 00 s");
    }

    #[test]
    fn suites_are_folders_with_a_program() {
        let tests = tempfile::tempdir().unwrap();
        for file in ["interop/run.py", "drain/run.py", "common/wire.py"] {
            let path = tests.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            choose(find(tests.path()).unwrap(), &only).map(|suites| suites.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["drain", "interop"]);
        assert_eq!(names(&["interop"]).unwrap(), ["interop"]);
        let error = names(&["common"]).unwrap_err().to_string();
        assert_eq!(error, "there is no tests/common/run.py; suites are: drain, interop");
        assert!(find(&tests.path().join("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn finds_the_binary_in_cargos_messages() {
        let message = |kind: &str, name: &str| {
            let target = format!(r#"{{"kind":["{kind}"],"name":"{name}"}}"#);
            format!(r#"{{"reason":"compiler-artifact","target":{target},"executable":"/t/debug/{name}"}}"#)
        };
        assert_eq!(executable(&message("bin", "evenkeel"), "evenkeel"), Some("/t/debug/evenkeel".into()));
        assert_eq!(executable(&message("example", "evenkeel"), "evenkeel"), None);
        assert_eq!(executable(&message("bin", "other"), "evenkeel"), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#, "evenkeel"), None);
        assert_eq!(executable("no json", "evenkeel"), None);
    }
}
