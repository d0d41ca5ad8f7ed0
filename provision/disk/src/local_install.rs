//! Installs a model from a file on this machine: as a copy, a hard link or a symlink.
//!
//! A hard link is for the cache: both names share one file with the mtime of every installed file. It is also for a
//! store of another program, if the user asks for it: the file keeps everything but its number of names. A symlink is
//! for directories baked into an image: no hard link can reach them, and no run can write to them.
//!
//! The verified file is an open handle, and its path may lead to another file by now. So a hard link is made from the
//! handle where the system allows that, and the result is checked.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD};
use rustix::io::{Errno, retry_on_intr};

use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::DiskError;
use crate::file_stat::{FileId, FileStat, Installed, Stamp};
use crate::install::{ExpectedFile, rename_durably, set_mtime};
use crate::part::{CopyError, CopyMethod, FileNames, PartFile, PartOptions};
use crate::source_file::SourceFile;
use provision_core::lockfile::Model;
use provision_core::piece_list::VerifiedBy;

/// Copies `source` to the model's final name, with the protocol of every install. Before each block, `step` gets the
/// number of bytes copied since its last call and says whether to go on. A wrong source costs no byte of an earlier
/// run's part.
///
/// # Errors
/// [`CopyError::Pieces`] if the part has a list and the source lacks some of its pieces: the part has the others.
/// [`DiskError::CopyDiffers`] if the source was verified first, and the bytes that were copied from it are wrong.
pub fn install_copy<'a>(
    (destination, options): (&Destination, impl Into<PartOptions<'a>>),
    model: &Model,
    source: &SourceFile,
    mut step: impl FnMut(u64) -> bool,
) -> Result<(Installed, CopyMethod), CopyError> {
    let part = PartFile::resume(destination, model, options, || step(0)).map_err(CopyError::Part)?;
    if part.has_list() {
        return install_pieces(part, source, step);
    }
    let part = Arc::new(part);
    let mut is_mixed = part.held() > 0;
    let is_verified = is_mixed;
    if is_verified {
        // Wrong bytes would cost those of an earlier run.
        source.verify_pieces(part.pieces(), 1, &mut || step(0)).map_err(CopyError::of_source)?;
    }
    loop {
        let method = part.fill_from(source, &mut step)?;
        match part.clone().verify_while(|| step(0)) {
            Ok(verified) => return Ok((verified.install().map_err(CopyError::Part)?, method)),
            // The part had bytes of an earlier run: either side may be wrong. Copy all from the source.
            Err(DiskError::Mismatch { .. }) if is_mixed => part.reset().map_err(CopyError::Part)?,
            Err(DiskError::Mismatch { expected, found, .. }) => {
                part.remove().map_err(CopyError::Part)?;
                if is_verified {
                    return Err(CopyError::Part(DiskError::CopyDiffers { path: part.path() }));
                }
                let path = source.path().to_owned();
                return Err(CopyError::Source(DiskError::Mismatch { path, expected, found }));
            }
            Err(DiskError::Interrupted { .. }) => {
                return Err(CopyError::Part(part.checkpoint_interrupted()));
            }
            Err(error) => return Err(CopyError::Part(error)),
        }
        is_mixed = false;
    }
}

/// As [`install_copy`], into a part that has a list and some of its pieces.
pub fn install_pieces(
    part: PartFile,
    source: &SourceFile,
    mut step: impl FnMut(u64) -> bool,
) -> Result<(Installed, CopyMethod), CopyError> {
    let held = part.held();
    let filled = part.fill_pieces_from(source, &mut step);
    if matches!(filled, Err(CopyError::Source(_))) && part.held() == 0 {
        // A download may put its part elsewhere.
        part.remove().map_err(CopyError::Part)?;
    }
    let method = filled?;
    let (missing, copied) = (part.missing(), part.held() - held);
    if !missing.is_empty() {
        let path = source.path().to_owned();
        return Err(CopyError::Pieces { part: Box::new(part), path, missing, copied });
    }
    let verified = Arc::new(part).verify_while(|| step(0)).map_err(CopyError::Part)?;
    Ok((verified.install().map_err(CopyError::Part)?, method))
}

/// Verifies that `source` has the model's bytes: by its list, or by its digest. Before each block, `keep_going` says
/// whether to go on.
///
/// # Errors
/// [`CopyError::Source`] with [`DiskError::Mismatch`] or [`DiskError::WrongPieces`] if it has others.
pub fn verify_source<'a>(
    source: &SourceFile,
    model: &Model,
    options: impl Into<PartOptions<'a>>,
    mut keep_going: impl FnMut() -> bool,
) -> Result<VerifiedBy, CopyError> {
    let options = options.into();
    let verified = source.verify_pieces(&options.list_of(model), options.threads, &mut keep_going);
    verified.map_err(CopyError::of_source)
}

/// The owner of a file that gets a second name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkedFile {
    /// A cache of this program: the file gets the mtime of every installed file.
    OfCache,
    /// Another program: mode, owner and mtime stay, and the installed file has them, too.
    OfStore,
}

/// Gives `source` the model's final name as a second name. Verifies its bytes first ([`verify_source`]). Returns `None`
/// if the file systems do not allow the link, another user could change the file, or it changed meanwhile. The caller
/// copies then.
pub fn install_hard_link<'a>(
    (destination, options): (&Destination, impl Into<PartOptions<'a>>),
    model: &Model,
    (source, owner): (&SourceFile, LinkedFile),
    keep_going: impl FnMut() -> bool,
) -> Result<Option<Installed>, CopyError> {
    let options = options.into();
    let directory = create_parent(destination, model)?;
    let temporary = FileNames::new(model, options.names).temporary;
    let link = || {
        directory.remove(&temporary)?;
        Ok(link_from_handle(source, &directory, &temporary).is_ok())
    };
    // Trying the link is cheaper than verifying. The first link is not kept meanwhile: verifying takes long, and a
    // kill would leave it behind.
    if !link().map_err(CopyError::Part)? {
        return Ok(None);
    }
    directory.remove(&temporary).map_err(CopyError::Part)?;
    let verified_by = verify_source(source, model, options, keep_going)?;
    if !link().map_err(CopyError::Part)? {
        return Ok(None);
    }
    let result = finish_hard_link(&directory, &temporary, model, (source, owner, verified_by));
    // rename(2) leaves the temporary name if the final name is a link to the same file already.
    directory.remove(&temporary).map_err(CopyError::Part)?;
    result
}

/// True if a hard link to a file of this user may be installed: any other user but root could change it afterwards.
pub fn is_linkable(owner: u32) -> bool {
    owner == rustix::process::geteuid().as_raw() || owner == 0
}

/// Gives the open file one more name, by the first method that works:
/// 1. from the handle (`AT_EMPTY_PATH`): allowed to the opener since Linux 6.10, before that to privileged processes;
/// 2. from the handle's name in /proc;
/// 3. from the path, where there is no /proc. The caller checks which file that was.
fn link_from_handle(source: &SourceFile, directory: &Directory, name: &str) -> Result<(), Errno> {
    let link = |from: &Path, flags| {
        retry_on_intr(|| rustix::fs::linkat(&source.file, from, directory.handle(), name, flags))
    };
    let descriptor = format!("/proc/self/fd/{}", source.file.as_raw_fd());
    let methods = [(Path::new(""), AtFlags::EMPTY_PATH), (Path::new(&descriptor), AtFlags::SYMLINK_FOLLOW)];
    for (from, flags) in methods {
        match link(from, flags) {
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
            result => return result,
        }
    }
    let from = source.path().as_std_path();
    retry_on_intr(|| rustix::fs::linkat(CWD, from, directory.handle(), name, AtFlags::SYMLINK_FOLLOW))
}

/// Renames the new link `temporary` to the final name. The bytes are verified.
fn finish_hard_link(
    directory: &Directory,
    temporary: &str,
    model: &Model,
    (source, owner, verified_by): (&SourceFile, LinkedFile, VerifiedBy),
) -> Result<Option<Installed>, CopyError> {
    let path = directory.path().join(model.path.file_name());
    let failed = |doing| {
        let path = path.clone();
        move |error: Errno| CopyError::Part(DiskError::of(doing, &path, error))
    };
    let named = rustix::fs::statat(directory.handle(), temporary, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("reading its metadata"))?;
    let held = rustix::fs::fstat(&source.file).map_err(failed("reading its metadata"))?;
    // Another file has the source's path since it was opened, or its bytes may have changed since they were verified.
    let is_verified = FileId::of(&named) == FileId::of(&held) && Stamp::of(&held) == source.stamp();
    if !is_verified || !is_linkable(held.st_uid) {
        return Ok(None);
    }
    let stamp = match owner {
        LinkedFile::OfCache => Stamp::installed(model.size, &model.sha256),
        LinkedFile::OfStore => source.stamp(),
    };
    // Refused for another user's file.
    if source.stamp() != stamp && set_mtime(&source.file, &path, &model.sha256).is_err() {
        return Ok(None);
    }
    retry_on_intr(|| rustix::fs::fsync(&source.file)).map_err(failed("syncing it"))?;
    let held = rustix::fs::fstat(&source.file).map_err(failed("reading its metadata"))?;
    rename_or_remove(directory, temporary, model, &ExpectedFile::File(FileStat::of(&held)))?;
    let identity = Some(FileId::of(&held));
    Ok(Some(Installed {
        path: model.path.clone(),
        stamp,
        sha256: model.sha256,
        identity,
        verified_by: Some(verified_by),
        link: None,
    }))
}

/// Makes the model's final name a symlink to `source`, whose path is absolute. Verifies its bytes first
/// ([`verify_source`]).
pub fn install_symlink<'a>(
    (destination, options): (&Destination, impl Into<PartOptions<'a>>),
    model: &Model,
    source: &SourceFile,
    keep_going: impl FnMut() -> bool,
) -> Result<Installed, CopyError> {
    let options = options.into();
    let temporary = FileNames::new(model, options.names).temporary;
    let verified_by = verify_source(source, model, options, keep_going)?;
    // A marker will list it, and it may have been written a moment ago.
    source.make_durable().map_err(CopyError::of_source)?;
    let directory = create_parent(destination, model)?;
    directory.remove(&temporary).map_err(CopyError::Part)?;
    let path = directory.path().join(model.path.file_name());
    retry_on_intr(|| {
        rustix::fs::symlinkat(source.path().as_std_path(), directory.handle(), temporary.as_str())
    })
    .map_err(|error| CopyError::Part(DiskError::of("creating the symlink", &path, error)))?;
    let stat = FileStat::at(directory.handle(), &temporary)
        .map_err(|error| CopyError::Part(DiskError::of("reading its metadata", &path, error)))?;
    rename_or_remove(&directory, &temporary, model, &ExpectedFile::Link(stat, source.path().to_string()))?;
    Ok(Installed {
        path: model.path.clone(),
        stamp: source.stamp(),
        sha256: model.sha256,
        identity: Some(source.identity()),
        verified_by: Some(verified_by),
        link: Some(source.path().to_owned()),
    })
}

fn create_parent(destination: &Destination, model: &Model) -> Result<Arc<Directory>, CopyError> {
    let missing = || DiskError::of("creating the directory", destination.root().path(), Errno::NOENT);
    let parent = destination.parent(&model.path, true).and_then(|parent| parent.ok_or_else(missing));
    parent.map_err(CopyError::Part)
}

/// Renames `temporary` to the final name, or removes it.
fn rename_or_remove(
    directory: &Directory,
    temporary: &str,
    model: &Model,
    expected: &ExpectedFile,
) -> Result<(), CopyError> {
    let renamed = rename_durably(directory, temporary, model.path.file_name(), expected);
    if renamed.is_err() {
        let _ = directory.remove(temporary);
    }
    renamed.map_err(CopyError::Part)
}
