//! From a file that is already on this machine to a model under its final name, without copying a byte.
//!
//! A hard link is for the cache: both names are one file, whose mode and mtime are those of every installed file. A
//! symlink is for directories baked into an image, which no link can reach and no run can write to.
//!
//! What was proven is an open file, and its path may lead to another one by now: so the link is made from the handle where
//! the system lets us, and looked at afterwards.

use std::os::fd::AsRawFd as _;

use rustix::fs::{AtFlags, CWD};
use rustix::io::{Errno, retry_on_intr};

use crate::install::{ExpectedFile, FileStat, normalize_metadata, rename_durably};
use crate::part::FileNames;
use crate::{
    CopyError, Destination, Directory, FileId, INSTALLED_MTIME, Installed, PartNames, SourceFile, Stamp,
    StoreError,
};
use provision_core::lockfile::Model;

/// Gives `source` the model's final name too; `None` where the file systems do not allow that, and a copy has to do.
/// The bytes are proven first. `keep_going` is asked before each block.
pub fn install_hard_link(
    (destination, part_names): (&Destination, &PartNames),
    model: &Model,
    source: &SourceFile,
    keep_going: impl FnMut() -> bool,
) -> Result<Option<Installed>, CopyError> {
    let directory = make_parent(destination, model)?;
    let temporary = FileNames::new(model, part_names).temporary;
    let link = || {
        directory.remove(&temporary)?;
        Ok(link_to(source, &directory, &temporary).is_ok())
    };
    // Whether it can be had is cheaper to find out than whether it is right. The link is not kept for the proof, which
    // may take long enough to be killed in.
    if !link().map_err(CopyError::Part)? {
        return Ok(None);
    }
    directory.remove(&temporary).map_err(CopyError::Part)?;
    source.verify(model.sha256, keep_going).map_err(CopyError::of_source)?;
    if !link().map_err(CopyError::Part)? {
        return Ok(None);
    }
    let result = finish_hard_link(&directory, &temporary, model, source);
    // Gone where it was renamed; still there where the final name was a link to the same file already (rename(2)).
    directory.remove(&temporary).map_err(CopyError::Part)?;
    result
}

/// Gives the open file one more name. By its handle: the kernel lets whoever opened it do so since Linux 6.10, and
/// whoever may read everything before; else by the handle's name in /proc. Where there is no /proc only the path is left,
/// and the caller looks at what that led to.
fn link_to(source: &SourceFile, directory: &Directory, name: &str) -> Result<(), Errno> {
    let link = |from: &std::path::Path, flags| {
        retry_on_intr(|| rustix::fs::linkat(&source.file, from, directory.handle(), name, flags))
    };
    let descriptor = format!("/proc/self/fd/{}", source.file.as_raw_fd());
    let ways = [
        (std::path::Path::new(""), AtFlags::EMPTY_PATH),
        (std::path::Path::new(&descriptor), AtFlags::SYMLINK_FOLLOW),
    ];
    for (from, flags) in ways {
        match link(from, flags) {
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
            result => return result,
        }
    }
    let from = source.path().as_std_path();
    retry_on_intr(|| rustix::fs::linkat(CWD, from, directory.handle(), name, AtFlags::SYMLINK_FOLLOW))
}

/// The bytes have been proven; `temporary` is a link that has just been made.
fn finish_hard_link(
    directory: &Directory,
    temporary: &str,
    model: &Model,
    source: &SourceFile,
) -> Result<Option<Installed>, CopyError> {
    let path = directory.path().join(model.path.file_name());
    let part = |doing| StoreError::at::<Errno>(doing, &path);
    let named = rustix::fs::statat(directory.handle(), temporary, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| CopyError::Part(part("reading its metadata")(error)))?;
    let held = rustix::fs::fstat(&source.file)
        .map_err(|error| CopyError::Part(part("reading its metadata")(error)))?;
    if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino) {
        // Somebody has put another file under the source's name since it was opened.
        return Ok(None);
    }
    if held.st_uid != rustix::process::geteuid().as_raw() && held.st_uid != 0 {
        // Its owner could change it when it has been proven and installed.
        return Ok(None);
    }
    let stamp = Stamp { size: model.size, mtime: (INSTALLED_MTIME, 0) };
    if (Stamp::of(&held) != stamp || held.st_mode & 0o7777 != 0o644)
        && normalize_metadata(&source.file, &path).is_err()
    {
        // Another user's file.
        return Ok(None);
    }
    retry_on_intr(|| rustix::fs::fsync(&source.file))
        .map_err(|error| CopyError::Part(part("syncing it")(error)))?;
    let held = rustix::fs::fstat(&source.file)
        .map_err(|error| CopyError::Part(part("reading its metadata")(error)))?;
    rename(directory, temporary, model, &ExpectedFile::File(FileStat::of(&held)))?;
    let identity = Some(FileId::of(&held));
    Ok(Some(Installed { path: model.path.clone(), stamp, sha256: model.sha256, identity, link: None }))
}

/// Makes the model's final name a symlink to `source`, whose path is absolute. The bytes are proven first. `keep_going` is
/// asked before each block.
pub fn install_symlink(
    (destination, part_names): (&Destination, &PartNames),
    model: &Model,
    source: &SourceFile,
    keep_going: impl FnMut() -> bool,
) -> Result<Installed, CopyError> {
    source.verify(model.sha256, keep_going).map_err(CopyError::of_source)?;
    // A marker will vouch for it, and it may have been put there a moment ago.
    source.make_durable().map_err(CopyError::of_source)?;
    let directory = make_parent(destination, model)?;
    let temporary = FileNames::new(model, part_names).temporary;
    directory.remove(&temporary).map_err(CopyError::Part)?;
    let path = directory.path().join(model.path.file_name());
    retry_on_intr(|| {
        rustix::fs::symlinkat(source.path().as_std_path(), directory.handle(), temporary.as_str())
    })
    .map_err(|error| CopyError::Part(StoreError::of("creating the symlink", &path, error)))?;
    let looks = FileStat::at(&directory, &temporary)
        .map_err(|error| CopyError::Part(StoreError::of("reading its metadata", &path, error)))?;
    rename(&directory, &temporary, model, &ExpectedFile::Link(looks, source.path().to_string()))?;
    Ok(Installed {
        path: model.path.clone(),
        stamp: source.stamp(),
        sha256: model.sha256,
        identity: Some(source.identity()),
        link: Some(source.path().to_owned()),
    })
}

fn make_parent(destination: &Destination, model: &Model) -> Result<std::sync::Arc<Directory>, CopyError> {
    let missing = || StoreError::of("creating the directory", destination.root().path(), Errno::NOENT);
    let parent = destination.parent(&model.path, true).and_then(|parent| parent.ok_or_else(missing));
    parent.map_err(CopyError::Part)
}

fn rename(
    directory: &Directory,
    temporary: &str,
    model: &Model,
    right: &ExpectedFile,
) -> Result<(), CopyError> {
    let named = rename_durably(directory, temporary, model.path.file_name(), right);
    if named.is_err() {
        let _ = directory.remove(temporary);
    }
    named.map_err(CopyError::Part)
}
