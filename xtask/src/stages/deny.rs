//! The stage `deny`: cargo-deny with the rules of `deny.toml`.
//!
//! cargo-deny is built for each fresh checkout. As a release build that takes four minutes of a two-core machine; without
//! optimisation one and a half, and it still checks this workspace in three seconds. So it is built without.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Outcome, check};
use crate::console::say;
use crate::process::{self, Ended, shell};
use crate::workspace::Workspace;

/// The version that the rules in `deny.toml` are written for.
const VERSION: &str = "0.20.2";

/// How long fetching the advisory database may take; it is a shallow clone of some megabytes.
const FETCH_LIMIT: Duration = Duration::from_secs(120);

/// Checks bans, licences and sources, and, if their database can be fetched, advisories.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    if let Err(error) = install(workspace) {
        let mut outcome = Outcome::default();
        outcome.skip(format!("cargo-deny (it cannot be installed: {error:#})"));
        return Ok(outcome);
    }
    let mut outcome = check(&mut deny(workspace, &["check", "bans", "licenses", "sources"]))?;
    if outcome.counts.failed > 0 {
        return Ok(outcome);
    }
    if !fetch_advisories(workspace)? {
        outcome.skip("cargo-deny advisories (their database cannot be fetched)".to_owned());
        return Ok(outcome);
    }
    let advisories = check(&mut deny(workspace, &["check", "--disable-fetch", "advisories"]))?;
    outcome.counts += advisories.counts;
    outcome.repeat = advisories.repeat;
    Ok(outcome)
}

fn deny(workspace: &Workspace, args: &[&str]) -> Command {
    let program = workspace.tools().join("bin/cargo-deny");
    let mut command = Command::new(program);
    command.arg("--all-features").args(args).current_dir(workspace.root());
    command
}

/// Installs [`VERSION`] under `target/tools`, unless it is there.
fn install(workspace: &Workspace) -> Result<()> {
    let installed = process::output(deny(workspace, &[]).arg("--version"));
    if installed.is_ok_and(|text| text.split_whitespace().any(|word| word == VERSION)) {
        return Ok(());
    }
    let package = format!("cargo-deny@{VERSION}");
    let mut cargo = workspace.cargo(&["install", "--quiet", "--locked", "--debug", "--root"]);
    cargo.arg(workspace.tools()).arg(package);
    cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    say(shell(&cargo));
    process::output(&mut cargo).context("cargo install").map(drop)
}

fn fetch_advisories(workspace: &Workspace) -> Result<bool> {
    let mut fetch = deny(workspace, &["fetch", "db"]);
    // Without a network this fails, which is reported in one line; what git says about it would only look like an error.
    fetch.stderr(Stdio::null()).env("GIT_TERMINAL_PROMPT", "0");
    let ended = process::watch(&mut fetch, Some(FETCH_LIMIT), &mut |_line| {})?;
    Ok(matches!(ended, Ended::Exited(status) if status.success()))
}
