//! What the machine is, as far as the system tells.

use std::thread::available_parallelism;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use xshell::{Shell, cmd};

use super::report::Machine;

/// For the programs, the server, and whatever else the machine does.
const RESERVE: u64 = 300_000_000;

impl Machine {
    pub(super) fn look(sh: &Shell) -> Self {
        let read = |path| sh.read_file(path).unwrap_or_default();
        Self {
            cores: cores(),
            processor: processor(&read("/proc/cpuinfo")),
            kernel: cmd!(sh, "uname -r").quiet().read().unwrap_or_default(),
            memory_bytes: memory(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default(),
            load_before: load(&read("/proc/loadavg")),
            load_after: [0.0; 3],
        }
    }

    /// To be called when all is measured.
    pub(super) fn look_again(&mut self, sh: &Shell) {
        self.load_after = load(&sh.read_file("/proc/loadavg").unwrap_or_default());
    }
}

pub(super) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

fn load(loadavg: &str) -> [f64; 3] {
    let mut words = loadavg.split_whitespace().map(|word| word.parse().unwrap_or_default());
    std::array::from_fn(|_| words.next().unwrap_or_default())
}

fn memory(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What the file system of a folder is, and its free bytes.
fn file_system(sh: &Shell, folder: &Utf8Path) -> Result<(String, u64)> {
    let output = cmd!(sh, "df --block-size=1 --output=fstype,avail {folder}").quiet().read()?;
    let mut words = output.split_whitespace().skip(2);
    let (kind, free) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok((kind.to_owned(), free.parse().with_context(|| format!("df said {output:?}"))?))
}

/// How many bytes there is room for in a folder.
pub(super) fn room(sh: &Shell, folder: &Utf8Path) -> Result<u64> {
    Ok(file_system(sh, folder)?.1.saturating_sub(RESERVE))
}

/// Wants room for `bytes` in `folder`, which has to be in memory, and the memory itself: a benchmark that makes the
/// machine swap measures the swapping.
pub(super) fn require_memory(sh: &Shell, folder: &Utf8Path, bytes: u64) -> Result<()> {
    let (kind, free) = file_system(sh, folder)?;
    ensure!(kind == "tmpfs", "{folder} is on {kind}, not on a tmpfs; choose another --dir");
    ensure!(
        free >= bytes,
        "{folder} has {free} bytes free and {bytes} are needed; choose a larger --scale, another --dir, or a larger \
         tmpfs (docker run --shm-size)"
    );
    let available = memory(&sh.read_file("/proc/meminfo")?, "MemAvailable:")
        .context("/proc/meminfo has no MemAvailable")?;
    let needed = bytes + RESERVE;
    ensure!(
        available >= needed,
        "{needed} bytes of memory are needed and {available} are free; choose a larger --scale"
    );
    Ok(())
}

/// Wants room for `bytes` in `folder`, which has to be on a disk.
pub(super) fn require_disk(sh: &Shell, folder: &Utf8Path, bytes: u64) -> Result<()> {
    let (kind, free) = file_system(sh, folder)?;
    ensure!(kind != "tmpfs", "{folder} is in memory, not on a disk; choose another --disk");
    ensure!(
        free >= bytes + RESERVE,
        "{folder} has {free} bytes free and {bytes} are needed; choose another --disk"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read_as_they_are() {
        let text = "MemTotal:       24586264 kB\nMemFree:  1 kB\nMemAvailable:   24115192 kB\n";
        assert_eq!(memory(text, "MemAvailable:"), Some(24_115_192 * 1024));
        assert_eq!(memory("MemTotal: 1 kB\n", "MemAvailable:"), None);
        assert_eq!(processor("vendor_id\t: X\nmodel name\t: A Processor 9\n"), "A Processor 9");
        assert_eq!(processor(""), "unknown");
        let load = load("0.50 1.25 2.00 1/234 5678\n");
        assert!(load.iter().zip([0.5, 1.25, 2.0]).all(|(found, expected)| (found - expected).abs() < 1e-9));
    }
}
