//! Pushes, and what a store has afterwards.

use anyhow::{Result, ensure};

use crate::stores::server::Kind;
use crate::stores::trial::{HEADS, LARGE, SMALL, Trial};

/// The methods that change a store.
const WRITES: &[&str] = &["PUT", "POST", "PATCH", "DELETE"];

pub(super) fn round_trip(trial: &mut Trial<'_>) -> Result<()> {
    trial.check(&[])?.exits(9)?;
    trial.fill()?;
    trial.require_stored()?;
    trial.push()?.exits(0)?;
    let again = trial.store.traffic();
    let writes = again.requests(WRITES);
    ensure!(again.up < HEADS && writes.is_empty(), "a second push sent {} bytes: {writes:?}", again.up);
    trial.check(&[])?.exits(0)?;
    trial.reset();
    trial.check(&["--full"])?.exits(0)?;
    let (read, total) = (trial.store.traffic().down, trial.total());
    let is_local = trial.server.kind == Kind::Directory;
    ensure!(is_local || read >= total, "check --full read {read} of {total} bytes");
    // The push's own manifest holds a registry's blobs.
    trial.server.collect_garbage()?;
    trial.check(&["--full"])?.exits(0)?;

    trial.reset();
    let report = trial.fetch_whole(&[])?.report()?;
    trial.require_quiet_origin()?;
    let given = trial.given_by_store(&report);
    ensure!(given == total, "the report says that the store gave {given} of {total} bytes: {report:#}");
    if let Some(service) = &trial.server.service {
        let requests = service.requests()?;
        let needed = |scope: &str| requests.iter().any(|request| request.scope.ends_with(scope));
        ensure!(needed(":pull") && requests.iter().all(|request| request.is_login_right), "{requests:?}");
        ensure!(needed(":pull,push") || needed(":push,pull"), "{requests:?}");
    }
    Ok(())
}

/// A part of an upload to a bucket, in bytes. Four are in flight.
const PART: u64 = 16 << 20;

/// A push gets SIGKILL when the store has half of the large file, and its connections are lost.
pub(super) fn killed(trial: &mut Trial<'_>) -> Result<()> {
    if trial.server.kind.is_bucket() {
        // Six parts have left, so two of them have arrived.
        return killed_after(&Trial::of(trial.server, &[8 * PART, SMALL])?, 6 * PART);
    }
    killed_after(trial, LARGE / 2)
}

fn killed_after(trial: &Trial<'_>, bytes: u64) -> Result<()> {
    trial.store.hold_after(bytes);
    let running = trial.push()?.start()?;
    trial.store.wait_for("the first parts of a file", |traffic| traffic.up >= bytes)?;
    running.signal("KILL")?;
    running.end()?.died_of(9)?;
    trial.store.cut();
    // An incomplete file is not there under its name.
    ensure!(trial.stored(&trial.files[0])?.is_none(), "the store shows an incomplete file");
    trial.check(&[])?.exits(9)?;
    trial.reset();
    let ended = trial.push()?.exits(0)?;
    trial.require_stored()?;
    let sent = trial.store.traffic().up;
    trial.check(&["--full"])?.exits(0)?;
    match trial.server.kind {
        // Parts that had arrived are not sent again.
        kind if kind.is_bucket() => {
            ensure!(sent < trial.total() - PART, "the push sent {sent} bytes, all of them again:\n{ended}");
        }
        // The registry has lost the upload, and the push says so.
        kind if kind.is_registry() => drop(ended.complains(&["again"])?),
        // nginx keeps nothing of a PUT that was cut.
        _ => {}
    }
    Ok(())
}
