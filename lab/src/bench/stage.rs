//! Where rounds take place, and who takes part.

#![expect(clippy::print_stdout, reason = "a person waits for it")]

use std::cell::OnceCell;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::Shell;

use super::checksum;
use super::machine;
use super::measure::{self, Measurement, Meter};
use super::report::{Check, Row};
use super::scale::Scale;
use super::set::Set;
use super::tool::{Found, Job, Tool};

/// What all scenarios share.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) sh: &'a Shell,
    /// In memory; everything below goes at the end.
    pub(super) memory: &'a Utf8Path,
    /// On a disk, likewise.
    pub(super) disk: &'a Utf8Path,
    pub(super) meter: Meter,
    pub(super) scale: Scale,
    pub(super) rounds: u32,
    pub(super) warm_up: bool,
    pub(super) cores: usize,
    pub(super) ours: Found,
    pub(super) peers: Vec<Found>,
    /// Hashed once, and wanted by most scenarios.
    pub(super) qwen: OnceCell<Set>,
}

/// A tool that takes part, in one of its ways.
#[derive(Debug, Clone)]
pub(super) struct Contender<'a> {
    pub(super) found: &'a Found,
    /// Whether it is told the digests.
    pub(super) check: bool,
}

/// Where a set is fetched from and to.
#[derive(Debug, Clone)]
pub(super) struct Course<'a> {
    pub(super) set: &'a Set,
    pub(super) base: &'a str,
    pub(super) authority: Option<&'a Utf8Path>,
    pub(super) destination: Utf8PathBuf,
    pub(super) connections: Option<u16>,
}

/// Rounds so far.
struct Lane<'a> {
    contender: Contender<'a>,
    /// As the tool left it.
    rounds: Vec<Measurement>,
    /// With `sha256sum` afterwards, for a tool that cannot verify.
    checked: Vec<Measurement>,
    failure: Option<String>,
}

impl Stage<'_> {
    pub(super) fn qwen(&self) -> &Set {
        self.qwen.get_or_init(|| Set::qwen(self.scale))
    }

    /// Ours, and every peer: those that can verify once with and once without.
    pub(super) fn everybody(&self) -> Vec<Contender<'_>> {
        let mut all = vec![Contender { found: &self.ours, check: true }];
        for found in &self.peers {
            if found.tool.verifies() {
                all.push(Contender { found, check: true });
            }
            all.push(Contender { found, check: false });
        }
        all
    }

    /// Those that verify by themselves.
    pub(super) fn verifiers(&self) -> Vec<Contender<'_>> {
        self.everybody().into_iter().filter(|contender| contender.check).collect()
    }

    /// Lets the contenders fetch in turn, round by round, so that a machine that gets slower gets slower for all.
    /// The first round warms up and does not count. A peer that fails is out, with a note; ours must not.
    pub(super) fn compete(
        &self,
        course: &Course<'_>,
        contenders: Vec<Contender<'_>>,
    ) -> Result<(Vec<Row>, Vec<String>)> {
        let lane = |contender| Lane { contender, rounds: Vec::new(), checked: Vec::new(), failure: None };
        let mut lanes: Vec<_> = contenders.into_iter().map(lane).collect();
        let first = u32::from(!self.warm_up);
        for round in first..=self.rounds {
            let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
            for lane in lanes.iter_mut().filter(|lane| lane.failure.is_none()) {
                let label = lane.contender.label();
                let cost = self.fetch(course, &lane.contender, round == first);
                self.sh.remove_path(&course.destination)?;
                let (cost, checked) = match cost {
                    Ok(costs) => costs,
                    Err(error) if lane.contender.found.tool == Tool::Ours => return Err(error),
                    Err(error) => {
                        // One line: it becomes an item of a list.
                        let failure = format!("{error:#}").replace('\n', " / ");
                        println!("{name:<8} {label:<24} failed: {failure}");
                        lane.failure = Some(failure);
                        continue;
                    }
                };
                println!("{name:<8} {label:<24} {cost}");
                if round > 0 {
                    lane.rounds.push(cost);
                    lane.checked.extend(checked.map(|check| cost.then(check)));
                }
            }
        }
        let size = (course.set.files.len(), course.set.total());
        let mut rows = Vec::new();
        let mut notes = Vec::new();
        for Lane { contender, rounds, checked, failure } in lanes {
            if let Some(failure) = failure {
                notes.push(format!("{} did not take part: {failure}", contender.label()));
                continue;
            }
            let name = contender.found.tool.name();
            if contender.check {
                rows.push(Row::new(name, Check::Itself, size, rounds));
            } else {
                if !checked.is_empty() {
                    rows.push(Row::new(name, Check::Afterwards, size, checked));
                }
                rows.push(Row::new(name, Check::None, size, rounds));
            }
        }
        Ok((rows, notes))
    }

    /// One fetch, and what it costs to verify it where the tool cannot. `prove`: nobody is believed.
    fn fetch(
        &self,
        course: &Course<'_>,
        contender: &Contender<'_>,
        prove: bool,
    ) -> Result<(Measurement, Option<Measurement>)> {
        let Course { set, base, authority, destination, connections } = course;
        let folder = self.meter.folder.as_path();
        let job = Job { set, base, destination, folder, authority: *authority, connections: *connections };
        let invocation = contender.found.prepare(&job, contender.check)?;
        measure::settle(destination.parent().unwrap_or(destination))?;
        let cost = self.meter.run(&invocation)?;
        set.check_sizes(destination)?;
        let cannot_verify = !contender.found.tool.verifies();
        let checked = if prove || cannot_verify {
            let sums = checksum::sha256sum(set, destination, folder, self.cores)?;
            Some(self.meter.run(&sums).context("what it fetched is not right")?)
        } else {
            None
        };
        Ok((cost, checked.filter(|_| cannot_verify)))
    }

    /// Wants room in memory for a source and so many copies of it.
    pub(super) fn require_memory(&self, bytes: u64) -> Result<()> {
        machine::require_memory(self.sh, self.memory, bytes)
    }

    /// Wants room on the disk.
    pub(super) fn require_disk(&self, bytes: u64) -> Result<()> {
        machine::require_disk(self.sh, self.disk, bytes)
    }
}

impl Contender<'_> {
    pub(super) fn label(&self) -> String {
        let name = self.found.tool.name();
        if self.found.tool.verifies() && !self.check {
            format!("{name}, unverified")
        } else {
            name.to_owned()
        }
    }
}
