//! What one run of a command costs.
//!
//! Processor time is what the kernel accounts to the command and to everything that it waited for, as GNU time reads
//! it: to the end, with nothing in between that could be missed, and without `unsafe` here.
//!
//! Peak memory is the larger of two numbers. GNU time's is exact, but of the largest single process. A look at the
//! process tree every 20 ms adds up what is resident in all of its processes, but may miss a short peak, and counts a
//! page that two processes share (a library's code) twice. For a tool that is one process the first decides, for one
//! that is run several times at once the second.

use std::fmt;
use std::fs::File;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::invocation::Invocation;
use super::tree;

/// How often the tree is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A run's cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Measurement {
    /// From start to end.
    pub(super) wall_seconds: f64,
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// The most memory that was resident at once.
    pub(super) peak_bytes: u64,
}

impl Measurement {
    /// The cost of doing one after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            wall_seconds: self.wall_seconds + next.wall_seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            peak_bytes: self.peak_bytes.max(next.peak_bytes),
        }
    }
}

/// Runs commands.
#[derive(Debug)]
pub(super) struct Meter {
    /// Where a command finds programs.
    pub(super) path: String,
    /// For what it says, and for an empty home.
    pub(super) folder: Utf8PathBuf,
    /// A command that takes longer has hung.
    pub(super) limit: Duration,
}

impl Meter {
    /// Runs it to its end, which has to be a good one.
    pub(super) fn run(&self, invocation: &Invocation) -> Result<Measurement> {
        let costs = self.folder.join("costs");
        let before = ["time", "--quiet", "--output", costs.as_str(), "--format", "%U %S %M", "--"];
        let (wall_seconds, peak) = self.to_the_end(invocation, &before)?;
        let text = std::fs::read_to_string(&costs)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[user, system, kibibytes] = numbers.as_slice() else {
            bail!("GNU time should have written three numbers, not {text:?}");
        };
        Ok(Measurement {
            wall_seconds,
            cpu_seconds: user + system,
            peak_bytes: peak.max(kibibytes as u64 * 1024),
        })
    }

    /// The seconds from its start to its end, with nothing in between that would cost a millisecond of its own.
    pub(super) fn wall(&self, invocation: &Invocation) -> Result<f64> {
        Ok(self.to_the_end(invocation, &[])?.0)
    }

    /// Starts it and leaves it to the caller.
    pub(super) fn spawn(&self, invocation: &Invocation, before: &[&str]) -> Result<std::process::Child> {
        let home = self.folder.join("home");
        std::fs::create_dir_all(&home)?;
        invocation
            .command(before)
            .env("PATH", &self.path)
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(File::create(self.folder.join("stdout"))?)
            .stderr(File::create(self.folder.join("stderr"))?)
            .spawn()
            .with_context(|| format!("starting {}", invocation.program))
    }

    fn to_the_end(&self, invocation: &Invocation, before: &[&str]) -> Result<(f64, u64)> {
        let program = &invocation.program;
        let (ended, end) = channel::<()>();
        let started = Instant::now();
        let mut child = self.spawn(invocation, before)?;
        let root = child.id();
        let limit = self.limit;
        let (status, wall, peak) = std::thread::scope(|scope| {
            let looker = scope.spawn(move || {
                let mut peak = 0;
                while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    peak = tree::resident(root).max(peak);
                    if started.elapsed() > limit {
                        tree::kill(root);
                    }
                }
                peak
            });
            let status = child.wait();
            let wall = started.elapsed();
            drop(ended);
            (status, wall, looker.join().unwrap_or_default())
        });
        let status = status?;
        ensure!(wall <= limit, "{program} had not ended after {} s", limit.as_secs());
        ensure!(status.success(), "{program} failed ({status}): {}", self.said());
        Ok((wall.as_secs_f64(), peak))
    }

    /// The end of what the last command wrote.
    fn said(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let text = read("stdout") + &read("stderr");
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// Writes what is dirty back to the disk of `folder`, so that no round pays for the one before it.
pub(super) fn settle(folder: &Utf8Path) -> Result<()> {
    let status = std::process::Command::new("sync").args(["--file-system", folder.as_str()]).status()?;
    ensure!(status.success(), "sync {folder}: {status}");
    Ok(())
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_seconds, cpu_seconds, peak_bytes } = self;
        let peak = *peak_bytes as f64 / 1e6;
        write!(f, "{wall_seconds:8.3} s wall {cpu_seconds:8.2} s CPU {peak:8.1} MB peak")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_adds_time_but_not_memory() {
        let of = |wall_seconds, peak_bytes| Measurement { wall_seconds, cpu_seconds: 1.0, peak_bytes };
        let both = of(1.0, 10).then(of(0.5, 20));
        assert!((both.wall_seconds - 1.5).abs() < 1e-9 && (both.cpu_seconds - 2.0).abs() < 1e-9);
        assert_eq!(both.peak_bytes, 20);
    }
}
