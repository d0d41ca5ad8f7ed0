//! Runs that a signal ends, and two runs on one destination.

#![expect(clippy::print_stdout, reason = "the log shows what an interruption costs")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use super::RealFixture;
use crate::tools::access_log;
use crate::tools::files::verify_sums;
use crate::tools::lock_text::{FOLDER, Lock};
use crate::tools::process::{Ended, Running};
use crate::tools::wait;

pub(super) fn resume(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.slow_lock(), fixture.destination());
    let total = fixture.assets.total();
    let run = || Ok::<_, anyhow::Error>(fixture.fetch(&lock, &destination)?.args(&["--progress", "json"]));
    let mut on_disk = 0;
    for (signal, percent) in [("KILL", 20), ("TERM", 40), ("INT", 60), ("KILL", 80)] {
        let mut running = run()?.start()?;
        wait_for_bytes(&mut running, &destination, total * percent / 100)?;
        running.signal(signal)?;
        let ended = running.end()?;
        let ended = match signal {
            "KILL" => ended.died_of(9)?,
            "TERM" => ended.exited(143)?,
            _ => ended.exited(130)?,
        };
        assert_right_or_absent(fixture, &lock, &destination)?;
        assert_held(&ended, on_disk, total)?;
        on_disk = bytes_on_disk(&destination)?;
    }
    let ended = run()?.args(&["--report", "report.json"]).exits(0)?;
    assert_held(&ended, on_disk, total)?;
    fixture.assert_complete(&lock, &destination)?;
    let report = ended.report()?;
    let (resumed, fetched) = (sum(&report, "resumed")?, sum(&report, "fetched")?);
    ensure!(resumed > 0 && resumed + fetched <= total, "{resumed} + {fetched} bytes of {total}: {report:#}");
    Ok(())
}

/// Requires that every file under a final name has its digest.
fn assert_right_or_absent(fixture: &RealFixture, lock: &Lock, destination: &Utf8Path) -> Result<()> {
    let mut installed = lock.clone();
    installed.entries.retain(|entry| destination.join(&entry.path).exists());
    if installed.entries.is_empty() {
        return Ok(());
    }
    verify_sums(&fixture.sh, destination, &installed.sums())
}

/// Requires that a run's plan holds what its predecessor left `on_disk`, but for 2 % of the set.
fn assert_held(ended: &Ended, on_disk: u64, total: u64) -> Result<()> {
    // A killed run may have cut its last line short. The plan is among its first lines.
    let events = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let plan = events.into_iter().find(|event| event["event"] == "planned");
    let held = sum(&plan.with_context(|| format!("no `planned` event:\n{ended}"))?, "held")?;
    println!("    {held} of {on_disk} bytes on disk were held");
    // The file system allocates blocks: each claim may have two that are partly used.
    let rounding = 1 << 20;
    ensure!(held + total / 50 + rounding >= on_disk, "the plan holds {held} of {on_disk} bytes:\n{ended}");
    Ok(())
}

pub(super) fn two_at_once(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.slow_lock(), fixture.destination());
    let mark = fixture.log.mark()?;
    // Eight connections take eleven seconds for the set: the other runs start long before that.
    let mut first = fixture.fetch(&lock, &destination)?.args(&["--connections", "8"]).start()?;
    wait_for_bytes(&mut first, &destination, 1 << 20)?;
    let second = fixture.fetch(&lock, &destination)?.start()?;
    fixture.fetch(&lock, &destination)?.args(&["--wait", "0s"]).exits(8)?;
    first.end()?.exited(0)?;
    second.end()?.exited(0)?.complains(&["waiting"])?;
    fixture.assert_complete(&lock, &destination)?;
    let (sent, total) = (access_log::bytes(&fixture.log.since(mark)?), fixture.assets.total());
    ensure!(sent <= total + total / 10, "the two runs downloaded {sent} bytes for {total}");
    Ok(())
}

/// Waits until the run has written this many bytes.
fn wait_for_bytes(running: &mut Running, destination: &Utf8Path, bytes: u64) -> Result<u64> {
    wait::until("the download's progress", Duration::from_mins(2), || {
        ensure!(running.poll()?.is_none(), "the run ended before it could be interrupted");
        Ok(Some(bytes_on_disk(destination)?).filter(|written| *written >= bytes))
    })
}

/// The allocated bytes: the length of a part file does not count, since it has holes.
fn bytes_on_disk(destination: &Utf8Path) -> Result<u64> {
    let Ok(entries) = fs::read_dir(destination.join(FOLDER)) else { return Ok(0) };
    let mut sum = 0;
    for entry in entries {
        // The run may have renamed the entry by now.
        let metadata = entry?.metadata().ok().filter(fs::Metadata::is_file);
        sum += metadata.map_or(0, |metadata| metadata.blocks() * 512);
    }
    Ok(sum)
}

/// The sum of a number over the files of a report or a plan.
fn sum(report: &Value, field: &str) -> Result<u64> {
    let files = report["files"].as_array().with_context(|| format!("no files in {report:#}"))?;
    files.iter().map(|file| file[field].as_u64().with_context(|| format!("no {field} in {file:#}"))).sum()
}
