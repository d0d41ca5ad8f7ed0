//! `resume`: `kill -9` when half of the set was sent, then a second run, and the share that was sent twice.
//!
//! The origin counts what it sends in both runs; all beyond the size of the set counts, also the bytes in flight at the
//! kill. Only programs that verify take part: for the others, the kept bytes mean nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use provision_testbed::Shape;

use super::file_set::FileSet;
use super::machine;
use super::meter::Measurement;
use super::origin::{CAP, OriginKind, testbed};
use super::report::{Check, Metric, Outcome, Row};
use super::rounds::{Bench, Lane, alternate};
use super::tool::{ARIA2C_RESUME, Program, Tool};

const PATIENCE: Duration = Duration::from_mins(5);

pub(super) fn run(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    let set = bench.qwen();
    machine::require_memory(bench.memory, set.total())?;
    outcome.metric = Metric::FetchedAgain;
    outcome.setting = format!(
        "{}; {}; kill -9 at half, then the rest (wall: both runs, CPU and memory: the second)",
        OriginKind::Capped.description(),
        set.description()
    );
    let verifiers = bench.programs.iter().filter(|program| program.tool.can_verify());
    let lanes = verifiers.map(|program| {
        Lane::new(Row::new(program.tool.name(), Check::Itself, &set), || {
            let cost = interrupt_and_resume(bench, &set, program);
            bench.sh.remove_path(bench.memory.join("destination"))?;
            cost
        })
    });
    alternate(1..=*bench.rounds.end(), lanes.collect(), outcome)
}

fn interrupt_and_resume(bench: &Bench<'_>, set: &FileSet, program: &Program) -> Result<Measurement> {
    // An origin of its own, so that its counters are about nothing else.
    let origin = testbed(Shape::rate(CAP), set)?;
    let (base, destination) = (format!("http://{}", origin.addr()), bench.memory.join("destination"));
    let mut command = program.download(&bench.transfer(set, &base, &destination), true)?;
    if program.tool == Tool::Aria2c {
        command.args(ARIA2C_RESUME);
    }
    let started = Instant::now();
    let mut child = bench.meter.spawn(&[], &command)?;
    let half = origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent >= set.total() / 2);
    // In any case: a program that hangs must not stay.
    child.kill()?;
    let status = child.wait()?;
    half.context("the first run did not fetch half of the set")?;
    ensure!(!status.success(), "the first run ended before it was killed");
    let first = Measurement { wall_seconds: started.elapsed().as_secs_f64(), ..Measurement::default() };
    origin.wait_for(PATIENCE, |counters| counters.connections_open == 0)?;
    let cost = first.then(bench.meter.run(&command)?);
    set.check_sizes(&destination)?;
    let sent = origin.wait_for(PATIENCE, |counters| counters.connections_open == 0)?.body_bytes_sent;
    let fetched_again = sent.saturating_sub(set.total()) as f64 / set.total() as f64;
    Ok(Measurement { fetched_again: Some(fetched_again), ..cost })
}
