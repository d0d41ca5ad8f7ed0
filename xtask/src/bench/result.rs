//! A scenario's result: the table for people, JSON for later.

use std::fmt;
use std::thread::available_parallelism;

use anyhow::Result;
use camino::Utf8PathBuf;
use serde::Serialize;
use xshell::Shell;

use super::measure::{Measurement, summary};
use super::{Scenario, Stage};
use crate::project;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    scenario: &'static str,
    /// What was done, in words.
    setting: String,
    processor: String,
    cores: usize,
    bytes: u64,
    ours: Side,
    aria2c: Side,
    /// Ours divided by theirs.
    ratio: Ratio,
    /// The shortest time that this origin allows, where it limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    ideal_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Side {
    /// Median times, largest peak.
    summary: Measurement,
    rounds: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
struct Ratio {
    wall: f64,
    cpu: f64,
    peak: f64,
}

impl Outcome {
    pub(super) fn new(
        scenario: Scenario,
        stage: &Stage<'_>,
        setting: String,
        ideal_seconds: Option<f64>,
        [ours, aria2c]: [Vec<Measurement>; 2],
    ) -> Self {
        let side = |rounds: Vec<Measurement>| Side { summary: summary(&rounds), rounds };
        let (ours, aria2c) = (side(ours), side(aria2c));
        let ratio = Ratio {
            wall: ours.summary.wall_seconds / aria2c.summary.wall_seconds,
            cpu: ours.summary.cpu_seconds / aria2c.summary.cpu_seconds,
            peak: ours.summary.peak_bytes as f64 / aria2c.summary.peak_bytes as f64,
        };
        Self {
            scenario: scenario.name(),
            setting,
            processor: processor(stage.sh),
            cores: available_parallelism().map_or(1, usize::from),
            bytes: stage.set.total(),
            ours,
            aria2c,
            ratio,
            ideal_seconds,
        }
    }

    /// Our time divided by aria2c's.
    pub(super) fn ratio(&self) -> f64 {
        self.ratio.wall
    }

    /// Writes `target/bench/SCENARIO.json`.
    pub(super) fn save(&self, sh: &Shell) -> Result<Utf8PathBuf> {
        let path = Utf8PathBuf::from(format!("target/bench/{}.json", self.scenario));
        let text = serde_json::to_string_pretty(self)? + "\n";
        sh.write_file(project::root().join(&path), text)?;
        Ok(path)
    }
}

impl Side {
    fn row(&self, name: &str, bytes: u64) -> String {
        let walls = self.rounds.iter().map(|round| round.wall_seconds);
        let fastest = walls.clone().fold(f64::INFINITY, f64::min);
        let slowest = walls.fold(0.0, f64::max);
        let Measurement { wall_seconds, cpu_seconds, peak_bytes } = self.summary;
        let (rate, peak) = (bytes as f64 / wall_seconds / 1e6, peak_bytes as f64 / 1e6);
        format!(
            "{name:<14}{wall_seconds:8.2}{fastest:8.2}{slowest:8.2}{rate:9.0}{cpu_seconds:9.2}{peak:10.1}"
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, setting, processor, cores, bytes, ours, aria2c, ratio, ideal_seconds } = self;
        writeln!(f, "{scenario}: {setting}")?;
        writeln!(
            f,
            "{:.2} GB; rounds: {}; cores: {cores} ({processor})",
            *bytes as f64 / 1e9,
            ours.rounds.len()
        )?;
        writeln!(
            f,
            "{:<14}{:>8}{:>8}{:>8}{:>9}{:>9}{:>10}",
            "", "wall s", "min", "max", "MB/s", "CPU s", "peak MB"
        )?;
        writeln!(f, "{}", ours.row("ours", *bytes))?;
        writeln!(f, "{}", aria2c.row("aria2c", *bytes))?;
        write!(f, "{:<14}{:8.2}{:25}{:9.2}{:10.2}", "ours ÷ aria2c", ratio.wall, "", ratio.cpu, ratio.peak)?;
        if let Some(ideal) = ideal_seconds {
            let times = ours.summary.wall_seconds / ideal;
            write!(f, "\nthe least this origin allows: {ideal:.2} s; ours took {times:.2} times that")?;
        }
        Ok(())
    }
}

/// The processor's name, as far as the system tells.
fn processor(sh: &Shell) -> String {
    let text = sh.read_file("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}
