//! The memory that is free for file contents: of the machine, and of the control groups that this process is in.
//!
//! The kernel counts the pages of read files to the group of their reader. A group at its limit drops such pages first,
//! so those that it has count as free, as they do in `MemAvailable`.

use camino::{Utf8Path, Utf8PathBuf};

/// The names of a control group's files.
struct Names {
    /// Below the root.
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// The sizes of read files, in `memory.stat`.
    cached: [&'static str; 2],
}

/// Version 2, where one hierarchy has everything.
const UNIFIED: Names = Names {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    cached: ["inactive_file", "active_file"],
};
/// Version 1.
const LEGACY: Names = Names {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

/// The free memory in bytes, by the files below `root`, which is `/` outside of tests. `None` without /proc.
pub(super) fn free(root: &Utf8Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let machine = kibibytes(&read("proc/meminfo")?, "MemAvailable:")?;
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().filter_map(|line| free_in_group(root, line)).min();
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The value of a line such as `MemAvailable:   13170844 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least free memory of a group and those above it. `line` is one of `/proc/self/cgroup`: `0::/a/b`, or
/// `7:memory:/a/b`.
fn free_in_group(root: &Utf8Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let names = match controllers {
        "" => UNIFIED,
        some if some.split(',').any(|controller| controller == "memory") => LEGACY,
        _ => return None,
    };
    let mount = root.join(names.mount);
    // In a container, the path may be that on the host; the container's own group is the mount itself.
    let mut at = mount.join(path.trim_start_matches('/'));
    let mut least: Option<u64> = None;
    while at.starts_with(&mount) {
        least = least.into_iter().chain(free_here(&at, &names)).min();
        at = at.parent().map(Utf8PathBuf::from)?;
    }
    least
}

/// The free memory of one group; `None` if it has no limit.
fn free_here(group: &Utf8Path, names: &Names) -> Option<u64> {
    let read = |name| std::fs::read_to_string(group.join(name)).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let left = number(names.limit)?.saturating_sub(number(names.usage)?);
    let stat = read("memory.stat").unwrap_or_default();
    let value = |key: &&str| {
        let of = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse::<u64>().ok();
        stat.lines().find_map(of)
    };
    Some(names.cached.iter().filter_map(value).fold(left, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{directory, write};

    /// The root of a machine with these files.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Utf8PathBuf) {
        let (directory, root) = directory();
        for (path, text) in files {
            write(&root, path, text.as_bytes());
        }
        (directory, root)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  24000 kB\nMemAvailable:   10000 kB\n");

    #[test]
    fn without_limits_it_is_what_the_machine_has() {
        let (_keep, root) = machine(&[MEMINFO, ("proc/self/cgroup", "0::/\n")]);
        assert_eq!(free(&root), Some(10_000 * 1024));
        let (_keep, root) = machine(&[MEMINFO]);
        assert_eq!(free(&root), Some(10_000 * 1024));
        let (_keep, root) = machine(&[]);
        assert_eq!(free(&root), None);
    }

    #[test]
    fn the_limit_of_the_group_and_of_those_above_it_counts() {
        let group = "sys/fs/cgroup/pods/a";
        let file = |name: &str| format!("{group}/{name}");
        let (max, current, stat) = (file("memory.max"), file("memory.current"), file("memory.stat"));
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/pods/a\n"),
            (&max, "9000000\n"),
            (&current, "5000000\n"),
            (&stat, "anon 1000000\nfile 4000000\ninactive_file 2500000\nactive_file 500000\nshmem 1000000\n"),
        ];
        let (_keep, root) = machine(&files);
        assert_eq!(free(&root), Some(4_000_000 + 3_000_000));
        for (path, text) in [("memory.max", "6000000"), ("memory.current", "5500000")] {
            std::fs::write(root.join("sys/fs/cgroup/pods").join(path), text).unwrap();
        }
        assert_eq!(free(&root), Some(500_000));
    }

    #[test]
    fn a_container_finds_its_group_at_the_mount() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "7:cpu,memory:/docker/0123\n3:pids:/docker/0123\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4000000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\ntotal_inactive_file 200\ntotal_active_file 30\n",
            ),
        ];
        let (_keep, root) = machine(&files);
        assert_eq!(free(&root), Some(230));
    }

    #[test]
    fn a_group_without_a_limit_is_no_bound() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.current", "1\n"),
        ];
        let (_keep, root) = machine(&files);
        assert_eq!(free(&root), Some(10_000 * 1024));
    }
}
