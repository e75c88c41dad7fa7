//! Peers from Debian packages, without installing them: downloaded, unpacked, started with their own libraries.
//!
//! Why not `apt-get install`? It needs root, changes the system, and starts services on fixed ports. Which libraries are
//! needed depends on what the system has already, so `apt-get` is asked what an installation would add.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::catalog::Program;
use super::launcher::Launcher;
use super::{Site, remove, require};
use crate::process;

/// Beginnings of the names of packages that only pages in a browser need: Prometheus brings fonts and scripts along.
const PAGES: [&str; 2] = ["fonts-", "libjs-"];

/// Downloads the packages with what they need, unpacks them, and starts their programs from `bin/`.
pub(super) fn install(site: &Site<'_>, peer: &str, packages: &[&str], programs: &[Program]) -> Result<()> {
    require("apt-get", "--version", "this is no Debian: apt-get is missing")?;
    let root = site.peers.join("debian").join(peer);
    let archives = root.join("archives");
    remove(&root)?;
    fs::create_dir_all(&archives).with_context(|| format!("making {}", archives.display()))?;
    // The lists may be missing, or older than what the archive still has: then fetch them and try again, once.
    if let Err(refused) = download(&archives, packages) {
        process::output(&mut apt_get(&["--quiet", "update"]))
            .with_context(|| format!("{refused:#}; and the package lists cannot be fetched"))?;
        download(&archives, packages)?;
    }
    for archive in files(&archives)? {
        let mut unpack = Command::new("dpkg-deb");
        process::output(unpack.arg("--extract").arg(&archive).arg(&root)).context("unpacking a package")?;
    }
    remove(&archives)?;
    let libraries = library_folders(&root)?;
    for program in programs {
        let exec = find_program(&root, program.name)?;
        let search_path = (!libraries.is_empty()).then(|| ("LD_LIBRARY_PATH", libraries.clone()));
        Launcher { exec, search_path }.write(site, program.name)?;
    }
    Ok(())
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // What it says is read, so it must not be translated.
    command.env("LC_ALL", "C").args(args);
    command
}

fn download(folder: &Path, packages: &[&str]) -> Result<()> {
    let mut simulate = apt_get(&["--simulate", "--no-install-recommends", "install"]);
    let plan = process::output(simulate.args(packages)).context("asking for the packages' dependencies")?;
    let wanted = to_download(packages, &plan);
    let mut download = apt_get(&["--quiet", "download"]);
    download.args(wanted).current_dir(folder);
    process::output(&mut download).context("downloading packages").map(drop)
}

/// The packages themselves, which may be installed already, and all others that `apt-get` would add for them.
///
/// Its plan has lines such as `Inst libev4 (1:4.33-1 Debian:12.15/oldstable [amd64])`.
fn to_download<'a>(packages: &[&'a str], plan: &'a str) -> BTreeSet<&'a str> {
    let added = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    let needed = added.filter(|name| !PAGES.iter().any(|page| name.starts_with(page)));
    packages.iter().copied().chain(needed).collect()
}

fn find_program(root: &Path, name: &str) -> Result<PathBuf> {
    let places = ["usr/bin", "usr/sbin", "bin", "sbin"].map(|place| root.join(place).join(name));
    places
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("its packages hold no program {name}"))
}

/// The folders below `usr/lib` and `lib` that hold shared libraries themselves: the architecture's, mostly.
///
/// One step down, no further: deeper folders hold plug-ins, which programs find by a path of their own.
fn library_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for top in ["usr/lib", "lib"].map(|top| root.join(top)).into_iter().filter(|top| top.is_dir()) {
        let below = files(&top)?.into_iter().filter(|path| path.is_dir());
        for folder in std::iter::once(top.clone()).chain(below) {
            if files(&folder)?.iter().any(|path| is_library(path)) {
                folders.push(folder);
            }
        }
    }
    Ok(folders)
}

fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

/// What a folder holds, in order of name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().with_context(|| format!("reading {}", folder.display()))?;
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_the_packages_and_what_the_system_lacks_for_them_but_no_pages() {
        let plan = "NOTE: This is only a simulation!\nThe following NEW packages will be installed:\n  libev4 nghttp2\n\
                    Inst libev4 (1:4.33-1 Debian:12.15/oldstable [amd64])\n\
                    Inst libnghttp2-14 [1.52.0-1] (1.52.0-2 Debian:12.15/oldstable [amd64])\n\
                    Inst libjs-jquery (3.6 Debian:12.15/oldstable [all])\n\
                    Conf libev4 (1:4.33-1 Debian:12.15/oldstable [amd64])\n";
        let wanted: Vec<_> = to_download(&["nghttp2-client"], plan).into_iter().collect();
        assert_eq!(wanted, ["libev4", "libnghttp2-14", "nghttp2-client"]);
    }

    #[test]
    fn finds_programs_and_library_folders_but_no_plug_ins() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for file in
            ["usr/sbin/x", "usr/lib/a-b-c/libx.so.1", "usr/lib/a-b-c/plugins/p.so", "usr/lib/x/readme"]
        {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), "").unwrap();
        }
        assert_eq!(find_program(root.path(), "x").unwrap(), path("usr/sbin/x"));
        assert_eq!(find_program(root.path(), "y").unwrap_err().to_string(), "its packages hold no program y");
        assert_eq!(library_folders(root.path()).unwrap(), [path("usr/lib/a-b-c")]);
    }
}
