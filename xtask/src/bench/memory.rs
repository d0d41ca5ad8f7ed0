//! Whether there is room: a benchmark that makes the machine swap measures the swapping.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use xshell::{Shell, cmd};

/// For the programs, the server, and whatever else the machine does.
const RESERVE: u64 = 300_000_000;

/// Wants room for `bytes` in `folder`, which has to be in memory, and the memory itself.
pub(super) fn require(sh: &Shell, folder: &Utf8Path, bytes: u64) -> Result<()> {
    let output = cmd!(sh, "df --block-size=1 --output=fstype,avail {folder}").quiet().read()?;
    let mut words = output.split_whitespace().skip(2);
    let (kind, free) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let free: u64 = free.parse().with_context(|| format!("df said {output:?}"))?;
    ensure!(kind == "tmpfs", "{folder} is on {kind}, not on a tmpfs; choose another --dir");
    ensure!(
        free >= bytes,
        "{folder} has {free} bytes free and {bytes} are needed; choose a larger --scale, another --dir, or a larger \
         tmpfs (docker run --shm-size)"
    );
    let available = available(&sh.read_file("/proc/meminfo")?)?;
    let needed = bytes + RESERVE;
    ensure!(
        available >= needed,
        "{needed} bytes of memory are needed and {available} are free; choose a larger --scale"
    );
    Ok(())
}

/// `MemAvailable`, in bytes.
fn available(meminfo: &str) -> Result<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("/proc/meminfo has no MemAvailable")?
        .trim()
        .parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn available_memory_is_read_from_its_line() {
        let text = "MemTotal:       24586264 kB\nMemFree:  1 kB\nMemAvailable:   24115192 kB\n";
        assert_eq!(super::available(text).unwrap(), 24_115_192 * 1024);
        assert!(super::available("MemTotal: 1 kB\n").is_err());
    }
}
