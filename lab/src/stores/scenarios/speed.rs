//! Stores that are down, silent or slow, and several at once.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::stores::trial::{File, LARGE_PATH, SMALL, SMALL_PATH, Trial, given_by};
use crate::tools::nginx;
use crate::tools::process::Ended;
use crate::tools::relay::Relay;

/// The two seconds after which a store without an answer is out, and what a busy machine adds.
const SILENCE: Duration = Duration::from_secs(6);

/// A fetch with the store at another port, which has to come from the origin.
fn fetch_at(trial: &Trial<'_>, port: u16) -> Result<Ended> {
    let destination = trial.fixture.scratch.fresh("dest");
    let address = trial.server.address(&trial.name, port);
    let arguments = ["fetch", "--lock", trial.lock.as_str(), "--dest", destination.as_str()];
    let access = trial.server.access(&trial.fixture.scratch.fresh("access"), port)?;
    let run = trial.run_without_access(&arguments)?.args(&["--store", &address]);
    let ended = access.iter().fold(run, |run, (name, value)| run.env(name, value)).exits(0)?;
    trial.require_files(&destination)?;
    let origin = trial.origin.traffic();
    ensure!(origin.down >= trial.total(), "the origin gave {} bytes", origin.down);
    ensure!(ended.took < SILENCE, "the fetch took {:?}:\n{ended}", ended.took);
    Ok(ended)
}

pub(super) fn down(trial: &Trial<'_>) -> Result<()> {
    let [port] = nginx::free_ports()?;
    fetch_at(trial, port)?;
    Ok(())
}

pub(super) fn silent(trial: &Trial<'_>) -> Result<()> {
    let silent = Relay::start(trial.server.port)?;
    silent.hold_after(0);
    fetch_at(trial, silent.port)?;
    ensure!(silent.traffic().connections > 0, "the store was not asked");
    Ok(())
}

pub(super) fn store_only(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    trial.server.remove(&trial.fixture.sh, &trial.name, &trial.files[1].sha256)?;
    trial.reset();
    let (run, destination) = trial.fetch(&["--store-only"])?;
    run.exits(4)?.complains(&[SMALL_PATH])?;
    trial.require_quiet_origin()?;
    ensure!(destination.join(LARGE_PATH).is_file(), "the file that the store has is not installed");
    // Without the option the origin gives that file, and no more. The store is asked for it once.
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    let origin = trial.origin.traffic();
    ensure!(origin.down < 2 * SMALL, "the origin gave {} bytes:\n{ended}", origin.down);
    let sha256 = &trial.files[1].sha256;
    let asked = trial.store.traffic().heads.iter().filter(|head| head.contains(sha256.as_str())).count();
    ensure!(asked == 1, "the store was asked {asked} times for a file that it lacks:\n{ended}");
    Ok(())
}

pub(super) fn slow_origin(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    trial.reset();
    trial.origin.set_rate(Some(500_000));
    let ended = trial.fetch_whole(&["--origin-below", "1MB"])?;
    trial.require_quiet_origin()?;
    ensure!(ended.took < Duration::from_secs(20), "the fetch took {:?}:\n{ended}", ended.took);
    Ok(())
}

/// 1 MB/s alone would take 48 seconds. After ten the origin joins, and the store gives what it can.
pub(super) fn slow_store(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    trial.reset();
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
pub(super) fn halves(trial: &Trial<'_>) -> Result<()> {
    let second = Trial::new(trial.fixture, trial.server)?;
    let installed = trial.installed()?;
    for (to, File { path, .. }) in [(trial, &trial.files[0]), (&second, &trial.files[1])] {
        let (address, lock) = (to.address(), trial.lock.as_str());
        let arguments =
            ["store", "push", path, "--to", &address, "--lock", lock, "--dest", installed.as_str()];
        to.run(&arguments)?.exits(0)?;
    }
    trial.reset();
    second.reset();
    let address = second.address();
    let report = trial.fetch_whole(&["--store", &address])?.report()?;
    trial.require_quiet_origin()?;
    let given = [trial, &second].map(|trial| trial.given_by_store(&report));
    let sizes: Vec<_> = trial.files.iter().map(|file| file.content.size()).collect();
    ensure!(given.as_slice() == sizes, "the stores gave {given:?}, not {sizes:?}: {report:#}");
    drop(fs::remove_dir_all(installed));
    Ok(())
}
