//! What one run of a program costs.
//!
//! GNU time reads what the kernel accounts to the process (`wait4`): processor time and peak memory to the end, with
//! nothing in between that could miss a peak, and without `unsafe` here.

use std::fmt;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde::Serialize;
use xshell::{Shell, cmd};

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

/// Runs it to its end, which has to be a good one. It sees `PATH` and an empty `HOME`.
pub(super) fn run(
    sh: &Shell,
    folder: &Utf8Path,
    program: &Utf8Path,
    arguments: &[String],
) -> Result<Measurement> {
    let path = sh.var("PATH")?;
    let home = folder.join("home");
    sh.create_dir(&home)?;
    let costs = folder.join("costs");
    let numbers = "%U %S %M";
    let command = cmd!(sh, "time --output {costs} --format {numbers} -- {program} {arguments...}");
    let command = command.quiet().ignore_status().env_clear().env("PATH", path).env("HOME", home);
    let started = Instant::now();
    let output = command.output()?;
    let wall_seconds = started.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "{program} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = sh.read_file(&costs)?;
    let numbers: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[user, system, kibibytes] = numbers.as_slice() else {
        return Err(anyhow::anyhow!("{text:?}")).context("GNU time should have written three numbers");
    };
    Ok(Measurement { wall_seconds, cpu_seconds: user + system, peak_bytes: kibibytes as u64 * 1024 })
}

/// What several runs cost: the medians of the times, each by itself, and the largest peak: a limit of memory that is
/// kept half of the time is not kept.
pub(super) fn summary(measurements: &[Measurement]) -> Measurement {
    let middle = |value: fn(&Measurement) -> f64| {
        let mut values: Vec<_> = measurements.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        f64::midpoint(low, high)
    };
    Measurement {
        wall_seconds: middle(|m| m.wall_seconds),
        cpu_seconds: middle(|m| m.cpu_seconds),
        peak_bytes: measurements.iter().map(|m| m.peak_bytes).max().unwrap_or_default(),
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall_seconds, cpu_seconds, peak_bytes } = self;
        let peak = *peak_bytes as f64 / 1e6;
        write!(f, "{wall_seconds:7.2} s wall  {cpu_seconds:7.2} s CPU  {peak:7.1} MB peak")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let of = |wall_seconds| Measurement { wall_seconds, cpu_seconds: 1.0, peak_bytes: 10 };
        let median =
            |walls: &[f64]| summary(&walls.iter().map(|wall| of(*wall)).collect::<Vec<_>>()).wall_seconds;
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
