//! The room that a scenario needs, in memory and on the disk.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

/// Bytes for the programs, the server, and whatever else the machine does.
const RESERVE: u64 = 300_000_000;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;

/// Fails unless `bytes` fit into a folder, which is in memory or on a disk. A benchmark that makes the machine swap
/// measures the swapping.
pub(super) fn require(folder: &Utf8Path, is_memory: bool, bytes: u64) -> Result<()> {
    let found = rustix::fs::statfs(folder.as_str()).with_context(|| format!("statfs {folder}"))?;
    let is_tmpfs = found.f_type.cast_unsigned() == TMPFS;
    ensure!(is_tmpfs || !is_memory, "{folder} is not on a tmpfs; choose another --dir");
    ensure!(!is_tmpfs || is_memory, "{folder} is in memory, not on a disk; choose another --disk");
    let free = found.f_bavail * found.f_bsize.cast_unsigned();
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let available = meminfo_bytes(&meminfo, "MemAvailable:").context("/proc/meminfo has no MemAvailable")?;
    let room =
        if is_memory { free.min(available.saturating_sub(RESERVE)) } else { free.saturating_sub(RESERVE) };
    ensure!(
        room >= bytes,
        "{folder} has no room for {bytes} bytes; choose a larger --scale, or another --dir or --disk"
    );
    Ok(())
}

fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_proc() {
        let text = "MemTotal:       24586264 kB\nMemFree:  1 kB\nMemAvailable:   24115192 kB\n";
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), Some(24_115_192 * 1024));
        assert_eq!(meminfo_bytes("MemTotal: 1 kB\n", "MemAvailable:"), None);
    }
}
