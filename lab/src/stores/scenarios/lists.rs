//! Piece lists: a push sends them, a collection leaves them, and a check counts them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use provision_core::digest::Sha256;
use provision_core::piece_list::{DIRECTORY, Lister};

use crate::stores::trial::{HEADS, LARGE, Trial};

/// Pins the list of the large file, and writes it beside the lock. Returns its digest and its bytes.
fn pin(trial: &Trial<'_>) -> Result<(String, Vec<u8>)> {
    let large = &trial.files[0].1;
    let sha256 = large.sha256_hex();
    let mut lister = Lister::new(LARGE);
    lister.update(&large.to_vec());
    let bytes = lister.finish(sha256.parse()?).write().context("a large file has a list")?;
    let digest = Sha256::of(&bytes).to_string();
    let directory = trial.lock.with_file_name(DIRECTORY);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(&digest), &bytes)?;
    let key = format!("sha256 = \"{sha256}\"\n");
    let text = fs::read_to_string(&trial.lock)?;
    ensure!(text.contains(&key), "the lock has no line {key}");
    fs::write(&trial.lock, text.replace(&key, &format!("{key}pieces = \"{digest}\"\n")))?;
    Ok((digest, bytes))
}

pub(super) fn travel(trial: &mut Trial<'_>) -> Result<()> {
    // A push without the list comes first: the file does not need it.
    trial.fill()?;
    let (digest, bytes) = pin(trial)?;
    let server = trial.server;
    trial.check(&[])?.exits(0)?.says(&["its piece list: missing", "0 of 1 piece list"])?;
    trial.reset();
    trial.push()?.exits(0)?.complains(&["with 1 piece list"])?;
    let sent = trial.store.traffic().up;
    ensure!(sent < HEADS + bytes.len() as u64, "a push of one list sent {sent} bytes");
    ensure!(server.read(&trial.name, &digest)?.as_ref() == Some(&bytes), "the store does not have the list");
    server.collect_garbage()?;
    trial.check(&["--full"])?.exits(0)?.says(&["1 of 1 piece list"])?;
    // Other bytes under its name are no list, and cost no file.
    server.replace(&trial.name, &digest, &vec![7; bytes.len()])?;
    trial.check(&["--full"])?.exits(0)?.says(&["0 of 1 piece list"])?;
    trial.fetch_whole(&[])?;
    Ok(())
}
