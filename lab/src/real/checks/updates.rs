//! An update of the real model: its header has grown by a kilobyte, so every tensor lies elsewhere.

use std::fs;

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::cmd;

use super::RealFixture;
use crate::tools::access_log;
use crate::tools::lock_text::{VERSION, model};
use crate::tools::process::Run;
use crate::tools::steps::Done;
use crate::tools::wheel::MODEL;

/// The bytes that the header grows by.
const GROWN: usize = 1024;
/// The most bytes that the update may cost: the header and what lies beside it, of 91 MB.
const MOST: u64 = 200_000;

pub(super) fn grown_header(fixture: &RealFixture) -> Result<Done> {
    let (here, elsewhere) = (fixture.destination(), fixture.destination());
    let locks = fixture.scratch.fresh("locks");
    fs::create_dir(&locks)?;
    let grown = grow(fixture)?;
    let old = write(fixture, &locks.join("old.lock"), &fixture.assets.folder.join(MODEL))?;
    let new = write(fixture, &locks.join("new.lock"), &grown)?;

    // Each list is made from an installed file.
    for (lock, destination) in [(&old, &here), (&new, &elsewhere)] {
        run(fixture, &["fetch-models"], lock, destination)?.exits(0)?;
        run(fixture, &["lock", "pieces"], lock, destination)?.exits(0)?;
    }
    let dry = run(fixture, &["fetch-models", "--dry-run"], &new, &here)?.exits(0)?;
    dry.says(&["are here"])?;
    let mark = fixture.log.mark()?;
    run(fixture, &["fetch-models"], &new, &here)?
        .exits(0)?
        .complains(&["reused from files on this machine"])?;
    let sent = access_log::bytes(&fixture.log.since(mark)?);
    ensure!((1..=MOST).contains(&sent), "nginx sent {sent} bytes for a header that grew by {GROWN}");
    cmd!(fixture.sh, "cmp {grown} {here}/model.safetensors").quiet().run()?;
    Ok(Done::Passed)
}

/// The model with a longer header, where nginx serves it. The format allows spaces at the header's end.
fn grow(fixture: &RealFixture) -> Result<Utf8PathBuf> {
    let bytes = fs::read(fixture.assets.folder.join(MODEL))?;
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into()?) as usize;
    let (header, tensors) = rest.split_at(length);
    let longer = ((length + GROWN) as u64).to_le_bytes();
    let grown = fixture.assets.folder.join("grown.safetensors");
    fs::write(&grown, [&longer[..], header, &[b' '; GROWN], tensors].concat())?;
    Ok(grown)
}

/// A lock of one of the two files, under the same path.
fn write(fixture: &RealFixture, lock: &Utf8Path, file: &Utf8Path) -> Result<Utf8PathBuf> {
    let sums = cmd!(fixture.sh, "sha256sum -- {file}").quiet().read()?;
    let sha256 = sums.split(' ').next().unwrap_or_default();
    let url =
        format!("http://127.0.0.1:{}/files/{}", fixture.ports.http, file.file_name().unwrap_or_default());
    let text = VERSION.to_owned() + &model(MODEL, &url, file.metadata()?.len(), sha256);
    fs::write(lock, text)?;
    Ok(lock.to_owned())
}

fn run(fixture: &RealFixture, command: &[&str], lock: &Utf8Path, destination: &Utf8Path) -> Result<Run> {
    Ok(fixture.run(command)?.args(&["--lock", lock.as_str(), "--dest", destination.as_str()]))
}
