//! From a proven part to the file under its final name.
//!
//! [`Verified`] can only be made by [`PartFile::verify`], and nothing else can be installed: "verified" is a type,
//! not a flag (I5).
//!
//! # A name is not a handle
//! What was proven is an open file, and what a rename moves is whatever has a name at that moment: Linux has no rename by
//! handle. So the file under the name is held against the handle before the rename and after it ([`FileStat`]). A file that
//! somebody has put there in between loses the final name again. One of the same size and mtime keeps it: no part under way
//! has the mtime of an installed file, so it is what another run has proven and installed after us, where locks do nothing;
//! before a marker vouches for it, its bytes are read (`settled`).
//!
//! Exchanging the names (`RENAME_EXCHANGE`) would bring an older version back then. But it leaves that version under the
//! part's name until it is removed; after a kill the next run would write into it, and a process may have it mapped. Giving
//! the final name by a link from the handle cannot go wrong, but only where nothing has the name yet and the file system
//! has links, and NFS keeps the part under a name of its own then.

use std::fs::File;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, Mode, RenameFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::{Directory, FileId, Found, INSTALLED_MTIME, PartFile, Stamp, StoreError};
use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;

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
    pub identity: Option<FileId>,
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
        self.part.check_lease()?;
        normalize_metadata(file, &path)?;
        if let Err(error) = retry_on_intr(|| rustix::fs::fsync(file)) {
            // The kernel may have dropped the pages: this part is not to be believed, now or later.
            let _ = self.part.remove();
            return Err(StoreError::of_volume("syncing it", &path, error));
        }
        let held = rustix::fs::fstat(file).map_err(StoreError::at("reading its metadata", &path))?;
        let (identity, looks) = (FileId::of(&held), FileStat::of(&held));
        let is_named = FileStat::at(directory, &names.part).is_ok_and(|FileStat(named, _)| named == identity);
        if !is_named || held.st_size as u64 != size {
            return Err(StoreError::PartReplaced { path });
        }
        self.part.check_lease()?;
        rename_durably(directory, &names.part, model.file_name(), &ExpectedFile::File(looks))?;
        directory.remove(&names.journal)?;
        let stamp = Stamp { size, mtime: (INSTALLED_MTIME, 0) };
        Ok(Installed { path: model.clone(), stamp, sha256, identity: Some(identity), link: None })
    }
}

/// What a file is known by before and after it gets another name: which it is, its size and its mtime. A rename changes the
/// change time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat(FileId, Stamp);

impl FileStat {
    pub(super) fn of(stat: &Stat) -> Self {
        Self(FileId::of(stat), Stamp::of(stat))
    }

    /// Of what is under `name`, symlinks not followed.
    pub(super) fn at(directory: &Directory, name: &str) -> Result<Self, Errno> {
        rustix::fs::statat(directory.handle(), name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::of(&stat))
    }
}

/// What may be under a final name.
#[derive(Debug)]
pub(super) enum ExpectedFile {
    /// This file, or one that looks as every other run has installed it.
    File(FileStat),
    /// A symlink that leads there.
    Link(FileStat, String),
}

impl ExpectedFile {
    fn looks(&self) -> FileStat {
        let (Self::File(looks) | Self::Link(looks, _)) = self;
        *looks
    }

    /// Whether that is under `name`.
    fn is_under(&self, directory: &Directory, name: &str) -> bool {
        match self {
            Self::File(FileStat(identity, stamp)) => {
                let found = FileStat::at(directory, name);
                found.is_ok_and(|FileStat(which, like)| which == *identity || like == *stamp)
            }
            Self::Link(_, target) => {
                directory.read_link(name).is_ok_and(|found| found.as_ref() == Some(target))
            }
        }
    }
}

/// Renames what is under `from` to its final name, durably. Where the directory cannot be synced, the name is taken back,
/// unless it took the place of an older file: that is gone, and this one is better than none. It is taken back in any case
/// where what was under `from` turns out to be something else.
pub(super) fn rename_durably(
    directory: &Directory,
    from: &str,
    name: &str,
    right: &ExpectedFile,
) -> Result<(), StoreError> {
    let path = directory.path().join(name);
    let replaced = check_replaceable(directory, name)?;
    let moved = directory.identity(from)?;
    #[cfg(test)]
    failpoint::hit();
    retry_on_intr(|| rustix::fs::renameat(directory.handle(), from, directory.handle(), name)).map_err(
        |error| {
            StoreError::of_rename("renaming it to its final name", &directory.path().join(from), &path, error)
        },
    )?;
    #[cfg(test)]
    failpoint::hit();
    if !right.is_under(directory, name) {
        undo_rename(directory, name, from, moved);
        let _ = directory.sync();
        return Err(StoreError::PartReplaced { path: directory.path().join(from) });
    }
    let Err(error) = retry_on_intr(|| rustix::fs::fsync(directory.handle())) else { return Ok(()) };
    if !replaced && FileStat::at(directory, name) == Ok(right.looks()) {
        undo_rename(directory, name, from, moved);
    }
    Err(match StoreError::of_volume("syncing its directory", &path, error) {
        refused @ StoreError::Unsuitable { .. } => refused,
        _ => StoreError::NotDurable { path, replaced, source: error.into() },
    })
}

/// Gives a file that must not have the final name its old one again, for whoever is writing it. Where that is somebody
/// else's by now, the file loses its name. `moved` is what was under `from` right before the rename. Another file there came
/// between that look and the rename, and has not been proven by anybody; or a run has given it the final name since, and
/// then it has the time of an installed file.
fn undo_rename(directory: &Directory, name: &str, from: &str, moved: Option<FileId>) {
    let is_it = || {
        FileStat::at(directory, name)
            .is_ok_and(|FileStat(found, like)| Some(found) == moved || like.mtime != (INSTALLED_MTIME, 0))
            && directory.find(name).is_ok_and(|found| matches!(found, Found::File(_) | Found::Symlink))
    };
    if !is_it() {
        return;
    }
    let handle = directory.handle();
    let exclusively =
        retry_on_intr(|| rustix::fs::renameat_with(handle, name, handle, from, RenameFlags::NOREPLACE));
    let taken_back = match exclusively {
        // Network volumes cannot rename so.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if FileStat::at(directory, from) == Err(Errno::NOENT) =>
        {
            retry_on_intr(|| rustix::fs::renameat(handle, name, handle, from))
        }
        done => done,
    };
    if taken_back.is_err() && is_it() {
        let _ = directory.remove(name);
    }
}

/// The mode and mtime of every installed file: the same bytes make the same image layer only if these are the same.
pub(super) fn normalize_metadata(file: &File, path: &Utf8Path) -> Result<(), StoreError> {
    let fixed = Timespec { tv_sec: INSTALLED_MTIME, tv_nsec: 0 };
    retry_on_intr(|| rustix::fs::fchmod(file, Mode::from_raw_mode(0o644)))
        .map_err(StoreError::at("setting its mode", path))?;
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: fixed, last_modification: fixed }))
        .map_err(StoreError::at("setting its modification time", path))
}

/// A regular file may be replaced, and a symlink that is known to be ours; anything else is somebody's, and stays.
/// Says whether there is something to be replaced.
fn check_replaceable(directory: &Directory, name: &str) -> Result<bool, StoreError> {
    let found = directory.find(name)?;
    if found == Found::Symlink && directory.may_replace_link(name)? {
        return Ok(true);
    }
    match found.obstacle() {
        Some(what) => Err(StoreError::NotAFile { path: directory.path().join(name), what }),
        None => Ok(found != Found::Nothing),
    }
}

/// What tests do between the last look at a file and the rename, and between the rename and the look after it.
#[cfg(test)]
pub(super) mod failpoint {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    thread_local! {
        static WORK: RefCell<VecDeque<Box<dyn FnOnce()>>> = RefCell::default();
    }

    /// Has this happen before the next rename of this thread; planned a second time, after it.
    pub(crate) fn set(work: impl FnOnce() + 'static) {
        WORK.with_borrow_mut(|planned| planned.push_back(Box::new(work)));
    }

    pub(super) fn hit() {
        if let Some(work) = WORK.with_borrow_mut(VecDeque::pop_front) {
            work();
        }
    }
}
