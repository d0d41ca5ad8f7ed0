//! `--quick`: whether something has gone badly wrong, within a minute, on any machine.

#![expect(clippy::print_stdout, reason = "this is what a CI log sees")]

use anyhow::{Result, bail};

use super::race::Race;
use super::report::Outcome;
use super::scenario::Scenario;
use super::stage::Stage;
use super::table;
use super::tool::Tool;

/// 0.3 GB: a second or two for each fetch.
pub(super) const SCALE: u64 = 100;

const SCENARIOS: [Scenario; 2] = [Scenario::Loopback, Scenario::Capped];

/// A single loss may be another process's doing; so many in a row are ours.
const TRIES: u32 = 3;

/// Fails when ours needs more time than aria2c, which the goal is to need less than half of. Without aria2c it only
/// shows that the benchmark works.
pub(super) fn run(stage: &Stage<'_>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for race in SCENARIOS.into_iter().filter_map(Race::of) {
        let mut left = TRIES;
        let outcome = loop {
            left -= 1;
            let outcome = race.run(stage)?;
            println!("\n{}", table::outcome(&outcome));
            match outcome.ratio(Tool::Aria2c) {
                Some(ratio) if ratio > 1.0 && left > 0 => println!("slower than aria2c: once more"),
                Some(ratio) if ratio > 1.0 => bail!(
                    "{}: {TRIES} times in a row slower than aria2c, by {ratio:.2} in the last",
                    outcome.scenario
                ),
                _ => break outcome,
            }
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}
