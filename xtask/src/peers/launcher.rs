//! The small shell scripts in `target/peers/bin` that start a program which lies elsewhere.
//!
//! They `exec`, so that the process id is the program's own (benchmarks read its CPU time), and they find their way
//! from where they lie, so that a checkout can be moved.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Site;

/// What to start. Paths lie under `target/peers`.
#[derive(Debug, Default)]
pub(super) struct Launcher {
    /// The program.
    pub(super) exec: PathBuf,
    /// A variable that gets a list of folders put before what it already holds.
    pub(super) search_path: Option<(&'static str, Vec<PathBuf>)>,
}

impl Launcher {
    /// Writes `target/peers/bin/<name>`.
    pub(super) fn write(&self, site: &Site<'_>, name: &str) -> Result<()> {
        let path = site.program(name);
        let write = || {
            fs::write(&path, self.script(&site.peers)?)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            anyhow::Ok(())
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    fn script(&self, peers: &Path) -> Result<String> {
        let mut script = "#!/bin/sh\npeers=$(dirname \"$(readlink -f \"$0\")\")/..\n".to_owned();
        if let Some((variable, folders)) = &self.search_path {
            let folders: Vec<String> =
                folders.iter().map(|folder| below(peers, folder)).collect::<Result<_>>()?;
            let folders = folders.join(":");
            script += &format!("export {variable}=\"{folders}${{{variable}:+:${variable}}}\"\n");
        }
        Ok(script + &format!("exec \"{}\" \"$@\"\n", below(peers, &self.exec)?))
    }
}

/// The path as the script writes it. Programs of the system, such as node itself, stay as they are.
fn below(peers: &Path, path: &Path) -> Result<String> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is not UTF-8");
    match path.strip_prefix(peers) {
        Ok(inside) => Ok(format!("$peers/{}", text(inside)?)),
        Err(_outside) => text(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_finds_its_program_and_libraries_from_where_it_lies() {
        let peers = Path::new("/co/target/peers");
        let folders = vec![peers.join("debian/x/lib"), peers.join("debian/x/usr/lib")];
        let launcher =
            Launcher { exec: peers.join("debian/x/bin/x"), search_path: Some(("LD_LIBRARY_PATH", folders)) };
        assert_eq!(
            launcher.script(peers).unwrap(),
            "#!/bin/sh\npeers=$(dirname \"$(readlink -f \"$0\")\")/..\n\
             export LD_LIBRARY_PATH=\"$peers/debian/x/lib:$peers/debian/x/usr/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"\n\
             exec \"$peers/debian/x/bin/x\" \"$@\"\n"
        );
    }

    #[test]
    fn a_program_of_the_system_is_called_by_its_name() {
        let launcher = Launcher { exec: "node".into(), search_path: None };
        assert!(launcher.script(Path::new("/co")).unwrap().ends_with("exec \"node\" \"$@\"\n"));
    }
}
