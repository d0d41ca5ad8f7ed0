//! `resume`: killed (`kill -9`) when half of the set was sent, then run again: how much is fetched twice.
//!
//! What counts is what the origin sent in both runs beyond the set's size: also what was on its way when the tool was
//! killed. Only tools that verify take part: of the others nobody would know what they have kept.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use provision_testbed::{BlockingOrigin, Shape};

use super::measure::Measurement;
use super::origin::{self, CAP, Kind};
use super::report::{Check, Outcome, Row};
use super::scenario::Scenario;
use super::stage::{Contender, Stage};
use super::statistics::median;
use super::tool::{Job, SURVIVES, Tool};

const PATIENCE: Duration = Duration::from_mins(5);

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let set = stage.qwen();
    stage.require_memory(set.total())?;
    let contenders = stage.verifiers();
    let mut lanes: Vec<(Contender<'_>, Vec<(Measurement, f64)>)> =
        contenders.into_iter().map(|contender| (contender, Vec::new())).collect();
    let mut notes = Vec::new();
    for _ in 0..stage.rounds {
        let mut failed = Vec::new();
        for (contender, rounds) in &mut lanes {
            // An origin of its own: its counters are about nothing else.
            let origin = origin::testbed(Shape::rate(CAP), set)?;
            let result = interrupted(stage, contender, &origin);
            stage.sh.remove_path(stage.memory.join("destination"))?;
            match result {
                Ok(round) => rounds.push(round),
                Err(error) if contender.found.tool == Tool::Ours => return Err(error),
                Err(error) => {
                    notes.push(format!("{} did not take part: {error:#}", contender.label()));
                    failed.push(contender.found.tool);
                }
            }
        }
        lanes.retain(|(contender, _)| !failed.contains(&contender.found.tool));
    }
    let size = (set.files.len(), set.total());
    let rows = lanes.into_iter().map(|(contender, rounds)| {
        let again = median(rounds.iter().map(|(_, share)| *share));
        let costs = rounds.into_iter().map(|(cost, _)| cost).collect();
        let mut row = Row::new(contender.found.tool.name(), Check::Itself, size, costs);
        row.fetched_again = Some(again);
        row
    });
    let setting = format!(
        "{}; {} files, {:.2} GB; kill -9 at half, then the rest. Wall: both runs; CPU and memory: the second",
        Kind::Capped.words(),
        size.0,
        size.1 as f64 / 1e9
    );
    Ok(Outcome::new(Scenario::Resume, setting, rows.collect(), notes))
}

/// Both runs: their cost, and the share of the set that came twice.
fn interrupted(
    stage: &Stage<'_>,
    contender: &Contender<'_>,
    origin: &BlockingOrigin,
) -> Result<(Measurement, f64)> {
    let set = stage.qwen();
    let destination = stage.memory.join("destination");
    let base = format!("http://{}", origin.addr());
    let folder = stage.meter.folder.as_path();
    let job = Job { set, base: &base, destination: &destination, folder, authority: None, connections: None };
    let mut invocation = contender.found.prepare(&job, true)?;
    if contender.found.tool != Tool::Ours {
        invocation = invocation.with(SURVIVES);
    }
    let started = Instant::now();
    let mut child = stage.meter.spawn(&invocation, &[])?;
    let half = origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent >= set.total() / 2);
    // Killed in any case: also a tool that got nowhere must not stay.
    child.kill()?;
    let status = child.wait()?;
    half.context("the first run got nowhere")?;
    ensure!(!status.success(), "the first run had ended before it was killed");
    let first = started.elapsed().as_secs_f64();
    origin.wait_for(PATIENCE, |counters| counters.connections_open == 0)?;
    let mut cost = stage.meter.run(&invocation)?;
    cost.wall_seconds += first;
    set.check_sizes(&destination)?;
    let sent = origin.wait_for(PATIENCE, |counters| counters.connections_open == 0)?.body_bytes_sent;
    Ok((cost, sent.saturating_sub(set.total()) as f64 / set.total() as f64))
}
