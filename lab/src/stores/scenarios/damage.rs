//! Stores that have other bytes than they should.

use anyhow::{Result, ensure};

use crate::stores::trial::{HEADS, SMALL, SMALL_PATH, Trial};
use crate::tools::registry;

/// The small file has a flipped bit, in the middle: a size or a last byte does not show it.
pub(super) fn wrong_bytes(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    let small = &trial.files[1];
    trial.replace(small, &small.1.flipped(SMALL / 2, 0).to_vec())?;
    trial.check(&["--full"])?.exits(5)?.says(&[SMALL_PATH])?;
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    let told = ended.stderr.matches("warning").count();
    ensure!(told == 1, "wrong bytes are told once, and not {told} times:\n{ended}");
    // The origin gave the small file, and the large one only where the store was out before it was complete.
    trial.require_from_origin(SMALL.., &ended)?;
    // With the store alone, no source has the right bytes.
    let (run, _) = trial.fetch(&["--store-only"])?;
    run.exits(5)?;
    Ok(())
}

/// The small file is cut short, as a disk that was full leaves it.
pub(super) fn missing_bytes(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    let small = &trial.files[1];
    trial.replace(small, &small.1.slice(0..SMALL / 2))?;
    let ended = trial.check(&["--full"])?.start()?.end()?;
    // A body that ends early is a broken file for one server, and a missing one for another.
    ensure!([Some(5), Some(9)].contains(&ended.status.code()), "a short file passed:\n{ended}");
    ended.says(&[SMALL_PATH])?;
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    // A registry sends what is left, and its bytes count.
    trial.require_from_origin(SMALL / 2..SMALL + HEADS, &ended)
}

/// Blobs of no manifest are collected, and the registry's memory says that they are still there.
pub(super) fn collected(trial: &mut Trial<'_>) -> Result<()> {
    let server = trial.server;
    for (_, content) in &trial.files {
        let path = server.fixture.scratch.file("blob", content.to_vec())?;
        registry::push_blob(&server.fixture.sh, server.port, &trial.name, &path, &content.sha256_hex())?;
    }
    trial.check(&[])?.exits(0)?;
    server.collect_garbage()?;
    ensure!(trial.stored(&trial.files[0])?.is_none(), "the garbage collection left the blob");
    // HEAD still says 200 with the right length.
    trial.check(&[])?.exits(9)?;
    trial.reset();
    let ended = trial.fetch_whole(&[])?;
    trial.require_from_origin(trial.total().., &ended)?;
    trial.fill()?;
    trial.require_stored()?;
    trial.check(&["--full"])?.exits(0)?;
    trial.fetch_whole(&[])?;
    trial.require_quiet_origin()
}
