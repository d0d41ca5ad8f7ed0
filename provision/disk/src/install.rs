//! Installs a verified part under its final name, so that the name always leads to the right bytes or to none (I1).
//!
//! [`Verified::install`] is the only way from a part to a final name, and only `PartFile::verify` creates a
//! [`Verified`] (I5). The system calls, in this order:
//!
//! 1. `futimens` on the part: every installed file has the mtime of its digest ([`set_mtime`]);
//! 2. `fsync` of the part: data and metadata are durable before the name is;
//! 3. `fstat` and `fstatat`: the part's name still leads to the open file, at the full size;
//! 4. `renameat` to the final name: replaces a regular file in one step ([`rename_durably`]);
//! 5. `fstatat`: the final name leads to the file that was verified;
//! 6. `fsync` of the directory: only now is the file installed, and a marker may list it (I2).
//!
//! # The two checks of the name
//! The verified part is an open file, but Linux has no rename by handle: step 4 moves whatever has the part's name at
//! that moment. Where locks do nothing, another process can put its own part there. Step 3 finds that before the rename
//! and step 5 after it. If step 5 finds another file, the rename is undone.
//!
//! One other file is accepted in step 5: one with the size and mtime of the installed file. A part in progress never
//! has that mtime, so another run verified and installed this file. Its bytes are read before a marker lists it
//! (`durability`).
//!
//! # If step 6 fails
//! The rename is undone, and the next run resumes from the part. If the rename replaced an older file, the new one
//! stays: the older file is lost already.
//!
//! Exchanging the names and linking from the handle were rejected: see decision 9 in `docs/decisions.md`.

use std::fs::File;

use camino::Utf8Path;
use provision_core::digest::Sha256;
use rustix::fs::{RenameFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::directory::{Directory, Found};
use crate::error::DiskError;
use crate::file_stat::{FileId, FileStat, Installed, Stamp, installed_mtime};
use crate::part::{PartFile, Verified};

impl Verified {
    /// Gives the part its final name. See the module's documentation for the protocol.
    ///
    /// # Errors
    /// [`DiskError::NotAFile`] if something other than a regular file has the final name; it stays untouched.
    /// [`DiskError::PartReplaced`] if another file took the part's name. [`DiskError::NotDurable`] if the directory
    /// could not be synced.
    pub fn install(self) -> Result<Installed, DiskError> {
        let part = self.part();
        let (model, size, sha256) = part.model();
        let (file, directory, names) = part.parts();
        let path = part.path();
        part.check_lease()?;
        set_mtime(file, &path, &sha256)?;
        sync_part(part)?;
        let stat = stat_named_part(part)?;
        part.check_lease()?;
        rename_durably(directory, &names.part, model.file_name(), &ExpectedFile::File(stat))?;
        directory.remove(&names.journal)?;
        let stamp = Stamp::installed(size, &sha256);
        let (identity, verified_by) = (Some(stat.id), Some(self.verified_by()));
        Ok(Installed { path: model.clone(), stamp, sha256, identity, verified_by, link: None })
    }
}

/// Sets the mtime of an installed file ([`installed_mtime`]).
pub(crate) fn set_mtime(file: &File, path: &Utf8Path, sha256: &Sha256) -> Result<(), DiskError> {
    let mtime = Timespec { tv_sec: installed_mtime(sha256), tv_nsec: 0 };
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: mtime, last_modification: mtime }))
        .map_err(DiskError::at("setting its modification time", path))
}

/// Syncs the part. If that fails, the kernel may have dropped pages and reports it only once: the part is removed.
fn sync_part(part: &PartFile) -> Result<(), DiskError> {
    let (file, ..) = part.parts();
    retry_on_intr(|| rustix::fs::fsync(file)).map_err(|error| {
        let _ = part.remove();
        DiskError::of_volume("syncing it", &part.path(), error)
    })
}

/// Reads the part's metadata and checks that its name leads to it.
fn stat_named_part(part: &PartFile) -> Result<FileStat, DiskError> {
    let (file, directory, names) = part.parts();
    let (_, size, _) = part.model();
    let path = part.path();
    let held = rustix::fs::fstat(file).map_err(DiskError::at("reading its metadata", &path))?;
    let held = FileStat::of(&held);
    let is_named = FileStat::at(directory.handle(), &names.part).is_ok_and(|named| named.id == held.id);
    if is_named && held.stamp.size == size { Ok(held) } else { Err(DiskError::PartReplaced { path }) }
}

/// Renames `from` to the final `name`, durably: steps 4 to 6 of the module's documentation.
///
/// Undoes the rename if the final name does not lead to `expected`, or if the directory fsync fails and no older file
/// was replaced.
pub(crate) fn rename_durably(
    directory: &Directory,
    from: &str,
    name: &str,
    expected: &ExpectedFile,
) -> Result<(), DiskError> {
    let path = directory.path().join(name);
    let replaces = check_replaceable(directory, name)?;
    let moved = directory.identity(from)?;
    #[cfg(test)]
    failpoint::hit();
    retry_on_intr(|| rustix::fs::renameat(directory.handle(), from, directory.handle(), name)).map_err(
        |error| {
            DiskError::of_rename("renaming it to its final name", &directory.path().join(from), &path, error)
        },
    )?;
    #[cfg(test)]
    failpoint::hit();
    if !expected.is_at(directory, name) {
        undo_rename(directory, name, from, moved);
        let _ = directory.sync();
        return Err(DiskError::PartReplaced { path: directory.path().join(from) });
    }
    let Err(error) = retry_on_intr(|| rustix::fs::fsync(directory.handle())) else { return Ok(()) };
    if !replaces && FileStat::at(directory.handle(), name) == Ok(expected.stat()) {
        undo_rename(directory, name, from, moved);
    }
    Err(match DiskError::of_volume("syncing its directory", &path, error) {
        refused @ DiskError::Unsuitable { .. } => refused,
        _ => DiskError::NotDurable { path, replaced: replaces, source: error.into() },
    })
}

/// Checks that an install may replace the file at `name`: a regular file, or a symlink that does not lead to the bytes.
/// Returns true if there is something to replace.
fn check_replaceable(directory: &Directory, name: &str) -> Result<bool, DiskError> {
    let found = directory.find(name)?;
    if found == Found::Symlink && directory.may_replace_link(name)? {
        return Ok(true);
    }
    match found.obstacle() {
        Some(what) => Err(DiskError::NotAFile { path: directory.path().join(name), what }),
        None => Ok(found != Found::Nothing),
    }
}

/// Gives a file that must not have the final name its old name back, for the process that writes it. If another file
/// has the old name by now, the final name is removed.
///
/// `moved` is the file that was at `from` right before the rename. A different file at `name` is one of two:
/// - it took the part's name after that check: unverified, and undone too;
/// - another run has installed it since: it has the mtime of an installed file, and keeps the name.
fn undo_rename(directory: &Directory, name: &str, from: &str, moved: Option<FileId>) {
    let must_go = || {
        let is_unverified = |stat: FileStat| Some(stat.id) == moved || !stat.stamp.is_installed();
        FileStat::at(directory.handle(), name).is_ok_and(is_unverified)
            && directory.find(name).is_ok_and(|found| matches!(found, Found::File(_) | Found::Symlink))
    };
    if !must_go() {
        return;
    }
    let handle = directory.handle();
    let exclusively =
        retry_on_intr(|| rustix::fs::renameat_with(handle, name, handle, from, RenameFlags::NOREPLACE));
    let undone = match exclusively {
        // Network volumes lack RENAME_NOREPLACE.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if FileStat::at(directory.handle(), from) == Err(Errno::NOENT) =>
        {
            retry_on_intr(|| rustix::fs::renameat(handle, name, handle, from))
        }
        done => done,
    };
    if undone.is_err() && must_go() {
        let _ = directory.remove(name);
    }
}

/// The file that a final name must lead to after the rename.
#[derive(Debug)]
pub(crate) enum ExpectedFile {
    /// This file, or one with its size and mtime, which another run has installed.
    File(FileStat),
    /// A symlink with this target.
    Link(FileStat, String),
}

impl ExpectedFile {
    fn stat(&self) -> FileStat {
        let (Self::File(stat) | Self::Link(stat, _)) = self;
        *stat
    }

    fn is_at(&self, directory: &Directory, name: &str) -> bool {
        match self {
            Self::File(expected) => {
                let found = FileStat::at(directory.handle(), name);
                found.is_ok_and(|found| found.id == expected.id || found.stamp == expected.stamp)
            }
            Self::Link(_, target) => {
                directory.read_link(name).is_ok_and(|found| found.as_ref() == Some(target))
            }
        }
    }
}

/// Lets a test act right before the next rename of its thread, and right after it.
#[cfg(test)]
pub(crate) mod failpoint {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    thread_local! {
        static ACTIONS: RefCell<VecDeque<Box<dyn FnOnce()>>> = RefCell::default();
    }

    /// Queues an action. The first runs before the rename, the second after it.
    pub(crate) fn set(action: impl FnOnce() + 'static) {
        ACTIONS.with_borrow_mut(|actions| actions.push_back(Box::new(action)));
    }

    pub(super) fn hit() {
        if let Some(action) = ACTIONS.with_borrow_mut(VecDeque::pop_front) {
            action();
        }
    }
}
