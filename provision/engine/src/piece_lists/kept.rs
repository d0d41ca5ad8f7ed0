//! The lists that a destination keeps: those of the files that are installed there, so that the next version of a file
//! finds its pieces.
//!
//! `.provision.pieces/HEX` in the root. Each is believed by the digest that is its name, so a torn one, or another
//! user's, is none. No symlink is followed there. A destination that cannot be written keeps none.

use std::collections::HashSet;
use std::sync::Arc;

use super::named;
use provision_core::digest::Sha256;
use provision_core::model_path::KEPT_LISTS;
use provision_core::piece_list::{MAX_LIST, PieceList};
use provision_disk::{Destination, Directory, DiskError, Found};

/// The kept lists of a destination.
pub(super) struct Kept(pub(super) Arc<Destination>);

impl Kept {
    fn directory(&self, create: bool) -> Option<Directory> {
        self.0.root().subdirectory(KEPT_LISTS, create).ok().flatten()
    }

    /// The bytes of a list, at most `most`.
    pub(super) fn read(&self, list: &Sha256, most: u64) -> Option<Vec<u8>> {
        self.directory(false)?.read_small(&list.to_string(), most).ok()?
    }

    /// Every list, by its name.
    pub(super) fn lists(&self) -> impl Iterator<Item = PieceList> + use<> {
        let directory = self.directory(false);
        let names = directory.as_ref().and_then(|directory| directory.names().ok());
        let mut names = names.unwrap_or_default();
        names.sort();
        names.into_iter().filter_map(move |name| {
            let bytes = directory.as_ref()?.read_small(&name, MAX_LIST).ok()??;
            named(&name.parse().ok()?, &bytes)
        })
    }

    /// Keeps a list, durably: a marker of the same text says that the lists are here, and no later run looks. Returns
    /// false if it cannot.
    pub(super) fn keep(&self, list: &Sha256, bytes: &[u8]) -> bool {
        let kept = |directory: Directory| directory.write_small(&list.to_string(), bytes).ok();
        self.directory(true).and_then(kept).is_some()
    }

    /// True if a list is kept, with its own bytes.
    pub(super) fn has(&self, list: &Sha256, most: u64) -> bool {
        self.read(list, most).is_some_and(|bytes| Sha256::of(&bytes) == *list)
    }

    /// Removes the lists whose file has none of the digests `needed`, and the temporary files of killed runs. No other
    /// run may be working here. Without the directory `needed` is not called: it may read thousands of files.
    pub(super) fn prune(
        &self,
        needed: impl FnOnce() -> Result<HashSet<Sha256>, DiskError>,
    ) -> Result<(), DiskError> {
        let Some(directory) = self.directory(false) else { return Ok(()) };
        for (name, _) in unneeded(&self.0, &needed()?)? {
            directory.remove(&name)?;
        }
        Ok(())
    }
}

/// The lists in the directory of kept lists that are of no file with one of the digests `needed`, with their lengths in
/// bytes.
///
/// # Errors
/// The directory cannot be listed.
pub(crate) fn unneeded(
    destination: &Destination,
    needed: &HashSet<Sha256>,
) -> Result<Vec<(String, u64)>, DiskError> {
    let Some(directory) = open(destination)? else { return Ok(Vec::new()) };
    let is_needed = |name: &str| {
        let bytes = directory.read_small(name, MAX_LIST).ok()??;
        let list = named(&name.parse().ok()?, &bytes)?;
        needed.contains(&list.file()).then_some(())
    };
    let with_length = |name: String| {
        let length = directory.length(&name).unwrap_or(0);
        (name, length)
    };
    let mut names = directory.names()?;
    names.retain(|name| is_ours(&directory, name) && is_needed(name).is_none());
    names.sort();
    Ok(names.into_iter().map(with_length).collect())
}

/// True for a list, and for the temporary file of a killed run. Other names are not the program's.
fn is_ours(directory: &Directory, name: &str) -> bool {
    let temporary = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")?.split_once('.'));
    let digest = temporary.map_or(name, |(digest, _)| digest);
    digest.parse::<Sha256>().is_ok() && !matches!(directory.find(name), Ok(Found::Other(_)) | Err(_))
}

/// Removes a name of the directory of kept lists. Returns false if there is none.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(destination: &Destination, name: &str) -> Result<bool, DiskError> {
    open(destination)?.map_or(Ok(false), |directory| directory.remove(name))
}

/// The directory; `None` if there is none. Anything else under that name is not the program's.
fn open(destination: &Destination) -> Result<Option<Directory>, DiskError> {
    match destination.root().subdirectory(KEPT_LISTS, false) {
        Err(DiskError::NotADirectory { .. }) => Ok(None),
        opened => opened,
    }
}
