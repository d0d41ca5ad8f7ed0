//! An update of the real model: its header has grown by a kilobyte, so every tensor lies elsewhere.

use std::fs;

use anyhow::{Result, ensure};
use xshell::cmd;

use super::RealFixture;
use crate::tools::access_log;
use crate::tools::lock_text::{VERSION, model};
use crate::tools::wheel::MODEL;

/// The bytes that the header grows by.
const GROWN: usize = 1024;
/// The most bytes that the update may cost: the header and what lies beside it, of 91 MB.
const MOST: u64 = 200_000;

pub(super) fn grown_header(fixture: &RealFixture) -> Result<()> {
    let (here, elsewhere) = (fixture.destination(), fixture.destination());
    let folder = &fixture.assets.folder;
    let grown = folder.join("grown.safetensors");
    fs::write(&grown, grow(&fs::read(folder.join(MODEL))?)?)?;
    // A lock of one of the two files, under the same path. The lists of both locks lie beside them.
    let locks = fixture.scratch.fresh("locks");
    let lock = |name: &str| {
        let (file, lock) = (folder.join(name), locks.join(format!("{name}.lock")));
        let sums = cmd!(fixture.sh, "sha256sum -- {file}").quiet().read()?;
        let url = format!("{}/files/{name}", fixture.hub());
        let entry = model(MODEL, &url, file.metadata()?.len(), sums.split(' ').next().unwrap_or_default());
        fixture.sh.write_file(&lock, VERSION.to_owned() + &entry)?;
        Ok::<_, anyhow::Error>(lock)
    };
    let (old, new) = (lock(MODEL)?, lock("grown.safetensors")?);

    // Each list is made from an installed file.
    for (lock, destination) in [(&old, &here), (&new, &elsewhere)] {
        fixture.run(&["fetch-models"], lock, destination)?.exits(0)?;
        fixture.run(&["lock", "pieces"], lock, destination)?.exits(0)?;
    }
    fixture.run(&["fetch-models", "--dry-run"], &new, &here)?.exits(0)?.says(&["are here"])?;
    let mark = fixture.log.mark()?;
    let ended = fixture.run(&["fetch-models"], &new, &here)?.exits(0)?;
    ended.complains(&["reused from files on this machine"])?;
    let sent = access_log::bytes(&fixture.log.since(mark)?);
    ensure!((1..=MOST).contains(&sent), "nginx sent {sent} bytes for a header that grew by {GROWN}");
    Ok(cmd!(fixture.sh, "cmp {grown} {here}/{MODEL}").quiet().run()?)
}

/// A safetensors file with a longer header. The format allows spaces at the header's end.
fn grow(bytes: &[u8]) -> Result<Vec<u8>> {
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into()?) as usize;
    let (header, tensors) = rest.split_at(length);
    let longer = ((length + GROWN) as u64).to_le_bytes();
    Ok([&longer[..], header, &[b' '; GROWN], tensors].concat())
}
