//! The info hashes of models, for stores that name files by them: from the torrents that `lock torrent` has written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};

use camino::Utf8Path;
use provision_core::lockfile::Model;
use provision_core::store_address::StoreAddress;
use provision_core::torrent::{InfoHash, file_name};

use super::exit::{Code, Failure};

/// The most bytes of a torrent that are read: half a million pieces.
const MOST: u64 = 16 << 20;

/// Gives the stores that need them the info hashes of those of `models` that have a torrent in `directory`.
///
/// # Errors
/// A store needs info hashes and there is no directory, or a file in it is no torrent.
pub(super) fn fill(
    stores: Vec<StoreAddress>,
    directory: Option<&Utf8Path>,
    models: &[&Model],
) -> Result<Vec<StoreAddress>, Failure> {
    if !stores.iter().any(StoreAddress::needs_infohashes) {
        return Ok(stores);
    }
    let usage = |why: String| Failure::new(Code::Usage, why);
    let Some(directory) = directory.filter(|directory| directory.is_dir()) else {
        let why = "--store has {infohash}: give --torrents (or PROVISION_TORRENTS) the directory that `lock torrent` has \
                   written";
        return Err(usage(why.to_owned()));
    };
    let mut infohashes = BTreeMap::new();
    for model in models {
        let path = directory.join(file_name(model));
        match read(&path) {
            Ok(bytes) => {
                let infohash = InfoHash::of(&bytes)
                    .ok_or_else(|| usage(format!("{path} is no torrent; write it again")))?;
                infohashes.insert(model.sha256, infohash);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::new(Code::Disk, format!("{path} cannot be read: {error}"))),
        }
    }
    Ok(stores.into_iter().map(|store| store.with_infohashes(infohashes.clone())).collect())
}

fn read(path: &Utf8Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
