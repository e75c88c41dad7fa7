//! Where things are: the root of the checkout, what lies under `target/`, and the files that belong to the project.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// The checkout that a command works on.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this program was compiled in, wherever it is called from.
    ///
    /// # Errors
    /// The folder is gone.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo run`; the compiled-in value serves a direct call of the binary.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.join("..").canonicalize().with_context(|| {
            format!("{}: the folder is gone; call `cargo xtask` in a checkout", manifest.display())
        })?;
        Ok(Self { root })
    }

    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where foreign peers are installed.
    pub(crate) fn peers(&self) -> PathBuf {
        self.root.join("target/peers")
    }

    /// Where tools that only checks need are installed.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// A command to run at the root of the checkout.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root);
        command
    }

    /// `cargo` with these arguments, the same one that runs this program.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        self.command("cargo", args)
    }

    /// The paths of all files that are, or would be, committed: tracked ones and new ones that are not ignored.
    ///
    /// # Errors
    /// `git` is missing, or this is no checkout.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        // `-z`: no quoting of unusual names.
        let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed =
            process::output(&mut self.command("git", &args)).context("listing the project's files")?;
        let mut files: Vec<String> =
            listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
        files.sort_unstable();
        files.dedup();
        // A file deleted in the work tree but not yet in the index is still listed.
        files.retain(|path| self.root.join(path).is_file());
        Ok(files)
    }
}
