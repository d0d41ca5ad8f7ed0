//! From a proven part to the file under its final name.
//!
//! [`Verified`] can only be made by [`PartFile::verify`], and nothing else can be installed: "verified" is a type,
//! not a flag (I5).

use std::fs::File;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps};
use rustix::io::retry_on_intr;

use super::{Directory, Found, INSTALLED_MTIME, Identity, PartFile, Stamp, StoreError};
use crate::digest::Sha256;
use crate::model_path::ModelPath;

/// A part whose bytes are exactly those that the lock names.
#[derive(Debug)]
pub struct Verified {
    pub(super) part: Arc<PartFile>,
}

/// A file that is whole, right and durable under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its path below the destination.
    pub path: ModelPath,
    /// Its size and mtime; of the file at its end, where it is a symlink.
    pub stamp: Stamp,
    /// Its digest.
    pub sha256: Sha256,
    /// Which file it is; of the file at its end, where it is a symlink. `None` where only a marker says that it is right.
    pub identity: Option<Identity>,
    /// Where the name leads, if it is a symlink that was made by [`install_symlink`](super::install_symlink).
    pub link: Option<Utf8PathBuf>,
}

impl Verified {
    /// Gives the file its final name: mode and mtime, `fsync`, rename, `fsync` of the directory. Whatever regular
    /// file had the name before is replaced in one step; anything else is left alone and refused. Where the directory
    /// cannot be synced the name is taken back: the part is what it was, and the next run goes on from it.
    pub fn install(self) -> Result<Installed, StoreError> {
        let (model, size, sha256) = self.part.model();
        let (file, directory, names) = self.part.parts();
        let path = self.part.path();
        fix_metadata(file, &path)?;
        if let Err(error) = retry_on_intr(|| rustix::fs::fsync(file)) {
            // The kernel may have dropped the pages: this part is not to be believed, now or later.
            let _ = self.part.remove();
            return Err(StoreError::of_volume("syncing it", &path, error));
        }
        let held = rustix::fs::fstat(file).map_err(StoreError::at("looking at it", &path))?;
        let identity = Identity::of(&held);
        let named = rustix::fs::statat(directory.handle(), names.part.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let is_same = named.is_ok_and(|named| Identity::of(&named) == identity);
        if !is_same || held.st_size as u64 != size {
            return Err(StoreError::PartReplaced { path });
        }
        give_name(directory, &names.part, model.file_name())?;
        directory.remove(&names.journal)?;
        let stamp = Stamp { size, mtime: (INSTALLED_MTIME, 0) };
        Ok(Installed { path: model.clone(), stamp, sha256, identity: Some(identity), link: None })
    }
}

/// Renames what is under `from` to its final name, durably. Where the directory cannot be synced, the name is taken back,
/// unless it took the place of an older file: that is gone, and this one is better than none.
pub(super) fn give_name(directory: &Directory, from: &str, name: &str) -> Result<(), StoreError> {
    let path = directory.path().join(name);
    let replaced = check_replaceable(directory, name)?;
    let identity = |name: &str| {
        let stat = rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map(|stat| Identity::of(&stat))
    };
    let ours = identity(from).map_err(StoreError::at("looking at it", &directory.path().join(from)))?;
    retry_on_intr(|| rustix::fs::renameat(directory.handle(), from, directory.handle(), name)).map_err(
        |error| {
            StoreError::of_rename("renaming it to its final name", &directory.path().join(from), &path, error)
        },
    )?;
    let Err(error) = retry_on_intr(|| rustix::fs::fsync(directory.handle())) else { return Ok(()) };
    if !replaced && identity(name) == Ok(ours) {
        let _ = retry_on_intr(|| rustix::fs::renameat(directory.handle(), name, directory.handle(), from));
    }
    Err(match StoreError::of_volume("syncing its directory", &path, error) {
        refused @ StoreError::Unsuitable { .. } => refused,
        _ => StoreError::NotDurable { path, replaced, source: error.into() },
    })
}

/// The mode and mtime of every installed file: the same bytes make the same image layer only if these are the same.
pub(super) fn fix_metadata(file: &File, path: &Utf8Path) -> Result<(), StoreError> {
    let fixed = Timespec { tv_sec: INSTALLED_MTIME, tv_nsec: 0 };
    retry_on_intr(|| rustix::fs::fchmod(file, Mode::from_raw_mode(0o644)))
        .map_err(StoreError::at("setting its mode", path))?;
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: fixed, last_modification: fixed }))
        .map_err(StoreError::at("setting its time", path))
}

/// A regular file may be replaced, and a symlink that is known to be ours; anything else is somebody's, and stays.
/// Says whether there is something to be replaced.
fn check_replaceable(directory: &Directory, name: &str) -> Result<bool, StoreError> {
    let found = directory.find(name)?;
    if found == Found::Symlink && directory.may_replace_link(name)? {
        return Ok(true);
    }
    match found.in_the_way() {
        Some(what) => Err(StoreError::NotAFile { path: directory.path().join(name), what }),
        None => Ok(found != Found::Nothing),
    }
}
