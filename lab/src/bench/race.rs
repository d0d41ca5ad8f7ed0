//! Fetches of one set from one origin by everybody: most of the scenarios.

use anyhow::Result;

use super::origin::{CONNECTIONS, Kind, Origin};
use super::report::Outcome;
use super::scenario::Scenario;
use super::set::Set;
use super::stage::{Course, Stage};
use super::tool::Tool;

/// A tool that may take longer than this for a single round is told about instead of waited for.
const PATIENCE_SECONDS: f64 = 30.0;

/// Where the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Onto {
    Memory,
    Disk,
}

/// Which of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Qwen,
    Small,
    Single,
}

/// A race, as data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Race {
    scenario: Scenario,
    origin: Kind,
    files: Files,
    onto: Onto,
}

impl Race {
    /// The race that a scenario is; `None` for those that are something else.
    pub(super) fn of(scenario: Scenario) -> Option<Self> {
        let (origin, files, onto) = match scenario {
            Scenario::Loopback => (Kind::Nginx, Files::Qwen, Onto::Memory),
            Scenario::Tls => (Kind::NginxTls, Files::Qwen, Onto::Memory),
            Scenario::Disk => (Kind::Nginx, Files::Qwen, Onto::Disk),
            Scenario::Capped => (Kind::Capped, Files::Qwen, Onto::Memory),
            Scenario::Stragglers => (Kind::Stragglers, Files::Qwen, Onto::Memory),
            Scenario::Small => (Kind::Nginx, Files::Small, Onto::Memory),
            Scenario::Single => (Kind::Nginx, Files::Single, Onto::Disk),
            Scenario::Resume | Scenario::Noop | Scenario::Verify | Scenario::Memory | Scenario::Growth => {
                return None;
            }
        };
        Some(Self { scenario, origin, files, onto })
    }

    pub(super) fn run(self, stage: &Stage<'_>) -> Result<Outcome> {
        let made;
        let set = match self.files {
            Files::Qwen => stage.qwen(),
            Files::Small => {
                made = Set::small(stage.scale);
                &made
            }
            Files::Single => {
                made = Set::equal(1, stage.scale.of(2_000_000_000));
                &made
            }
        };
        stage.require_memory(set.total() * if self.onto == Onto::Memory { 2 } else { 1 })?;
        if self.onto == Onto::Disk {
            stage.require_disk(set.total())?;
        }
        let origin = Origin::start(stage.sh, self.origin, set, stage.memory)?;
        let folder = if self.onto == Onto::Memory { stage.memory } else { stage.disk };
        let course = Course {
            set,
            base: &origin.base,
            authority: origin.authority.as_deref(),
            destination: folder.join("destination"),
            connections: None,
        };
        let mut contenders = stage.everybody();
        let mut too_slow = Vec::new();
        contenders.retain(|contender| match self.worst_seconds(set, contender.found.tool) {
            Some(seconds) if seconds > PATIENCE_SECONDS => {
                too_slow.push(format!(
                    "{} did not take part: with one connection for each file it may need {seconds:.0} s",
                    contender.label()
                ));
                false
            }
            _ => true,
        });
        let (rows, mut notes) = stage.compete(&course, contenders)?;
        notes.extend(too_slow);
        let setting = format!(
            "{}; {} files, {:.2} GB; {}",
            self.origin.words(),
            set.files.len(),
            set.total() as f64 / 1e9,
            match self.onto {
                Onto::Memory => "memory to memory",
                Onto::Disk =>
                    "from memory onto a real disk (ours makes it durable with fsync, the others do not)",
            }
        );
        let mut outcome = Outcome::new(self.scenario, setting, rows, notes);
        outcome.ideal_seconds = self.origin.speed(CONNECTIONS).map(|speed| set.total() as f64 / speed);
        Ok(outcome)
    }

    /// The time that the origin's cap alone costs a tool that cannot split a file, at worst: when the largest file gets
    /// the slowest connection.
    fn worst_seconds(self, set: &Set, tool: Tool) -> Option<f64> {
        let slowest = self.origin.slowest().filter(|_| tool.has_one_connection_per_file());
        slowest.map(|speed| set.largest() as f64 / speed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_split_a_file_waits_for_the_largest_one() {
        let set = Set::equal(2, 40_000);
        let capped = Race::of(Scenario::Capped).unwrap();
        let close =
            |seconds: Option<f64>, expected: f64| seconds.is_some_and(|s| (s - expected).abs() < 1e-9);
        assert!(close(capped.worst_seconds(&set, Tool::Curl), 0.01));
        assert_eq!(capped.worst_seconds(&set, Tool::Aria2c), None);
        let stragglers = Race::of(Scenario::Stragglers).unwrap();
        assert!(close(stragglers.worst_seconds(&set, Tool::Wget), 0.1));
        assert_eq!(Race::of(Scenario::Loopback).unwrap().worst_seconds(&set, Tool::Curl), None);
    }
}
