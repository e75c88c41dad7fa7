//! How much memory the process may use, and how much of that may be buffered for peers.
//!
//! The smallest of what the control groups above the process allow (cgroups(7): `memory.max` of version 2,
//! `memory.limit_in_bytes` of version 1; in a container the container's limit) and what the machine has. Of that, peers may
//! have the share that the configuration says (`overload.memory`), half by default; or as many bytes as it says.

use std::fs;
use std::path::Path;

use evenkeel_config::MemoryLimit;
use procfs::process::Process;
use procfs::{Current, Meminfo, ProcessCGroup};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes that may be buffered for peers; `None` if that is a share, and the system does not say how much memory there is.
pub(super) fn buffer_limit(configured: MemoryLimit) -> Option<u64> {
    let available = available();
    match configured {
        MemoryLimit::Percent(percent) => available.map(|bytes| bytes / 100 * u64::from(percent)),
        MemoryLimit::Bytes(bytes) => {
            if let Some(available) = available.filter(|available| bytes > *available) {
                tracing::warn!(
                    bytes,
                    available,
                    "overload.memory is more than there is: the process may be killed first"
                );
            }
            Some(bytes)
        }
    }
}

/// Bytes that the process may use; `None` where the system does not say.
fn available() -> Option<u64> {
    let machine = Meminfo::current().ok().map(|memory| memory.mem_total);
    let groups = Process::myself().and_then(|process| process.cgroups()).map(|groups| groups.0);
    smallest_group(Path::new(CGROUPS), &groups.unwrap_or_default()).into_iter().chain(machine).min()
}

/// The smallest limit of the groups that the process is in and of those above them.
///
/// In a container the path of a group may be that on the host, which is not to be seen there; what is seen, at the
/// mount point itself, is the container's own group.
fn smallest_group(root: &Path, groups: &[ProcessCGroup]) -> Option<u64> {
    let limits = groups.iter().flat_map(|group| {
        let (mounted, file) = if group.hierarchy == 0 {
            (root.to_owned(), "memory.max")
        } else if group.controllers.iter().any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return Vec::new();
        };
        let inner = mounted.join(group.pathname.trim_start_matches('/'));
        let folders = inner.ancestors().take_while(|folder| folder.starts_with(&mounted));
        folders.filter_map(|folder| read_limit(&folder.join(file))).collect()
    });
    limits.min()
}

/// The number in such a file; `None` for `max`, and where there is no file.
fn read_limit(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(hierarchy: u32, controllers: &[&str], pathname: &str) -> ProcessCGroup {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        ProcessCGroup { hierarchy, controllers, pathname: pathname.to_owned() }
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_above_the_process_counts_in_version_2() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "pods/memory.max", "5000\n");
        write(root, "pods/one/memory.max", "max\n");
        write(root, "pods/one/proxy/memory.max", "7000\n");
        write(root, "pods/two/memory.max", "10\n");
        assert_eq!(smallest_group(root, &[group(0, &[], "/pods/one/proxy")]), Some(5000));
        assert_eq!(smallest_group(root, &[group(0, &[], "/pods/one")]), Some(5000));
        assert_eq!(smallest_group(root, &[group(0, &[], "/")]), None);
    }

    #[test]
    fn a_path_of_the_host_leads_to_the_groups_of_the_container() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "memory.max", "4096\n");
        assert_eq!(smallest_group(folder.path(), &[group(0, &[], "/docker/0123")]), Some(4096));
        assert_eq!(smallest_group(folder.path(), &[group(0, &[], "/../elsewhere")]), Some(4096));
    }

    #[test]
    fn version_1_has_a_folder_for_its_memory_controller() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "memory/app/memory.limit_in_bytes", "9000\n");
        write(root, "memory/memory.limit_in_bytes", "9223372036854771712\n");
        write(root, "app/memory.max", "1\n");
        let groups = [group(7, &["cpu", "cpuacct"], "/app"), group(3, &["memory"], "/app")];
        assert_eq!(smallest_group(root, &groups), Some(9000));
        assert_eq!(smallest_group(root, &groups[..1]), None);
        assert_eq!(smallest_group(root, &[]), None);
    }

    #[test]
    fn this_machine_has_memory() {
        let machine = Meminfo::current().unwrap().mem_total;
        let default = buffer_limit(MemoryLimit::default());
        assert!(default.is_some_and(|limit| limit > 0 && limit <= machine / 2));
        let tenth = buffer_limit(MemoryLimit::Percent(10));
        assert!(tenth.is_some_and(|limit| limit > 0 && limit <= machine / 10));
        assert!(tenth < default);
    }

    #[test]
    fn a_limit_in_bytes_counts_whatever_the_machine_has() {
        for bytes in [16 << 20, 1 << 62] {
            assert_eq!(buffer_limit(MemoryLimit::Bytes(bytes)), Some(bytes));
        }
    }
}
