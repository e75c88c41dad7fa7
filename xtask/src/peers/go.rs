//! Peers from Go modules: built as they are pinned, with the toolchain that is there.

use anyhow::{Context, Result};

use super::{Site, require};
use crate::process;

/// Where the pins are kept, below `xtask/peers`.
pub(super) const MANIFEST: &str = "go/go.mod";

/// Builds each (program, package) into `bin/`.
pub(super) fn install(site: &Site<'_>, module: &str, packages: &[(&str, &str)]) -> Result<()> {
    require("go", "version", "Go is not installed")?;
    for &(program, package) in packages {
        let mut go = site.workspace.command("go", &["build", "-trimpath", "-o"]);
        // readonly: building must not change what is pinned. local: fetching another toolchain is not ours to do.
        go.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOTOOLCHAIN", "local");
        go.arg(site.program(program)).arg(format!("{module}/{package}")).current_dir(site.pins.join("go"));
        process::output(&mut go).with_context(|| format!("building {module}/{package}"))?;
    }
    Ok(())
}

/// The version at which the manifest pins the module: programs built from modules often do not know their own.
pub(super) fn pinned_version<'a>(manifest: &'a str, module: &str) -> Result<&'a str> {
    let mut words =
        manifest.lines().map(|line| line.trim().trim_start_matches("require ").split_whitespace());
    let version = words.find_map(|mut words| if words.next() == Some(module) { words.next() } else { None });
    version.with_context(|| format!("{MANIFEST} does not require {module}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_pinned_version_in_and_outside_of_a_block() {
        let manifest = "module m\n\ntool (\n\ta.test/x/cmd\n)\n\nrequire b.test/y v1.0.0\n\nrequire (\n\ta.test/x v2.2.1 // indirect\n)\n";
        assert_eq!(pinned_version(manifest, "a.test/x").unwrap(), "v2.2.1");
        assert_eq!(pinned_version(manifest, "b.test/y").unwrap(), "v1.0.0");
        let error = pinned_version(manifest, "a.test").unwrap_err();
        assert_eq!(error.to_string(), "go/go.mod does not require a.test");
    }
}
