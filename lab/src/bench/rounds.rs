//! Interleaved rounds: the programs run by turns, so a machine that slows down slows down for all of them.
//!
//! The first round warms up. Its files are checked by `sha256sum`, and its times do not count.

#![expect(clippy::print_stdout, reason = "shows the progress")]

use std::cell::OnceCell;
use std::fs::File;
use std::mem;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use xshell::Shell;

use super::checksum;
use super::file_set::{FileSet, Scale};
use super::meter::{Measurement, Meter};
use super::report::{Check, Outcome, Row};
use super::tool::{Program, Transfer};

/// The parts that all scenarios share.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) sh: &'a Shell,
    /// A folder in memory. It is removed at the end, as the other one.
    pub(super) memory: &'a Utf8Path,
    /// A folder on a disk.
    pub(super) disk: &'a Utf8Path,
    pub(super) meter: Meter,
    pub(super) scale: Scale,
    /// Round 0 warms up.
    pub(super) rounds: RangeInclusive<u32>,
    pub(super) cores: usize,
    /// Ours, the one of `--against`, then the peers.
    pub(super) programs: Vec<Program>,
    /// Hashed once for most scenarios.
    pub(super) qwen: OnceCell<FileSet>,
}

/// A program, or one of its ways to do the work, in the rounds of a scenario.
pub(super) struct Lane<'a> {
    /// One for each verification that its cost may include. The first is shown while the rounds run.
    pub(super) rows: Vec<Row>,
    /// Takes a turn and returns its cost for every row. The argument is true in the first round.
    pub(super) turn: Box<dyn FnMut(bool) -> Result<Vec<Measurement>> + 'a>,
}

impl Bench<'_> {
    /// Ours, and the one of `--against`.
    pub(super) fn own_programs(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(|program| program.tool.is_own())
    }

    pub(super) fn qwen(&self) -> FileSet {
        self.qwen.get_or_init(|| FileSet::qwen(self.scale)).clone()
    }

    /// A transfer over http with default options.
    pub(super) fn transfer<'t>(
        &'t self,
        set: &'t FileSet,
        base: &'t str,
        destination: &'t Utf8Path,
    ) -> Transfer<'t> {
        Transfer { set, base, destination, authority: None, connections: None, lists: &self.meter.folder }
    }

    /// A lane for each way in which the programs can fetch the set.
    pub(super) fn lanes<'t>(
        &'t self,
        transfer: Transfer<'t>,
        programs: impl IntoIterator<Item = &'t Program>,
    ) -> Vec<Lane<'t>> {
        let lane = move |program: &'t Program, checks: &'static [Check]| Lane {
            rows: checks.iter().map(|&check| Row::new(program.tool.name(), check, transfer.set)).collect(),
            turn: Box::new(move |is_first| {
                let measured = self.measure(&transfer, program, checks, is_first);
                self.sh.remove_path(transfer.destination)?;
                measured
            }),
        };
        let lanes = |program| measured_checks(program).iter().map(move |checks| lane(program, checks));
        programs.into_iter().flat_map(lanes).collect()
    }

    /// One download, measured for each of the checks.
    fn measure(
        &self,
        transfer: &Transfer<'_>,
        program: &Program,
        checks: &[Check],
        is_first: bool,
    ) -> Result<Vec<Measurement>> {
        let cost = self.download(transfer, program, checks.contains(&Check::Itself))?;
        let mut with_sums = cost;
        if is_first || checks.contains(&Check::Afterwards) {
            let Transfer { set, destination, lists, .. } = *transfer;
            let sums = checksum::sha256sum(set, destination, lists, self.cores)?;
            with_sums = cost.then(self.meter.run(&sums).context("a downloaded file is wrong")?);
        }
        let cost_of = |check: &Check| if *check == Check::Afterwards { with_sums } else { cost };
        Ok(checks.iter().map(cost_of).collect())
    }

    /// One download. The caller removes the files.
    pub(super) fn download(
        &self,
        transfer: &Transfer<'_>,
        program: &Program,
        verify: bool,
    ) -> Result<Measurement> {
        let Transfer { set, destination, .. } = *transfer;
        let command = program.download(transfer, verify)?;
        // No round pays for what the one before it left to be written.
        rustix::fs::syncfs(File::open(destination.parent().unwrap_or(destination))?)?;
        let cost = self.meter.run(&command)?;
        set.check_sizes(destination)?;
        Ok(cost)
    }
}

/// Lets the lanes take turns. A peer that fails is left out with a note; ours and the one of `--against` must not fail.
pub(super) fn alternate(
    rounds: RangeInclusive<u32>,
    mut lanes: Vec<Lane<'_>>,
    outcome: &mut Outcome,
) -> Result<()> {
    for round in rounds.clone() {
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        for mut lane in mem::take(&mut lanes) {
            let label = lane.label();
            match (lane.turn)(round == *rounds.start()) {
                Ok(costs) => {
                    // Rounds of milliseconds would only fill the screen.
                    if costs[0].wall_seconds > 0.1 {
                        println!("{name:<8} {label:<24} {}", costs[0]);
                    }
                    for (row, cost) in lane.rows.iter_mut().zip(costs).filter(|_| round > 0) {
                        row.rounds.push(cost);
                    }
                    lanes.push(lane);
                }
                Err(error) if lane.rows[0].is_own() => return Err(error.context(label)),
                Err(error) => {
                    // One line: it becomes an item of a list.
                    let failure = format!("{error:#}").replace('\n', " / ");
                    println!("{name:<8} {label:<24} failed: {failure}");
                    outcome.notes.push(format!("{label} did not take part: {failure}"));
                }
            }
        }
    }
    outcome.rows.extend(lanes.into_iter().flat_map(|lane| lane.rows));
    Ok(())
}

impl<'a> Lane<'a> {
    /// A lane with a single row.
    pub(super) fn new(row: Row, mut turn: impl FnMut() -> Result<Measurement> + 'a) -> Self {
        Self { rows: vec![row], turn: Box::new(move |_| Ok(vec![turn()?])) }
    }

    fn label(&self) -> String {
        let row = &self.rows[0];
        row.case.as_ref().map_or_else(|| row.label(), |case| format!("{}, {case}", row.label()))
    }
}

/// The lanes of a program, as the checks of their rows. Ours cannot be told not to verify.
fn measured_checks(program: &Program) -> &'static [&'static [Check]] {
    match program.tool {
        tool if tool.is_own() => &[&[Check::Itself]],
        tool if tool.can_verify() => &[&[Check::Itself], &[Check::None]],
        _ => &[&[Check::Afterwards, Check::None]],
    }
}
