//! Says so when the disk may be too small: one that fills up midway shows as a linker that died of a bus error.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// What a run from nothing writes under target/, in GiB, with room to spare: without incremental compilation the builds came to
/// 2.6 GB, the peers and tools to 0.5.
const COLD_RUN_GIB: u64 = 6;

const KIB_PER_GIB: u64 = 1 << 20;

/// A warning if less is free than a run from nothing takes.
///
/// # Errors
/// `df` is missing or tells no number.
pub(super) fn shortage(workspace: &Workspace) -> Result<Option<String>> {
    let mut df = Command::new("df");
    // POSIX's format (`-P`) in KiB (`-k`), whatever the environment asks for.
    let report = process::output(df.args(["-Pk", "--"]).arg(workspace.root()))?;
    let free = free_kib(&report).context("`df -Pk` told no number of free blocks")?;
    Ok(warning(free))
}

fn warning(free_kib: u64) -> Option<String> {
    (free_kib < COLD_RUN_GIB * KIB_PER_GIB).then(|| {
        let tenths = free_kib * 10 / KIB_PER_GIB;
        format!(
            "only {}.{} GiB are free on this checkout's disk, and a run from nothing fills {COLD_RUN_GIB}; \
             when it is full, the linker dies of a bus error (signal 7)",
            tenths / 10,
            tenths % 10
        )
    })
}

/// The fourth column below the heading: file system, blocks, used, available, ...
fn free_kib(report: &str) -> Option<u64> {
    report.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_df_calls_available() {
        let report = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /\n";
        assert_eq!(free_kib(report), Some(40));
        assert_eq!(free_kib("df: no such file"), None);
    }

    #[test]
    fn warns_below_what_a_run_from_nothing_takes() {
        assert_eq!(warning(6 * KIB_PER_GIB), None);
        let warning = warning(6 * KIB_PER_GIB - 1).unwrap();
        assert!(warning.starts_with("only 5.9 GiB are free"), "{warning}");
    }
}
