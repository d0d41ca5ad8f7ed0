//! Stores that have other bytes than they should.

use std::fs;

use anyhow::{Result, ensure};

use crate::stores::trial::{HEADS, SMALL, SMALL_PATH, Trial};
use crate::tools::registry;

/// The small file has a flipped bit, in the middle: a size or a last byte does not show it.
pub(super) fn wrong_bytes(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    let small = &trial.files[1];
    let mut bytes = small.content.to_vec();
    bytes[SMALL as usize / 2] ^= 1;
    trial.replace(small, &bytes)?;
    trial.check(&["--full"])?.exits(5)?.says(&[SMALL_PATH])?;
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    let told = ended.stderr.matches("warning").count();
    ensure!(told == 1, "wrong bytes are told once, and not {told} times:\n{ended}");
    // The origin gave the small file, and the large one only where the store was out before it was complete.
    let origin = trial.origin.traffic();
    ensure!(origin.down >= SMALL, "the origin gave {} bytes:\n{ended}", origin.down);
    // With the store alone, no source has the right bytes.
    let (run, _) = trial.fetch(&["--store-only"])?;
    run.exits(5)?;
    Ok(())
}

/// The small file is cut short, as a disk that was full leaves it.
pub(super) fn missing_bytes(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    let small = &trial.files[1];
    trial.replace(small, &small.content.to_vec()[..SMALL as usize / 2])?;
    let ended = trial.check(&["--full"])?.start()?.end()?;
    // A body that ends early is a broken file for one server, and a missing one for another.
    ensure!([Some(5), Some(9)].contains(&ended.status.code()), "a short file passed:\n{ended}");
    ended.says(&[SMALL_PATH])?;
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    let origin = trial.origin.traffic();
    // A registry sends what is left, and its bytes count.
    let expected = SMALL / 2..SMALL + HEADS;
    ensure!(expected.contains(&origin.down), "the origin gave {} bytes:\n{ended}", origin.down);
    Ok(())
}

/// Blobs of no manifest are collected, and the registry's memory says that they are still there.
pub(super) fn collected(trial: &Trial<'_>) -> Result<()> {
    let sh = &trial.fixture.sh;
    for file in &trial.files {
        let path = trial.fixture.scratch.fresh("blob");
        fs::write(&path, file.content.to_vec())?;
        registry::push_blob(sh, trial.server.port, &trial.name, &path, &file.sha256)?;
    }
    trial.check(&[])?.exits(0)?;
    trial.server.registry()?.collect_garbage(sh)?;
    ensure!(trial.stored(&trial.files[0])?.is_none(), "the garbage collection left the blob");
    // HEAD still says 200 with the right length.
    trial.check(&[])?.exits(9)?;
    trial.reset();
    trial.fetch_whole(&[])?;
    let origin = trial.origin.traffic();
    ensure!(origin.down >= trial.total(), "the origin gave {} bytes", origin.down);
    trial.push()?.exits(0)?;
    trial.require_stored()?;
    trial.check(&["--full"])?.exits(0)?;
    trial.reset();
    trial.fetch_whole(&[])?;
    trial.require_quiet_origin()
}
