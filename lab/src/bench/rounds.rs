//! Interleaved rounds: the lanes run by turns, so a machine that slows down slows down for all of them.
//!
//! Round 0 warms up: its times do not count.

#![expect(clippy::print_stdout, reason = "shows the progress")]

use std::mem;
use std::ops::RangeInclusive;

use anyhow::Result;
use camino::Utf8Path;
use xshell::Shell;

use super::file_set::{FileSet, Scale};
use super::meter::{Measurement, Meter};
use super::report::{Outcome, Row};
use super::tool::{LISTLESS, Program, Tool};

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
    /// The set of most scenarios, whose clones are hashed once.
    pub(super) qwen: FileSet,
}

impl Bench<'_> {
    /// Ours, and the one of `--against`.
    pub(super) fn own_programs(&self) -> Vec<Program> {
        self.programs.iter().filter(|program| program.tool == Tool::Ours).cloned().collect()
    }

    /// Ours with piece lists, and ours without.
    pub(super) fn with_and_without_lists(&self) -> [Program; 2] {
        let ours = &self.programs[0];
        [Program { has_lists: true, ..ours.clone() }, Program { name: LISTLESS, ..ours.clone() }]
    }
}

/// A row of the table, and the program's way to do the work: it takes a turn and returns its cost. The argument is true
/// in the first round.
pub(super) type Lane<'a> = (Row, Box<dyn FnMut(bool) -> Result<Measurement> + 'a>);

/// Lets the lanes take turns. A peer that fails is left out with a note; ours and the one of `--against` must not fail.
pub(super) fn alternate(
    rounds: RangeInclusive<u32>,
    mut lanes: Vec<Lane<'_>>,
    outcome: &mut Outcome,
) -> Result<()> {
    for round in rounds.clone() {
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
        for (mut row, mut turn) in mem::take(&mut lanes) {
            let label = row.label();
            match turn(round == *rounds.start()) {
                Ok(cost) => {
                    // Rounds of milliseconds would only fill the screen.
                    if cost.wall_seconds > 0.1 {
                        println!("{name:<8} {label:<24} {cost}");
                    }
                    row.rounds.extend((round > 0).then_some(cost));
                    lanes.push((row, turn));
                }
                Err(error) if row.is_own() => return Err(error.context(label)),
                Err(error) => {
                    // One line: it becomes an item of a list.
                    let failure = format!("{error:#}").replace('\n', " / ");
                    println!("{name:<8} {label:<24} failed: {failure}");
                    outcome.notes.push(format!("{label} did not take part: {failure}"));
                }
            }
        }
    }
    outcome.rows.extend(lanes.into_iter().map(|(row, _)| row));
    Ok(())
}
