//! Values that describe a file on disk: identity, size and times.

use std::os::fd::AsFd;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use crate::error::DiskError;
use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;
use provision_core::piece_list::VerifiedBy;

/// The earliest mtime of an installed file, and the mtime of a layer's directories: 2000-01-01T00:00:00Z, in seconds
/// since 1970.
pub const EARLIEST_MTIME: i64 = 946_684_800;

/// The mtimes of installed files, in steps of two seconds: FAT has no finer ones. The last one is in July 2008.
const MTIMES: u32 = 1 << 27;

/// The mtime of an installed file with this digest, in seconds since 1970.
///
/// Equal bytes have an equal mtime, or their image layers would differ. Other bytes of the same size have another, or a
/// marker would vouch for a file that another lock's run has replaced (fault 87). Unlike an inode or a change time, it
/// survives a copy, an image layer and a network volume.
pub fn installed_mtime(sha256: &Sha256) -> i64 {
    let start = sha256.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
    EARLIEST_MTIME + 2 * i64::from(start % MTIMES)
}

/// Size and modification time. A marker compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

/// The change time (ctime), in seconds and nanoseconds since 1970.
pub type ChangeTime = (i64, u32);

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { size: stat.st_size as u64, mtime: (stat.st_mtime, stat.st_mtime_nsec as u32) }
    }

    /// The stamp of an installed file of `size` bytes with this digest.
    pub(crate) fn installed(size: u64, sha256: &Sha256) -> Self {
        Self { size, mtime: (installed_mtime(sha256), 0) }
    }

    /// True for the stamp that an install gives to a file with this digest.
    pub fn is_of(self, sha256: &Sha256) -> bool {
        self == Self::installed(self.size, sha256)
    }

    /// True for the mtime of an installed file, which no part in progress has.
    pub(crate) fn is_installed(self) -> bool {
        let (seconds, nanoseconds) = self.mtime;
        (0..2 * i64::from(MTIMES)).contains(&(seconds - EARLIEST_MTIME)) && nanoseconds == 0
    }
}

/// A file's device and inode. It is independent of the file's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// The identity of an open file; `path` is for messages.
    pub(crate) fn of_file(file: impl AsFd, path: &Utf8Path) -> Result<Self, DiskError> {
        rustix::fs::fstat(file)
            .map(|stat| Self::of(&stat))
            .map_err(DiskError::at("reading its metadata", path))
    }
}

/// A file's identity, size and mtime: the same before and after a rename. The change time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) id: FileId,
    pub(crate) stamp: Stamp,
}

impl FileStat {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { id: FileId::of(stat), stamp: Stamp::of(stat) }
    }

    /// Reads the metadata of `name` in `directory`. Does not follow a symlink.
    pub(crate) fn at(directory: impl AsFd, name: &str) -> Result<Self, Errno> {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Self::of(&stat))
    }
}

/// A file that is complete, verified and durable under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its path below the destination.
    pub path: ModelPath,
    /// Its size and mtime. For a symlink: those of its target.
    pub stamp: Stamp,
    /// Its digest.
    pub sha256: Sha256,
    /// Its device and inode. For a symlink: those of its target. `None` if only a marker vouches for the file.
    pub identity: Option<FileId>,
    /// The evidence of this run for its bytes. `None` if only a marker or its size vouches for them.
    pub verified_by: Option<VerifiedBy>,
    /// The target, if the name is a symlink made by [`install_symlink`](crate::install_symlink).
    pub link: Option<Utf8PathBuf>,
}
