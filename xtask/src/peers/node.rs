//! Peers from npm packages: a folder of modules, and a `node` that finds them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::catalog::Program;
use super::launcher::Launcher;
use super::{Site, remove, require};
use crate::process;

/// The manifest that pins the packages, below `xtask/peers`.
pub(super) const MANIFEST: &str = "npm/package.json";

/// Installs the modules and a launcher whose `require` looks there.
pub(super) fn install(site: &Site<'_>, programs: &[Program]) -> Result<()> {
    require("node", "--version", "Node is not installed")?;
    require("npm", "--version", "npm is not installed")?;
    let folder = site.peers.join("npm");
    remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(folder.join("package.json"), site.pinned(MANIFEST)?).context("copying package.json")?;
    let mut npm = Command::new("npm");
    // No lock file: it would name the host that the packages came from. No scripts: none of these packages needs one.
    npm.args([
        "install",
        "--no-package-lock",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    process::output(npm.current_dir(&folder)).context("installing packages")?;
    for program in programs {
        let modules = vec![folder.join("node_modules")];
        let search_path = Some(("NODE_PATH", modules));
        Launcher { exec: "node".into(), search_path }.write(site, program.name)?;
    }
    Ok(())
}
