//! Stores that are down, silent or slow, and several at once.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::stores::trial::{LARGE_PATH, SMALL, SMALL_PATH, Trial, given_by};
use crate::tools::nginx;

/// The two seconds after which a store without an answer is out, and what a busy machine adds.
const SILENCE: Duration = Duration::from_secs(6);

/// A fetch that has to come from the origin, soon.
fn fetch_without_store(trial: &Trial<'_>) -> Result<()> {
    let ended = trial.fetch_whole(&[])?;
    trial.require_from_origin(trial.total().., &ended)?;
    ensure!(ended.took < SILENCE, "the fetch took {:?}:\n{ended}", ended.took);
    Ok(())
}

pub(super) fn down(trial: &mut Trial<'_>) -> Result<()> {
    [trial.port] = nginx::free_ports()?;
    fetch_without_store(trial)
}

pub(super) fn silent(trial: &mut Trial<'_>) -> Result<()> {
    trial.store.hold_after(0);
    fetch_without_store(trial)?;
    ensure!(trial.store.traffic().connections > 0, "the store was not asked");
    Ok(())
}

pub(super) fn store_only(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    let sha256 = trial.files[1].1.sha256_hex();
    fs::remove_file(trial.server.path(&trial.name, &sha256))?;
    let (run, destination) = trial.fetch(&["--store-only"])?;
    run.exits(4)?.complains(&[SMALL_PATH])?;
    trial.require_quiet_origin()?;
    ensure!(destination.join(LARGE_PATH).is_file(), "the file that the store has is not installed");
    // Without the option the origin gives that file, and no more. The store is asked for it once.
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    trial.require_from_origin(..2 * SMALL, &ended)?;
    let asked = trial.store.traffic().heads.iter().filter(|head| head.contains(&sha256)).count();
    ensure!(asked == 1, "the store was asked {asked} times for a file that it lacks:\n{ended}");
    Ok(())
}

pub(super) fn slow_origin(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    trial.origin.set_rate(Some(500_000));
    let ended = trial.fetch_whole(&["--origin-below", "1MB"])?;
    trial.require_quiet_origin()?;
    ensure!(ended.took < Duration::from_secs(20), "the fetch took {:?}:\n{ended}", ended.took);
    Ok(())
}

/// 1 MB/s alone would take 48 seconds. After ten the origin joins, and the store gives what it can.
pub(super) fn slow_store(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    trial.store.set_rate(Some(1_000_000));
    let ended = trial.fetch_whole(&["--origin-below", "5MB"])?;
    let seconds = ended.took.as_secs_f64();
    ensure!((9.0..25.0).contains(&seconds), "the fetch took {seconds:.1} s:\n{ended}");
    let report = ended.report()?;
    let origin = given_by(&report, &format!("http://127.0.0.1:{}/", trial.origin.port));
    let store = trial.given_by_store(&report);
    ensure!(store > 5_000_000 && origin > 20_000_000, "store {store}, origin {origin}: {report:#}");
    ensure!(store + origin <= trial.total() * 11 / 10, "store {store}, origin {origin}: {report:#}");
    Ok(())
}

/// Each of two stores has one file.
pub(super) fn halves(trial: &mut Trial<'_>) -> Result<()> {
    let mut second = Trial::new(trial.server)?;
    second.files.clone_from(&trial.files);
    second.write_lock(|path| format!("http://127.0.0.1:{}/{}/{path}", trial.origin.port, trial.name))?;
    for (store, (path, _)) in [&*trial, &second].into_iter().zip(&trial.files) {
        store.push()?.args(&[path]).exits(0)?;
        store.reset();
    }
    let report = trial.fetch_whole(&["--store", &second.address()])?.report()?;
    trial.require_quiet_origin()?;
    let given = [&*trial, &second].map(|trial| trial.given_by_store(&report));
    let sizes: Vec<_> = trial.files.iter().map(|(_, content)| content.size()).collect();
    ensure!(given.as_slice() == sizes, "the stores gave {given:?}, not {sizes:?}: {report:#}");
    Ok(())
}
