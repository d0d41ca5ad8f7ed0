//! Runs that end before their time, and runs that meet.

#![expect(clippy::print_stdout, reason = "how much an interruption costs is worth a line in the log")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use super::World;
use crate::real::world::Route;
use crate::tools::access_log;
use crate::tools::lock_text::FOLDER;
use crate::tools::process::{Ended, Running};
use crate::tools::steps::Done;
use crate::tools::wait;

pub(super) fn resume(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Slow), world.destination());
    let total = world.assets.total();
    // What was on the disk when the run before ended, and how that ended.
    let mut before = None;
    for (signal, percent) in [("KILL", 20), ("TERM", 40), ("INT", 60), ("KILL", 80)] {
        let mut running = world.fetch(&lock, &destination)?.args(&["--progress", "json"]).start()?;
        until_there(&mut running, &destination, total * percent / 100)?;
        running.signal(signal)?;
        let ended = running.end()?;
        let ended = match signal {
            "KILL" => ended.died_of(9)?,
            "TERM" => ended.exited(143)?,
            _ => ended.exited(130)?,
        };
        world.right_or_absent(&lock, &destination)?;
        keeps_what_was_there(&ended, before, total)?;
        before = Some((signal, bytes_on_disk(&destination)?));
    }
    let run = world.fetch(&lock, &destination)?.args(&["--progress", "json", "--report", "report.json"]);
    let ended = run.exits(0)?;
    keeps_what_was_there(&ended, before, total)?;
    world.complete(&lock, &destination)?;
    let report = ended.report()?;
    let (resumed, fetched) = (sum(&report, "resumed")?, sum(&report, "fetched")?);
    ensure!(resumed > 0, "nothing was resumed: {report:#}");
    ensure!(fetched + resumed <= total, "{fetched} + {resumed} is more than {total}: {report:#}");
    Ok(Done::Passed)
}

/// Wants of a run's plan that it fetches at most 2 % of the set again that was on the disk before.
fn keeps_what_was_there(ended: &Ended, before: Option<(&str, u64)>, total: u64) -> Result<()> {
    let Some((signal, on_disk)) = before else { return Ok(()) };
    // The last line of a killed run may be cut; the plan is among the first.
    let events = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let plan = events.into_iter().find(|event| event["event"] == "planned");
    let plan = plan.with_context(|| format!("no plan in the events:\n{ended}"))?;
    let held = sum(&plan, "held")?;
    let lost = on_disk.saturating_sub(held);
    println!("    after SIG{signal}: {held} of {on_disk} bytes on disk were kept");
    // The disk counts in blocks: each claim may have two that are in use only in part.
    let rounding = 1 << 20;
    ensure!(
        lost <= total / 50 + rounding,
        "after SIG{signal} {lost} bytes of {on_disk} have to be fetched again"
    );
    Ok(())
}

pub(super) fn two_at_once(world: &World) -> Result<Done> {
    let (lock, destination) = (world.lock(Route::Slow), world.destination());
    let mark = world.log.mark()?;
    let mut first = world.fetch(&lock, &destination)?.start()?;
    until_there(&mut first, &destination, 1 << 20)?;
    let second = world.fetch(&lock, &destination)?.start()?;
    first.end()?.exited(0)?;
    second.end()?.exited(0)?.complains(&["waiting"])?;
    world.complete(&lock, &destination)?;
    let (sent, total) = (access_log::bytes(&world.log.since(mark)?), world.assets.total());
    ensure!(sent <= total + total / 10, "the two runs fetched {sent} bytes for {total}");

    // One that may not wait says so.
    let destination = world.destination();
    let mut first = world.fetch(&lock, &destination)?.start()?;
    until_there(&mut first, &destination, 1 << 20)?;
    world.fetch(&lock, &destination)?.args(&["--wait", "0s"]).exits(8)?;
    Ok(Done::Passed)
}

/// Waits until that many bytes are on the disk while the run goes on.
fn until_there(running: &mut Running, destination: &Utf8Path, bytes: u64) -> Result<u64> {
    wait::until("the download to get on", Duration::from_mins(2), || {
        ensure!(running.goes_on()?, "the run ended before it could be interrupted");
        Ok(Some(bytes_on_disk(destination)?).filter(|there| *there >= bytes))
    })
}

/// Disk space in use: a part file has its full length from the start, with holes.
fn bytes_on_disk(destination: &Utf8Path) -> Result<u64> {
    let mut sum = 0;
    let Ok(entries) = fs::read_dir(destination.join(FOLDER)) else { return Ok(0) };
    for entry in entries {
        // A part file may be gone by now.
        if let Ok(metadata) = entry?.metadata()
            && metadata.is_file()
        {
            sum += metadata.blocks() * 512;
        }
    }
    Ok(sum)
}

/// A number of the files in a report or a plan, summed.
fn sum(report: &Value, field: &str) -> Result<u64> {
    let files = report["files"].as_array().with_context(|| format!("there are no files in {report:#}"))?;
    files.iter().map(|file| file[field].as_u64().with_context(|| format!("{field} in {file:#}"))).sum()
}
