//! `--quick`: a minute's check that fails only on a gross loss, since machines are noisy.

#![expect(clippy::print_stdout, reason = "the CI log shows it")]

use anyhow::{Result, bail};

use super::report::Outcome;
use super::rounds::Bench;
use super::scenario::Scenario;
use super::table;
use super::tool::Tool;

/// 0.3 GB: a second or two for each fetch.
pub(super) const SCALE: u64 = 100;

const SCENARIOS: [Scenario; 2] = [Scenario::Loopback, Scenario::Capped];

/// A single loss can be the fault of another process; three in a row are ours.
const TRIES: u32 = 3;

/// Fails when ours is slower than aria2c; the goal is less than half of aria2c's time. Without aria2c it only shows
/// that the benchmark works.
pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Outcome>> {
    SCENARIOS.into_iter().map(|scenario| not_slower(bench, scenario)).collect()
}

fn not_slower(bench: &Bench<'_>, scenario: Scenario) -> Result<Outcome> {
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = scenario.run(bench)?;
        println!("\n{}", table::outcome(&outcome));
        match outcome.ratio(Tool::Aria2c) {
            Some(ratio) if ratio > 1.0 && tries < TRIES => println!("slower than aria2c: once more"),
            Some(ratio) if ratio > 1.0 => bail!(
                "{scenario}: slower than aria2c {TRIES} times in a row, in the last by the factor {ratio:.2}; see that \
                 nothing else uses the machine, then profile this scenario"
            ),
            _ => return Ok(outcome),
        }
    }
}
