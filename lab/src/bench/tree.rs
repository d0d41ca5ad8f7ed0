//! The processes below one, as `/proc` shows them.

use std::process::{Command, Stdio};

/// Every process below `root`, without it. Those that a thread other than a process's first has started are not found:
/// no tool here does that.
fn below(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        // Gone in between: then nothing of it is left to be counted.
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse::<u32>().ok());
        for child in children {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// The resident memory of all of them together, in bytes. A page that several share is counted for each.
pub(super) fn resident(root: u32) -> u64 {
    below(root)
        .into_iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .map(|status| vm_rss(&status))
        .sum()
}

fn vm_rss(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Kills `root` and all of them.
pub(super) fn kill(root: u32) {
    let pids = [root].into_iter().chain(below(root)).map(|pid| pid.to_string());
    // Some may have ended by themselves; there is nobody to tell.
    let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    #[test]
    fn resident_memory_is_read_from_its_line() {
        assert_eq!(super::vm_rss("Name:\tx\nVmHWM:\t   99 kB\nVmRSS:\t   12 kB\n"), 12 * 1024);
        assert_eq!(super::vm_rss("Name:\ta kernel thread\n"), 0);
    }
}
