//! `cargo xtask test`: all that CI runs, in stages, up to the first one that fails.
//!
//! The quick stages come first, so that a forgotten `cargo fmt` costs seconds. What this machine cannot run is not an
//! error: it is skipped, and the last lines name it with the reason, so that nobody takes it for tested. The very last
//! line counts: each test that ran is one, and so is each of the stages that hold no tests of their own.
//!
//! To add a stage: a variant of [`Stage`], which puts it in order, and its steps in [`Stage::run`].

mod cargo_test;
mod deny;
mod disk;
pub(crate) mod suites;
mod summary;

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::console::{say, seconds};
use crate::process::{self, shell};
use crate::tidy;
use crate::workspace::Workspace;
use summary::{Counts, Summary, Verdict};

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask test                       all stages
  cargo xtask test --list                the stages and what each runs
  cargo xtask test --only fmt,clippy     these stages
  cargo xtask test --skip peers          all stages but this one
  cargo xtask test --only peers --suite interop --release
                                         tests/interop/run.py against the release build

The last lines name what was skipped and count: `N passed, N failed, N skipped`. The exit code is 0 if none failed.")]
pub(crate) struct TestArgs {
    /// Run only these stages; several are separated by commas.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<Stage>,
    /// Leave these stages out; several are separated by commas.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    skip: Vec<Stage>,
    /// Show the stages and run nothing.
    #[arg(long)]
    list: bool,
    /// Of the suites with foreign peers, run only these folders of tests/; several are separated by commas.
    #[arg(long, value_name = "FOLDER", value_delimiter = ',')]
    suite: Vec<String>,
    /// Test the release build with the foreign peers. The default, the development build, also checks for overflow.
    #[arg(long)]
    release: bool,
}

/// One step of CI, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The formatting of all crates.
    Fmt,
    /// The lints, warnings being errors.
    Clippy,
    /// The house rules that clippy does not know.
    Tidy,
    /// Licences, sources, banned and vulnerable dependencies.
    Deny,
    /// Unit, integration and documentation tests.
    Test,
    /// The documentation: every link leads somewhere.
    Doc,
    /// Suites with foreign peers, `tests/*/run.py`.
    Peers,
}

/// How a stage ended.
#[derive(Debug, Default)]
struct Outcome {
    counts: Counts,
    /// What could not be run: its name and, in brackets, the reason. Each is also counted as skipped.
    skipped: Vec<String>,
    /// The command that repeats a failure; empty if there was none.
    repeat: String,
}

impl Outcome {
    fn passed() -> Self {
        Self { counts: Counts { passed: 1, ..Counts::default() }, ..Self::default() }
    }

    fn failed(repeat: impl Into<String>) -> Self {
        Self { counts: Counts { failed: 1, ..Counts::default() }, repeat: repeat.into(), ..Self::default() }
    }

    fn skip(&mut self, what: String) {
        self.counts.skipped += 1;
        self.skipped.push(what);
    }

    fn verdict(&self) -> Verdict {
        match self.counts {
            Counts { failed: 1.., .. } => Verdict::Failed,
            Counts { passed: 1.., .. } => Verdict::Passed,
            Counts { .. } => Verdict::Skipped,
        }
    }
}

impl Stage {
    fn name(self) -> String {
        self.to_possible_value().expect("no stage is hidden from the command line").get_name().to_owned()
    }

    fn run(self, workspace: &Workspace, args: &TestArgs) -> Result<Outcome> {
        match self {
            Self::Fmt => check(&mut workspace.cargo(&["fmt", "--all", "--check"])),
            Self::Clippy => {
                let lint = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
                check(&mut workspace.cargo(&lint))
            }
            Self::Tidy => {
                let kept = tidy::run(workspace)?;
                Ok(if kept { Outcome::passed() } else { Outcome::failed("cargo xtask tidy") })
            }
            Self::Deny => deny::run(workspace),
            Self::Test => cargo_test::run(workspace),
            Self::Doc => {
                let mut doc = workspace.cargo(&["doc", "--workspace", "--no-deps"]);
                check(doc.env("RUSTDOCFLAGS", "--deny warnings"))
            }
            Self::Peers => suites::run(workspace, &args.suite, args.release),
        }
    }
}

/// A stage that is one command: it passes if the command does.
fn check(command: &mut Command) -> Result<Outcome> {
    say(shell(command));
    judge(command)
}

fn judge(command: &mut Command) -> Result<Outcome> {
    Ok(if process::succeeds(command)? { Outcome::passed() } else { Outcome::failed(shell(command)) })
}

/// Runs `cargo xtask test`; true if nothing failed.
///
/// # Errors
/// A program that every checkout needs (cargo, git, df) cannot be started.
pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<bool> {
    if args.list {
        list();
        return Ok(true);
    }
    let shortage = disk::shortage(workspace)?;
    say_shortage(shortage.as_deref());
    let mut summary = Summary::default();
    for &stage in Stage::value_variants() {
        if !args.only.is_empty() && !args.only.contains(&stage) {
            continue;
        }
        let name = stage.name();
        if args.skip.contains(&stage) {
            let mut outcome = Outcome::default();
            outcome.skip(format!("{name} (left out by --skip)"));
            summary.add(name, outcome, "");
            continue;
        }
        if summary.failed() {
            summary.add_not_run(name);
            continue;
        }
        say(format_args!("== {name}"));
        let started = process::now();
        let outcome = stage.run(workspace, args)?;
        let took = seconds(started.elapsed());
        say(format_args!("== {name}: {} in {took}", outcome.verdict()));
        summary.add(name, outcome, &took);
    }
    if summary.failed() {
        say_shortage(shortage.as_deref());
    }
    for line in summary.lines() {
        say(line);
    }
    Ok(!summary.failed())
}

fn say_shortage(shortage: Option<&str>) {
    if let Some(shortage) = shortage {
        say(format_args!("warning: {shortage}"));
    }
}

fn list() {
    for stage in Stage::value_variants() {
        let value = stage.to_possible_value().expect("no stage is hidden from the command line");
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        say(format_args!("{:8}{help}", value.get_name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_check_passes_or_fails_with_its_command() {
        let passed = judge(&mut sh("exit 0")).unwrap();
        assert_eq!((passed.verdict(), passed.repeat.as_str()), (Verdict::Passed, ""));
        let failed = judge(&mut sh("exit 1")).unwrap();
        assert_eq!((failed.verdict(), failed.repeat.as_str()), (Verdict::Failed, "sh -c 'exit 1'"));
    }

    #[test]
    fn one_failure_makes_a_stage_fail_and_only_skips_make_it_skipped() {
        let verdict = |passed, failed, skipped| {
            Outcome { counts: Counts { passed, failed, skipped }, ..Outcome::default() }.verdict()
        };
        assert_eq!(verdict(100, 1, 3), Verdict::Failed);
        assert_eq!(verdict(1, 0, 3), Verdict::Passed);
        assert_eq!(verdict(0, 0, 3), Verdict::Skipped);
    }

    #[test]
    fn a_skip_is_named_and_counted() {
        let mut outcome = Outcome::passed();
        outcome.skip("h2spec (Go is not installed)".to_owned());
        assert_eq!(outcome.counts, Counts { passed: 1, failed: 0, skipped: 1 });
        assert_eq!(outcome.skipped, ["h2spec (Go is not installed)"]);
    }
}
