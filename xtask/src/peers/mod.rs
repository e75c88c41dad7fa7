//! `cargo xtask peers`: foreign programs for tests and benchmarks, installed under `target/peers`.
//!
//! Why foreign? What this project says about itself is worth little; grpcio, Envoy, HAProxy and the others were written
//! by people who read the same RFCs. Nothing is installed into the system, and nothing is needed beforehand: a peer whose
//! toolchain is missing is left out and named.
//!
//! Invariants: after an installation `target/peers/bin/NAME` runs and its first words are its version; the stamp of a peer
//! is written last, so a broken-off installation is begun anew; a second call changes nothing.
//!
//! | path under `target/peers` | what it holds |
//! |---|---|
//! | `bin/` | one executable per program, the only path that tests and benchmarks use |
//! | `stamps/` | per peer: the recipe it was installed by |
//! | `venv/`, `envoy/`, `npm/`, `debian/` | what the programs in `bin/` start |

mod catalog;
mod debian;
mod go;
mod launcher;
mod node;
mod python;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::console::{say, seconds};
use crate::process;
use crate::workspace::Workspace;
use catalog::{PEERS, Peer, Source};

/// Arguments of `cargo xtask peers`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask peers                   install whatever this machine can have
  cargo xtask peers haproxy nghttp2   install these two; fails if one cannot be had
  cargo xtask peers --list            what there is, and what is installed

Programs are in target/peers/bin; python and node there find the gRPC packages.")]
pub(crate) struct PeersArgs {
    /// Names of peers; all of them if none is given.
    names: Vec<String>,
    /// Show the peers, their programs and their state, and install nothing.
    #[arg(long)]
    list: bool,
}

impl PeersArgs {
    /// The arguments that install these peers.
    pub(crate) fn named(names: Vec<String>) -> Self {
        Self { names, list: false }
    }
}

/// A peer that could not be had.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The peer's name.
    pub(crate) peer: &'static str,
    /// Why, in one line.
    pub(crate) reason: String,
}

/// What it takes to install a peer.
struct Site<'a> {
    /// Where pins and manifests of peers are kept: `xtask/peers`.
    pins: PathBuf,
    /// `target/peers`.
    peers: PathBuf,
    workspace: &'a Workspace,
}

impl<'a> Site<'a> {
    fn new(workspace: &'a Workspace) -> Self {
        Self { pins: workspace.root().join("xtask/peers"), peers: workspace.peers(), workspace }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.peers.join("bin").join(name)
    }

    fn stamp(&self, peer: &Peer) -> PathBuf {
        self.peers.join("stamps").join(peer.name)
    }

    fn pinned(&self, file: &str) -> Result<String> {
        let path = self.pins.join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Runs `cargo xtask peers`; true if all that was asked for by name is there.
///
/// # Errors
/// A name is unknown, or `target/peers` cannot be written.
pub(crate) fn run(workspace: &Workspace, args: &PeersArgs) -> Result<bool> {
    let chosen = choose(&args.names)?;
    if args.list {
        return list(workspace, &chosen).map(|()| true);
    }
    let missing = install(workspace, &chosen)?;
    for Missing { peer, reason } in &missing {
        say(format_args!("skipped: {peer} ({reason})"));
    }
    say(format_args!("peers: {} of {} are in target/peers/bin", chosen.len() - missing.len(), chosen.len()));
    Ok(args.names.is_empty() || missing.is_empty())
}

/// Installs every peer that this machine can have, and says which it cannot.
///
/// # Errors
/// `target/peers` cannot be written.
pub(crate) fn install_all(workspace: &Workspace) -> Result<Vec<Missing>> {
    install(workspace, &choose(&[])?)
}

fn choose(names: &[String]) -> Result<Vec<&'static Peer>> {
    if names.is_empty() {
        return Ok(PEERS.iter().collect());
    }
    let find = |name: &String| {
        let known = || PEERS.map(|peer| peer.name).join(", ");
        let peer = PEERS.iter().find(|peer| peer.name == name);
        peer.with_context(|| format!("no peer is called `{name}`; there are: {}", known()))
    };
    names.iter().map(find).collect()
}

fn list(workspace: &Workspace, peers: &[&Peer]) -> Result<()> {
    let site = Site::new(workspace);
    for peer in peers {
        let programs = peer.programs.iter().map(|program| program.name).collect::<Vec<_>>().join(" ");
        let state =
            if is_current(&site, peer, &recipe(&site, peer)?) { "installed" } else { "not installed" };
        say(format_args!("{:10} {:13}  {}: {}", peer.name, state, peer.what, programs));
    }
    Ok(())
}

fn install(workspace: &Workspace, peers: &[&'static Peer]) -> Result<Vec<Missing>> {
    let site = Site::new(workspace);
    for folder in ["bin", "stamps"] {
        let path = site.peers.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    }
    let mut missing = Vec::new();
    for &peer in peers {
        let recipe = recipe(&site, peer)?;
        let started = process::now();
        // A peer that was installed, but stopped to run since, is installed anew.
        if is_current(&site, peer, &recipe)
            && let Ok(versions) = versions(&site, peer)
        {
            say(format_args!("peer {}: {versions} (installed before)", peer.name));
            continue;
        }
        say(format_args!("peer {}: installing from {}", peer.name, peer.source));
        match install_one(&site, peer, &recipe) {
            Ok(versions) => {
                say(format_args!("peer {}: {versions} ({})", peer.name, seconds(started.elapsed())));
            }
            Err(error) => {
                let reason = one_line(&error);
                say(format_args!("peer {}: not to be had: {reason}", peer.name));
                missing.push(Missing { peer: peer.name, reason });
            }
        }
    }
    Ok(missing)
}

fn install_one(site: &Site<'_>, peer: &Peer, recipe: &str) -> Result<String> {
    let stamp = site.stamp(peer);
    remove(&stamp)?;
    for program in peer.programs {
        remove(&site.program(program.name))?;
    }
    match peer.source {
        Source::Python { requirements, folder } => python::install(site, requirements, folder, peer.programs),
        Source::Node => node::install(site, peer.programs),
        Source::Debian { packages } => debian::install(site, peer.name, packages, peer.programs),
        Source::Go { module, packages } => go::install(site, module, packages),
    }?;
    let versions = versions(site, peer)?;
    fs::write(&stamp, recipe).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(versions)
}

/// All that decides what gets installed: when it changes, the peer is installed anew.
fn recipe(site: &Site<'_>, peer: &Peer) -> Result<String> {
    Ok(match peer.source {
        Source::Python { requirements, .. } => site.pinned(requirements)?,
        Source::Node => site.pinned(node::MANIFEST)?,
        Source::Debian { packages } => packages.join("\n"),
        Source::Go { .. } => site.pinned(go::MANIFEST)? + &site.pinned("go/go.sum")?,
    })
}

fn is_current(site: &Site<'_>, peer: &Peer, recipe: &str) -> bool {
    fs::read_to_string(site.stamp(peer)).is_ok_and(|stamp| stamp == recipe)
}

/// Starts every program of the peer and gives back what they say about themselves.
fn versions(site: &Site<'_>, peer: &Peer) -> Result<String> {
    let mut versions = Vec::new();
    for program in peer.programs {
        let path = site.program(program.name);
        if !path.is_file() {
            bail!("its program {} was not installed", program.name);
        }
        let mut command = Command::new(&path);
        // Some programs write their version to standard error.
        let text = process::both_outputs(command.args(program.version_args))
            .with_context(|| format!("its program {} does not run", program.name))?;
        let version = program.version(&text);
        versions.push(version.with_context(|| format!("its program {} names no version", program.name))?);
    }
    if let Source::Go { module, .. } = peer.source {
        // They have run; which version they are is known from the pins.
        let manifest = site.pinned(go::MANIFEST)?;
        return Ok(format!("{module} {}", go::pinned_version(&manifest, module)?));
    }
    Ok(versions.join(", "))
}

/// The whole chain of causes, in one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(_not_there) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_file) => fs::remove_file(path),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

/// Refuses, in words for a person, when a program that an installation needs is not there.
fn require(program: &str, version_arg: &str, sentence: &'static str) -> Result<()> {
    process::output(Command::new(program).arg(version_arg))
        .map(drop)
        .map_err(|_absent| anyhow::anyhow!(sentence))
}

#[cfg(test)]
mod tests;
