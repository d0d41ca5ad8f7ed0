//! The meter: runs a command to its end and reports its cost.
//!
//! GNU time reads what the kernel charges to the command and to every child that it waited for. It reads at the end, so
//! nothing is lost between samples. Peak memory is that of the largest single process: a tool of several processes
//! (hf-transfer) holds more than its row says.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8PathBuf;
use serde::Serialize;

/// Seconds. A command that takes longer has hung: the slowest tool needs less in every scenario.
const LIMIT: &str = "300";

/// The cost of one run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Measurement {
    /// From start to end.
    pub(super) wall_seconds: f64,
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// The most resident memory of a single process.
    pub(super) peak_bytes: u64,
    /// The share of the set that an interrupted run fetched twice.
    pub(super) fetched_again: Option<f64>,
}

impl Measurement {
    /// The cost of both, one after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            wall_seconds: self.wall_seconds + next.wall_seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            peak_bytes: self.peak_bytes.max(next.peak_bytes),
            ..self
        }
    }

    /// The median of each time, and the largest peak: a memory limit that holds in half of the rounds does not hold.
    pub(super) fn summary(rounds: &[Self]) -> Self {
        Self {
            wall_seconds: median(rounds.iter().map(|round| round.wall_seconds)).unwrap_or_default(),
            cpu_seconds: median(rounds.iter().map(|round| round.cpu_seconds)).unwrap_or_default(),
            peak_bytes: rounds.iter().map(|round| round.peak_bytes).max().unwrap_or_default(),
            fetched_again: median(rounds.iter().filter_map(|round| round.fetched_again)),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_seconds, cpu_seconds, peak_bytes, .. } = self;
        let peak = *peak_bytes as f64 / 1e6;
        write!(f, "{wall_seconds:8.3} s wall {cpu_seconds:8.2} s CPU {peak:8.1} MB peak")
    }
}

/// The middle value, or the mean of the middle two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(f64::midpoint(values[last / 2], values[last.div_ceil(2)]))
}

/// Runs commands with an empty environment: a person's proxy, token or configuration must not change a measurement.
#[derive(Debug)]
pub(super) struct Meter {
    /// The search path of every command.
    pub(super) path: String,
    /// Holds the command's output, its empty home, and the lists that the tools read.
    pub(super) folder: Utf8PathBuf,
}

impl Meter {
    /// Runs the command to its end. It must succeed.
    pub(super) fn run(&self, command: &Command) -> Result<Measurement> {
        let costs = self.folder.join("costs");
        let time = ["time", "--quiet", "--output", costs.as_str(), "--format", "%U %S %M", "--"];
        let timeout = ["timeout", "--foreground", "--signal=KILL", LIMIT];
        let wall_seconds = self.wall_seconds(&[&time[..], &timeout].concat(), command)?;
        let text = fs::read_to_string(&costs)?;
        let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[user, system, kibibytes] = numbers.as_slice() else {
            bail!("GNU time wrote {text:?} instead of three numbers");
        };
        let (cpu_seconds, peak_bytes) = (user + system, kibibytes as u64 * 1024);
        Ok(Measurement { wall_seconds, cpu_seconds, peak_bytes, fetched_again: None })
    }

    /// Starts the command behind `wrapper`, a program with its options.
    pub(super) fn spawn(&self, wrapper: &[&str], command: &Command) -> Result<Child> {
        let home = self.folder.join("home");
        fs::create_dir_all(&home)?;
        let words = wrapper.iter().map(OsStr::new).chain([command.get_program()]).chain(command.get_args());
        let words: Vec<_> = words.collect();
        Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", &self.path)
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(File::create(self.folder.join("stdout"))?)
            .stderr(File::create(self.folder.join("stderr"))?)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))
    }

    /// Seconds from start to end. Starting GNU time would take a millisecond of its own.
    pub(super) fn wall_seconds(&self, wrapper: &[&str], command: &Command) -> Result<f64> {
        let started = Instant::now();
        let status = self.spawn(wrapper, command)?.wait()?;
        let wall = started.elapsed().as_secs_f64();
        let program = command.get_program().display();
        ensure!(status.success(), "{program} failed after {wall:.0} s ({status}): {}", self.output_tail());
        Ok(wall)
    }

    /// The last lines that the command wrote.
    fn output_tail(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let text = read("stdout") + &read("stderr");
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    fn cost(wall_seconds: f64, cpu_seconds: f64, peak_bytes: u64) -> Measurement {
        Measurement { wall_seconds, cpu_seconds, peak_bytes, fetched_again: None }
    }

    #[test]
    fn a_second_run_adds_time_but_not_memory() {
        let both = cost(1.0, 1.0, 10).then(cost(0.5, 1.0, 20));
        assert!(close(both.wall_seconds, 1.5) && close(both.cpu_seconds, 2.0));
        assert_eq!(both.peak_bytes, 20);
    }

    #[test]
    fn an_even_median_is_the_mean_of_the_middle_two() {
        let median_of = |values: &[f64]| median(values.iter().copied());
        assert!(close(median_of(&[3.0, 1.0, 2.0]).unwrap(), 2.0));
        assert!(close(median_of(&[4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5));
        assert!(close(median_of(&[7.0]).unwrap(), 7.0));
        assert_eq!(median_of(&[]), None);
    }

    #[test]
    fn a_summary_has_median_times_and_the_largest_peak() {
        let summary = Measurement::summary(&[cost(1.0, 9.0, 10), cost(2.0, 8.0, 30), cost(9.0, 7.0, 20)]);
        assert!(close(summary.wall_seconds, 2.0) && close(summary.cpu_seconds, 8.0));
        assert_eq!(summary.peak_bytes, 30);
    }
}
