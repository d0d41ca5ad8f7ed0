//! Values that describe a file on disk: identity, size and times.

use camino::Utf8PathBuf;
use rustix::fs::Stat;

use provision_core::digest::Sha256;
use provision_core::model_path::ModelPath;

/// The mtime of every installed file: 2000-01-01T00:00:00Z, in seconds since 1970. Equal bytes make an equal image
/// layer only if their metadata is equal too.
pub const INSTALLED_MTIME: i64 = 946_684_800;

/// Size and modification time. A marker compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

/// The change time (ctime), in seconds and nanoseconds since 1970. All installed files share one mtime; if one file
/// replaces another, the ctime differs.
pub type ChangeTime = (i64, u32);

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { size: stat.st_size as u64, mtime: (stat.st_mtime, stat.st_mtime_nsec as u32) }
    }

    /// The stamp of an installed file of `size` bytes.
    pub(crate) fn installed(size: u64) -> Self {
        Self { size, mtime: (INSTALLED_MTIME, 0) }
    }
}

/// A file's device and inode. It is independent of the file's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
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
    /// The target, if the name is a symlink made by [`install_symlink`](crate::install_symlink).
    pub link: Option<Utf8PathBuf>,
}
