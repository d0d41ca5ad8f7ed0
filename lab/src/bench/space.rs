//! The room that a scenario needs, in memory and on the disk.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

/// Bytes for the programs, the server, and whatever else the machine does.
const RESERVE: u64 = 300_000_000;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;

/// The free bytes of a folder's file system, and whether that is in memory.
fn free_space(folder: &Utf8Path) -> Result<(u64, bool)> {
    let found = rustix::fs::statfs(folder.as_str()).with_context(|| format!("statfs {folder}"))?;
    Ok((found.f_bavail * found.f_bsize.cast_unsigned(), found.f_type.cast_unsigned() == TMPFS))
}

/// The bytes that there is room for in `folder`, which must be on a disk.
pub(super) fn on_disk(folder: &Utf8Path) -> Result<u64> {
    let (free, in_memory) = free_space(folder)?;
    ensure!(!in_memory, "{folder} is in memory, not on a disk; choose another --disk");
    Ok(free.saturating_sub(RESERVE))
}

/// Fails unless a scenario fits onto the disk.
pub(super) fn require_on_disk(folder: &Utf8Path, bytes: u64) -> Result<()> {
    let fits = on_disk(folder)? >= bytes;
    ensure!(fits, "{folder} has no room for {bytes} bytes; choose a larger --scale or another --disk");
    Ok(())
}

/// Fails unless a scenario fits into memory. A benchmark that makes the machine swap measures the swapping.
pub(super) fn require_in_memory(folder: &Utf8Path, bytes: u64) -> Result<()> {
    let (free, in_memory) = free_space(folder)?;
    ensure!(in_memory, "{folder} is not on a tmpfs; choose another --dir");
    ensure!(
        free >= bytes,
        "{folder} has no room for {bytes} bytes; choose a larger --scale or a larger tmpfs (docker run --shm-size)"
    );
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let available = meminfo_bytes(&meminfo, "MemAvailable:").context("/proc/meminfo has no MemAvailable")?;
    ensure!(
        available >= bytes + RESERVE,
        "too little free memory for {bytes} bytes; choose a larger --scale"
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
