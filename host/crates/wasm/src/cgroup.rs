//! The memory limit of this process's cgroup, for version 1 and version 2 of cgroups.

use std::fs;
use std::path::Path;

/// The folder where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Returns the least limit of this process's cgroup and of those above it, in bytes. Returns None if no limit can be read.
pub(super) fn memory_limit() -> Option<u64> {
    least(Path::new(MOUNT), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// Returns the least limit below `mount` for a process in `cgroups`: lines of the form `NUMBER:CONTROLLERS:PATH`, as in /proc.
fn least(mount: &Path, cgroups: &str) -> Option<u64> {
    let limits = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        // In a container the path may be the path on the host, of which only the root exists here.
        let folders = Path::new(path).ancestors().map(|folder| root.join(folder).join(file));
        folders.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mount: &Path, file: &str, limit: &str) {
        fs::create_dir_all(mount.join(file).parent().unwrap()).unwrap();
        fs::write(mount.join(file), limit).unwrap();
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "pod/weir/memory.max", "max\n");
        write(mount.path(), "pod/memory.max", "536870912\n");
        write(mount.path(), "memory.max", "1073741824\n");
        assert_eq!(least(mount.path(), "0::/pod/weir\n"), Some(512 << 20));
        assert_eq!(least(mount.path(), "0::/\n"), Some(1 << 30));
        assert_eq!(least(mount.path(), "0::/../elsewhere\n"), Some(1 << 30), "as in a container");
    }

    #[test]
    fn version_1_has_a_folder_for_memory() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "memory/memory.limit_in_bytes", "268435456\n");
        assert_eq!(least(mount.path(), "5:cpu:/a\n4:memory:/docker/3f\n0::/a\n"), Some(256 << 20));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let mount = tempfile::tempdir().unwrap();
        write(mount.path(), "memory.max", "max\n");
        assert_eq!(least(mount.path(), "0::/\n"), None);
    }
}
